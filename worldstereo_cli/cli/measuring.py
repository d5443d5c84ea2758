"""The commands that measure: `bench`, and `eval` of depth, views, memory, plan and parity."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worldstereo_cli.cli import options as o
from worldstereo_cli.cli.console import Console

if TYPE_CHECKING:
    from worldstereo_cli.evaluation.bench import BenchRow
    from worldstereo_cli.evaluation.depth import DepthReport, SourceRow

eval_app = typer.Typer(help="Score depth, views, memory and plans against truth.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="A folder of cases with truth.")]


@eval_app.command("depth")
def eval_depth(
    folder: Folder,
    backend: Annotated[
        str | None, typer.Option("--backend", help="The depth backend.", show_default="the default recipe's")
    ] = None,
    device: o.Device = "auto",
    as_json: o.AsJson = False,
) -> None:
    """Score a depth backend on photos with truth, beside baselines."""
    from worldstereo_cli.evaluation.depth import evaluate_depth, predict_with
    from worldstereo_cli.models.depth.factory import depth_backend
    from worldstereo_cli.pipeline.run import resolve_device
    from worldstereo_cli.recipe import LiftRecipe

    model = depth_backend(backend or LiftRecipe().depth, resolve_device(device))

    with Console(quiet=as_json) as console:
        lines = console.scene()
        lines.stage_started("eval", f"depth with {model.name}")
        report = evaluate_depth(
            folder,
            predict_with(model),
            progress=lambda n, total: lines.progress(n, total, model.name),
        )
    if as_json:
        typer.echo(json.dumps({"backend": model.name, **report.to_json()}, indent=1))
    else:
        _print_depth(model.name, report)


@eval_app.command("views")
def eval_views(
    folder: Folder,
    recipe: o.RecipeName = None,
    overrides: o.Overrides = None,
    device: o.Device = "auto",
    as_json: o.AsJson = False,
) -> None:
    """Make scenes from single photos and compare them with real views near them."""
    from worldstereo_cli.evaluation.near_views import evaluate_near_views, summarise
    from worldstereo_cli.pipeline.run import resolve_device
    from worldstereo_cli.recipe import load_recipe

    chosen = load_recipe(recipe or "default", overrides)
    with Console(quiet=as_json) as console:
        lines = console.scene()
        lines.stage_started("eval", f"views with {chosen.name}")
        scores = evaluate_near_views(folder, chosen, device=resolve_device(device), progress=lines.progress)
    if as_json:
        typer.echo(json.dumps([asdict(score) for score in scores], indent=1))
        return
    typer.echo(f"{'source':<12}{'views':>6}{'splats':>9}{'warped':>9}{'gain':>8}{'photo':>8}   PSNR, dB")
    for row in summarise(scores):
        typer.echo(
            f"{row.source:<12}{row.num_views:>6}{row.splat_psnr_db:>9.2f}{row.warp_psnr_db:>9.2f}"
            f"{row.gain_db:>+8.2f}{row.copy_psnr_db:>8.2f}"
        )


@eval_app.command("plan")
def eval_plan(
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Generated scenes of each kind.")] = 4,
    first_seed: Annotated[int, typer.Option("--first-seed", min=1, help="Seed of the first scene.")] = 1,
    recipe: o.RecipeName = None,
    overrides: o.Overrides = None,
    as_json: o.AsJson = False,
) -> None:
    """Count the really new surface that planned paths show, beside WorldStereo's four fixed paths."""
    from worldstereo_cli.evaluation.planning import MEASURES, evaluate_planning, summarise
    from worldstereo_cli.recipe import load_recipe
    from worldstereo_cli.training.scenes.posed import posed_scenes

    chosen = load_recipe(recipe or "default", overrides)
    with Console(quiet=as_json) as console:
        lines = console.scene()
        lines.stage_started("eval", f"plan with {chosen.name}")
        scores = evaluate_planning(
            posed_scenes(scenes, first_seed=first_seed), chosen.plan, progress=lines.progress
        )
    summary = summarise(scores)
    if as_json:
        rows = [asdict(score) for score in scores]
        typer.echo(json.dumps({"summary": asdict(summary), "scenes": rows}, indent=1))
        return
    titles = "".join(f"{title:>9}" for title in ("behind", "all", "area", "blocked", "beside"))
    typer.echo(f"{'times as much a frame':<26}{'frames':>8}{titles}")
    for score in scores:
        ratios = "".join(f"{score.per_frame(m):>9.2f}" for m in MEASURES)
        missed = f"{score.auto.missed_beside_frac:.1%}"
        typer.echo(
            f"{score.scene:<26}{score.auto.num_frames:>8}{ratios}{score.auto.blocked_rays:>9}{missed:>9}"
        )
    for name, means in (("mean per frame", summary.per_frame), ("mean in all", summary.total)):
        ratios = "".join(f"{means[m]:>9.2f}" for m in MEASURES)
        missed = f"{summary.missed_beside_frac:.1%}"
        typer.echo(f"{name:<26}{summary.auto_frames:>8.1f}{ratios}{summary.blocked_rays:>9}{missed:>9}")


@eval_app.command("memory")
def eval_memory(
    folder: Folder,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="A depth backend.", show_default="the truth, disturbed"),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Let clouds grow by recorded frames, round by round, and compare them with the truth."""
    from worldstereo_cli.evaluation.memory import score_memory, score_wrong_frames
    from worldstereo_cli.evaluation.memory_cases import exact_room, read_seven_scenes
    from worldstereo_cli.evaluation.recorded import Disturbance, DisturbedTruth
    from worldstereo_cli.models.depth.factory import depth_backend

    found: dict[str, Any] = {}
    with Console(quiet=as_json) as console:
        lines = console.scene()
        lines.stage_started("eval", f"memory with {backend or 'disturbed truth'}")
        for case in (exact_room(), read_seven_scenes(folder)):
            model = depth_backend(backend, "cpu") if backend else DisturbedTruth(case, Disturbance())
            score = score_memory(case, model, lines.progress)
            wrong = [] if backend else score_wrong_frames(case)
            found[case.name] = {**asdict(score), "wrong": [asdict(w) for w in wrong]}
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for name, score in found.items():
        _print_memory(name, score)


@eval_app.command("parity")
def eval_parity(folder: Folder, as_json: o.AsJson = False) -> None:
    """Compare the video model with a folder of reference numbers; exit 1 when one is off."""
    from worldstereo_cli.evaluation.parity import check_parity

    with Console(quiet=as_json) as console:
        lines = console.scene()
        lines.stage_started("eval", "parity")
        report = check_parity(folder, progress=lines.progress)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1, allow_nan=False))
    else:
        for file in report.files:
            worst = file.worst
            said = (
                f"{worst.largest:.2e} of {worst.tolerance:.2e}  {worst.name}" if worst else "not checked here"
            )
            state = "FAILED" if file.failures else "ok" if worst else "-"
            typer.echo(f"{file.name:<44}{state:<8}{said}")
    if not report.passed:
        raise typer.Exit(1)


def bench(
    photos: Annotated[list[Path], typer.Argument(help="Photographs to run.")],
    recipes: Annotated[
        str, typer.Option("--recipes", help="Recipes by name; comma between.")
    ] = "default,preview",
    as_json: o.AsJson = False,
) -> None:
    """Time whole runs, with their peak memory and the figures of their scenes."""
    from worldstereo_cli.evaluation.bench import bench_run, machine
    from worldstereo_cli.evaluation.bench_memory import bench_retrieval

    names = [name.strip() for name in recipes.split(",")]
    _refuse_wrong(photos, names)
    rows: list[BenchRow] = []
    with tempfile.TemporaryDirectory() as scratch:
        # The first run compiles what the cache lacks; it is reported, and repeated warm.
        rows.append(bench_run(photos[0], Path(scratch) / "first", names[0], kernels="as found"))
        for recipe in names:
            for number, photo in enumerate(photos):
                scene = Path(scratch) / f"{recipe}-{number}"
                rows.append(bench_run(photo, scene, recipe, kernels="warm"))
    retrieval = bench_retrieval()
    if as_json:
        typer.echo(
            json.dumps(
                {"machine": machine(), "retrieval_s": retrieval, "rows": [asdict(row) for row in rows]},
                indent=1,
            )
        )
        return
    typer.echo(machine())
    typer.echo(f"references for 81 frames among 500 past views: {retrieval:.2f} s")
    typer.echo(f"{'photo':<22}{'recipe':<10}{'kernels':<10}{'wall s':>8}{'peak MB':>9}  figures")
    for row in rows:
        figures = ", ".join(
            f"{key} {value}" for key, value in row.metrics.items() if isinstance(value, int | float)
        )
        stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in row.stages_s.items())
        typer.echo(
            f"{row.photo:<22}{row.recipe:<10}{row.kernels:<10}{row.wall_s:>8.1f}{row.peak_memory_mb:>9.0f}"
            f"  {stages} s; {figures}"
        )


def _refuse_wrong(photos: list[Path], recipes: list[str]) -> None:
    """Let all that was typed wrong come out before the first of many minutes."""
    from worldstereo_cli.artifacts.photo import photo_size
    from worldstereo_cli.recipe import load_recipe

    for long_side_px in [load_recipe(name).lift.long_side_px for name in recipes]:
        for photo in photos:
            photo_size(photo, long_side_px)


def _print_memory(name: str, score: dict[str, Any]) -> None:
    typer.echo(
        f"{name}: F at 5 cm {score['f_score']:.3f} (precision {score['precision']:.3f}, recall "
        f"{score['recall']:.3f}); all frames fused with true depth {score['fused_f_score']:.3f}; views of "
        f"the first round lose {score['rerender_loss_db']:.2f} dB, the worst "
        f"{score['worst_rerender_loss_db']:.2f}"
    )
    typer.echo(f"{'round':>7}{'F':>8}{'new off by':>12}{'points':>10}{'removed':>9}{'dropped':>9}{'s':>7}")
    for number, row in enumerate(score["rounds"], start=1):
        typer.echo(
            f"{number:>7}{row['f_score']:>8.3f}{100 * row['added_error_m']:>9.1f} cm{row['num_points']:>10}"
            f"{row['num_removed']:>9}{row['num_dropped']:>9}{row['seconds']:>7.1f}"
        )
    for row in score["wrong"]:
        state = "dropped" if row["was_dropped"] else "kept"
        scores = f"F {row['f_score']:.3f}, without it {row['f_score_without']:.3f}"
        typer.echo(f"  {row['place']:<6} frame {row['kind']:<8} {scores}, {state}")


def _print_depth(name: str, report: DepthReport) -> None:
    typer.echo(f"{name}: AbsRel / delta1, aligned by scale, then by scale and shift in disparity")
    typer.echo(
        f"{'source':<26}{'n':>3}   {'scale':<14}{'constant':<14}{'ramp':<14}{'+shift':<14}{'fitted ramp':<14}"
    )
    for row in (*report.rows, report.mean):
        typer.echo(_depth_line(row))
    for key, interval in report.intervals.items():
        typer.echo(f"{key:<20} 95 % interval by sequence {interval.low:.3f} to {interval.high:.3f}")
    if report.boundary_f1 is not None:
        typer.echo(f"boundary F1          {report.boundary_f1:.3f} ({report.num_boundary_cases} cases)")
    if report.median_focal_error_frac is not None:
        typer.echo(f"focal length         {report.median_focal_error_frac:.1%} median error")
    if report.sources_behind_ramp:
        typer.echo(f"behind a ramp in     {', '.join(report.sources_behind_ramp)}")


def _depth_line(row: SourceRow) -> str:
    scores = [row.scale.get("prediction"), row.scale.get("constant"), row.scale.get("ramp")]
    scores += [row.affine.get("prediction"), row.affine.get("ramp")]
    cells = [f"{s.abs_rel:.3f} / {s.delta1:.3f}" if s else "-" for s in scores]
    return f"{row.source:<26}{row.num_cases:>3}   " + "".join(f"{cell:<14}" for cell in cells)

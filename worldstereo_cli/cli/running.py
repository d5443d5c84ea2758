"""Runs scenes from the command line and prints what came of them."""

from __future__ import annotations

import json
import webbrowser
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from worldstereo_cli.cli.console import Console

if TYPE_CHECKING:
    from worldstereo_cli.pipeline.folder import FolderEntry
    from worldstereo_cli.pipeline.report import SceneReport
    from worldstereo_cli.pipeline.run import RunOptions
    from worldstereo_cli.recipe import Recipe

_EXIT_SOME_FAILED = 1


@dataclass(frozen=True, slots=True)
class Show:
    """How the user wants to see a run."""

    as_json: bool = False
    open_page: bool = False
    quiet: bool = False
    verbose: bool = False


def run(image: Path, out: Path, recipe: Recipe, options: RunOptions, show: Show) -> None:
    """Run one photo or a folder of photos, and print the results."""
    from worldstereo_cli.pipeline.folder import run_folder
    from worldstereo_cli.pipeline.run import run_scene

    with Console(quiet=show.quiet or show.as_json, verbose=show.verbose) as console:
        if image.is_dir():
            entries = run_folder(image, out, recipe, options, console)
        else:
            report = run_scene(image, out, recipe, options, console)
    if image.is_dir():
        _print_folder(entries, show)
    elif options.dry_run:
        _print_dry_run(report, show)
    else:
        _print_scene(report, options.selection.last, show)


def run_stage(photo: Path | None, scene: Path, recipe: Recipe, options: RunOptions) -> None:
    """Run one stage and print where its artifact is."""
    from worldstereo_cli.pipeline.run import run_scene

    with Console(verbose=True) as console:
        report = run_scene(photo, scene, recipe, options, console)
    _print_scene(report, options.selection.last, Show())


def _print_scene(report: SceneReport, last: str, show: Show) -> None:
    from worldstereo_cli.pipeline.run import VIEWER_PAGE

    scene = report.scene_dir
    page = scene / VIEWER_PAGE
    if show.as_json:
        typer.echo(json.dumps(_as_json(report), indent=1))
    else:
        typer.echo(page if last == "reconstruct" else scene / last)
    following = {"lift": "plan", "plan": "generate", "generate": "reconstruct", "reconstruct": "view"}
    if not show.quiet and not show.as_json:
        typer.echo(f"next: worldstereo {following[last]} {scene}", err=True)
    if show.open_page and page.is_file():
        webbrowser.open(page.resolve().as_uri())


def _print_dry_run(report: SceneReport, show: Show) -> None:
    if show.as_json:
        typer.echo(json.dumps(_as_json(report), indent=1))
        return
    for stage in report.stages:
        verb = "reuse" if stage.state == "reused" else "build"
        typer.echo(f"{stage.name:<12}{verb}  {stage.reason}")


def _print_folder(entries: list[FolderEntry], show: Show) -> None:
    failed = [entry for entry in entries if entry.error is not None]
    if show.as_json:
        typer.echo(json.dumps([_entry_as_json(entry) for entry in entries], indent=1))
    else:
        for entry in entries:
            seconds = f"{entry.report.seconds:.0f} s" if entry.report else "failed"
            problem = f"  {entry.error.problem}" if entry.error else ""
            typer.echo(f"{seconds:>8}  {entry.scene_dir}{problem}")
    if failed:
        raise typer.Exit(_EXIT_SOME_FAILED)


def _entry_as_json(entry: FolderEntry) -> dict[str, Any]:
    described: dict[str, Any] = {"photo": str(entry.photo), "scene": str(entry.scene_dir)}
    if entry.error is not None:
        problem = {
            "problem": entry.error.problem,
            "remedy": entry.error.remedy,
            "exit_code": entry.error.exit_code,
        }
        return described | {"error": problem}
    return described | ({"stages": _as_json(entry.report)["stages"]} if entry.report else {})


def _as_json(report: SceneReport) -> dict[str, Any]:
    return {
        "scene": str(report.scene_dir),
        "seconds": round(report.seconds, 2),
        "stages": [asdict(stage) for stage in report.stages],
    }

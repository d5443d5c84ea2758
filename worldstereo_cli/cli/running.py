"""Runs scenes from the command line and prints what came of them."""

from __future__ import annotations

import json
import shlex
import webbrowser
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from worldstereo_cli.cli.console import Console
from worldstereo_cli.cli.tables import folder_rows, folder_table, plan_table

if TYPE_CHECKING:
    from worldstereo_cli.pipeline.folder import FolderEntry
    from worldstereo_cli.pipeline.report import SceneReport
    from worldstereo_cli.pipeline.run import RunOptions
    from worldstereo_cli.recipe import Recipe

_EXIT_SOME_FAILED = 1
_NEXT = {"lift": "plan", "plan": "generate", "generate": "reconstruct", "reconstruct": "view"}


@dataclass(frozen=True, slots=True)
class Show:
    """How the user wants to see a run."""

    as_json: bool = False
    open_page: bool = False
    quiet: bool = False
    verbose: bool = False
    jobs: int = 1
    """Photos of a folder at once."""


def run(image: Path, out: Path, recipe: Recipe, options: RunOptions, show: Show) -> None:
    """Run one photo or a folder of photos, and print the results."""
    from worldstereo_cli.pipeline.folder import run_folder
    from worldstereo_cli.pipeline.run import run_scene

    _refuse_scene(image)
    with Console(quiet=show.quiet, verbose=show.verbose) as console:
        if image.is_dir():
            entries = run_folder(image, out, recipe, options, console.scene, jobs=show.jobs)
        else:
            report = run_scene(image, out, recipe, options, console.scene())
    if image.is_dir():
        _print_folder(entries, options, show)
    elif options.dry_run:
        _print_dry_run(report, show)
    else:
        _print_scene(report, options.selection.last, show)


def run_stage(photo: Path | None, scene: Path, recipe: Recipe, options: RunOptions) -> None:
    """Run one stage and print where its artifact is."""
    from worldstereo_cli.pipeline.run import run_scene

    with Console(verbose=True) as console:
        report = run_scene(photo, scene, recipe, options, console.scene())
    _print_scene(report, options.selection.last, Show())


def _refuse_scene(image: Path) -> None:
    from worldstereo_cli.errors import InputError
    from worldstereo_cli.pipeline.scene_file import SCENE_FILE

    if (image / SCENE_FILE).is_file():
        raise InputError(
            f"{image} is a scene, not a photo.",
            remedy=f"worldstereo view {_quoted(image)}   or pass the photo that it was made from.",
        )


def _print_scene(report: SceneReport, last: str, show: Show) -> None:
    scene, result = report.scene_dir, _result(report.scene_dir, last)
    if show.as_json:
        typer.echo(json.dumps(_as_json(report, last), indent=1))
    else:
        typer.echo(result)
    if not show.quiet:
        typer.echo(f"next: worldstereo {_NEXT[last]} {_quoted(scene)}", err=True)
    if show.open_page and result.is_file():
        webbrowser.open(result.resolve().as_uri())


def _result(scene: Path, last: str) -> Path:
    """Return what a run made: the page, or the last stage's directory."""
    from worldstereo_cli.pipeline.place import VIEWER_PAGE

    return scene / (VIEWER_PAGE if last == "reconstruct" else last)


def _print_dry_run(report: SceneReport, show: Show) -> None:
    if show.as_json:
        typer.echo(json.dumps(_as_json(report), indent=1))
    else:
        for line in plan_table(report.stages):
            typer.echo(line)


def _print_folder(entries: list[FolderEntry], options: RunOptions, show: Show) -> None:
    """Print a result a line on stdout; the table of all on stderr, failures last."""
    last = options.selection.last
    if show.as_json:
        typer.echo(json.dumps([_entry_as_json(entry, last) for entry in entries], indent=1))
    for entry in entries:
        if show.as_json or entry.report is None:
            continue
        if options.dry_run:
            typer.echo(f"{entry.photo}")
            for line in plan_table(entry.report.stages):
                typer.echo(f"  {line}")
        else:
            typer.echo(_result(entry.scene_dir, last))
    failed = [entry for entry in entries if entry.error is not None]
    if failed or not (show.quiet or options.dry_run):
        # Of a dry run nothing is done yet: what it would do is told above, and what it cannot do here.
        for line in folder_rows(failed) if options.dry_run else folder_table(entries):
            typer.echo(line, err=True)
    done = next((entry.scene_dir for entry in entries if entry.report is not None), None)
    if not show.quiet and not options.dry_run and done is not None and not failed:
        typer.echo(f"next: worldstereo {_NEXT[last]} {_quoted(done)}", err=True)
    if failed:
        raise typer.Exit(_EXIT_SOME_FAILED)


def _entry_as_json(entry: FolderEntry, last: str) -> dict[str, Any]:
    described: dict[str, Any] = {"photo": str(entry.photo), "scene": str(entry.scene_dir)}
    if entry.error is not None:
        problem = {
            "problem": entry.error.problem,
            "remedy": entry.error.remedy,
            "exit_code": entry.error.exit_code,
        }
        return described | {"error": problem}
    return described | (_as_json(entry.report, last) if entry.report else {})


def _as_json(report: SceneReport, last: str | None = None) -> dict[str, Any]:
    described = {
        "scene": str(report.scene_dir),
        "seconds": round(report.seconds, 2),
        "stages": [asdict(stage) for stage in report.stages],
    }
    return described if last is None else described | {"result": str(_result(report.scene_dir, last))}


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))

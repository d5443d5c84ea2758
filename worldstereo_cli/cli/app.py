"""The commands. Each body is short: read options, call one function below, print one line."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worldstereo_cli.cli import measuring
from worldstereo_cli.cli import options as o
from worldstereo_cli.cli.bench_video import bench_video
from worldstereo_cli.cli.weights import weights_app

if TYPE_CHECKING:
    from worldstereo_cli.pipeline.run import RunOptions
    from worldstereo_cli.recipe import Recipe

app = typer.Typer(
    name="worldstereo",
    help="One photograph in, a 3D scene that people can walk through out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
recipe_app = typer.Typer(help="List and show recipes.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from worldstereo_cli import __version__

        typer.echo(f"worldstereo {__version__}")
        raise typer.Exit


@app.command()
def run(
    image: o.PhotoOrFolder,
    out: o.OutDir,
    recipe: o.RecipeName = None,
    overrides: o.Overrides = None,
    first: o.FirstStage = None,
    until: o.LastStage = None,
    force: o.Force = None,
    trajectory: o.Trajectories = None,
    depth: o.DepthFile = None,
    fov: o.FovDeg = None,
    prompt: o.Prompt = None,
    seed: o.Seed = None,
    device: o.Device = "auto",
    jobs: o.Jobs = 1,
    dry_run: o.DryRun = False,
    as_json: o.AsJson = False,
    open_page: o.OpenPage = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Turn a photograph, or a folder of them, into scenes to walk through."""
    from worldstereo_cli.cli import running
    from worldstereo_cli.pipeline.reuse import Selection
    from worldstereo_cli.pipeline.run import RunOptions

    chosen = _recipe(recipe or "default", overrides, trajectory, prompt, seed)
    selection = Selection.parse(first, until, force or [])
    run_options = RunOptions(selection, depth, fov, device, dry_run)
    show = running.Show(as_json=as_json, open_page=open_page, quiet=quiet, verbose=verbose, jobs=jobs)
    running.run(image, out, chosen, run_options, show)


@app.command()
def lift(
    image: o.PhotoFile,
    out: o.OutDir,
    recipe: o.SceneRecipeName = None,
    overrides: o.Overrides = None,
    depth: o.DepthFile = None,
    fov: o.FovDeg = None,
    device: o.Device = "auto",
    force: o.ForceThis = False,
) -> None:
    """Estimate depth and lift the photo to a point cloud."""
    from worldstereo_cli.pipeline.run import RunOptions
    from worldstereo_cli.pipeline.scene_file import SCENE_FILE

    is_known = recipe is None and (out / SCENE_FILE).is_file()
    chosen = _scene_recipe(out, None, overrides) if is_known else _recipe(recipe or "default", overrides)
    _one_stage("lift", image, out, chosen, RunOptions(depth_file=depth, fov_deg=fov, device=device), force)


@app.command()
def plan(
    scene: o.SceneDir,
    recipe: o.SceneRecipeName = None,
    overrides: o.Overrides = None,
    trajectory: o.SceneTrajectories = None,
    force: o.ForceThis = False,
) -> None:
    """Plan camera paths through the cloud."""
    from worldstereo_cli.pipeline.run import RunOptions

    chosen = _scene_recipe(scene, recipe, overrides, trajectory)
    _one_stage("plan", None, scene, chosen, RunOptions(), force)


@app.command()
def generate(
    scene: o.SceneDir,
    recipe: o.SceneRecipeName = None,
    overrides: o.Overrides = None,
    prompt: o.Prompt = None,
    device: o.Device = "auto",
    force: o.ForceThis = False,
) -> None:
    """Generate frames along the paths, and grow the cloud with them."""
    from worldstereo_cli.pipeline.run import RunOptions

    chosen = _scene_recipe(scene, recipe, overrides, prompt=prompt)
    _one_stage("generate", None, scene, chosen, RunOptions(device=device), force)


@app.command()
def reconstruct(
    scene: o.SceneDir,
    recipe: o.SceneRecipeName = None,
    overrides: o.Overrides = None,
    device: o.Device = "auto",
    force: o.ForceThis = False,
) -> None:
    """Fit Gaussian splats; write the viewer page and the flythrough."""
    from worldstereo_cli.pipeline.run import RunOptions

    chosen = _scene_recipe(scene, recipe, overrides)
    _one_stage("reconstruct", None, scene, chosen, RunOptions(device=device), force)


@app.command()
def view(
    scene: o.SceneDir,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 8080,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
) -> None:
    """Look at a scene live, in a browser on this machine."""
    from worldstereo_cli.pipeline.scene_file import SceneFile
    from worldstereo_cli.viewer.live import serve

    recipe = SceneFile.read(scene).recipe.view
    with suppress(KeyboardInterrupt):
        serve(scene, recipe, port=port, open_browser=open_page, announce=lambda s: typer.echo(s, err=True))


@app.command()
def export(
    scene: o.SceneDir,
    formats: Annotated[
        str, typer.Option("--to", help="Any of ply, spz, html, mp4, colmap, nerfstudio, glb; comma between.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", parser=o.to_path, metavar="DIR", help="Where to.", show_default="SCENE/export"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of an earlier export.")
    ] = False,
) -> None:
    """Write a scene in the formats of other tools."""
    from worldstereo_cli.pipeline.bindings import require_view
    from worldstereo_cli.pipeline.place import EXPORTS
    from worldstereo_cli.pipeline.scene_file import require_scene
    from worldstereo_cli.viewer.export import export_scene

    require_scene(scene)
    names = [name.strip() for name in formats.split(",") if name.strip()]
    if {"html", "mp4"} & set(names):
        require_view(scene)
    for path in export_scene(scene, names, out or scene / EXPORTS, overwrite=overwrite):
        typer.echo(path)


@app.command()
def info(scene: o.SceneDir, as_json: o.AsJson = False) -> None:
    """Say what a scene was made from and what is in it."""
    from worldstereo_cli.pipeline.info import describe_scene

    facts = describe_scene(scene)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    else:
        from worldstereo_cli.cli.tables import scene_lines

        for line in scene_lines(facts):
            typer.echo(line)


@app.command()
def doctor() -> None:
    """Check this machine: Python, libraries, GPU, weights."""
    from worldstereo_cli.cli.tables import print_checks
    from worldstereo_cli.pipeline.doctor import examine

    checks = examine()
    print_checks(checks)
    if not all(check.ok for check in checks if check.required):
        raise typer.Exit(5)


@recipe_app.command("list")
def recipe_list() -> None:
    """List the recipes that come with the package."""
    from worldstereo_cli.recipe import recipe_names

    for name in recipe_names():
        typer.echo(name)


@recipe_app.command("show")
def recipe_show(name: Annotated[str, typer.Argument(help="A name or a .toml file.")] = "default") -> None:
    """Print a recipe with every value resolved, as TOML."""
    from worldstereo_cli.recipe import load_recipe, recipe_to_toml

    typer.echo(recipe_to_toml(load_recipe(name)), nl=False)


app.add_typer(measuring.eval_app, name="eval")
app.add_typer(weights_app, name="weights")
app.command("bench")(measuring.bench)
app.command("bench-video")(bench_video)


def _recipe(
    name: str,
    overrides: list[str] | None = None,
    trajectory: list[str] | None = None,
    prompt: str | None = None,
    seed: int | None = None,
) -> Recipe:
    from worldstereo_cli.recipe import load_recipe, with_choices

    return with_choices(load_recipe(name, overrides), trajectory, prompt, seed)


def _scene_recipe(
    scene: Path,
    name: str | None,
    overrides: list[str] | None,
    trajectory: list[str] | None = None,
    prompt: str | None = None,
) -> Recipe:
    """Take the named recipe, or else the one that the scene was made with."""
    from worldstereo_cli.pipeline.scene_file import SceneFile
    from worldstereo_cli.recipe import override_recipe, with_choices

    known = SceneFile.read(scene)
    chosen = _recipe(name, overrides) if name else override_recipe(known.recipe, overrides or [])
    return with_choices(chosen, trajectory, prompt, None)


def _one_stage(
    name: str, photo: Path | None, scene: Path, recipe: Recipe, run_options: RunOptions, force: bool
) -> None:
    from worldstereo_cli.cli import running
    from worldstereo_cli.pipeline.reuse import Selection

    selection = Selection(name, name, frozenset({name}) if force else frozenset())
    running.run_stage(photo, scene, recipe, replace(run_options, selection=selection))

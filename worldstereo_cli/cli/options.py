"""Every option once, so that it reads the same in each command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def to_path(text: str) -> Path:
    """Read a path as typed; an empty one is a variable that was not set, not the present directory.

    Raises:
        BadParameter: It is empty.
    """
    if not text.strip():
        raise typer.BadParameter("the path is empty.")
    # A shell leaves the tilde of `--out=~/scene` alone.
    return Path(text).expanduser()


SceneDir = Annotated[Path, typer.Argument(parser=to_path, metavar="SCENE", help="A scene directory.")]
PhotoFile = Annotated[
    Path, typer.Argument(parser=to_path, metavar="IMAGE", help="A photograph: jpg, png, webp, heic, tiff.")
]
PhotoOrFolder = Annotated[
    Path, typer.Argument(parser=to_path, metavar="IMAGE|FOLDER", help="A photograph, or a folder of them.")
]
OutDir = Annotated[
    Path, typer.Option("--out", "-o", parser=to_path, metavar="SCENE", help="The scene directory to make.")
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="A recipe by name, or a .toml file.", show_default="default"),
]
SceneRecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="A recipe by name, or a .toml file.",
        show_default="the scene's own, else default",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Override one value of the recipe. May be repeated."
    ),
]
_TRAJECTORY_HELP = (
    "auto, a trajectory file, or a preset such as orbit or orbit:20: eloop, up, right, left, orbit,"
    " spiral, lemniscate, forward, backward, strafe, rise, dolly-zoom, pan, tilt, roll, look-around,"
    " zoom. May be repeated. A file is a WorldStereo camera.json, a nerfstudio transforms.json, or an"
    " .npz or .json with w2c or c2w; the README has an example of each."
)
Trajectories = Annotated[
    list[str] | None,
    typer.Option(
        "--trajectory", "-t", metavar="PRESET|FILE", help=_TRAJECTORY_HELP, show_default="the recipe's"
    ),
]
SceneTrajectories = Annotated[
    list[str] | None,
    typer.Option(
        "--trajectory", "-t", metavar="PRESET|FILE", help=_TRAJECTORY_HELP, show_default="the scene's own"
    ),
]
DepthFile = Annotated[
    Path | None,
    typer.Option(
        "--depth",
        parser=to_path,
        metavar="FILE",
        help="Depth of the photo: .npy in metres or 16-bit .png in millimetres.",
    ),
]
FovDeg = Annotated[
    float | None,
    typer.Option(
        "--fov", min=5, max=150, help="Field of view of the longer side, in degrees, if you know it."
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        help="What the scene shows, for models that read text.",
        show_default="the recipe's; an empty one stands for a still, evenly lit scene",
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Makes runs repeatable.", show_default="the recipe's")
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where models run.")]
FirstStage = Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Begin at this stage.")]
LastStage = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="End after this stage.")]
Force = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="STAGE|all", help="Build this stage again even if nothing changed."),
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, help="Photos of a folder to work on at once.", show_default="1")
]
ForceThis = Annotated[bool, typer.Option("--force", help="Build it again even if nothing changed.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, why, and what it would cost.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
OpenPage = Annotated[bool, typer.Option("--open", help="Open the viewer page when done.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say why each stage is built.")]

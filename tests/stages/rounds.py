"""A board before a wall, and paths beside it: what tests of rounds share."""

import torch

from tests import scenes
from worldstereo_cli.artifacts.manifest import MANIFEST_NAME, Manifest, draft_directory, write_json
from worldstereo_cli.artifacts.scene import Generation, NamedPath, Plan
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import GenerateRecipe
from worldstereo_cli.stages.generate_cameras_to_frames import GenerateOptions, generate

FAR_M = 5.0
SURFACES = scenes.two_planes(2.0, FAR_M)
PHOTO = scenes.camera(120, 80)
RECIPE = GenerateRecipe(num_frames=4)


def sideways(sign: float) -> Cameras:
    """A path of 21 poses to one side, without turning."""
    pose = PHOTO.world_from_camera.repeat(21, 1, 1)
    pose[:, 0, 3] = sign * torch.linspace(0, 0.5, 21)
    return Cameras(pose, PHOTO.intrinsics.repeat(21, 1, 1), 120, 80)


def write_plan(root, *paths: NamedPath) -> None:
    with draft_directory(root) as draft:
        write_json(draft / "paths.json", Plan.paths_to_json(list(paths)))
        Manifest(Plan.kind, {}, 0, {"paths": ",".join(p.name for p in paths)}).write(draft)


def run(scene, seed=0, recipe=RECIPE) -> Generation:
    return generate(
        scene / "lift",
        scene / "plan",
        scene / "generate",
        recipe,
        GenerateOptions(),
        seed=seed,
        progress=silent,
    )


def contents(root) -> dict[str, bytes]:
    """Every file but manifests, which tell seconds, and the video, which nobody reads back."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name not in (MANIFEST_NAME, "preview.mp4")]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}

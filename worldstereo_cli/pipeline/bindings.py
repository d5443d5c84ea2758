"""Ties each stage to its place in a scene: its inputs, its recipe section and its function.

This is the only file of the room that imports the stages, and with them torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldstereo_cli.artifacts.manifest import Manifest, digest_file
from worldstereo_cli.artifacts.trajectory import parse_trajectory
from worldstereo_cli.errors import InputError
from worldstereo_cli.pipeline.reuse import Expectation
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Binding:
    """All that a stage may need to know."""

    photo: Path | None
    scene_dir: Path
    recipe: Recipe
    depth_file: Path | None
    fov_deg: float | None
    device: str


def expectation(name: str, binding: Binding) -> Expectation:
    """Say what a stage would be made from if it ran now.

    Raises:
        ArtifactError: The stage before it is not finished.
        InputError: A file that the user named cannot be read.
    """
    section = getattr(binding.recipe, name).model_dump(mode="json")
    return Expectation(section, binding.recipe.seed, _inputs(name, binding))


def check_backends(recipe: Recipe, device: str) -> str | None:
    """See that the models of a recipe are there and fit, before any stage runs.

    Returns:
        What a clip needs, in words; None when no model takes part.

    Raises:
        BackendError: Weights or a library are missing.
        OutOfMemory: No way to store a model fits on the device.
    """
    from worldstereo_cli.models.video.factory import describe_needs
    from worldstereo_cli.stages.generate_cameras_to_frames import video_choice

    # A photo's own size is known after the lift only; 3:2 is the usual one.
    long_side = recipe.lift.long_side_px
    return describe_needs(video_choice(recipe.generate), device, long_side, long_side * 2 // 3)


def build(name: str, binding: Binding, progress: Progress) -> Manifest:
    """Run one stage."""
    scene, recipe, seed = binding.scene_dir, binding.recipe, binding.recipe.seed
    lift_dir, plan_dir, generate_dir = scene / "lift", scene / "plan", scene / "generate"
    match name:
        case "lift":
            from worldstereo_cli.stages import lift_image_to_cloud as lift

            options = lift.LiftOptions(binding.depth_file, binding.fov_deg)
            photo = _require_photo(binding)
            return lift.lift(
                photo, lift_dir, recipe.lift, options, seed=seed, device=binding.device, progress=progress
            ).manifest
        case "plan":
            from worldstereo_cli.stages import plan_cloud_to_cameras as plan

            return plan.plan(lift_dir, plan_dir, recipe.plan, seed=seed, progress=progress).manifest
        case "generate":
            from worldstereo_cli.stages import generate_cameras_to_frames as generate

            wishes = generate.GenerateOptions(recipe.prompt, binding.device)
            return generate.generate(
                lift_dir, plan_dir, generate_dir, recipe.generate, wishes, seed=seed, progress=progress
            ).manifest
        case "reconstruct":
            from worldstereo_cli.stages import reconstruct_frames_to_splats as reconstruct

            return reconstruct.reconstruct(
                lift_dir, generate_dir, scene / "reconstruct", recipe.reconstruct,
                seed=seed, device=binding.device, progress=progress,
            ).manifest  # fmt: skip
        case _:
            raise ValueError(f"Expected a stage, got {name!r}.")


def show(scene_dir: Path, recipe: Recipe, device: str, progress: Progress) -> None:
    """Write the viewer page and the flythrough beside the stages."""
    from worldstereo_cli.viewer.flythrough import write_flythrough
    from worldstereo_cli.viewer.page import write_page

    write_page(scene_dir, scene_dir / "viewer.html")
    write_flythrough(scene_dir, scene_dir / "flythrough.mp4", recipe.view, device=device, progress=progress)


def _require_photo(binding: Binding) -> Path:
    if binding.photo is None:
        raise InputError("lift needs a photo.", remedy="worldstereo lift photo.jpg --out scene/")
    return binding.photo


def _inputs(name: str, binding: Binding) -> dict[str, str]:
    scene = binding.scene_dir
    match name:
        case "lift":
            inputs = {"photo": _digest(_require_photo(binding))}
            if binding.depth_file is not None:
                inputs["depth"] = _digest(binding.depth_file)
            if binding.fov_deg is not None:
                inputs["fov_deg"] = repr(float(binding.fov_deg))
            return inputs
        case "plan":
            # Not told by a suffix: `orbit:2.5` has one, too.
            files = [r.file for r in map(parse_trajectory, binding.recipe.plan.trajectories) if r.file]
            return {"lift": _stage_digest(scene, "lift")} | {f"trajectory {f}": _digest(f) for f in files}
        case "generate":
            return {
                "lift": _stage_digest(scene, "lift"),
                "plan": _stage_digest(scene, "plan"),
                "prompt": binding.recipe.prompt,
            }
        case _:
            return {"lift": _stage_digest(scene, "lift"), "generate": _stage_digest(scene, "generate")}


def _stage_digest(scene: Path, name: str) -> str:
    return Manifest.read(scene / name, name).digest


def _digest(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", remedy="Check the path.") from error

"""Ties each stage to its place in a scene: its inputs, its recipe section and its function.

This is the only file of the room that imports the stages, and with them torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from worldstereo_cli.artifacts.manifest import (
    MANIFEST_NAME,
    Manifest,
    digest_file,
    discard,
    next_to,
    read_chain,
)
from worldstereo_cli.artifacts.trajectory import parse_trajectory
from worldstereo_cli.errors import ArtifactError, InputError
from worldstereo_cli.pipeline.estimate import ClipCost
from worldstereo_cli.pipeline.place import FLYTHROUGH, VIEWER_PAGE
from worldstereo_cli.pipeline.reuse import (
    CUT_SHORT,
    FORCED,
    STAGES,
    VIEW,
    Decision,
    Expectation,
    Selection,
    reason_to_build,
)
from worldstereo_cli.pipeline.scene_file import SceneFile
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import Recipe, generate_section, round_section

_HOST_MB = 4000.0
"""What the host gives a model on a GPU: libraries, and a part of the weights while they are loaded."""
_VIEW_CODE = 4
"""Raised when page or flythrough come out differently from the same splats."""


@dataclass(frozen=True, slots=True)
class Binding:
    """All that a stage may need to know."""

    photo: Path | None
    photo_digest: str | None
    scene_dir: Path
    recipe: Recipe
    depth_file: Path | None
    fov_deg: float | None


def decide(selection: Selection, binding: Binding, owed: Mapping[str, str]) -> list[Decision]:
    """Work out what a run does about each selected stage, without doing any of it.

    What a stage will be made from is known before the stages ahead of it have run, because their
    digests tell what went in. A stage after a forced one is built, too: who forces does not trust it.

    Args:
        selection: The stages that the run covers.
        binding: What they are made from.
        owed: By stage, the digest of what was forced before and was cut short.

    Raises:
        ArtifactError: A stage before the first selected one is not finished, or the ones before it have
            changed since.
        InputError: A file that the user named cannot be read.
        BackendError: Weights are not here.
    """
    decisions: list[Decision] = []
    digests: dict[str, str] = {}
    for name, manifest in read_chain(binding.scene_dir, STAGES[: STAGES.index(selection.first)]).items():
        digests[name] = manifest.digest
        if name == "lift":
            # Frames ask the depth backend of the lift that is there, whatever the recipe says by now.
            lifted_by = {key: manifest.recipe[key] for key in ("depth", "weights")}
            section = binding.recipe.lift.model_copy(update=lifted_by)
            binding = replace(binding, recipe=binding.recipe.model_copy(update={"lift": section}))
    forced: str | None = None
    for name in selection.names:
        expected = _expectation(name, binding, digests)
        digests[name] = expected.digest(name)
        reason = reason_to_build(binding.scene_dir / name, name, expected, name in selection.forced)
        is_owed = owed.get(name) == digests[name]
        if reason is None and is_owed:
            reason = CUT_SHORT
        if reason is None and forced is not None:
            reason = f"{forced} is made anew"
        if forced is None and (reason == FORCED or is_owed):
            forced = name
        # Rounds tell by their own digests which of them a plan that was made anew concerns.
        follows = forced is not None and (name, forced) != ("generate", "plan")
        decisions.append(Decision(name, digests[name], reason, follows or reason == FORCED or is_owed))
    return decisions


def view_digest(scene_dir: Path, recipe: Recipe) -> str:
    """Return a digest of what page and flythrough are made from.

    Raises:
        ArtifactError: A stage that they are made from is not finished.
    """
    made_from = {
        "code": _VIEW_CODE,
        "recipe": recipe.view.model_dump(mode="json"),
        "stages": [Manifest.read(scene_dir / name, name).digest for name in ("plan", "reconstruct")],
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def require_view(scene_dir: Path) -> None:
    """See that page and flythrough show the splats that are there.

    Raises:
        ArtifactError: They do not, or there is no finished scene.
    """
    record = SceneFile.read(scene_dir)
    shown = record.stages.get(VIEW, {})
    if shown.get("made_from") != view_digest(scene_dir, record.recipe) or shown.get("state") != "done":
        raise ArtifactError(
            f"{VIEWER_PAGE} and {FLYTHROUGH} of {scene_dir} do not show the splats that are there now.",
            remedy=f"worldstereo reconstruct {scene_dir}   writes them anew.",
        )


def finished_rounds(scene_dir: Path) -> set[tuple[str, int]]:
    """Return names and times of all finished rounds; one that is made again has another time."""
    generate_dir = scene_dir / "generate"
    manifests = [
        manifest
        for place in (generate_dir, next_to(generate_dir))
        for manifest in place.glob(f"rounds/*/{MANIFEST_NAME}")
    ]
    return {(path.parent.name, path.stat().st_mtime_ns) for path in manifests}


def rounds_to_keep(decisions: list[Decision], binding: Binding) -> int:
    """Foresee how many finished rounds `generate` will keep.

    Those of a run that was cut short, and those ahead of the first trajectory that changed.
    """
    built = {decision.name for decision in decisions if decision.reason is not None}
    if "lift" in built or any(decision.reason == FORCED for decision in decisions):
        return 0
    section = round_section(binding.recipe.generate, binding.recipe.memory)
    is_anew = any(decision.name == "generate" and decision.is_anew for decision in decisions)
    generate_dir = binding.scene_dir / "generate"
    places = (next_to(generate_dir),) if is_anew else (next_to(generate_dir), generate_dir)
    found = [path.parent for place in places for path in place.glob(f"rounds/*/{MANIFEST_NAME}")]
    alike = {
        root.name
        for root, r in zip(found, map(_manifest, found), strict=True)
        if r is not None and r.recipe == section and r.seed == binding.recipe.seed
    }
    kept = len(alike)
    if "plan" not in built:
        return kept
    planned = _manifest(binding.scene_dir / "plan")
    old = {} if planned is None else planned.recipe
    new = binding.recipe.plan.model_dump(mode="json")
    if old | {"trajectories": []} != new | {"trajectories": []}:
        return 0
    first = takewhile(
        lambda pair: pair[0] == pair[1], zip(old["trajectories"], new["trajectories"], strict=False)
    )
    return min(kept, sum(binding.recipe.plan.most_paths(pair[0]) for pair in first))


def _manifest(root: Path) -> Manifest | None:
    """Read a manifest of whatever kind; None where there is none of this version."""
    try:
        return Manifest.read(root, "plan" if root.name == "plan" else "round")
    except ArtifactError:
        return None


def forget_next(scene_dir: Path) -> None:
    """Remove rounds that a run left which was cut short, and which `generate` would keep: they are forced."""
    discard(next_to(scene_dir / "generate"))


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


def check_depth(recipe: Recipe, *, of_photo: bool, of_frames: bool) -> None:
    """See that the weights of the depth backends of a recipe are here, before any stage runs.

    Args:
        recipe: Resolved.
        of_photo: Whether a backend will be asked for the depth of the photo.
        of_frames: Whether one will be asked for that of frames; `warp` knows the depth of its own.

    Raises:
        BackendError: They are not.
    """
    from worldstereo_cli.models.depth.factory import require_depth_weights
    from worldstereo_cli.models.video.factory import WARP

    lift, frames = recipe.lift, recipe.generate.depth
    of_frames = of_frames and recipe.generate.backend != WARP
    if of_photo or (of_frames and frames == "lift"):
        require_depth_weights(lift.depth, lift.weights)
    if of_frames and frames != "lift":
        require_depth_weights(frames, "")


def ignores_prompt(recipe: Recipe) -> bool:
    """Say whether a prompt is given that the recipe's frame backend does not look at.

    Raises:
        BackendError: Weights or a library are missing.
    """
    from worldstereo_cli.stages.generate_cameras_to_frames import reads_prompt

    return bool(recipe.prompt) and not reads_prompt(recipe.generate)


def check_rasterizer(device: str) -> None:
    """See that splats can be drawn on a device, before any stage runs.

    Raises:
        BackendError: They cannot.
    """
    from worldstereo_cli.splatting.rasterize.factory import check_rasterizer

    check_rasterizer(device)


def clip_cost(recipe: Recipe, device: str) -> ClipCost | None:
    """Return what a model takes for one path; None for `warp`.

    What it takes of a GPU is told by `check_backends`.

    Raises:
        BackendError, OutOfMemory: As `check_backends`.
    """
    from worldstereo_cli.models.video.factory import WARP, make_video_backend

    if recipe.generate.backend == WARP:
        return None
    from worldstereo_cli.models.video.worldstereo import WorldStereoBackend
    from worldstereo_cli.stages.generate_cameras_to_frames import video_choice

    backend = make_video_backend(video_choice(recipe.generate), device)
    if not isinstance(backend, WorldStereoBackend):
        raise TypeError(f"Expected a model, got {type(backend).__name__}.")
    long_side = recipe.lift.long_side_px
    size = backend.clip_size(long_side, long_side * 2 // 3)
    plan = backend.plan(size)
    memory_mb = plan.peak_bytes / 1e6 if device == "cpu" else _HOST_MB
    return ClipCost(size.num_frames, plan.seconds, memory_mb)


def build(name: str, binding: Binding, device: str, progress: Progress, *, anew: bool = False) -> Manifest:
    """Run one stage; `anew`, taking over nothing of the finished one that it replaces."""
    scene, recipe, seed = binding.scene_dir, binding.recipe, binding.recipe.seed
    lift_dir, plan_dir, generate_dir = scene / "lift", scene / "plan", scene / "generate"
    match name:
        case "lift":
            from worldstereo_cli.stages import lift_image_to_cloud as lift

            options = lift.LiftOptions(binding.depth_file, binding.fov_deg)
            photo = _require_photo(binding)
            return lift.lift(
                photo, lift_dir, recipe.lift, options, seed=seed, device=device, progress=progress
            ).manifest
        case "plan":
            from worldstereo_cli.stages import plan_cloud_to_cameras as plan

            return plan.plan(lift_dir, plan_dir, recipe.plan, seed=seed, progress=progress).manifest
        case "generate":
            from worldstereo_cli.stages import generate_cameras_to_frames as generate

            wishes = generate.GenerateOptions(recipe.prompt, device, recipe.memory, anew)
            return generate.generate(
                lift_dir, plan_dir, generate_dir, recipe.generate, wishes, seed=seed, progress=progress
            ).manifest
        case "reconstruct":
            from worldstereo_cli.stages import reconstruct_frames_to_splats as reconstruct

            return reconstruct.reconstruct(
                lift_dir, generate_dir, scene / "reconstruct", recipe.reconstruct,
                seed=seed, device=device, progress=progress,
            ).manifest  # fmt: skip
        case _:
            raise ValueError(f"Expected a stage, got {name!r}.")


def show(scene_dir: Path, recipe: Recipe, device: str, progress: Progress) -> None:
    """Write the viewer page and the flythrough beside the stages."""
    from worldstereo_cli.viewer.flights import Shown
    from worldstereo_cli.viewer.flythrough import write_flythrough
    from worldstereo_cli.viewer.page import write_page

    progress(0, 1, "writing the page")
    shown = Shown.read(scene_dir, recipe.view)
    write_page(shown, scene_dir / VIEWER_PAGE)
    write_flythrough(shown, scene_dir / FLYTHROUGH, recipe.view, device=device, progress=progress)


def _require_photo(binding: Binding) -> Path:
    if binding.photo is None:
        raise InputError("lift needs a photo.", remedy="worldstereo lift photo.jpg --out scene/")
    return binding.photo


def _expectation(name: str, binding: Binding, digests: dict[str, str]) -> Expectation:
    section = _section(name, binding.recipe)
    return Expectation(section, binding.recipe.seed, _inputs(name, binding, digests))


def _section(name: str, recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe a stage applies, as its manifest records it."""
    if name == "generate":
        return generate_section(recipe.generate, recipe.memory)
    section: dict[str, Any] = getattr(recipe, name).model_dump(mode="json")
    return section


def _inputs(name: str, binding: Binding, digests: dict[str, str]) -> dict[str, str]:
    """Return what a stage is made from, by role, as its own manifest will tell it."""
    recipe = binding.recipe
    match name:
        case "lift":
            from worldstereo_cli.models.fingerprint import depth_fingerprint

            _require_photo(binding)
            inputs = {"photo": binding.photo_digest or ""}
            weights = depth_fingerprint(recipe.lift.depth, recipe.lift.weights)
            if binding.depth_file is not None:
                inputs["depth"] = _digest(binding.depth_file)
            elif weights is not None:
                inputs["weights"] = weights
            if binding.fov_deg is not None:
                inputs["fov_deg"] = repr(float(binding.fov_deg))
            return inputs
        case "plan":
            # Not told by a suffix: `orbit:2.5` has one, too.
            files = [r.file for r in map(parse_trajectory, recipe.plan.trajectories) if r.file]
            return {"lift": digests["lift"]} | {f"trajectory {f}": _digest(f) for f in files}
        case "generate":
            from worldstereo_cli.stages.generate_cameras_to_frames import what_makers_read

            read = what_makers_read(recipe.generate, recipe.lift.model_dump(mode="json"), recipe.prompt)
            return {"lift": digests["lift"], "plan": digests["plan"]} | read
        case _:
            return {"lift": digests["lift"], "generate": digests["generate"]}


def photo_digest(photo: Path) -> str:
    """Return a photo's digest.

    Raises:
        InputError: It is not a file that can be read.
    """
    if photo.is_dir():
        raise InputError(f"{photo} is a folder.", remedy="Pass the path of a photograph.")
    if photo.exists() and not photo.is_file():
        raise InputError(
            f"{photo} is not a file, and has to be read more than once.", remedy="Save it to a file first."
        )
    return _digest(photo)


def _digest(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", remedy="Check the path.") from error

"""Generate: from a cloud and camera paths to completed frames and a grown cloud."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from worldstereo_cli.artifacts.cameras import cameras_to_json
from worldstereo_cli.artifacts.cloud import write_cloud, write_removed
from worldstereo_cli.artifacts.images import write_depth
from worldstereo_cli.artifacts.manifest import (
    MANIFEST_NAME,
    Manifest,
    copy_cheaply,
    discard,
    draft_directory,
    next_to,
    put_in_place,
    write_json,
)
from worldstereo_cli.artifacts.scene import Generation, Lift, NamedPath, Plan, Round
from worldstereo_cli.artifacts.video import write_video
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.models.depth.factory import depth_backend
from worldstereo_cli.models.depth.protocol import DepthBackend
from worldstereo_cli.models.fingerprint import generate_fingerprints
from worldstereo_cli.models.video.factory import VideoChoice, make_video_backend
from worldstereo_cli.models.video.protocol import VideoBackend
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import GenerateRecipe, MemoryRecipe, generate_section, round_section
from worldstereo_cli.stages.one_round import Makers, make_round
from worldstereo_cli.stages.recorded import describe_bank, read_done
from worldstereo_cli.stages.world import World, after_round, first_world

_PREVIEW_FPS = 8
"""Slow enough to look at each of the few frames."""


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What a run may add to the recipe's section."""

    prompt: str = ""
    """A description of the scene, for backends that read one."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    memory: MemoryRecipe = field(default_factory=MemoryRecipe)
    """How past views are chosen."""
    anew: bool = False
    """Make every round again, but for those that a run cut short, which was to make them anew, has made."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What all rounds of a run share."""

    rounds_dir: Path
    earlier_dir: Path | None
    """Rounds of what is being replaced; those that would come out the same are taken from there."""
    recipe: GenerateRecipe
    memory: MemoryRecipe
    makers: Makers
    lift_digest: str
    read: dict[str, str]
    """What the makers read beside lift and plan, by role."""

    def manifest(self, number: int, path: NamedPath, previous: str) -> Manifest:
        """Say what a round is made from; the chain of digests runs back to the first."""
        cameras = json.dumps(cameras_to_json(path.cameras), sort_keys=True)
        inputs = {
            "lift": self.lift_digest,
            "path": hashlib.sha256(cameras.encode()).hexdigest(),
            "number": str(number),
            "previous": previous,
        } | self.read
        section = round_section(self.recipe, self.memory)
        return Manifest(Round.kind, section, self.makers.seed, inputs, {"path": path.name})


def generate(
    lift_dir: Path,
    plan_dir: Path,
    out: Path,
    recipe: GenerateRecipe,
    options: GenerateOptions,
    *,
    seed: int,
    progress: Progress,
) -> Generation:
    """Complete what the planned cameras see, path by path, and let the cloud grow by it.

    Every round is an artifact of its own: when `generate` is started again, rounds whose lift,
    path, recipe, seed and predecessors are the same are kept. What is finished at `out` stays until all
    that replaces it is complete; rounds that are made until then lie beside it, at `next_to(out)`.

    Args:
        lift_dir: A finished lift.
        plan_dir: A finished plan.
        out: The directory to fill, or to replace.
        recipe: What completes the frames.
        options: Prompt and device.
        seed: Of all chance; equal seeds give equal frames.
        progress: Called after every round.

    Raises:
        ArtifactError: `lift_dir` or `plan_dir` is not finished.
        BackendError: The backend's library or weights are missing.
    """
    started = time.perf_counter()
    lift, plan = Lift.read(lift_dir), Plan.read(plan_dir)
    makers = _makers(recipe, lift, options, seed, progress)
    place, earlier = _workplace(out, anew=options.anew)
    read = what_makers_read(recipe, lift.manifest.recipe, options.prompt)
    job = _Job(place / "rounds", earlier, recipe, options.memory, makers, lift.manifest.digest, read)
    world, names = _fly_all(job, plan.paths, first_world(lift), progress)
    _remove_others(job.rounds_dir, names)
    _write_world(place, world)
    inputs = {"lift": lift.manifest.digest, "plan": plan.manifest.digest} | read
    facts = {"rounds": names} | _made_by(makers.video) | _cloud_facts(world.cloud)
    facts["seconds"] = round(time.perf_counter() - started, 2)
    Manifest(Generation.kind, generate_section(recipe, options.memory), seed, inputs, facts).write(place)
    if place != out:
        put_in_place(place, out)
    return Generation.read(out)


def _workplace(out: Path, *, anew: bool) -> tuple[Path, Path | None]:
    """Return where to work, and where rounds may be taken from.

    That is at `out` itself, unless something that must not be touched yet is there.
    """
    beside = next_to(out)
    place = beside if anew or beside.exists() or (out / MANIFEST_NAME).is_file() else out
    place.mkdir(parents=True, exist_ok=True)
    # All but the last rename may have been done before a kill.
    (place / MANIFEST_NAME).unlink(missing_ok=True)
    return place, None if place == out or anew else out / "rounds"


def video_choice(recipe: GenerateRecipe) -> VideoChoice:
    """Return what a recipe says about the frame backend."""
    return VideoChoice(recipe.backend, recipe.num_frames, recipe.steps, recipe.guidance, recipe.weights)


def reads_prompt(recipe: GenerateRecipe) -> bool:
    """Say whether a recipe's frame backend looks at the prompt.

    Raises:
        BackendError: The backend's library or weights are missing.
    """
    return make_video_backend(video_choice(recipe)).reads_prompt


def what_makers_read(recipe: GenerateRecipe, lift_recipe: Mapping[str, Any], prompt: str) -> dict[str, str]:
    """Tell what frames are made from beside lift and plan, by role: weights, and a prompt that is read.

    Args:
        recipe: What completes the frames.
        lift_recipe: The section that the photo was lifted with; names the depth backend where frames take it.
        prompt: The user's.

    Raises:
        BackendError: The backend's library or weights are missing.
    """
    name, weights = recipe.depth, ""
    if name == "lift":
        name, weights = lift_recipe["depth"], lift_recipe["weights"]
    found = generate_fingerprints(recipe.backend, name, weights)
    return found | ({"prompt": prompt} if reads_prompt(recipe) else {})


def _makers(
    recipe: GenerateRecipe, lift: Lift, options: GenerateOptions, seed: int, progress: Progress
) -> Makers:
    video = make_video_backend(video_choice(recipe), options.device, progress)

    def make_depth() -> DepthBackend:
        return _depth_backend(recipe.depth, lift.manifest.recipe, options.device)

    return Makers(video, make_depth, options.prompt, seed, options.device, options.memory.overlap)


def _depth_backend(name: str, lift_recipe: dict[str, Any], device: str) -> DepthBackend:
    if name == "lift":
        return depth_backend(lift_recipe["depth"], device, weights=lift_recipe["weights"])
    return depth_backend(name, device)


def _fly_all(job: _Job, paths: list[NamedPath], world: World, progress: Progress) -> tuple[World, list[str]]:
    """Make or find every round; write the preview; return what is known then, and the rounds' names."""
    names: list[str] = []
    shown: list[UInt8[Tensor, "3 h w"]] = []
    previous = "none"
    for number, path in enumerate(paths, start=1):
        progress(number - 1, len(paths), f"frames along {path.name}")
        names.append(f"{number:02d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', path.name)}")
        previous = _ensure_round(job, job.rounds_dir / names[-1], number, path, world, previous)
        done = read_done(job.rounds_dir / names[-1])
        world = after_round(world, done)
        shown.extend(done.frames_u8)
    progress(len(paths), len(paths), "frames")
    # Encoders of 4:2:0 colour take even sides only.
    width, height = world.photo.camera.width_px // 2 * 2, world.photo.camera.height_px // 2 * 2
    even = (frame[:, :height, :width] for frame in shown)
    write_video(job.rounds_dir.parent / "preview.mp4", even, (width, height), _PREVIEW_FPS)
    return world, names


def _ensure_round(job: _Job, root: Path, number: int, path: NamedPath, world: World, previous: str) -> str:
    """Make a round unless the very same one is there; return its digest."""
    expected = job.manifest(number, path, previous)
    if _is_whole(root, expected):
        return expected.digest
    if job.earlier_dir is not None and _is_whole(job.earlier_dir / root.name, expected):
        copy_cheaply(job.earlier_dir / root.name, root)
        return expected.digest
    started = time.perf_counter()
    made = make_round(path, number, world, job.makers)
    with draft_directory(root) as draft:
        made.round.write(draft)
        if not torch.equal(made.evidence_m, made.round.depth_m):
            (draft / "evidence").mkdir()
            for i, evidence in enumerate(made.evidence_m):
                write_depth(draft / "evidence" / f"{i:04d}.npy", evidence)
        write_cloud(draft / "added.ply", made.growth.added)
        write_removed(draft / "removed.npy", made.growth.removed)
        if made.references is not None:
            made.references.write(draft / "references.safetensors")
        write_json(draft / "round.json", made.numbers)
        facts = {
            "seconds": round(time.perf_counter() - started, 2),
            "dropped_frames": list(made.round.dropped),
        }
        replace(expected, facts=expected.facts | facts).write(draft)
    return expected.digest


def _write_world(place: Path, world: World) -> None:
    write_cloud(place / "cloud.ply", world.cloud)
    write_json(place / "memory.json", describe_bank(world.bank))


def _is_whole(root: Path, expected: Manifest) -> bool:
    """Tell whether a round lies there that was made from the very same, and is undamaged."""
    try:
        found = Manifest.read(root, Round.kind)
    except ArtifactError:
        # Missing, unfinished, damaged or of another schema: all are made anew.
        return False
    return found.digest == expected.digest and found.damage(root) is None


def _remove_others(rounds_dir: Path, names: list[str]) -> None:
    """Remove rounds of paths that are no longer planned."""
    for root in rounds_dir.iterdir():
        if root.name not in names:
            discard(root)


def _made_by(video: VideoBackend) -> dict[str, object]:
    return {"backend": video.name, "weights": video.credits}


def _cloud_facts(cloud: Cloud) -> dict[str, object]:
    """Say how much of a cloud was seen, how much invented, and how sure it is of either."""
    invented = cloud.round_index > 0
    # A point stands for a square of its spacing; the far shell is no surface.
    area = cloud.spacing_m.double() ** 2 * ~cloud.sky
    return {
        "num_points": len(cloud),
        "num_seen_points": int((~invented).sum()),
        "num_invented_points": int(invented.sum()),
        "points_by_round": torch.bincount(cloud.round_index.long()).tolist(),
        "invented_area_percent": round(100 * float(area[invented].sum() / area.sum().clamp_min(1e-12)), 2),
        "mean_confidence": {"seen": _mean(cloud, ~invented), "invented": _mean(cloud, invented)},
    }


def _mean(cloud: Cloud, chosen: Tensor) -> float | None:
    return round(float(cloud.confidence[chosen].mean()), 4) if bool(chosen.any()) else None

"""What a run is expected to cost, told from the size of the photo and the recipe.

Each stage is a straight line in its own amount of work. Seconds are scaled to the quiet run of
tests/data/photos/mountain_path.jpg in recipes/README.md (two cores of an AMD EPYC, compiled kernels
warm). How they and the memory grow was fitted to runs with long sides of 256, 512, 768 and 1152 pixels,
8 and 24 frames, 4 and 8 paths, and 81 to 650 thousand splats, one process for each stage. As many paths
are counted as `auto` may choose. All holds for what needs no GPU; a frame model tells itself what a clip
costs. To measure again: `worldstereo lift|plan|generate|reconstruct`, then the seconds and peaks that
`worldstereo info SCENE --json` tells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from worldstereo_cli.pipeline.report import Estimate
from worldstereo_cli.pipeline.reuse import STAGES, VIEW
from worldstereo_cli.recipe import Recipe

LIBRARIES_MB = 450
"""What the process holds before it has done anything."""

_USUAL_ASPECT = 1.5
_DRAWN_SHARE = 0.625
"""Of the frames of a flythrough with one loop among four paths."""
_LEAST_LONG_SIDE_PX = 128
"""A smaller scene is not worth proposing."""
_SMALLER = (0.75, 0.5, 0.375, 0.25, 0.125)


@dataclass(frozen=True, slots=True)
class ClipCost:
    """What a frame backend that is a model says of one path."""

    num_frames: int
    """The model's own, whatever the recipe says."""
    seconds: float
    memory_mb: float
    """Of the host."""


@dataclass(frozen=True, slots=True)
class Workload:
    """How much a recipe asks for."""

    width_px: int
    height_px: int
    """Of the photo as it is lifted."""
    num_paths: int
    num_frames: int
    """On each path."""
    recipe: Recipe
    rounds_kept: int = 0
    """Of the paths, those whose frames are there already."""
    clip: ClipCost | None = None
    """Of one path, where the frame backend is a model."""

    @property
    def megapixels(self) -> float:
        """Of one picture."""
        return self.width_px * self.height_px / 1e6

    @staticmethod
    def of(recipe: Recipe, size_px: tuple[int, int] | None, num_paths: int | None = None) -> Workload:
        """Describe a run.

        Args:
            recipe: Resolved.
            size_px: Width and height of the photo's file, or as lifted; None if neither is known.
            num_paths: As planned; None before that.
        """
        long_side = recipe.lift.long_side_px
        width, height = size_px or (long_side, round(long_side / _USUAL_ASPECT))
        shrink = min(1.0, long_side / max(width, height))
        paths = sum(map(recipe.plan.most_paths, recipe.plan.trajectories)) if num_paths is None else num_paths
        return Workload(
            max(1, round(width * shrink)),
            max(1, round(height * shrink)),
            paths,
            recipe.generate.num_frames,
            recipe,
        )

    def by_model(self, clip: ClipCost) -> Workload:
        """Describe the same paths, made by a model."""
        return replace(self, clip=clip, num_frames=clip.num_frames)

    def with_recipe(self, recipe: Recipe) -> Workload:
        """Describe the same photo with another recipe."""
        factor = min(1.0, recipe.lift.long_side_px / max(self.width_px, self.height_px))
        return replace(
            self,
            width_px=max(1, round(self.width_px * factor)),
            height_px=max(1, round(self.height_px * factor)),
            num_frames=self.clip.num_frames if self.clip else recipe.generate.num_frames,
            recipe=recipe,
        )


def estimate(stage: str, work: Workload) -> Estimate:
    """Say what a stage is expected to cost."""
    mp, splats = work.megapixels, _splats_m(work)
    match stage:
        case "lift":
            network_mb = 0 if work.recipe.lift.depth == "prior" else 110
            return Estimate(0.5 + 1.2 * mp, 460 + network_mb + 190 * mp, 34 * mp)
        case "plan":
            return Estimate(0.5 + 0.8 * mp * work.num_paths, 330 + 220 * mp, 0.3)
        case "generate":
            return _generate(work)
        case "reconstruct":
            recipe = work.recipe.reconstruct
            views = 1 + work.num_paths * min(work.num_frames, recipe.frames_per_path)
            seconds = 1 + recipe.iterations * (0.11 * splats + 0.35 * mp)
            return Estimate(seconds, 430 + 620 * splats + mp * (820 + 20 * views), 72 * splats)
        case "view":
            return _view(work)
        case other:
            raise ValueError(f"Expected a stage, got {other!r}.")


def _generate(work: Workload) -> Estimate:
    """Estimate what completes the frames: `warp`, or a model that knows what a clip costs."""
    mp, rounds = work.megapixels, max(0, work.num_paths - work.rounds_kept)
    new, frames = rounds * work.num_frames, work.num_paths * work.num_frames
    memory_mb, disk_mb = 430 + 35 * mp * frames, (40 + 9 * new) * mp
    if work.clip is None:
        return Estimate(0.5 + 1.15 * mp * new, memory_mb, disk_mb)
    return Estimate(rounds * work.clip.seconds, max(memory_mb, work.clip.memory_mb), disk_mb)


def _view(work: Workload) -> Estimate:
    """Estimate page and flythrough; paths are flown there and back, and drawn once."""
    view, splats = work.recipe.view, _splats_m(work)
    drawn = view.flythrough_fps * view.flythrough_seconds * _DRAWN_SHARE
    shrink = min(1.0, view.flythrough_long_side_px / max(work.width_px, work.height_px))
    drawn_mp = drawn * work.megapixels * shrink**2
    return Estimate(0.6 + 0.25 * drawn_mp + 3.5 * splats, 400 + 420 * splats, 36 * splats + 0.1 * drawn_mp)


def _splats_m(work: Workload) -> float:
    """Return the expected number of splats, in millions."""
    return min(work.recipe.reconstruct.max_splats / 1e6, 2.3 * work.megapixels)


def setting_that_fits(stage: str, work: Workload, memory_mb: float) -> str | None:
    """Name the settings closest to the present ones with which a stage is expected to fit.

    Those of the stage itself come first, since they keep what earlier stages and rounds made.

    Args:
        stage: The one that ran out of memory.
        work: With the present settings.
        memory_mb: What may be used.

    Returns:
        As typed on the command line, with the expected peak; None if nothing fits.
    """
    for changes in _gentler(stage, work):
        sections = {
            name: getattr(work.recipe, name).model_copy(update=values) for name, values in changes.items()
        }
        smaller = work.with_recipe(work.recipe.model_copy(update=sections))
        peak = max(estimate(name, smaller).memory_mb for name in (*STAGES, VIEW))
        if peak <= memory_mb:
            flags = [f"--set {s}.{k}={v}" for s, values in changes.items() for k, v in values.items()]
            return f"{' '.join(flags)}  (about {peak / 1000:.1f} GB)"
    return None


def _gentler(stage: str, work: Workload) -> list[dict[str, dict[str, int]]]:
    """List changes of settings, from mild to harsh."""
    reconstruct, changes = work.recipe.reconstruct, []
    if stage == "reconstruct":
        fewer = max(1, reconstruct.frames_per_path // 2)
        now = int(1e6 * _splats_m(work))
        changes += [
            {"reconstruct": {"max_splats": max(1000, int(now * share)), "frames_per_path": fewer}}
            for share in _SMALLER
        ]
    long_side = max(work.width_px, work.height_px)
    sides = [int(long_side * share) for share in _SMALLER]
    return changes + [{"lift": {"long_side_px": side}} for side in sides if side >= _LEAST_LONG_SIDE_PX]

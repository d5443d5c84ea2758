"""Batches of rendered scenes, and which scenes and sizes a step gets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from worldstereo_cli.training.scenes import SceneRenderer

SEEDS = 2**32
"""Scenes are numbered below this."""


class RenderedBatch(NamedTuple):
    """Radiance and truth of some scenes."""

    rgb_linear: Float[Tensor, "b 3 h w"]
    depth_m: Float[Tensor, "b h w"]
    """Along the optical axis; infinite in the sky."""
    intrinsics: Float[Tensor, "b 3 3"]


BatchSource = Callable[[list[int], tuple[int, int]], RenderedBatch]
"""From scene numbers and (height, width) in pixels to their batch."""


@dataclass(frozen=True, slots=True)
class BatchPhase:
    """What batches look like from some step on."""

    first_step: int
    sizes: tuple[tuple[int, int], ...]
    """(height, width), multiples of 16."""
    shares: tuple[float, ...]
    images_per_worker: int
    """A multiple of the views of the plan."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Sizes of the batches of a run, at its start and later."""

    sizes: tuple[tuple[int, int], ...] = ((288, 384), (384, 288), (224, 448))
    """(height, width), multiples of 16."""
    shares: tuple[float, ...] = (0.6, 0.2, 0.2)
    images_per_worker: int = 96
    """A multiple of `views`."""
    later: tuple[BatchPhase, ...] = ()
    """In order of their first steps. Sizes that come later may be compiled meanwhile, elsewhere."""
    views: int = 2
    """How often a scene is seen, each time through another camera."""
    zoomed_share: float = 0.25
    """Share of second looks that come closer. At 0.5 the network took ordinary lenses for longer ones."""
    delay: int = 24
    """Batches of one size between the first look and the last."""

    def phase(self, step: int) -> BatchPhase:
        """Return what holds at a step."""
        first = BatchPhase(0, self.sizes, self.shares, self.images_per_worker)
        return [first, *(phase for phase in self.later if phase.first_step <= step)][-1]

    def size(self, step: int, run_seed: int) -> tuple[int, int]:
        """Return the size of a step's batch: the same in every process, so that none waits."""
        phase = self.phase(step)
        chance = np.asarray(phase.shares) / sum(phase.shares)
        return phase.sizes[int(np.random.default_rng((run_seed, step)).choice(len(phase.sizes), p=chance))]

    def scene_numbers(self, step: int, run_seed: int, rank: int, num_workers: int) -> list[int]:
        """Return scenes that no other step or process of the run sees."""
        most = max(self.images_per_worker, *(phase.images_per_worker for phase in self.later), 1)
        first = run_seed * 2_654_435_761 + (step * num_workers + rank) * most
        return [(first + index) % SEEDS for index in range(self.phase(step).images_per_worker)]


def scene_source(renderer: "SceneRenderer") -> BatchSource:
    """Return a source of rendered scenes, of the kinds that the renderer's settings name."""

    def render(numbers: list[int], size: tuple[int, int]) -> RenderedBatch:
        scenes = renderer.render(
            numbers,
            width_px=size[1],
            height_px=size[0],
            samples=2,
        )
        # Scenes without room for a camera come back black: another scene takes their place.
        index = torch.arange(len(numbers), device=scenes.valid.device)
        index = torch.where(scenes.valid, index, scenes.valid.int().argmax())
        return RenderedBatch(scenes.rgb_linear[index], scenes.depth_m[index], scenes.intrinsics[index])

    return render

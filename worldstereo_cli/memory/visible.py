"""Which past views help a target frame: those that see the surface it shows, tested pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import prange
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.correspondence import sample_surface, shared_surface
from worldstereo_cli.geometry.jit import parallel_kernel
from worldstereo_cli.memory.retrieval import MAX_REFERENCES, Retrieval

Array = np.ndarray[Any, Any]

_SAMPLES_PER_TARGET = 400
"""Squares that a target is divided into. At 24 x 16 a square is 3 % of the width, smaller than any
reference that would be chosen for it alone."""
MIN_GAIN = 0.01
"""A further view must add this share of what the targets show."""


@dataclass(frozen=True, slots=True)
class SharedViews:
    """How well every bank view shows every part of every target."""

    quality: Float[Tensor, "t n s"]
    """In [0, 1] for each sample of a target; 0 where the view does not see it."""
    num_known: Int[Tensor, t]
    """Samples of each target that show any surface."""

    @property
    def overlap(self) -> Float[Tensor, "t n"]:
        """Share of a target's visible surface that a view shows, each part by its quality."""
        return self.quality.sum(2) / self.num_known.clamp_min(1)[:, None]


def share_views(
    targets: Cameras,
    target_depth_m: Float[Tensor, "t h w"],
    bank: Cameras,
    bank_depth_m: Float[Tensor, "n a b"],
) -> SharedViews:
    """Compare all targets with all bank views.

    Args:
        targets: The frames to come.
        target_depth_m: What the cloud shows there, metres; 0 in holes.
        bank: The past views.
        bank_depth_m: What they show, metres; 0 where unknown.
    """
    step = max(1, round((targets.width_px * targets.height_px / _SAMPLES_PER_TARGET) ** 0.5))
    samples = sample_surface(targets, target_depth_m, step)
    quality = shared_surface(samples, bank, bank_depth_m).flatten(2)
    return SharedViews(quality, samples.known.flatten(1).sum(1))


def choose_views(shared: SharedViews, limit: int = MAX_REFERENCES) -> Retrieval:
    """Choose the views that together show most of the targets after the first, best quality first.

    Each next view is the one that adds most to the best quality of every sample; this greedy choice
    reaches at least 63 % of what any choice of as many views could. It ends at `limit`, or when a
    view would add less than 1 % of what the targets show. Every chosen view sits beside a target of
    its own, so that together they overlap their neighbours most.

    Args:
        shared: Of all targets, the first included.
        limit: Views at most; no more than there are targets after the first.

    Returns:
        The views in the order of the targets beside which they sit; none when no view shows
        anything. A target that no chosen view shows is served by the one nearest to it in the path.

    Source: Nemhauser et al., An analysis of approximations for maximizing submodular set
    functions, 1978; Kuhn's assignment.
    """
    quality = shared.quality[1:]
    limit = min(limit, quality.shape[0])
    gain = MIN_GAIN * float(shared.num_known[1:].sum())
    chosen = torch.from_numpy(_greedy(np.ascontiguousarray(quality.numpy()), limit, gain))
    if len(chosen) == 0:
        nothing = torch.zeros(0, dtype=torch.long)
        return Retrieval(nothing, nothing, nothing)
    overlap = shared.overlap[1:, chosen]
    row, column = linear_sum_assignment(overlap.numpy(), maximize=True)
    target, view = torch.from_numpy(row), chosen[torch.from_numpy(column)]
    return Retrieval(view, target + 1, _serving(shared.overlap[1:, view], target, view))


def _serving(overlap: Float[Tensor, "t r"], target: Int[Tensor, r], view: Int[Tensor, r]) -> Int[Tensor, t]:
    """Return the chosen view that shows most of each target, or else the one placed nearest."""
    every = torch.arange(len(overlap))
    nearest = (every[:, None] - target[None]).abs().argmin(1)
    best = torch.where(overlap.amax(1) > 0, overlap.argmax(1), nearest)
    return view[best]


def _greedy(quality: Array, limit: int, least: float) -> Array:
    covered = np.zeros((quality.shape[0], quality.shape[2]), np.float32)
    chosen: list[int] = []
    while len(chosen) < limit:
        gains = _gains(quality, covered)
        best = int(gains.argmax())
        if gains[best] <= 0 or gains[best] < least:
            break
        chosen.append(best)
        covered = np.maximum(covered, quality[:, best])
    return np.array(chosen, np.int64)


@parallel_kernel
def _gains(quality: Array, covered: Array) -> Array:
    gains = np.zeros(quality.shape[1])
    for n in prange(quality.shape[1]):
        total = 0.0
        for t in range(quality.shape[0]):
            for s in range(quality.shape[2]):
                total += max(np.float32(0), quality[t, n, s] - covered[t, s])
        gains[n] = total
    return gains

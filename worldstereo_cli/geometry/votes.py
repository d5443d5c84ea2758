"""Which points of a cloud views see through, and which they confirm."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numba import prange
from torch import Tensor

from worldstereo_cli.geometry.jit import kernel, parallel_kernel
from worldstereo_cli.geometry.seen import SeenViews

Array = np.ndarray[Any, Any]

VOTE_TOLERANCE = 0.1
"""Share of the depth within which a view confirms a point. Twice what an aligned estimate is trusted
to: an estimate that is merely poor must not clear away what others saw."""
MIN_VOTES = 2
"""One view alone never removes a point: what stands before its surface may be what it misjudges."""
MAJORITY = 2
"""So many views see through a point for each one that confirms it, before the point is a floater."""


def seen_through(points: Float[Tensor, "p 3"], views: SeenViews) -> Bool[Tensor, p]:
    """Tell which points float: views see a surface behind them, and too few see the points themselves.

    A view sees through a point that lies before all of the nine pixels around its image by more
    than the tolerance, and confirms one that lies within the range of their depths. Points behind a
    surface, outside of a view or beside unknown depth get no vote from it.

    Args:
        points: World frame, metres.
        views: What witnesses saw of the scene themselves. Depth that was copied from the cloud is no
            witness of it.

    Source: Merrell et al., Real-time visibility-based fusion of depth maps, 2007 (free-space
    violations against support).
    """
    projections, depths = views.projections(torch.eye(4))
    world = np.ascontiguousarray(points.detach().cpu().double().numpy())
    return torch.from_numpy(_outvoted(world, projections, np.ascontiguousarray(depths, np.float32)))


@kernel
def _range_around(depth: Array, row: int, column: int) -> tuple[float, float]:
    """Return the least and the largest of nine depths; zeros where one is unknown or off the picture."""
    height, width = depth.shape
    if row < 1 or column < 1 or row >= height - 1 or column >= width - 1:
        return 0.0, 0.0
    least, largest = np.inf, 0.0
    for r in range(row - 1, row + 2):
        for c in range(column - 1, column + 2):
            value = float(depth[r, c])
            if value <= 0:
                return 0.0, 0.0
            least, largest = min(least, value), max(largest, value)
    return least, largest


@parallel_kernel
def _outvoted(points: Array, projections: Array, depths: Array) -> Array:
    floats = np.zeros(points.shape[0], np.bool_)
    for i in prange(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        against, confirmed = 0, 0
        for j in range(projections.shape[0]):
            p = projections[j]
            depth = p[2, 0] * x + p[2, 1] * y + p[2, 2] * z + p[2, 3]
            if depth <= 1e-6:
                continue
            u = (p[0, 0] * x + p[0, 1] * y + p[0, 2] * z + p[0, 3]) / depth
            v = (p[1, 0] * x + p[1, 1] * y + p[1, 2] * z + p[1, 3]) / depth
            if not (u >= 0 and v >= 0 and u < depths.shape[2] and v < depths.shape[1]):
                continue
            least, largest = _range_around(depths[j], int(v), int(u))
            if largest <= 0:
                continue
            if depth < (1 - VOTE_TOLERANCE) * least:
                against += 1
            elif depth <= (1 + VOTE_TOLERANCE) * largest:
                confirmed += 1
        floats[i] = against >= MIN_VOTES and against > MAJORITY * confirmed
    return floats

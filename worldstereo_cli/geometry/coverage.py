"""How much of what a view did not show other cameras would uncover."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numba import prange
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.jit import parallel_kernel
from worldstereo_cli.geometry.unseen import CoarseView, Unseen

Array = np.ndarray[Any, Any]

_RADIUS_SPACINGS = 0.9
"""Half the side of the square that stands for a sample: squares still close a surface that has
turned by 55 degrees, and make an object no more than a coarse pixel wider."""
_TOLERANCE = 0.02
"""A patch this part of its depth behind the front is still seen: both are samples of a surface."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What each of several cameras would see."""

    uncovers: Bool[Tensor, "n m"]
    """Which patches."""
    hole_frac: Float[Tensor, n]
    """Share of the picture that nothing known fills."""


class Coverage:
    """Answers what cameras uncover of one view's unseen surface."""

    def __init__(self, view: CoarseView, unseen: Unseen) -> None:
        """Keep the view's samples as what stands in the way."""
        self._points = view.camera.unproject(view.depth_m[None])[0].reshape(-1, 3).double().cpu().numpy()
        spacing = view.depth_m.reshape(-1).double() / view.camera.intrinsics[0, 0, 0]
        self._spacing = spacing.cpu().numpy()
        self._patches = unseen.points.double().cpu().numpy()
        self._size = (view.camera.height_px, view.camera.width_px)

    def look(self, cameras: Cameras) -> Looks:
        """Look through cameras of any size; their pictures are taken at the coarse view's."""
        height, width = self._size
        small = cameras.cropped_to(width, height)
        projections = (small.intrinsics.double() @ small.camera_from_world.double()[:, :3]).cpu().numpy()
        focal = small.intrinsics[:, 0, 0].double().cpu().numpy()
        seen, holes = _look(self._points, self._spacing, self._patches, projections, focal, self._size)
        return Looks(torch.from_numpy(seen), torch.from_numpy(holes).float())


@parallel_kernel
def _look(
    points: Array, spacing: Array, patches: Array, projections: Array, focal: Array, size: tuple[int, int]
) -> tuple[Array, Array]:
    """Draw squares into a depth buffer for each camera, and test the patches against it."""
    height, width = size
    seen = np.zeros((len(projections), len(patches)), np.bool_)
    holes = np.zeros(len(projections))
    for i in prange(len(projections)):
        p = projections[i]
        front = np.full((height, width), np.inf, np.float32)
        for j in range(len(points)):
            a, b, c = points[j, 0], points[j, 1], points[j, 2]
            z = p[2, 0] * a + p[2, 1] * b + p[2, 2] * c + p[2, 3]
            if z <= 1e-6:
                continue
            u = (p[0, 0] * a + p[0, 1] * b + p[0, 2] * c + p[0, 3]) / z
            v = (p[1, 0] * a + p[1, 1] * b + p[1, 2] * c + p[1, 3]) / z
            # Rounding to the pixel itself, at least; a sample at arm's length must not fill the view.
            r = min(max(_RADIUS_SPACINGS * spacing[j] * focal[i] / z, 0.5), 6.0)
            if u < -r or v < -r or u > width + r or v > height + r:
                continue
            for y in range(max(math.ceil(v - r - 0.5), 0), min(math.floor(v + r - 0.5), height - 1) + 1):
                for x in range(max(math.ceil(u - r - 0.5), 0), min(math.floor(u + r - 0.5), width - 1) + 1):
                    front[y, x] = min(front[y, x], z)
        empty = 0
        for y in range(height):
            for x in range(width):
                if front[y, x] == np.inf:
                    empty += 1
        holes[i] = empty / (height * width)
        for j in range(len(patches)):
            a, b, c = patches[j, 0], patches[j, 1], patches[j, 2]
            z = p[2, 0] * a + p[2, 1] * b + p[2, 2] * c + p[2, 3]
            if z <= 1e-6:
                continue
            u = (p[0, 0] * a + p[0, 1] * b + p[0, 2] * c + p[0, 3]) / z
            v = (p[1, 0] * a + p[1, 1] * b + p[1, 2] * c + p[1, 3]) / z
            if 0 <= u < width and 0 <= v < height:
                seen[i, j] = z < front[int(v), int(u)] * (1 + _TOLERANCE)
    return seen, holes

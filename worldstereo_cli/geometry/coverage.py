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


class CoarseSurface:
    """Draws what one view shows as other cameras would see it."""

    def __init__(self, view: CoarseView) -> None:
        """Keep the view's samples."""
        self._points = view.camera.unproject(view.depth_m[None])[0].reshape(-1, 3).double().cpu().numpy()
        spacing = view.depth_m.reshape(-1).double() / view.camera.intrinsics[0, 0, 0]
        self._spacing = spacing.cpu().numpy()
        self._size = (view.camera.height_px, view.camera.width_px)

    def projections(self, cameras: Cameras) -> tuple[Array, Array]:
        """Return pixel-from-world (n 3 4) and focal lengths of cameras at the size of the view."""
        small = cameras.cropped_to(self._size[1], self._size[0])
        onto = (small.intrinsics.double() @ small.camera_from_world.double()[:, :3]).cpu().numpy()
        return onto, small.intrinsics[:, 0, 0].double().cpu().numpy()

    def front(self, cameras: Cameras) -> Float[Tensor, "n h w"]:
        """Return the depth of what stands foremost, metres, at the view's size; infinite in holes."""
        return torch.from_numpy(_front(self._points, self._spacing, *self.projections(cameras), self._size))


def hole_frac(front: Float[Tensor, "n h w"]) -> Float[Tensor, n]:
    """Return the share of each picture that nothing known fills."""
    return torch.isinf(front).float().mean((1, 2))


class Coverage:
    """Answers what cameras uncover of one view's unseen surface."""

    def __init__(self, surface: CoarseSurface, unseen: Unseen) -> None:
        """Keep the patches, and what stands in the way."""
        self._surface = surface
        self._patches = unseen.points.double().cpu().numpy()

    def look(self, cameras: Cameras) -> Looks:
        """Look through cameras of any size; their pictures are taken at the coarse view's."""
        front = self._surface.front(cameras)
        seen = _seen(self._patches, self._surface.projections(cameras)[0], front.numpy())
        return Looks(torch.from_numpy(seen), hole_frac(front))


@parallel_kernel
def _front(points: Array, spacing: Array, projections: Array, focal: Array, size: tuple[int, int]) -> Array:
    """Draw squares into a depth buffer for each camera."""
    height, width = size
    fronts = np.full((len(projections), height, width), np.inf, np.float32)
    for i in prange(len(projections)):
        p = projections[i]
        front = fronts[i]
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
    return fronts


@parallel_kernel
def _seen(patches: Array, projections: Array, fronts: Array) -> Array:
    """Test the patches against the depth buffer of each camera."""
    height, width = fronts.shape[1:]
    seen = np.zeros((len(projections), len(patches)), np.bool_)
    for i in prange(len(projections)):
        p = projections[i]
        for j in range(len(patches)):
            a, b, c = patches[j, 0], patches[j, 1], patches[j, 2]
            z = p[2, 0] * a + p[2, 1] * b + p[2, 2] * c + p[2, 3]
            if z <= 1e-6:
                continue
            u = (p[0, 0] * a + p[0, 1] * b + p[0, 2] * c + p[0, 3]) / z
            v = (p[1, 0] * a + p[1, 1] * b + p[1, 2] * c + p[1, 3]) / z
            if 0 <= u < width and 0 <= v < height:
                seen[i, j] = z < fronts[i, int(v), int(u)] * (1 + _TOLERANCE)
    return seen

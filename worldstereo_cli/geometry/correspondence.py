"""Where each pixel of a target view lies in other views, by depth and an exact visibility test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numba import prange
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.jit import kernel, parallel_kernel

Array = np.ndarray[Any, Any]

DEPTH_TOLERANCE = 0.03
"""Share of the depth by which two views of one surface may differ: as in rendering, what a surface
recedes within two pixels at 85 degrees. More is another surface."""


@dataclass(frozen=True, slots=True)
class Correspondence:
    """For every target view and every other view, where the target's pixels lie in the other."""

    pixels: Float[Tensor, "t r y x 2"]
    """Pixels (u, v) of the other view; the centre of its top-left pixel is (0.5, 0.5)."""
    visible: Bool[Tensor, "t r y x"]
    """Whether the other view sees that very surface; where not, `pixels` is (0, 0)."""

    def __post_init__(self) -> None:
        if self.pixels.shape != (*self.visible.shape, 2) or self.visible.ndim != 4:
            raise ValueError(
                f"Expected pixels (t r y x 2) and visible (t r y x), got {tuple(self.pixels.shape)} and "
                f"{tuple(self.visible.shape)}."
            )


@dataclass(frozen=True, slots=True)
class SurfaceSamples:
    """What target views show at the nodes of a grid: points, and the direction of their surface."""

    points: Float[Tensor, "t y x 3"]
    """World frame, metres, double precision."""
    normals: Float[Tensor, "t y x 3"]
    """Unit; zero where the target shows nothing. They look at the target's camera."""
    density: Float[Tensor, "t y x"]
    """Pixels of the target for one square metre of surface."""

    @property
    def known(self) -> Bool[Tensor, "t y x"]:
        """Where the target shows a surface."""
        return self.density > 0


def sample_surface(targets: Cameras, depth_m: Float[Tensor, "t h w"], step_px: int) -> SurfaceSamples:
    """Take the surface in the middle of every square of `step_px` pixels.

    Args:
        targets: The views.
        depth_m: Their depth along the optical axis, metres; 0 where nothing is known.
        step_px: Side of the squares; a last, narrower one counts from half a side on.
    """
    pose, inverse = (
        targets.world_from_camera.double().cpu(),
        torch.linalg.inv(targets.intrinsics.double()).cpu(),
    )
    focal = targets.intrinsics[:, [0, 1], [0, 1]].double().cpu()
    arrays = _sampled(
        np.ascontiguousarray(depth_m.cpu().numpy(), np.float32),
        pose.numpy(),
        inverse.numpy(),
        focal.numpy(),
        step_px,
    )
    return SurfaceSamples(*(torch.from_numpy(a) for a in arrays))


def shared_surface(
    samples: SurfaceSamples, views: Cameras, depth_m: Float[Tensor, "n h w"]
) -> Float[Tensor, "t n y x"]:
    """Rate how well each view shows what each target shows.

    Where a view sees the very same surface, from the same side and not occluded, it counts by how
    finely: the square root of its pixels for an area over the target's, at most 1. A grazing view
    and a far one have few. Elsewhere it counts 0.

    Args:
        samples: Of the targets.
        views: Past views.
        depth_m: Their depth, metres; 0 where unknown.
    """
    points, normals = samples.points.flatten(1, 2).numpy(), samples.normals.flatten(1, 2).numpy()
    density = samples.density.flatten(1).numpy()
    quality = _shared(points, normals, density, *_flat(views, depth_m))
    return torch.from_numpy(quality).reshape(*quality.shape[:2], *samples.density.shape[1:])


def correspond(samples: SurfaceSamples, views: Cameras, depth_m: Float[Tensor, "n h w"]) -> Correspondence:
    """Find what each target shows in each view.

    Args:
        samples: Of the targets.
        views: Past views.
        depth_m: Their depth, metres; 0 where unknown.
    """
    points, normals = samples.points.flatten(1, 2).numpy(), samples.normals.flatten(1, 2).numpy()
    projections, centres, _, depths = _flat(views, depth_m)
    pixels, visible = _placed(points, normals, projections, centres, depths)
    shape = (*visible.shape[:2], *samples.density.shape[1:])
    return Correspondence(
        torch.from_numpy(pixels).reshape(*shape, 2), torch.from_numpy(visible).reshape(shape)
    )


def _flat(views: Cameras, depth_m: Float[Tensor, "n h w"]) -> tuple[Array, Array, Array, Array]:
    """Return projections, centres, the product of focal lengths, and depths, as the kernels take them."""
    projection = views.intrinsics.double() @ views.camera_from_world.double()[:, :3]
    area = (views.intrinsics[:, 0, 0] * views.intrinsics[:, 1, 1]).double()
    depths = np.ascontiguousarray(depth_m.cpu().numpy(), np.float32)
    return projection.cpu().numpy(), views.centres.double().cpu().numpy(), area.cpu().numpy(), depths


@kernel
def _length(n: Array) -> float:
    """Return the length of a vector."""
    return float(np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]))


@kernel
def _slope(depth: Array, row: int, column: int, step: tuple[int, int]) -> float:
    """Return how inverse depth changes for one pixel, towards the side where it changes less.

    The other side may belong to another surface.
    """
    here = 1 / depth[row, column]
    best = np.inf
    for sign in (-1, 1):
        r, c = row + sign * step[0], column + sign * step[1]
        if r < 0 or c < 0 or r >= depth.shape[0] or c >= depth.shape[1] or depth[r, c] <= 0:
            continue
        change = sign * (1 / depth[r, c] - here)
        if abs(change) < abs(best):
            best = change
    return best if best < np.inf else 0.0


@parallel_kernel
def _sampled(
    depth: Array, poses: Array, inverses: Array, focal: Array, step: int
) -> tuple[Array, Array, Array]:
    count, height, width = depth.shape
    rows, columns = max(1, (height + step // 2) // step), max(1, (width + step // 2) // step)
    points = np.zeros((count, rows, columns, 3))
    normals = np.zeros((count, rows, columns, 3))
    density = np.zeros((count, rows, columns))
    for t in prange(count):
        for y in range(rows):
            for x in range(columns):
                row, column = min(y * step + step // 2, height - 1), min(x * step + step // 2, width - 1)
                z = float(depth[t, row, column])
                if z <= 0:
                    continue
                ray = np.empty(3)
                for k in range(3):
                    ray[k] = (
                        inverses[t, k, 0] * (column + 0.5)
                        + inverses[t, k, 1] * (row + 0.5)
                        + inverses[t, k, 2]
                    )
                # Of a plane n . x = 1, inverse depth is n . ray: its slopes give the normal.
                n = np.empty(3)
                n[0] = _slope(depth[t], row, column, (0, 1)) * focal[t, 0]
                n[1] = _slope(depth[t], row, column, (1, 0)) * focal[t, 1]
                n[2] = 1 / z - n[0] * ray[0] - n[1] * ray[1]
                length = _length(n)
                # n . (ray z) = 1, so -n looks at the camera; cosine times distance over depth is 1 / (|n| z).
                density[t, y, x] = focal[t, 0] * focal[t, 1] / (length * z * z * z)
                for k in range(3):
                    for m in range(3):
                        points[t, y, x, k] += poses[t, k, m] * ray[m] * z
                        normals[t, y, x, k] -= poses[t, k, m] * n[m] / length
                    points[t, y, x, k] += poses[t, k, 3]
    return points, normals, density


@kernel
def _project(point: Array, projection: Array) -> tuple[float, float, float]:
    """Return pixel and depth; a depth of 0 for what lies behind the camera."""
    z = (
        projection[2, 0] * point[0]
        + projection[2, 1] * point[1]
        + projection[2, 2] * point[2]
        + projection[2, 3]
    )
    if z <= 1e-6:
        return 0.0, 0.0, 0.0
    u = (
        projection[0, 0] * point[0]
        + projection[0, 1] * point[1]
        + projection[0, 2] * point[2]
        + projection[0, 3]
    )
    v = (
        projection[1, 0] * point[0]
        + projection[1, 1] * point[1]
        + projection[1, 2] * point[2]
        + projection[1, 3]
    )
    return u / z, v / z, z


@kernel
def _sees(u: float, v: float, z: float, depth: Array) -> bool:
    """Tell whether one of the four pixels around a position has the depth of a point there."""
    height, width = depth.shape
    if not (z > 0 and u >= 0 and v >= 0 and u < width and v < height):
        return False
    left, top = int(np.floor(u - 0.5)), int(np.floor(v - 0.5))
    for row in (max(top, 0), min(top + 1, height - 1)):
        for column in (max(left, 0), min(left + 1, width - 1)):
            if abs(depth[row, column] - z) <= DEPTH_TOLERANCE * z:
                return True
    return False


@kernel
def _towards(point: Array, normal: Array, centre: Array) -> float:
    """Return the length, along the normal, of the way from a point to a camera."""
    return float(
        normal[0] * (centre[0] - point[0])
        + normal[1] * (centre[1] - point[1])
        + normal[2] * (centre[2] - point[2])
    )


@parallel_kernel
def _shared(
    points: Array,
    normals: Array,
    density: Array,
    projections: Array,
    centres: Array,
    area: Array,
    depths: Array,
) -> Array:
    num_targets, num_samples, num_views = points.shape[0], points.shape[1], projections.shape[0]
    quality = np.zeros((num_targets, num_views, num_samples), np.float32)
    # View by view, so that one depth map at a time is in the cache.
    for n in prange(num_views):
        for t in range(num_targets):
            for s in range(num_samples):
                if density[t, s] <= 0:
                    continue
                along = _towards(points[t, s], normals[t, s], centres[n])
                if along <= 0:
                    continue
                u, v, z = _project(points[t, s], projections[n])
                if _sees(u, v, z, depths[n]):
                    # An area A appears as f_u f_v A |normal . way| / z^3 square pixels.
                    finer = area[n] * along / (z * z * z * density[t, s])
                    quality[t, n, s] = np.sqrt(min(1.0, finer))
    return quality


@parallel_kernel
def _placed(
    points: Array, normals: Array, projections: Array, centres: Array, depths: Array
) -> tuple[Array, Array]:
    num_targets, num_samples, num_views = points.shape[0], points.shape[1], projections.shape[0]
    pixels = np.zeros((num_targets, num_views, num_samples, 2), np.float32)
    visible = np.zeros((num_targets, num_views, num_samples), np.bool_)
    for t in prange(num_targets):
        for n in range(num_views):
            for s in range(num_samples):
                if _towards(points[t, s], normals[t, s], centres[n]) <= 0:
                    continue
                u, v, z = _project(points[t, s], projections[n])
                if _sees(u, v, z, depths[n]):
                    visible[t, n, s] = True
                    pixels[t, n, s, 0], pixels[t, n, s, 1] = u, v
    return pixels, visible

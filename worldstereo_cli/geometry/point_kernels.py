"""Point rendering on a CPU: tiles of pixels, each with its own depth-sorted points.

The arithmetic is that of `point_render_torch`, which is its specification.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import prange
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.jit import kernel, parallel_kernel
from worldstereo_cli.geometry.point_render import PointRender, PointStyle, SurfaceStyle, nothing_rendered

_TILE = 32
"""Pixels: of 16, 32 and 64 the fastest at 400 000 points and 832x480."""

Array = np.ndarray[Any, Any]


def render_points_cpu(
    points: Float[Tensor, "p 3"], colors: Float[Tensor, "p 3"], cameras: Cameras, style: PointStyle
) -> PointRender:
    """Render soft points of one size; see `point_render.render_points`."""
    if len(points) == 0:
        return nothing_rendered(cameras, style.background, points)
    world = np.ascontiguousarray(points.detach().numpy(), np.float32)
    rgb = np.ascontiguousarray(colors.detach().numpy(), np.float32)
    radius = style.radius_px(cameras.width_px, cameras.height_px)
    size = (cameras.height_px, cameras.width_px)
    frames = []
    for i in range(len(cameras)):
        u, v, z = _project(world, *_pinhole(cameras, i))
        radii = np.full(len(z), radius, np.float32)
        start, entries = _bin(u, v, z, z.view(np.uint32), radii, size[0], size[1])
        frames.append(
            _over(start, entries, (u, v, z, radii), rgb, size, style.points_per_pixel, style.background)
        )
    return _stacked(frames)


def render_surface_cpu(cloud: Cloud, cameras: Cameras, style: SurfaceStyle) -> PointRender:
    """Render the front surface of a cloud; see `point_render.render_surface`."""
    if len(cloud) == 0:
        return nothing_rendered(cameras, style.background, cloud.points)
    world = np.ascontiguousarray(cloud.points.detach().numpy(), np.float32)
    rgb = np.ascontiguousarray(cloud.colors.detach().numpy(), np.float32)
    spacing = cloud.spacing_m.detach().numpy().astype(np.float32, copy=False)
    size = (cameras.height_px, cameras.width_px)
    frames = []
    for i in range(len(cameras)):
        pose, intrinsics = _pinhole(cameras, i)
        u, v, z = _project(world, pose, intrinsics)
        focal = math.sqrt(intrinsics[0, 0] * intrinsics[1, 1])
        radii = np.float32(style.radius_spacings * focal) * spacing / np.maximum(z, np.float32(1e-9))
        radii = np.clip(radii, np.float32(style.min_radius_px), np.float32(style.max_radius_px))
        start, entries = _bin(u, v, z, z.view(np.uint32), radii, size[0], size[1])
        picture, front = _average(
            start, entries, (u, v, z, radii), rgb, size, style.depth_tolerance, style.background
        )
        frames.append(_close(picture, front, style.depth_tolerance, style.close_px))
    return _stacked(frames)


def _pinhole(cameras: Cameras, i: int) -> tuple[Array, Array]:
    """Return camera_from_world and intrinsics of one camera in double precision."""
    pose = cameras[i].camera_from_world[0].double().cpu().numpy()
    return pose, cameras.intrinsics[i].double().cpu().numpy()


def _stacked(frames: list[tuple[Array, Array]]) -> PointRender:
    rgb = torch.from_numpy(np.stack([f[0] for f in frames])).permute(0, 3, 1, 2).contiguous()
    depth = torch.from_numpy(np.stack([f[1] for f in frames]))
    return PointRender(rgb, depth, depth == 0)


@parallel_kernel
def _project(points: Array, pose: Array, k: Array) -> tuple[Array, Array, Array]:
    n = points.shape[0]
    u, v, z = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    for i in prange(n):
        a, b, c = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
        x = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2] * c + pose[0, 3]
        y = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2] * c + pose[1, 3]
        d = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2] * c + pose[2, 3]
        z[i] = d
        if d > 0:
            u[i] = (k[0, 0] * x + k[0, 1] * y + k[0, 2] * d) / d
            v[i] = (k[1, 0] * x + k[1, 1] * y + k[1, 2] * d) / d
        else:
            u[i], v[i] = 0.0, 0.0
    return u, v, z


@kernel
def _box(u: float, v: float, r: float, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the pixels whose centres a disc may cover: first and last column, first and last row.

    A disc outside the image gives an empty box (last before first).
    """
    if not (u > -r and u < width + r and v > -r and v < height + r):
        return 0, -1, 0, -1
    x0, x1 = max(math.ceil(u - r - 0.5), 0), min(math.floor(u + r - 0.5), width - 1)
    y0, y1 = max(math.ceil(v - r - 0.5), 0), min(math.floor(v + r - 0.5), height - 1)
    return x0, x1, y0, y1


@kernel
def _bin(
    u: Array, v: Array, z: Array, z_bits: Array, radii: Array, height: int, width: int
) -> tuple[Array, Array]:
    """List, tile by tile, the points that touch it, as keys that sort by depth and then by index.

    The bits of a positive float32 sort like its value, so depth and index share one integer.
    """
    across, down = (width + _TILE - 1) // _TILE, (height + _TILE - 1) // _TILE
    start = np.zeros(across * down + 1, np.int64)
    for fill in range(2):
        if fill == 1:
            entries = np.empty(start[-1], np.uint64)
            slot = start[:-1].copy()
        for i in range(u.shape[0]):
            if not z[i] > 0:
                continue
            x0, x1, y0, y1 = _box(u[i], v[i], radii[i], height, width)
            if x1 < x0 or y1 < y0:
                continue
            key = (np.uint64(z_bits[i]) << np.uint64(32)) | np.uint64(i)
            for ty in range(y0 // _TILE, y1 // _TILE + 1):
                for tx in range(x0 // _TILE, x1 // _TILE + 1):
                    tile = ty * across + tx
                    if fill == 0:
                        start[tile + 1] += 1
                    else:
                        entries[slot[tile]] = key
                        slot[tile] += 1
        if fill == 0:
            for tile in range(across * down):
                start[tile + 1] += start[tile]
    return start, entries


@parallel_kernel
def _over(
    start: Array,
    entries: Array,
    discs: tuple[Array, Array, Array, Array],
    colors: Array,
    size: tuple[int, int],
    limit: int,
    background: float,
) -> tuple[Array, Array]:
    """Blend every tile front to back."""
    u, v, z, radii = discs
    height, width = size
    across = (width + _TILE - 1) // _TILE
    rgb = np.zeros((height, width, 3), np.float32)
    front = np.zeros((height, width), np.float32)
    passed = np.ones((height, width), np.float32)
    count = np.zeros((height, width), np.int32)
    for tile in prange(start.shape[0] - 1):
        left, top = (tile % across) * _TILE, (tile // across) * _TILE
        keys = entries[start[tile] : start[tile + 1]]
        keys.sort()
        for key in keys:
            i = np.int64(key & np.uint64(0xFFFFFFFF))
            x0, x1, y0, y1 = _box(u[i], v[i], radii[i], height, width)
            inverse_area = 1 / (radii[i] * radii[i])
            for y in range(max(y0, top), min(y1, top + _TILE - 1) + 1):
                dy = np.float32(y) + np.float32(0.5) - v[i]
                for x in range(max(x0, left), min(x1, left + _TILE - 1) + 1):
                    dx = np.float32(x) + np.float32(0.5) - u[i]
                    alpha = np.float32(1) - (dx * dx + dy * dy) * inverse_area
                    if alpha <= 0 or count[y, x] >= limit:
                        continue
                    if count[y, x] == 0:
                        front[y, x] = z[i]
                    count[y, x] += 1
                    weight = alpha * passed[y, x]
                    passed[y, x] *= 1 - alpha
                    for c in range(3):
                        rgb[y, x, c] += weight * colors[i, c]
        for y in range(top, min(top + _TILE, height)):
            for x in range(left, min(left + _TILE, width)):
                for c in range(3):
                    rgb[y, x, c] += passed[y, x] * background
    return rgb, front


@parallel_kernel
def _average(
    start: Array,
    entries: Array,
    discs: tuple[Array, Array, Array, Array],
    colors: Array,
    size: tuple[int, int],
    tolerance: float,
    background: float,
) -> tuple[Array, Array]:
    """Average the front surface."""
    (u, v, z, radii), (height, width) = discs, size
    across = (width + _TILE - 1) // _TILE
    rgb = np.zeros((height, width, 3), np.float32)
    front = np.zeros((height, width), np.float32)
    sums = np.zeros((height, width, 2), np.float32)
    for tile in prange(start.shape[0] - 1):
        left, top = (tile % across) * _TILE, (tile // across) * _TILE
        keys = entries[start[tile] : start[tile + 1]]
        keys.sort()
        for key in keys:
            i = np.int64(key & np.uint64(0xFFFFFFFF))
            x0, x1, y0, y1 = _box(u[i], v[i], radii[i], height, width)
            inverse_area = 1 / (radii[i] * radii[i])
            for y in range(max(y0, top), min(y1, top + _TILE - 1) + 1):
                dy = np.float32(y) + np.float32(0.5) - v[i]
                for x in range(max(x0, left), min(x1, left + _TILE - 1) + 1):
                    dx = np.float32(x) + np.float32(0.5) - u[i]
                    falloff = np.float32(1) - (dx * dx + dy * dy) * inverse_area
                    if falloff <= 0 or 0 < front[y, x] * (1 + tolerance) < z[i]:
                        continue
                    if front[y, x] == 0:
                        front[y, x] = z[i]
                    weight = falloff * falloff * falloff * falloff + np.float32(1e-6)
                    sums[y, x, 0] += weight
                    sums[y, x, 1] += weight / z[i]
                    for c in range(3):
                        rgb[y, x, c] += weight * colors[i, c]
    for y in prange(height):
        for x in range(width):
            seen = sums[y, x, 0] > 0
            front[y, x] = sums[y, x, 0] / sums[y, x, 1] if seen else 0.0
            for c in range(3):
                rgb[y, x, c] = rgb[y, x, c] / sums[y, x, 0] if seen else background
    return rgb, front


@kernel
def _nearer(front: Array, y: int, x: int, step: tuple[int, int], reach: int, limit: float) -> int:
    """Return how many steps lead to the first pixel nearer than `limit`; 0 if none does."""
    height, width = front.shape
    for steps in range(1, reach + 1):
        row, column = y + steps * step[0], x + steps * step[1]
        if row < 0 or column < 0 or row >= height or column >= width:
            return 0
        if front[row, column] > 0 and front[row, column] < limit:
            return steps
    return 0


@parallel_kernel
def _close(rgb: Array, front: Array, tolerance: float, reach: int) -> tuple[Array, Array]:
    """Give gaps between the samples of one surface the mean of that surface."""
    height, width = front.shape
    out_rgb, out_front = rgb.copy(), front.copy()
    for y in prange(height):
        for x in range(width):
            limit = front[y, x] * (1 - tolerance) if front[y, x] > 0 else np.inf
            pairs, weights, inverse, colour = 0, 0.0, 0.0, np.zeros(3)
            for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                a = _nearer(front, y, x, (dy, dx), reach, limit)
                b = _nearer(front, y, x, (-dy, -dx), reach, limit) if a > 0 else 0
                if b == 0:
                    continue
                inverse_a = 1 / front[y + a * dy, x + a * dx]
                inverse_b = 1 / front[y - b * dy, x - b * dx]
                if abs(inverse_a - inverse_b) > 2 * tolerance * max(inverse_a, inverse_b):
                    continue
                pairs += 1
                weights += 1 / a + 1 / b
                inverse += inverse_a / a + inverse_b / b
                for c in range(3):
                    colour[c] += rgb[y + a * dy, x + a * dx, c] / a + rgb[y - b * dy, x - b * dx, c] / b
            if pairs >= 3:
                out_front[y, x] = weights / inverse
                for c in range(3):
                    out_rgb[y, x, c] = colour[c] / weights
    return out_rgb, out_front

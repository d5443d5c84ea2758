"""Depth for what no camera has seen: surfaces continued into holes, the background behind the foreground.

A hole pixel looks in many directions for the surfaces around it, each continued as its own plane.
Two things are read off the views that were seen. A surface that ends there, in front of something
farther, is not continued: this is the foreground beside a hole. And a continuation that would
stand in front of something seen is impossible. Of what is left the surface with most support
nearby is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numba import prange
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.jit import kernel, parallel_kernel
from worldstereo_cli.geometry.seen import FRONT_TOLERANCE, SeenViews, hides_something

Array = np.ndarray[Any, Any]

_DIRECTIONS = 32
"""Rays for each hole pixel; 16 leave star patterns, 64 look the same."""
_WINDOW_PX = 10
"""Half width of the window that a border plane is fitted to."""
_SAME_SURFACE = 0.1
"""Continuations whose depths differ by less than this part belong to one surface."""

_EDGE_PX = 3
"""Beside the edge of an object, depth maps are unsure for this far."""
_EDGE_STEP = 1.1
"""Something this much farther, within `_EDGE_PX`, shows that a surface ends."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """A view without holes."""

    depth_m: Float[Tensor, "h w"]
    rgb: Float[Tensor, "3 h w"]
    """In holes the smooth mean of the continued surface's border: right in tone, without texture."""
    possible: Bool[Tensor, "h w"]
    """False for hole pixels where every continuation would have hidden something seen."""
    ended: Bool[Tensor, "h w"]
    """True for known pixels beside a hole whose surface was seen to end there."""


def continue_surfaces(
    depth_m: Float[Tensor, "h w"], rgb: Float[Tensor, "3 h w"], camera: Cameras, seen: SeenViews
) -> Continuation:
    """Fill the holes of a view with the surfaces around them.

    Planes are exact: inverse depth is linear in the image on a plane, so where all borders of a
    hole lie on one plane the hole becomes that plane.

    Args:
        depth_m: Metres along the optical axis, 0 in holes.
        rgb: The picture; its hole pixels are not looked at.
        camera: The camera of the view (a path of one).
        seen: Views whose surfaces must stay visible.

    Raises:
        ValueError: The map holds no depth at all.
    """
    depth = depth_m.numpy().astype(np.float32, copy=False)
    picture = np.ascontiguousarray(rgb.permute(1, 2, 0).numpy(), np.float32)
    hole = depth <= 0
    if hole.all():
        raise ValueError("Expected a depth map with at least one known pixel.")
    distance = distance_transform_edt(hole).astype(np.float32)
    inverse = np.where(hole, 0, 1 / np.where(hole, 1, depth)).astype(np.float32)
    # Nothing is put farther than the farthest thing known: beyond lies no evidence at all.
    farthest = max(float(depth.max()), float(seen.depth_m.max()))
    bounds = np.array([1 / farthest, 2 * inverse.max()], np.float32)
    projections, depths = seen.projections(camera.world_from_camera[0])
    poses = (projections, torch.linalg.inv(camera.intrinsics[0].double()).numpy(), depths)
    planes = _border_planes(inverse, distance, poses)
    filled, guess, possible = _choose(inverse, picture, distance, planes, bounds, poses)
    filled = _median(filled, hole)
    return Continuation(
        torch.from_numpy(np.where(hole, 1 / filled, depth).astype(np.float32)),
        torch.from_numpy(guess).permute(2, 0, 1),
        torch.from_numpy(possible),
        torch.from_numpy(planes[..., 4] > 0),
    )


@kernel
def _solve3(m: Array, b: Array) -> Array:
    """Solve a symmetric 3x3 system by Cramer's rule; zeros when it is singular."""
    c00 = m[1, 1] * m[2, 2] - m[1, 2] * m[1, 2]
    c01 = m[0, 2] * m[1, 2] - m[0, 1] * m[2, 2]
    c02 = m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]
    det = m[0, 0] * c00 + m[0, 1] * c01 + m[0, 2] * c02
    out = np.zeros(3)
    if abs(det) < 1e-9 * m[0, 0] * m[1, 1] * m[2, 2] + 1e-300:
        return out
    c11 = m[0, 0] * m[2, 2] - m[0, 2] * m[0, 2]
    c12 = m[0, 1] * m[0, 2] - m[0, 0] * m[1, 2]
    c22 = m[0, 0] * m[1, 1] - m[0, 1] * m[0, 1]
    out[0] = (c00 * b[0] + c01 * b[1] + c02 * b[2]) / det
    out[1] = (c01 * b[0] + c11 * b[1] + c12 * b[2]) / det
    out[2] = (c02 * b[0] + c12 * b[1] + c22 * b[2]) / det
    return out


@kernel
def _fit_plane(inverse: Array, y: int, x: int) -> tuple[float, float, float, float]:
    """Fit inverse depth around a border pixel, robustly, relative to its own.

    Returns:
        Value, slope along x, slope along y (inverse metres, per pixel), and the standard error
        of the slopes.
    """
    height, width = inverse.shape
    here = inverse[y, x]
    value, gx, gy, error = float(here), 0.0, 0.0, np.inf
    scale = 0.02 * here
    for iteration in range(4):
        m, b, squares, total = np.zeros((3, 3)), np.zeros(3), 0.0, 0.0
        for v in range(max(0, y - _WINDOW_PX), min(height, y + _WINDOW_PX + 1)):
            for u in range(max(0, x - _WINDOW_PX), min(width, x + _WINDOW_PX + 1)):
                if inverse[v, u] <= 0:
                    continue
                dx, dy = float(u - x), float(v - y)
                residual = inverse[v, u] - value - gx * dx - gy * dy
                # The first pass knows no slope: it lets a surface recede 2 % for each pixel.
                width_here = scale if iteration > 0 else scale * (1 + max(abs(dx), abs(dy)))
                t = residual / (3 * width_here)
                if abs(t) >= 1:
                    continue
                weight = (1 - t * t) ** 2
                total += weight
                squares += weight * residual * residual
                row = (1.0, dx, dy)
                for i in range(3):
                    b[i] += weight * row[i] * inverse[v, u]
                    for j in range(3):
                        m[i, j] += weight * row[i] * row[j]
        if total < 12:
            return float(here), 0.0, 0.0, np.inf
        fit = _solve3(m, b)
        if fit[0] <= 0:
            return float(here), 0.0, 0.0, np.inf
        value, gx, gy = fit[0], fit[1], fit[2]
        spread = min(m[1, 1] - m[0, 1] ** 2 / total, m[2, 2] - m[0, 2] ** 2 / total)
        # Neighbouring depths are not independent; one in nine counts.
        error = math.sqrt(9 * squares / total / max(spread, 1e-9))
    return value, gx, gy, error


@kernel
def _set_ray(inverse_k: Array, y: int, x: int, ray: Array) -> None:
    """Write the camera-frame direction through a pixel centre, with z = 1."""
    for i in range(3):
        ray[i] = inverse_k[i, 0] * (x + 0.5) + inverse_k[i, 1] * (y + 0.5) + inverse_k[i, 2]


@kernel
def _ends_here(x: float, y: float, z: float, projections: Array, depths: Array) -> bool:
    """Tell whether some view sees a point, and beside it something farther."""
    height, width = depths.shape[1:]
    for i in range(projections.shape[0]):
        p = projections[i]
        depth = p[2, 0] * x + p[2, 1] * y + p[2, 2] * z + p[2, 3]
        if depth <= 1e-6:
            continue
        u = (p[0, 0] * x + p[0, 1] * y + p[0, 2] * z + p[0, 3]) / depth
        v = (p[1, 0] * x + p[1, 1] * y + p[1, 2] * z + p[1, 3]) / depth
        if u < 0 or v < 0 or u >= width or v >= height:
            continue
        row, column = int(v), int(u)
        # Hidden there. A point that is drawn a little beyond its surface may well see past it.
        if depths[i, row, column] < (1 - FRONT_TOLERANCE) * depth:
            continue
        for q in range(max(0, row - _EDGE_PX), min(height, row + _EDGE_PX + 1)):
            for r in range(max(0, column - _EDGE_PX), min(width, column + _EDGE_PX + 1)):
                if depths[i, q, r] > _EDGE_STEP * depth:
                    return True
    return False


@parallel_kernel
def _border_planes(inverse: Array, distance: Array, poses: tuple[Array, Array, Array]) -> Array:
    """Fit a plane at every known pixel beside a hole.

    Returns:
        (h w 5): value, slopes, their error, and 1 where the surface was seen to end; zeros elsewhere.
    """
    projections, inverse_k, depths = poses
    height, width = inverse.shape
    planes = np.zeros((height, width, 5), np.float32)
    for y in prange(height):
        ray = np.empty(3)
        for x in range(width):
            if inverse[y, x] <= 0:
                continue
            if not (distance[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] > 0).any():
                continue
            value, gx, gy, error = _fit_plane(inverse, y, x)
            planes[y, x, 0], planes[y, x, 1], planes[y, x, 2], planes[y, x, 3] = value, gx, gy, error
            _set_ray(inverse_k, y, x, ray)
            w = inverse[y, x]
            if _ends_here(ray[0] / w, ray[1] / w, ray[2] / w, projections, depths):
                planes[y, x, 4] = 1
    return planes


@kernel
def _walk(distance: Array, y: int, x: int, sine: float, cosine: float) -> tuple[int, int, float]:
    """Walk from a hole pixel to the first known one; (-1, -1, 0) when the image ends before."""
    height, width = distance.shape
    travelled = max(1.0, distance[y, x] - 1)
    while True:
        row, column = round(y + travelled * sine), round(x + travelled * cosine)
        if row < 0 or column < 0 or row >= height or column >= width:
            return -1, -1, 0.0
        if distance[row, column] == 0:
            return row, column, travelled
        # Rounding may bring the pixel half a diagonal nearer than the point on the ray.
        travelled += max(0.7, distance[row, column] - 1.5)


@kernel
def _continued(plane: Array, dx: float, dy: float, bounds: Array) -> float:
    """Continue a border plane; a slope known badly is trusted less the farther it reaches."""
    reach = math.sqrt(dx * dx + dy * dy)
    doubt = reach * plane[3] / (0.1 * plane[0])
    trust = 1 / (1 + doubt * doubt)
    value = plane[0] + trust * (plane[1] * dx + plane[2] * dy)
    # No more than a factor of three: a plane that runs into the camera or the horizon is no surface.
    value = min(max(value, plane[0] / 3), 3 * plane[0])
    return float(min(max(value, bounds[0]), bounds[1]))


@kernel
def _best_surface(
    values: Array, weights: Array, count: int, ray: Array, seen: tuple[Array, Array]
) -> tuple[float, float, bool]:
    """Choose among continuations.

    Returns:
        Inverse depth, that of the continuation at the heart of the chosen surface, and whether it
        hides nothing. If all hide something, the farthest is returned.
    """
    projections, depths = seen
    refused = np.zeros(count, np.bool_)
    for _ in range(count):
        best, support = -1, 0.0
        for i in range(count):
            if refused[i]:
                continue
            total = 0.0
            for j in range(count):
                if abs(values[j] - values[i]) < _SAME_SURFACE * values[i]:
                    total += weights[j]
            if total > support:
                best, support = i, total
        if best < 0:
            break
        mean = 0.0
        for j in range(count):
            if abs(values[j] - values[best]) < _SAME_SURFACE * values[best]:
                mean += weights[j] * values[j] / support
        if not hides_something(ray[0] / mean, ray[1] / mean, ray[2] / mean, projections, depths):
            return mean, values[best], True
        for j in range(count):
            if abs(values[j] - values[best]) < 0.5 * _SAME_SURFACE * values[best]:
                refused[j] = True
    farthest = values[:count].min()
    return farthest, farthest, False


@kernel
def _inside(inverse: Array, row: int, column: int, sine: float, cosine: float) -> tuple[int, int]:
    """Step two pixels on from a border pixel if that stays on its surface.

    The last pixels of a surface hold colour of what stood in front of it in the photo.
    """
    v, u = round(row + 2 * sine), round(column + 2 * cosine)
    if 0 <= v < inverse.shape[0] and 0 <= u < inverse.shape[1]:
        if abs(inverse[v, u] - inverse[row, column]) < 0.5 * _SAME_SURFACE * inverse[row, column]:
            return v, u
    return row, column


@kernel
def _mean_colour(picture: Array, chosen: tuple[Array, Array, Array], count: int, out: Array) -> None:
    """Write the weighted mean of chosen pixels (rows, columns, weights) to `out`."""
    rows, columns, weights = chosen
    for c in range(3):
        colour, total = 0.0, 0.0
        for k in range(count):
            colour += weights[k] * picture[rows[k], columns[k], c]
            total += weights[k]
        out[c] = colour / total


@kernel
def _gather(
    inverse: Array,
    distance: Array,
    planes: Array,
    bounds: Array,
    at: tuple[int, int],
    found: tuple[Array, Array, Array, Array],
) -> int:
    """Collect the continuations that reach a hole pixel, and return how many there are.

    Surfaces that were seen to end count only where there are no others, and then the farther
    ones more.
    """
    values, weights, rows, columns = found
    y, x = at
    for ended in range(2):
        count = 0
        for k in range(_DIRECTIONS):
            angle = 2 * math.pi * k / _DIRECTIONS
            row, column, far = _walk(distance, y, x, math.sin(angle), math.cos(angle))
            if row < 0 or planes[row, column, 4] > ended:
                continue
            values[count] = _continued(planes[row, column], x - column, y - row, bounds)
            weights[count] = 1 / (far * far + 1)
            if ended:
                weights[count] *= (bounds[0] / values[count]) ** 4
            rows[count], columns[count] = _inside(inverse, row, column, math.sin(angle), math.cos(angle))
            count += 1
        if count > 0:
            return count
    return 0


@parallel_kernel
def _choose(
    inverse: Array,
    picture: Array,
    distance: Array,
    planes: Array,
    bounds: Array,
    poses: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array]:
    """Choose inverse depth, colour and possibility for every hole pixel."""
    projections, inverse_k, depths = poses
    height, width = inverse.shape
    filled, guess, possible = inverse.copy(), picture.copy(), np.ones((height, width), np.bool_)
    for y in prange(height):
        values, weights = np.empty(_DIRECTIONS), np.empty(_DIRECTIONS)
        rows, columns = np.empty(_DIRECTIONS, np.int32), np.empty(_DIRECTIONS, np.int32)
        ray = np.empty(3)
        for x in range(width):
            if distance[y, x] == 0:
                continue
            count = _gather(inverse, distance, planes, bounds, (y, x), (values, weights, rows, columns))
            if count == 0:
                filled[y, x], possible[y, x] = bounds[0], False
                continue
            _set_ray(inverse_k, y, x, ray)
            value, heart, free = _best_surface(values, weights, count, ray, (projections, depths))
            filled[y, x], possible[y, x] = value, free
            for k in range(count):
                near = abs(values[k] - heart) < _SAME_SURFACE * heart
                weights[k] = math.sqrt(weights[k]) if near else 0.0
            _mean_colour(picture, (rows, columns, weights), count, guess[y, x])
    return filled, guess, possible


@parallel_kernel
def _median(values: Array, hole: Array) -> Array:
    """Give single hole pixels that chose another surface than their neighbours the median of 3x3."""
    height, width = values.shape
    out = values.copy()
    for y in prange(height):
        window = np.empty(9, values.dtype)
        for x in range(width):
            if not hole[y, x]:
                continue
            count = 0
            for v in range(max(0, y - 1), min(height, y + 2)):
                for u in range(max(0, x - 1), min(width, x + 2)):
                    if not hole[v, u]:
                        continue
                    slot = count
                    while slot > 0 and window[slot - 1] > values[v, u]:
                        window[slot] = window[slot - 1]
                        slot -= 1
                    window[slot] = values[v, u]
                    count += 1
            middle = window[count // 2]
            if abs(values[y, x] - middle) > _SAME_SURFACE * middle:
                out[y, x] = middle
    return out

"""Planes along the border of a hole, and whether the surface there was seen to end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from worldstereo_cli.geometry.jit import kernel, parallel_kernel
from worldstereo_cli.geometry.seen import FRONT_TOLERANCE

Array = np.ndarray[Any, Any]
Poses = tuple[Array, Array, Array]
"""Projections of the seen views, inverse intrinsics of the view, depths of the seen views."""

VALUE, SLOPE_X, SLOPE_Y, ERROR, ENDED, SKY = range(6)
"""What is known of a border pixel: inverse depth, its slopes for one pixel, their standard error, 1 where the
surface was seen to end, 1 where it is sky."""

_WINDOW_PX = 10
"""Half width of the window that a border plane is fitted to."""
_EDGE_PX = 3
"""Beside the edge of an object, depth maps are unsure for this far."""
_EDGE_STEP = 1.1
"""Something this much farther, within `_EDGE_PX`, shows that a surface ends."""


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
def set_ray(inverse_k: Array, y: int, x: int, ray: Array) -> None:
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
def border_planes(inverse: Array, distance: Array, poses: Poses) -> Array:
    """Fit a plane at every known pixel beside a hole.

    Returns:
        (h w 6): see `VALUE` and what follows; zeros elsewhere. `SKY` is left to the caller.
    """
    projections, inverse_k, depths = poses
    height, width = inverse.shape
    planes = np.zeros((height, width, 6), np.float32)
    for y in prange(height):
        ray = np.empty(3)
        for x in range(width):
            if inverse[y, x] <= 0:
                continue
            if not (distance[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] > 0).any():
                continue
            value, gx, gy, error = _fit_plane(inverse, y, x)
            planes[y, x, VALUE], planes[y, x, ERROR] = value, error
            planes[y, x, SLOPE_X], planes[y, x, SLOPE_Y] = gx, gy
            set_ray(inverse_k, y, x, ray)
            w = inverse[y, x]
            if _ends_here(ray[0] / w, ray[1] / w, ray[2] / w, projections, depths):
                planes[y, x, ENDED] = 1
    return planes

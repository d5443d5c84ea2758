"""How a surface leans at every pixel: compiled kernel."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from worldstereo_cli.splatting.rasterize.jit import kernel, parallel_kernel

Floats = NDArray[np.float32]

_RADIUS = 3
"""Half the window. Sensor depth needs about this much to average out its noise."""
_TOLERANCES = (0.1, 0.02)
"""Relative distance from the plane so far (first a level one) within which a pixel belongs to the
surface; the first also lets a floor near the horizon recede."""
_RIDGE = 2.0
"""Pulls slopes to zero where few pixels support them, as on a wire."""


@parallel_kernel
def fit_slopes(disparity: Floats, group: NDArray[np.uint8], slopes: Floats) -> None:
    """Fit planes to inverse depth, which is linear in the image wherever the surface is flat.

    Args:
        disparity: Inverse depth, positive, (h w).
        group: Pixels of different groups (sky, surface) never share a plane, (h w).
        slopes: Filled with the slopes along x and y, for each pixel, (h w 2).
    """
    height, width = disparity.shape
    for y in numba.prange(height):
        for x in range(width):
            gx, gy = 0.0, 0.0
            for tolerance in _TOLERANCES:
                gx, gy = _fit(disparity, group, (y, x), (gx, gy), tolerance)
            slopes[y, x, 0], slopes[y, x, 1] = gx, gy


@kernel
def _fit(
    disparity: Floats,
    group: NDArray[np.uint8],
    place: tuple[int, int],
    slope: tuple[float, float],
    tolerance: float,
) -> tuple[float, float]:
    """Fit the slope to those pixels around a place that keep to the plane so far."""
    y, x = place
    height, width = disparity.shape
    centre = float(disparity[y, x])
    n = sx = sy = sr = sxx = sxy = syy = sxr = syr = 0.0
    for v in range(max(0, y - _RADIUS), min(height, y + _RADIUS + 1)):
        for u in range(max(0, x - _RADIUS), min(width, x + _RADIUS + 1)):
            dx, dy, rise = float(u - x), float(v - y), float(disparity[v, u]) - centre
            off = abs(rise - slope[0] * dx - slope[1] * dy)
            if off <= tolerance * centre and group[v, u] == group[y, x]:
                n += 1.0
                sx += dx
                sy += dy
                sr += rise
                sxx += dx * dx
                sxy += dx * dy
                syy += dy * dy
                sxr += dx * rise
                syr += dy * rise
    axx, ayy, axy = sxx - sx * sx / n + _RIDGE, syy - sy * sy / n + _RIDGE, sxy - sx * sy / n
    bx, by = sxr - sx * sr / n, syr - sy * sr / n
    determinant = axx * ayy - axy * axy
    return (ayy * bx - axy * by) / determinant, (axx * by - axy * bx) / determinant

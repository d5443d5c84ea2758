"""Kernels of `holes`: walks from hole pixels to their borders, and the choice among the planes there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from worldstereo_cli.geometry.border_planes import ENDED, ERROR, SKY, SLOPE_X, SLOPE_Y, VALUE, Poses, set_ray
from worldstereo_cli.geometry.jit import kernel, parallel_kernel
from worldstereo_cli.geometry.seen import hides_something

Array = np.ndarray[Any, Any]
View = tuple[Array, Array, Array, Array, Array]
"""Inverse depth (0 in holes); distance to the nearest known pixel; border planes; the least and the largest
inverse depth to choose, and the sine of the angle below the horizontal down to which there may be sky;
the world's downward axis in the camera's frame."""

_DIRECTIONS = 32
"""Rays for each hole pixel; 16 leave star patterns, 64 look the same."""
_SAME_SURFACE = 0.1
"""Continuations whose depths differ by less than this part belong to one surface."""
_UPWARDS = 4
"""Rays to either side of the one straight up that look for what stands above: 45 degrees."""
_SKY_UNDER_ROOF = 0.1
"""What sky weighs in a hole that has something above it. All sky lies at one depth and agrees with itself,
where surfaces with relief do not: it would win behind every rough wall."""
_AGREEMENT = 2.0
"""What the pixels around a pixel chose weighs at most so much beside all that it sees itself: each
alone would take another surface wherever the border is rough, in rays like those of a star."""


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
    doubt = reach * plane[ERROR] / (0.1 * plane[VALUE])
    trust = 1 / (1 + doubt * doubt)
    value = plane[VALUE] + trust * (plane[SLOPE_X] * dx + plane[SLOPE_Y] * dy)
    # No more than a factor of three: a plane that runs into the camera or the horizon is no surface.
    value = min(max(value, plane[VALUE] / 3), 3 * plane[VALUE])
    return float(min(max(value, bounds[0]), bounds[1]))


@kernel
def _best_surface(
    values: Array, weights: Array, count: int, others: int, ray: Array, seen: tuple[Array, Array]
) -> tuple[float, float, bool]:
    """Choose among continuations.

    The first `count` values are a pixel's own; the `others` behind them are what pixels around it
    chose. Those count as support, and in the mean only where no continuation of its own agrees: a
    plane that is continued stays exact.

    Returns:
        Inverse depth, that of the continuation at the heart of the chosen surface, and whether it
        hides nothing. If all hide something, the farthest is returned.
    """
    projections, depths = seen
    total_count = count + others
    refused = np.zeros(total_count, np.bool_)
    for _ in range(total_count):
        best, support = -1, 0.0
        for i in range(total_count):
            if refused[i]:
                continue
            total = 0.0
            for j in range(total_count):
                if abs(values[j] - values[i]) < _SAME_SURFACE * values[i]:
                    total += weights[j]
            if total > support:
                best, support = i, total
        if best < 0:
            break
        mean, own = 0.0, 0.0
        for j in range(count):
            if abs(values[j] - values[best]) < _SAME_SURFACE * values[best]:
                mean += weights[j] * values[j]
                own += weights[j]
        if own > 0:
            mean /= own
        else:
            mean = values[best]
        if not hides_something(ray[0] / mean, ray[1] / mean, ray[2] / mean, projections, depths):
            return mean, values[best], True
        for j in range(total_count):
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
def _roofed(view: View, ray: Array, at: tuple[int, int]) -> bool:
    """Tell whether something stands above a hole pixel: most walks upwards end on what is no sky."""
    _, distance, planes, _, down = view
    # How the pixel moves when its point rises.
    right, below = ray[0] / ray[2] * down[2] - down[0], ray[1] / ray[2] * down[2] - down[1]
    upwards = math.atan2(below, right)
    roofed = 0
    for k in range(-_UPWARDS, _UPWARDS + 1):
        angle = upwards + 2 * math.pi * k / _DIRECTIONS
        row, column, _ = _walk(distance, at[0], at[1], math.sin(angle), math.cos(angle))
        roofed += row >= 0 and planes[row, column, SKY] == 0
    return roofed > _UPWARDS


@kernel
def _gather(view: View, ray: Array, at: tuple[int, int], found: tuple[Array, Array, Array, Array]) -> int:
    """Collect the continuations that reach a hole pixel, and return how many there are.

    Surfaces that were seen to end count only where there are no others, and then the farther
    ones more. Sky counts below where there may be sky only where there is nothing else at all.
    """
    inverse, distance, planes, bounds, down = view
    values, weights, rows, columns = found
    y, x = at
    length = math.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
    low = (down[0] * ray[0] + down[1] * ray[1] + down[2] * ray[2]) / length > bounds[2]
    sky_share = _SKY_UNDER_ROOF if _roofed(view, ray, at) else 1.0
    for ended, sky in ((0, not low), (1, not low), (1, True)):
        count = 0
        for k in range(_DIRECTIONS):
            angle = 2 * math.pi * k / _DIRECTIONS
            row, column, far = _walk(distance, y, x, math.sin(angle), math.cos(angle))
            if row < 0 or planes[row, column, ENDED] > ended or (planes[row, column, SKY] > 0 and not sky):
                continue
            values[count] = _continued(planes[row, column], x - column, y - row, bounds)
            weights[count] = 1 / (far * far + 1)
            if planes[row, column, SKY] > 0:
                weights[count] *= sky_share
            if ended:
                weights[count] *= (bounds[0] / values[count]) ** 4
            rows[count], columns[count] = _inside(inverse, row, column, math.sin(angle), math.cos(angle))
            count += 1
        if count > 0:
            return count
    return 0


@kernel
def _weigh(weights: Array, count: int, others: int, distance: int) -> None:
    """Scale the shares of other pixels, which stand behind a pixel's own `count` weights.

    A pixel is evidence as a border is: by the square of its distance. Together they weigh at most
    `_AGREEMENT` times the pixel's own.
    """
    own, total = 0.0, 0.0
    for i in range(count):
        own += weights[i]
    for i in range(count, count + others):
        total += weights[i]
    scale = min(1 / (distance * distance + 1), _AGREEMENT * own / max(total, 1e-9))
    for i in range(count, count + others):
        weights[i] *= scale


@kernel
def _add_nodes(
    coarse: Array, step: int, at: tuple[float, float], found: tuple[Array, Array], count: int
) -> int:
    """Append what the four nodes of a coarse grid around a pixel chose, with weights of interpolation.

    Args:
        coarse: Chosen inverse depth at nodes, 0 where there is no hole.
        step: Pixels between nodes; the first lies half a step from the border.
        at: Row and column of the pixel.
        found: Values and weights of the pixel's own continuations; those of nodes come behind.
        count: How many are the pixel's own.

    Returns:
        How many were appended.
    """
    values, weights = found
    row, column = (at[0] - step // 2) / step, (at[1] - step // 2) / step
    top, left = math.floor(row), math.floor(column)
    others = 0
    for v in range(top, top + 2):
        for u in range(left, left + 2):
            if v < 0 or u < 0 or v >= coarse.shape[0] or u >= coarse.shape[1] or coarse[v, u] == 0:
                continue
            values[count + others] = coarse[v, u]
            weights[count + others] = 4 * (1 - abs(row - v)) * (1 - abs(column - u))
            others += 1
    _weigh(weights, count, others, step)
    return others


@kernel
def _add_neighbours(
    chosen: Array, step: int, node: tuple[int, int], found: tuple[Array, Array], count: int
) -> int:
    """Append what the eight nodes around a node chose; returns how many there are."""
    values, weights = found
    others = 0
    for v in range(max(0, node[0] - 1), min(chosen.shape[0], node[0] + 2)):
        for u in range(max(0, node[1] - 1), min(chosen.shape[1], node[1] + 2)):
            if (v == node[0] and u == node[1]) or chosen[v, u] == 0:
                continue
            values[count + others], weights[count + others] = chosen[v, u], 1.0
            others += 1
    _weigh(weights, count, others, step)
    return others


@kernel
def _node_surface(
    found: tuple[Array, Array], count: int, others: int, at: tuple[int, int], poses: Poses
) -> float:
    """Choose the inverse depth of a node from its own continuations and those of `others`."""
    ray = np.empty(3)
    set_ray(poses[1], at[0], at[1], ray)
    return _best_surface(found[0], found[1], count, others, ray, (poses[0], poses[2]))[0]


@parallel_kernel
def agreed_surfaces(view: View, grid: tuple[int, int], coarser: Array, poses: Poses, sweeps: int) -> Array:
    """Choose inverse depth at the hole pixels of a grid, each with regard to what its neighbours choose.

    Args:
        view: What is known.
        grid: Pixels between the nodes of this grid and of the coarser one.
        coarser: What the nodes of the coarser grid chose.
        poses: Of the seen views and of this one.
        sweeps: How often the nodes look at each other; all look at the sweep before.

    Source: Besag, On the statistical analysis of dirty pictures, 1986 (iterated conditional modes).
    """
    step, half = grid[0], grid[0] // 2
    rows, columns = (view[0].shape[0] - half + step - 1) // step, (view[0].shape[1] - half + step - 1) // step
    counts = np.zeros((rows, columns), np.int32)
    values = np.zeros((rows, columns, _DIRECTIONS + 8))
    weights = np.zeros((rows, columns, _DIRECTIONS + 8))
    chosen = np.zeros((rows, columns), np.float32)
    for j in prange(rows):
        borders, ray = np.empty((2, _DIRECTIONS), np.int32), np.empty(3)
        for i in range(columns):
            y, x = j * step + half, i * step + half
            if view[1][y, x] == 0:
                continue
            set_ray(poses[1], y, x, ray)
            found = (values[j, i], weights[j, i])
            counts[j, i] = _gather(view, ray, (y, x), (found[0], found[1], borders[0], borders[1]))
            if counts[j, i] > 0:
                others = _add_nodes(coarser, grid[1], (float(y), float(x)), found, counts[j, i])
                chosen[j, i] = _node_surface(found, counts[j, i], others, (y, x), poses)
    for _ in range(sweeps):
        before = chosen.copy()
        for j in prange(rows):
            for i in range(columns):
                if counts[j, i] > 0:
                    at, found = (j * step + half, i * step + half), (values[j, i], weights[j, i])
                    others = _add_neighbours(before, step, (j, i), found, counts[j, i])
                    chosen[j, i] = _node_surface(found, counts[j, i], others, at, poses)
    return chosen


@parallel_kernel
def chosen_surfaces(
    view: View, picture: Array, coarser: Array, step: int, poses: Poses
) -> tuple[Array, Array, Array]:
    """Choose inverse depth, colour and possibility for every hole pixel, with regard to a coarser choice."""
    inverse, distance, bounds = view[0], view[1], view[3]
    projections, inverse_k, depths = poses
    height, width = inverse.shape
    filled, guess, possible = inverse.copy(), picture.copy(), np.ones((height, width), np.bool_)
    for y in prange(height):
        values, weights = np.empty(_DIRECTIONS + 8), np.empty(_DIRECTIONS + 8)
        rows, columns = np.empty(_DIRECTIONS, np.int32), np.empty(_DIRECTIONS, np.int32)
        ray = np.empty(3)
        for x in range(width):
            if distance[y, x] == 0:
                continue
            set_ray(inverse_k, y, x, ray)
            count = _gather(view, ray, (y, x), (values, weights, rows, columns))
            if count == 0:
                filled[y, x], possible[y, x] = bounds[0], False
                continue
            others = _add_nodes(coarser, step, (float(y), float(x)), (values, weights), count)
            value, heart, free = _best_surface(values, weights, count, others, ray, (projections, depths))
            filled[y, x], possible[y, x] = value, free
            agreeing = 0
            for k in range(count):
                near = abs(values[k] - heart) < _SAME_SURFACE * heart
                agreeing += near
                weights[k] = math.sqrt(weights[k]) * (1.0 if near else 1e-3)
            _mean_colour(picture, (rows, columns, weights), count, guess[y, x])
    return filled, guess, possible


@parallel_kernel
def median_inside(values: Array, hole: Array) -> Array:
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

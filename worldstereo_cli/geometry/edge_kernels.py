"""Compiled loops behind `geometry.depth_edges`: finding soft edges and flooding across them.

All work on disparity (one over depth), in which a plane in space is linear over the image: so a
slope that continues on both sides is surface, and a step that neither side continues is an edge.
"""

import heapq
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from worldstereo_cli.geometry.jit import compiled

_F = TypeVar("_F", bound=Callable[..., Any])

_FOOT = 0.12
"""A soft edge ends where its slope has fallen to this share of its steepest."""

_OTHER = 0.5
"""A slope that turns up again below this share belongs to the next edge; above it, to no edge."""


def njit_cached(function: _F) -> _F:
    """Compile a function, and keep the machine code on disk for the next process."""
    return compiled(function, error_model="python")


@njit_cached
def disparity_gradient(
    disparity: Float[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Return the slope per pixel along x and y (Sobel, divided by 8); zero on the border."""
    height, width = disparity.shape
    along_x = np.zeros((height, width))
    along_y = np.zeros((height, width))
    d = disparity
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            falling = d[y + 1, x + 1] - d[y - 1, x - 1]
            rising = d[y - 1, x + 1] - d[y + 1, x - 1]
            along_x[y, x] = (falling + rising + 2 * (d[y, x + 1] - d[y, x - 1])) / 8
            along_y[y, x] = (falling - rising + 2 * (d[y + 1, x] - d[y - 1, x])) / 8
    return along_x, along_y


@njit_cached
def _walk(
    disparity: Float[np.ndarray, "h w"],
    along_x: Float[np.ndarray, "h w"],
    along_y: Float[np.ndarray, "h w"],
    y: int,
    x: int,
    step_y: float,
    step_x: float,
    reach: int,
) -> tuple[int, float, float]:
    """Follow a slope until it ends.

    Returns how many pixels it goes on, the slope there, and the disparity there.
    """
    height, width = disparity.shape
    peak = abs(along_x[y, x] * step_x + along_y[y, x] * step_y)
    sign = 1.0 if along_x[y, x] * step_x + along_y[y, x] * step_y > 0 else -1.0
    last, length, value = peak, 0, disparity[y, x]
    while length < reach and last >= _FOOT * peak:
        yy = round(y + (length + 1) * step_y)
        xx = round(x + (length + 1) * step_x)
        if yy < 1 or xx < 1 or yy >= height - 1 or xx >= width - 1:
            break
        slope = sign * (along_x[yy, xx] * step_x + along_y[yy, xx] * step_y)
        if length > 0 and slope > last and last < _OTHER * peak:
            break
        length, last, value = length + 1, slope, disparity[yy, xx]
    return length, last, value


@njit_cached
def _steepest_step(disparity: Float[np.ndarray, "h w"], y: int, x: int) -> float:
    """Return the largest difference to one of the eight neighbours."""
    most = 0.0
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            most = max(most, abs(disparity[y + dy, x + dx] - disparity[y, x]))
    return most


@njit_cached
def soft_edges(
    disparity: Float[np.ndarray, "h w"], reach: int, jump_ratio: float, crisp_frac: float
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Mark the ramps that join two surfaces of different depth.

    Every ridge of the slope (as in Canny's detector) is followed both ways until the slope ends. It
    is a soft edge if it ends on both sides within `reach`, if the disparities of its ends differ by
    more than `jump_ratio` beyond what the slopes of both sides explain, and if no single pixel pair
    already holds `crisp_frac` of the difference.

    Returns:
        The pixels of ramps; and pixels at an end of one where the slope reverses: the crest of a
        thin thing, which belongs to a surface however close the ramps on both sides come.
    """
    height, width = disparity.shape
    along_x, along_y = disparity_gradient(disparity)
    steepness = np.hypot(along_x, along_y)
    ramp = np.zeros((height, width), np.bool_)
    crest = np.zeros((height, width), np.bool_)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            peak = steepness[y, x]
            if peak < 0.25 * jump_ratio / reach * disparity[y, x]:
                continue
            ny, nx = along_y[y, x] / peak, along_x[y, x] / peak
            beside = max(steepness[round(y + ny), round(x + nx)], steepness[round(y - ny), round(x - nx)])
            if beside > peak * 1.0001:
                continue
            up, slope_up, top = _walk(disparity, along_x, along_y, y, x, ny, nx, reach)
            down, slope_down, foot = _walk(disparity, along_x, along_y, y, x, -ny, -nx, reach)
            if max(slope_up, slope_down) > _OTHER * peak:
                continue
            explained = 0.5 * (max(slope_up, 0.0) + max(slope_down, 0.0)) * (up + down)
            if top - foot - explained < jump_ratio * max(foot, 1e-12):
                continue
            if _steepest_step(disparity, y, x) > crisp_frac * (top - foot):
                continue
            for t in range(-down + 1, up):
                ramp[round(y + t * ny), round(x + t * nx)] = True
            if slope_up <= 0.02 * peak:
                crest[round(y + up * ny), round(x + up * nx)] = True
            if slope_down <= 0.02 * peak:
                crest[round(y - down * ny), round(x - down * nx)] = True
    return ramp, crest


@njit_cached
def local_planes(
    disparity: Float[np.ndarray, "h w"],
    trusted: Bool[np.ndarray, "h w"],
    ys: Int[np.ndarray, "s"],
    xs: Int[np.ndarray, "s"],
    radius: int,
) -> Float[np.ndarray, "s 3"]:
    """Fit a plane to the trusted pixels of like disparity (10 %) around each given one.

    Returns:
        Value there, slope along x, slope along y. Slopes shrink to zero where little supports them.
    """
    height, width = disparity.shape
    planes = np.empty((len(ys), 3))
    for i in range(len(ys)):
        y0, x0 = ys[i], xs[i]
        centre = disparity[y0, x0]
        n = u = v = uu = uv = vv = r = ru = rv = 0.0
        for y in range(max(0, y0 - radius), min(height, y0 + radius + 1)):
            for x in range(max(0, x0 - radius), min(width, x0 + radius + 1)):
                rise = disparity[y, x] - centre
                if not trusted[y, x] or abs(rise) > 0.1 * centre:
                    continue
                dx, dy = float(x - x0), float(y - y0)
                n, u, v, r = n + 1.0, u + dx, v + dy, r + rise
                uu, uv, vv = uu + dx * dx, uv + dx * dy, vv + dy * dy
                ru, rv = ru + rise * dx, rv + rise * dy
        # The mean taken out, two slopes remain: a symmetric 2 x 2 system, made regular.
        n = max(n, 1.0)
        a = uu - u * u / n + 2.0 * radius
        b = uv - u * v / n
        c = vv - v * v / n + 2.0 * radius
        right_u, right_v = ru - r * u / n, rv - r * v / n
        determinant = a * c - b * b
        along_x = (c * right_u - b * right_v) / determinant
        along_y = (a * right_v - b * right_u) / determinant
        planes[i, 0] = centre + (r - along_x * u - along_y * v) / n
        planes[i, 1] = along_x
        planes[i, 2] = along_y
    return planes


@njit_cached
def flood_labels(
    unsure: Bool[np.ndarray, "h w"],
    ys: Int[np.ndarray, "s"],
    xs: Int[np.ndarray, "s"],
    image: Float[np.ndarray, "h w 3"],
    colour_scale: float,
    pixel_cost: float,
) -> tuple[Int[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Give every unsure pixel the seed from which the cheapest path leads to it.

    A step costs its length times `pixel_cost` plus the difference of colour over `colour_scale`:
    fronts from both sides of a soft edge run fast over even colour and meet at the image edge.

    Returns:
        Index of the seed (-1 where sure), and the length of the path in pixels.

    Source: Dijkstra's algorithm; geodesic matting as in Bai & Sapiro, ICCV 2007.
    """
    height, width = unsure.shape
    cost = np.full((height, width), np.inf)
    label = np.full((height, width), -1, np.int64)
    steps = np.zeros((height, width))
    heap = [(0.0, y, x) for y, x in zip(ys, xs)]  # noqa: B905  (numba has no strict)
    for i in range(len(ys)):
        cost[ys[i], xs[i]] = 0.0
        label[ys[i], xs[i]] = i
    while len(heap) > 0:
        here, y, x = heapq.heappop(heap)
        if here > cost[y, x]:
            continue
        for yy in range(max(0, y - 1), min(height, y + 2)):
            for xx in range(max(0, x - 1), min(width, x + 2)):
                if not unsure[yy, xx]:
                    continue
                change = 0.0
                for k in range(3):
                    change += (image[yy, xx, k] - image[y, x, k]) ** 2
                length = np.sqrt((yy - y) ** 2 + (xx - x) ** 2)
                there = here + pixel_cost * length + np.sqrt(change) / colour_scale
                if there < cost[yy, xx]:
                    cost[yy, xx] = there
                    label[yy, xx] = label[y, x]
                    steps[yy, xx] = steps[y, x] + length
                    heapq.heappush(heap, (there, yy, xx))
    return label, steps


@njit_cached
def drop_speckles(
    disparity: Float[np.ndarray, "h w"],
    seed: Int[np.ndarray, "h w 2"],
    where: Bool[np.ndarray, "h w"],
    ratio: float,
) -> None:
    """Let a pixel that differs from six of its eight neighbours join the median there, in place."""
    height, width = disparity.shape
    before, old_seed = disparity.copy(), seed.copy()
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if not where[y, x]:
                continue
            here, other = before[y, x], 0
            for i in range(9):
                there = before[y + i // 3 - 1, x + i % 3 - 1]
                other += abs(there - here) > ratio * min(there, here)
            if other < 6:
                continue
            for i in range(9):
                yy, xx = y + i // 3 - 1, x + i % 3 - 1
                below = 0
                for j in range(9):
                    value = before[y + j // 3 - 1, x + j % 3 - 1]
                    # Equal values rank by place, so that exactly one is the median.
                    below += value < before[yy, xx] or (value == before[yy, xx] and j < i)
                if below == 4:
                    disparity[y, x] = before[yy, xx]
                    seed[y, x, 0], seed[y, x, 1] = old_seed[yy, xx, 0], old_seed[yy, xx, 1]


@njit_cached
def hard_steps(disparity: Float[np.ndarray, "h w"], ratio: float) -> Bool[np.ndarray, "h w"]:
    """Mark both pixels of every neighbouring pair between which the surface breaks.

    A break is a relative difference above `ratio` that is also more than twice what the slope on
    either side continues.
    """
    height, width = disparity.shape
    marked = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (1, 0)):
                y1, x1 = y + dy, x + dx
                if y1 >= height or x1 >= width:
                    continue
                a, b = disparity[y, x], disparity[y1, x1]
                slope = 0.0
                if y - dy >= 0 and x - dx >= 0:
                    slope = abs(a - disparity[y - dy, x - dx])
                if y1 + dy < height and x1 + dx < width:
                    slope = max(slope, abs(disparity[y1 + dy, x1 + dx] - b))
                if abs(b - a) > max(ratio * min(a, b), 2 * slope):
                    marked[y, x] = True
                    marked[y1, x1] = True
    return marked


@njit_cached
def flying_pixels(disparity: Float[np.ndarray, "h w"], ratio: float) -> Bool[np.ndarray, "h w"]:
    """Mark pixels that hang between two surfaces: steps down to one side and up to the other.

    Both steps, to the pixels opposite each other, are above `ratio` and more than twice the slope
    that goes on beyond them: a pixel that continues a surface on either side, however steep,
    belongs to it.
    """
    height, width = disparity.shape
    marked = np.zeros((height, width), np.bool_)
    for y in range(3, height - 3):
        for x in range(3, width - 3):
            for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                back, here = disparity[y - dy, x - dx], disparity[y, x]
                front = disparity[y + dy, x + dx]
                if (here - back) * (front - here) <= 0:
                    continue
                back2, back3 = disparity[y - 2 * dy, x - 2 * dx], disparity[y - 3 * dy, x - 3 * dx]
                front2, front3 = disparity[y + 2 * dy, x + 2 * dx], disparity[y + 3 * dy, x + 3 * dx]
                behind = min(abs(back - back2), abs(back2 - back3))
                beyond = min(abs(front2 - front), abs(front3 - front2))
                from_back = abs(here - back) > max(ratio * here, 2 * behind)
                if from_back and abs(front - here) > max(ratio * here, 2 * beyond):
                    marked[y, x] = True
    return marked

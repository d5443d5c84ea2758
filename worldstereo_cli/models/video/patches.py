"""Texture for holes: patches of the known picture that fit, in colour and in depth.

Source: Wexler, Shechtman and Irani, Space-Time Completion of Video, 2007 (search and vote, coarse
to fine); Barnes et al., PatchMatch, 2009 (search by propagation). Depth enters twice: pixels of
another surface neither compare nor vote, and patches of another distance or relief cost more, so
that the background is continued with background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import prange
from scipy.ndimage import distance_transform_edt, minimum_filter

from worldstereo_cli.geometry.jit import kernel, parallel_kernel

Array = np.ndarray[Any, Any]

_RADIUS = 3
"""Patches of 7x7: smaller ones lose structure, larger ones find no match."""
_SIDE = 2 * _RADIUS + 1
_COARSEST_PX = 48
"""The shorter side of the coarsest level is at least this: small enough to try every patch for
every pixel, large enough that small surfaces still hold whole patches."""
_RELIEF_COST = 1.0
_DISTANCE_COST = 0.1
"""Per squared difference of log inverse depth; a patch twice as far costs as much as a colour
difference of 13 % in every channel."""
_PLACE_COST = 0.02
"""Per squared displacement in parts of the longer image side: things nearby look alike."""
_MIXED_PX = 2
_MIXED_TRUST = 0.25
"""Known pixels this near to a hole hold some colour of what stood in front of them in the photo."""
_SPREAD = 0.004
"""Patch cost at which a vote has lost 40 % of its weight."""


@dataclass(frozen=True, slots=True)
class Layered:
    """A picture with complete depth, whose hole pixels hold a guess."""

    rgb: Array
    """(h w 3) float32."""
    inverse: Array
    """(h w) float32, inverse depth, positive everywhere."""
    hole: Array
    """(h w) bool."""
    ended: Array
    """(h w) bool: known pixels beside a hole whose surface does not go on into it."""


def complete_texture(picture: Layered, seed: int) -> Array:
    """Replace the guess in the holes by texture of the known surfaces.

    Args:
        picture: At least one 7x7 patch of some pyramid level must be wholly known; where none
            is, the guess stays.
        seed: Of the random search; equal seeds give equal pictures.

    Returns:
        (h w 3) float32, known pixels unchanged.
    """
    levels = [picture]
    while min(levels[-1].hole.shape) >= 2 * _COARSEST_PX:
        finest = levels[-1]
        levels.append(Layered(*_halve(finest.rgb, finest.inverse, finest.hole, finest.ended)))
    rgb = levels[-1].rgb
    field: Array | None = None
    for number in range(len(levels) - 1, -1, -1):
        level = levels[number]
        if field is None:
            # The level above held no whole patch: this one begins from its own guess.
            rgb = level.rgb
        else:
            rgb = np.where(level.hole[..., None], _double(rgb, level.hole.shape), level.rgb)
        rgb, field = _complete_level(replace(level, rgb=rgb), field, number, seed)
    return rgb


def _complete_level(
    level: Layered, coarser: Array | None, number: int, seed: int
) -> tuple[Array, Array | None]:
    """Search and vote on one level; `coarser` is the field of the level above, if it had one."""
    inside, outside = distance_transform_edt(level.hole), distance_transform_edt(~level.hole)
    mixed = (outside > 0) & (outside <= _MIXED_PX / 2**number)
    usable = minimum_filter(~(level.hole | mixed), _SIDE, mode="constant", cval=False)
    sources = np.argwhere(usable).astype(np.int32)
    if len(sources) == 0:
        return level.rgb, None
    rgb, relief = level.rgb, np.log(level.inverse).astype(np.float32)
    front = _front(level, relief)
    trust = np.where(level.hole, np.maximum(1.1**-inside, 0.1), np.where(mixed, _MIXED_TRUST, 1))
    trust = np.where(front, 0, trust).astype(np.float32)
    target = (outside <= _RADIUS) & ~front
    cost = np.full(level.hole.shape, np.inf, np.float32)
    field = np.zeros((*level.hole.shape, 2), np.int32)
    if coarser is not None:
        field = _double(coarser, level.hole.shape) * 2
        field[1::2, :, 0] += 1
        field[:, 1::2, 1] += 1
    rounds = 1 if number == 0 else 4
    for turn in range(rounds):
        salt = seed * 1009 + number * 101 + turn
        if coarser is None and turn == 0:
            _search_all(rgb, relief, trust, target, (sources, field, cost))
        else:
            for sweep in range(2):
                field, cost = _search_near(
                    rgb, relief, trust, target, (usable, sources, field), (salt, sweep)
                )
        # The last vote asks the closest patches alone, which keeps the picture sharp.
        reach = 1 if number == 0 else _RADIUS
        rgb = _vote(rgb, relief, level.hole, (field, cost), reach)
    return rgb, field


def _front(level: Layered, relief: Array) -> Array:
    """Find the known pixels that neither compare nor vote: the surfaces in front of the holes."""
    if not level.ended.any():
        return np.zeros_like(level.hole)
    distance, nearest = distance_transform_edt(~level.ended, return_indices=True)
    step = np.abs(relief - relief[tuple(nearest)])
    front: Array = ~level.hole & (distance <= _RADIUS + 1) & (step < 0.1)
    return front


def _double(values: Array, shape: tuple[int, ...]) -> Array:
    """Repeat every pixel twice along both axes, to a given (h w)."""
    return values.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]]


@parallel_kernel
def _halve(rgb: Array, inverse: Array, hole: Array, ended: Array) -> tuple[Array, Array, Array, Array]:
    """Average 2x2 pixels: the known ones alone where they are half or more; else the holes alone."""
    height, width = (hole.shape[0] + 1) // 2, (hole.shape[1] + 1) // 2
    out_rgb = np.zeros((height, width, 3), np.float32)
    out_inverse = np.zeros((height, width), np.float32)
    out_hole, out_ended = np.zeros((height, width), np.bool_), np.zeros((height, width), np.bool_)
    for y in prange(height):
        for x in range(width):
            bottom, right = min(2 * y + 2, hole.shape[0]), min(2 * x + 2, hole.shape[1])
            known, total = 0, (bottom - 2 * y) * (right - 2 * x)
            for v in range(2 * y, bottom):
                for u in range(2 * x, right):
                    known += 0 if hole[v, u] else 1
                    out_ended[y, x] |= ended[v, u]
            out_hole[y, x] = 2 * known < total
            out_ended[y, x] &= not out_hole[y, x]
            count = 0
            for v in range(2 * y, bottom):
                for u in range(2 * x, right):
                    if hole[v, u] == out_hole[y, x]:
                        count += 1
                        out_inverse[y, x] += inverse[v, u]
                        for c in range(3):
                            out_rgb[y, x, c] += rgb[v, u, c]
            out_inverse[y, x] /= count
            for c in range(3):
                out_rgb[y, x, c] /= count
    return out_rgb, out_inverse, out_hole, out_ended


@kernel
def _compared(relief: Array, trust: Array, y: int, x: int, weights: Array) -> float:
    """Fill the weights of a target patch: trust inside the picture and on the centre's surface."""
    height, width = relief.shape
    total = 0.0
    for j in range(_SIDE):
        for i in range(_SIDE):
            v, u = y + j - _RADIUS, x + i - _RADIUS
            weight = 0.0
            if 0 <= v < height and 0 <= u < width and abs(relief[v, u] - relief[y, x]) < 0.15:
                weight = trust[v, u]
            weights[j, i] = weight
            total += weight
    return total


@kernel
def _cost(
    rgb: Array, relief: Array, weights: Array, total: float, at: tuple[int, int, int, int], limit: float
) -> float:
    """Compare the patch at a target (first two of `at`) with that at a source; stops above `limit`."""
    y, x, sy, sx = at
    far = relief[y, x] - relief[sy, sx]
    away = float((y - sy) ** 2 + (x - sx) ** 2) / float(max(relief.shape) ** 2)
    fixed = _DISTANCE_COST * min(far * far, np.float32(1.0)) + _PLACE_COST * away
    budget = (limit - fixed) * total
    spent = np.float32(0.0)
    for j in range(_SIDE):
        if spent > budget:
            return np.inf
        for i in range(_SIDE):
            weight = weights[j, i]
            if weight == 0:
                continue
            v, u, q, p = y + j - _RADIUS, x + i - _RADIUS, sy + j - _RADIUS, sx + i - _RADIUS
            a = rgb[v, u, 0] - rgb[q, p, 0]
            b = rgb[v, u, 1] - rgb[q, p, 1]
            c = rgb[v, u, 2] - rgb[q, p, 2]
            d = relief[v, u] - relief[q, p] - far
            spent += weight * (a * a + b * b + c * c + _RELIEF_COST * min(d * d, np.float32(0.04)))
    return float(fixed + spent / total)


@parallel_kernel
def _search_all(
    rgb: Array, relief: Array, trust: Array, target: Array, state: tuple[Array, Array, Array]
) -> None:
    """Try every source for every target; fills `field` and `cost` in place."""
    sources, field, cost = state
    for y in prange(target.shape[0]):
        weights = np.zeros((_SIDE, _SIDE), np.float32)
        for x in range(target.shape[1]):
            if not target[y, x]:
                continue
            total = _compared(relief, trust, y, x, weights)
            best, limit = 0, np.inf
            for k in range(sources.shape[0]):
                value = _cost(rgb, relief, weights, total, (y, x, sources[k, 0], sources[k, 1]), limit)
                if value < limit:
                    best, limit = k, value
            field[y, x, 0], field[y, x, 1], cost[y, x] = sources[best, 0], sources[best, 1], limit


@kernel
def _drawn(number: int, low: int, high: int) -> int:
    """Draw an integer in [low, high) by scrambling a number.

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014.
    """
    z = np.uint64(number) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return low + int((z ^ (z >> np.uint64(31))) % np.uint64(high - low))


_PROPOSALS = 9


@kernel
def _proposal(
    k: int,
    at: tuple[int, int],
    best: tuple[int, int],
    target: Array,
    state: tuple[Array, Array, Array],
    chance: tuple[int, int],
) -> tuple[int, int]:
    """Propose a source: its own, those beside its neighbours' (k < 5), or a random one.

    Returns:
        Row and column; (-1, -1) where there is nothing to propose.
    """
    usable, sources, field = state
    salt, sweep = chance
    height, width = target.shape
    y, x = at
    if k < 5:
        jump = 1 if sweep == 1 else 4
        dy, dx = (0, jump, -jump, 0, 0)[k], (0, 0, 0, jump, -jump)[k]
        v, u = y + dy, x + dx
        if v < 0 or u < 0 or v >= height or u >= width or not target[v, u]:
            return -1, -1
        row, column = field[v, u, 0] - dy, field[v, u, 1] - dx
    else:
        number = (((salt * 2 + sweep) * 2 * _PROPOSALS + 2 * k) * height + y) * width + x
        if best[0] < 0 or k == 5:
            pick = _drawn(number, 0, len(sources))
            return sources[pick, 0], sources[pick, 1]
        reach = 32 >> (2 * (k - 6))
        row = best[0] + _drawn(number, -reach, reach + 1)
        column = best[1] + _drawn(number + height * width, -reach, reach + 1)
    if row < 0 or column < 0 or row >= height or column >= width or not usable[row, column]:
        return -1, -1
    return row, column


@parallel_kernel
def _search_near(
    rgb: Array,
    relief: Array,
    trust: Array,
    target: Array,
    state: tuple[Array, Array, Array],
    chance: tuple[int, int],
) -> tuple[Array, Array]:
    """Improve every target from its neighbours' sources and at random around its own.

    All targets read the field of the sweep before, so the result does not depend on threads.
    """
    field = state[2]
    out, cost = field.copy(), np.full(target.shape, np.inf, np.float32)
    for y in prange(target.shape[0]):
        weights = np.zeros((_SIDE, _SIDE), np.float32)
        for x in range(target.shape[1]):
            if not target[y, x]:
                continue
            total = _compared(relief, trust, y, x, weights)
            limit, best = np.inf, (-1, -1)
            for k in range(_PROPOSALS):
                row, column = _proposal(k, (y, x), best, target, state, chance)
                if row < 0:
                    continue
                value = _cost(rgb, relief, weights, total, (y, x, row, column), limit)
                if value < limit:
                    best, limit = (row, column), value
            out[y, x, 0], out[y, x, 1], cost[y, x] = best[0], best[1], limit
    return out, cost


@parallel_kernel
def _vote(rgb: Array, relief: Array, hole: Array, state: tuple[Array, Array], reach: int) -> Array:
    """Give every hole pixel the mean of what the patches over it propose."""
    field, cost = state
    height, width = hole.shape
    out = rgb.copy()
    for y in prange(height):
        for x in range(width):
            if not hole[y, x]:
                continue
            total, r, g, b = 0.0, 0.0, 0.0, 0.0
            for v in range(max(0, y - reach), min(height, y + reach + 1)):
                for u in range(max(0, x - reach), min(width, x + reach + 1)):
                    if cost[v, u] == np.inf or abs(relief[v, u] - relief[y, x]) >= 0.15:
                        continue
                    weight = math.exp(-cost[v, u] / (2 * _SPREAD)) + 1e-9
                    q, p = field[v, u, 0] + y - v, field[v, u, 1] + x - u
                    total += weight
                    r += weight * rgb[q, p, 0]
                    g += weight * rgb[q, p, 1]
                    b += weight * rgb[q, p, 2]
            if total > 0:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = r / total, g / total, b / total
    return out

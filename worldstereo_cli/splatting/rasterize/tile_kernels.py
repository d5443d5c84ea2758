"""Compositing splats over the tiles of an image: compiled kernels, forward and backward.

The image is cut into tiles of 8 x 16 pixels. Every tile has the list of splats that touch it, near
to far, and is drawn by one thread; a splat is drawn over whole rows of its tile at once, in a loop
without branches that the compiler turns into vector instructions. All that such a loop reads and
writes lies in one scratch array, plane after plane of 128 pixels, because the compiler must see
that nothing overlaps.

Gradients of one splat in one tile are summed in registers and written to a place of their own, so
that no two threads write to the same place and the result does not depend on their number.

Source: Kerbl et al. 2023, section 6 (tiles, sorting, early end). The backward pass walks near to far
again and keeps the light that is still to come, total minus what has been seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.polynomial import chebyshev
from numpy.polynomial.polynomial import Polynomial
from numpy.typing import NDArray

from worldstereo_cli.splatting.rasterize.jit import kernel, parallel_kernel
from worldstereo_cli.splatting.rasterize.limits import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

TILE_W, TILE_H = 8, 16
"""One row is one vector of 8 floats; two rows fill a vector of 16."""
PLANE = TILE_W * TILE_H
RECORD = 12
"""A projected splat: centre u, v; a, b, c of the exponent a dx^2 + b dx dy + c dy^2; opacity; red,
green, blue; depth; first and past-the-last row of pixels."""
SUMS = 10
"""Gradients of a splat in a tile: exponent times 1, dx, dy, dx^2, dx dy, dy^2; red, green, blue; depth."""
CHANNELS = 5
"""Planes of the image: red, green, blue, depth times weight, transmittance."""

# Planes of the scratch array.
_X, _Y, _T, _R, _G, _B, _D, _REST = (PLANE * i for i in range(8))
_CHECK_EVERY = 31
"""After this many splats (a mask of bits) the tile is checked for being finished."""

_ZERO, _ONE = np.float32(0), np.float32(1)
_MIN_ALPHA, _MAX_ALPHA, _MIN_T = np.float32(MIN_ALPHA), np.float32(MAX_ALPHA), np.float32(MIN_TRANSMITTANCE)
_TINY = np.float32(1e-20)
# Past this exponent even an opaque splat is below MIN_ALPHA: ln(255) = 5.54.
_MAX_EXPONENT = np.float32(5.75)
# exp(-x) on [0, 5.75] as the eighth power of exp(-x / 8), a quintic; relative error 8e-7.
_E0, _E1, _E2, _E3, _E4, _E5 = (
    np.float32(c)
    for c in chebyshev.Chebyshev.interpolate(lambda x: np.exp(-x), 5, domain=[0, 0.72])
    .convert(kind=Polynomial)
    .coef
)
_EIGHTH = np.float32(0.125)


class Tiles(NamedTuple):
    """Which splats touch which tile."""

    starts: Ints
    """For each tile, row by row, where its list begins; one more at the end."""
    members: Ints
    """The lists behind each other: splat numbers, near to far."""
    boxes: NDArray[np.int16]
    """For each splat: first and past-the-last tile along x, and along y."""
    slots: Ints
    """For each splat: where the gradients of its first tile lie; the others follow row by row."""


@kernel
def _alpha(opacity: np.float32, exponent: np.float32) -> np.float32:
    """Return opacity times exp(-exponent)."""
    x = min(exponent, _MAX_EXPONENT) * _EIGHTH
    e = _E0 + x * (_E1 + x * (_E2 + x * (_E3 + x * (_E4 + x * _E5))))
    e = e * e
    e = e * e
    return opacity * (e * e)


@kernel
def _blend(pad: Floats, count: int, s: Floats, x: np.float32, y: np.float32) -> None:
    """Draw one splat over `count` pixels, near to far."""
    a, b, c, opacity, red, green, blue, depth = s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9]
    for j in range(count):
        dx, dy = x - pad[j + _X], y - pad[j + _Y]
        alpha = min(_MAX_ALPHA, _alpha(opacity, a * dx * dx + b * dx * dy + c * dy * dy))
        t = pad[j + _T]
        w = alpha * t
        w = w if alpha >= _MIN_ALPHA else _ZERO
        w = w if t > _MIN_T else _ZERO
        pad[j + _T] = t - w
        pad[j + _R] += w * red
        pad[j + _G] += w * green
        pad[j + _B] += w * blue
        pad[j + _D] += w * depth


@kernel
def _finished(pad: Floats) -> bool:
    most = _ZERO
    for j in range(PLANE):
        most = max(most, pad[j + _T])
    return bool(most <= _MIN_T)


@kernel
def _rows(s: Floats, top: int) -> tuple[int, int]:
    """Return the range of pixels of a tile that a splat touches, widened to pairs of rows."""
    first = max(0, int(s[10]) - top) // 2
    last = (min(TILE_H, int(s[11]) - top) + 1) // 2
    return first * 2 * TILE_W, (last - first) * 2 * TILE_W


@kernel
def _blank(pad: Floats, planes: int) -> None:
    pad[: planes * PLANE] = _ZERO
    for j in range(PLANE):
        pad[_X + j] = np.float32(j % TILE_W + 0.5)
        pad[_Y + j] = np.float32(j // TILE_W + 0.5)
        pad[_T + j] = _ONE


@parallel_kernel
def composite(tiles: Tiles, records: Floats, image: Floats, workers: int) -> None:
    """Draw projected splats.

    Args:
        tiles: The lists.
        records: Projected splats, (g 12).
        image: Filled, (5 h w): red, green, blue, depth times weight, transmittance.
        workers: How many shares to cut the work into.
    """
    height, width = image.shape[1:]
    across = (width + TILE_W - 1) // TILE_W
    for worker in numba.prange(workers):
        pad = np.empty(7 * PLANE, np.float32)
        for tile in range(worker, tiles.starts.shape[0] - 1, workers):
            top, left = tile // across * TILE_H, tile % across * TILE_W
            _blank(pad, 7)
            for k in range(tiles.starts[tile], tiles.starts[tile + 1]):
                s = records[tiles.members[k]]
                first, count = _rows(s, top)
                _blend(pad[first:], count, s, s[0] - np.float32(left), s[1] - np.float32(top))
                if k & _CHECK_EVERY == _CHECK_EVERY and _finished(pad):
                    break
            for row in range(min(TILE_H, height - top)):
                for column in range(min(TILE_W, width - left)):
                    j = row * TILE_W + column
                    image[0, top + row, left + column] = pad[j + _R]
                    image[1, top + row, left + column] = pad[j + _G]
                    image[2, top + row, left + column] = pad[j + _B]
                    image[3, top + row, left + column] = pad[j + _D]
                    image[4, top + row, left + column] = pad[j + _T]


@kernel
def _unblend(pad: Floats, count: int, s: Floats, x: np.float32, y: np.float32, out: Floats) -> None:
    """Draw one splat again, and sum up the gradients that its pixels send to it."""
    a, b, c, opacity, red, green, blue, depth = s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9]
    e0 = ex = ey = exx = exy = eyy = g_red = g_green = g_blue = g_depth = _ZERO
    for j in range(count):
        dx, dy = x - pad[j + _X], y - pad[j + _Y]
        raw = _alpha(opacity, a * dx * dx + b * dx * dy + c * dy * dy)
        alpha = min(_MAX_ALPHA, raw)
        t = pad[j + _T]
        w = alpha * t
        w = w if alpha >= _MIN_ALPHA else _ZERO
        w = w if t > _MIN_T else _ZERO
        pad[j + _T] = t - w
        own = red * pad[j + _R] + green * pad[j + _G] + blue * pad[j + _B] + depth * pad[j + _D]
        rest = pad[j + _REST] - w * own
        pad[j + _REST] = rest
        g_red += w * pad[j + _R]
        g_green += w * pad[j + _G]
        g_blue += w * pad[j + _B]
        g_depth += w * pad[j + _D]
        # -alpha dL/dalpha, the gradient of the exponent; alpha is constant where it is cut.
        e = w * (rest / max(t - w, _TINY) - own)
        e = e if raw < _MAX_ALPHA else _ZERO
        ex_j, ey_j = e * dx, e * dy
        e0 += e
        ex += ex_j
        ey += ey_j
        exx += ex_j * dx
        exy += ex_j * dy
        eyy += ey_j * dy
    out[0], out[1], out[2], out[3], out[4], out[5] = e0, ex, ey, exx, exy, eyy
    out[6], out[7], out[8], out[9] = g_red, g_green, g_blue, g_depth


@kernel
def _load_gradients(pad: Floats, image: Floats, gradient: Floats, top: int, left: int) -> None:
    """Put the gradients of a tile's pixels, and the total of what they show, into the scratch array."""
    height, width = image.shape[1:]
    pad[_T:] = _ZERO
    for row in range(min(TILE_H, height - top)):
        for column in range(min(TILE_W, width - left)):
            j, v, u = row * TILE_W + column, top + row, left + column
            pad[j + _T] = _ONE
            total = gradient[4, v, u] * image[4, v, u]
            for channel in range(4):
                pad[j + _R + channel * PLANE] = gradient[channel, v, u]
                total += gradient[channel, v, u] * image[channel, v, u]
            pad[j + _REST] = total


@parallel_kernel
def composite_backward(
    tiles: Tiles, records: Floats, image: Floats, gradient: Floats, sums: Floats, workers: int
) -> None:
    """Send gradients of the image back to the projected splats.

    Args:
        tiles: The lists.
        records: Projected splats, (g 12).
        image: What `composite` made of them, (5 h w).
        gradient: Of the loss with respect to `image`, (5 h w).
        sums: Filled, one row of `SUMS` for each splat in each of its tiles; must come as zeros.
        workers: How many shares to cut the work into.
    """
    across = (image.shape[2] + TILE_W - 1) // TILE_W
    for worker in numba.prange(workers):
        pad = np.empty(8 * PLANE, np.float32)
        _blank(pad, 8)
        for tile in range(worker, tiles.starts.shape[0] - 1, workers):
            tile_y, tile_x = tile // across, tile % across
            top, left = tile_y * TILE_H, tile_x * TILE_W
            _load_gradients(pad, image, gradient, top, left)
            for k in range(tiles.starts[tile], tiles.starts[tile + 1]):
                g = tiles.members[k]
                s, box = records[g], tiles.boxes[g]
                slot = tiles.slots[g] + (tile_y - box[2]) * (box[1] - box[0]) + tile_x - box[0]
                first, count = _rows(s, top)
                _unblend(pad[first:], count, s, s[0] - np.float32(left), s[1] - np.float32(top), sums[slot])
                if k & _CHECK_EVERY == _CHECK_EVERY and _finished(pad):
                    break


@parallel_kernel
def median_depth(tiles: Tiles, records: Floats, depth: Floats, workers: int) -> None:
    """Find the depth at which half of the light is stopped.

    Args:
        tiles: The lists.
        records: Projected splats, (g 12).
        depth: Filled where alpha reaches one half, (h w); must come as zeros.
        workers: How many shares to cut the work into.
    """
    height, width = depth.shape
    across = (width + TILE_W - 1) // TILE_W
    for worker in numba.prange(workers):
        pad = np.empty(3 * PLANE, np.float32)
        for tile in range(worker, tiles.starts.shape[0] - 1, workers):
            top, left = tile // across * TILE_H, tile % across * TILE_W
            _blank(pad, 3)
            for k in range(tiles.starts[tile], tiles.starts[tile + 1]):
                s = records[tiles.members[k]]
                first, count = _rows(s, top)
                for j in range(first, first + count):
                    row, column = top + j // TILE_W, left + j % TILE_W
                    dx, dy = s[0] - np.float32(left) - pad[j], s[1] - np.float32(top) - pad[j + _Y]
                    alpha = min(_MAX_ALPHA, _alpha(s[5], s[2] * dx * dx + s[3] * dx * dy + s[4] * dy * dy))
                    t = pad[j + _T]
                    if alpha < _MIN_ALPHA or t <= np.float32(0.5) or row >= height or column >= width:
                        continue
                    pad[j + _T] = t - alpha * t
                    if pad[j + _T] <= np.float32(0.5):
                        depth[row, column] = s[9]


@kernel
def depth_order(records: Floats, drawn: Ints) -> Ints:
    """Sort the drawn splats near to far; equal depths keep their order.

    A radix sort over the bits of the depths, which order like the numbers because all are positive.

    Args:
        records: Projected splats, (g 12).
        drawn: Numbers of the splats to sort.
    """
    order, other = drawn.copy(), np.empty_like(drawn)
    bits = np.empty(records.shape[0], np.uint32)
    for g in drawn:
        bits[g] = records[g, 9:10].view(np.uint32)[0]
    for shift in (0, 11, 22):
        counts = np.zeros(2049, np.int64)
        for g in order:
            counts[((bits[g] >> np.uint32(shift)) & np.uint32(2047)) + 1] += 1
        for digit in range(2048):
            counts[digit + 1] += counts[digit]
        for g in order:
            digit = (bits[g] >> np.uint32(shift)) & np.uint32(2047)
            other[counts[digit]] = g
            counts[digit] += 1
        order, other = other, order
    return order


@parallel_kernel
def list_tiles(order: Ints, boxes: NDArray[np.int16], across: int, starts: Ints, members: Ints) -> None:
    """Write the lists of all tiles.

    Args:
        order: Splats near to far.
        boxes: For each splat, its range of tiles along x and y.
        across: How many tiles there are in a row of tiles.
        starts: Where each tile's list begins; one more at the end.
        members: Filled.
    """
    rows = (starts.shape[0] - 1) // across
    bands = min(rows, 4)
    for band in numba.prange(bands):
        low, high = rows * band // bands, rows * (band + 1) // bands
        ends = starts[low * across : high * across].copy()
        for g in order:
            box = boxes[g]
            for tile_y in range(max(low, box[2]), min(high, box[3])):
                for tile_x in range(box[0], box[1]):
                    tile = (tile_y - low) * across + tile_x
                    members[ends[tile]] = g
                    ends[tile] += 1


@kernel
def count_tiles(boxes: NDArray[np.int16], across: int, starts: Ints, slots: Ints) -> int:
    """Count how many splats touch each tile, and how many tiles each splat touches.

    Args:
        boxes: For each splat, its range of tiles along x and y.
        across: How many tiles there are in a row of tiles.
        starts: Filled with the running total over tiles; must come as zeros.
        slots: Filled with the running total over splats.

    Returns:
        The grand total.
    """
    total = 0
    for g in range(boxes.shape[0]):
        box = boxes[g]
        slots[g] = total
        total += (box[1] - box[0]) * (box[3] - box[2])
        for tile_y in range(box[2], box[3]):
            for tile_x in range(box[0], box[1]):
                starts[tile_y * across + tile_x + 1] += 1
    for tile in range(starts.shape[0] - 1):
        starts[tile + 1] += starts[tile]
    return total

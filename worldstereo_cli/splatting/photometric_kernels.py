"""L1 and structural similarity with their gradient on a CPU: compiled kernels.

`losses.photometric_sum` in plain torch is the specification; this does the same ten times faster.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from worldstereo_cli.splatting.rasterize.jit import kernel, parallel_kernel

Floats = NDArray[np.float32]

_RADIUS = 5
_offsets = np.arange(-_RADIUS, _RADIUS + 1)
_bell = np.exp(-(_offsets**2) / (2 * 1.5**2))
_W = tuple(np.float32(w) for w in (_bell / _bell.sum())[_RADIUS:])
"""The right half of the window, 11 taps of standard deviation 1.5; the left half mirrors it."""
_C1, _C2 = np.float32(0.01**2), np.float32(0.03**2)
_TWO = np.float32(2)


_STRIP = 64
"""Columns that are blurred together, so that the eleven rows in use stay in the fastest cache."""


@kernel
def _blur_across(row: Floats, out: Floats) -> None:
    """Blur along a row; indices differ by constants, so that the compiler makes vectors of it."""
    for i in range(_STRIP):
        out[i] = (
            _W[5] * (row[i] + row[i + 10])
            + _W[4] * (row[i + 1] + row[i + 9])
            + _W[3] * (row[i + 2] + row[i + 8])
            + _W[2] * (row[i + 3] + row[i + 7])
            + _W[1] * (row[i + 4] + row[i + 6])
            + _W[0] * row[i + 5]
        )


@kernel
def _blur_down(rows: Floats, count: int, out: Floats) -> None:
    """Blur down a strip whose rows lie behind each other."""
    for i in range(count):
        out[i] = (
            _W[5] * (rows[i] + rows[i + 10 * _STRIP])
            + _W[4] * (rows[i + _STRIP] + rows[i + 9 * _STRIP])
            + _W[3] * (rows[i + 2 * _STRIP] + rows[i + 8 * _STRIP])
            + _W[2] * (rows[i + 3 * _STRIP] + rows[i + 7 * _STRIP])
            + _W[1] * (rows[i + 4 * _STRIP] + rows[i + 6 * _STRIP])
            + _W[0] * rows[i + 5 * _STRIP]
        )


@parallel_kernel
def _blur(planes: Floats, out: Floats) -> None:
    """Blur planes (n h w) with the window; outside is zero."""
    count, height, width = planes.shape
    strips = (width + _STRIP - 1) // _STRIP
    for task in numba.prange(count * strips):
        plane, left = task // strips, task % strips * _STRIP
        row = np.zeros(_STRIP + 2 * _RADIUS, np.float32)
        strip = np.zeros((height + 2 * _RADIUS) * _STRIP, np.float32)
        first, last = max(0, left - _RADIUS), min(width, left + _STRIP + _RADIUS)
        for y in range(height):
            row[first - left + _RADIUS : last - left + _RADIUS] = planes[plane, y, first:last]
            _blur_across(row, strip[(y + _RADIUS) * _STRIP :])
        right = min(width, left + _STRIP)
        for y in range(height):
            _blur_down(strip[y * _STRIP :], right - left, out[plane, y, left:right])


@parallel_kernel
def _moments(pictures: Floats, planes: Floats) -> None:
    """Fill planes (5c h w) with a, b, a^2, b^2, a b for each channel of two pictures (2c h w)."""
    channels, height = pictures.shape[0] // 2, pictures.shape[1]
    for y in numba.prange(height):
        for c in range(channels):
            a, b = pictures[c, y], pictures[channels + c, y]
            planes[c, y] = a
            planes[channels + c, y] = b
            planes[2 * channels + c, y] = a * a
            planes[3 * channels + c, y] = b * b
            planes[4 * channels + c, y] = a * b


@parallel_kernel
def _similarity(
    means: Floats, pictures: Floats, weight: Floats, partials: Floats, rows: NDArray[np.float64]
) -> None:
    """From blurred moments to both terms of each row, and gradients of the moments.

    Args:
        means: Blurred moments, (5c h w).
        pictures: The image and the target behind each other, (2c h w).
        weight: Weight of each pixel, (h w).
        partials: Filled, (3c h w): gradients with respect to the means of a, a^2 and a b.
        rows: Filled, (2 h): the sums of weight times absolute difference, and times similarity.
    """
    height, width = weight.shape
    n = means.shape[0] // 5
    for y in numba.prange(height):
        similar, absolute = np.float32(0), np.float32(0)
        for c in range(n):
            for x in range(width):
                w, ma, mb = weight[y, x], means[c, y, x], means[n + c, y, x]
                vaa, vbb = means[2 * n + c, y, x] - ma * ma, means[3 * n + c, y, x] - mb * mb
                vab = means[4 * n + c, y, x] - ma * mb
                a1, a2 = _TWO * ma * mb + _C1, _TWO * vab + _C2
                b1, b2 = ma * ma + mb * mb + _C1, vaa + vbb + _C2
                s = a1 * a2 / (b1 * b2)
                similar += w * s
                absolute += w * abs(pictures[c, y, x] - pictures[n + c, y, x])
                d_ab = w * _TWO * a1 / (b1 * b2)
                d_aa = -w * s / b2
                direct = w * _TWO * (mb * a2 / (b1 * b2) - ma * s / b1)
                partials[c, y, x] = direct - mb * d_ab - _TWO * ma * d_aa
                partials[n + c, y, x] = d_aa
                partials[2 * n + c, y, x] = d_ab
        rows[0, y], rows[1, y] = absolute, similar


@parallel_kernel
def _gradient(pictures: Floats, weight: Floats, spread: Floats, share: float, out: Floats) -> None:
    """Join the gradients of both terms.

    Args:
        pictures: The image and the target behind each other, (2c h w).
        weight: Of each pixel, (h w).
        spread: Blurred `partials` of `_similarity`, (3c h w).
        share: Of the similarity; its sign turns, because it is to grow.
        out: Filled, (c h w).
    """
    channels, height, width = out.shape
    similar, absolute = np.float32(-share), np.float32(1.0 - share)
    for y in numba.prange(height):
        for c in range(channels):
            for x in range(width):
                a, b = pictures[c, y, x], pictures[channels + c, y, x]
                moments = spread[c, y, x] + _TWO * a * spread[channels + c, y, x]
                moments += b * spread[2 * channels + c, y, x]
                sign = np.float32(a > b) - np.float32(a < b)
                out[c, y, x] = similar * moments + absolute * weight[y, x] * sign


def photometric_sum_and_gradient(
    image: Float[Tensor, "c h w"],
    target: Float[Tensor, "c h w"],
    weight: Float[Tensor, "h w"],
    ssim_share: float,
) -> tuple[float, Float[Tensor, "c h w"]]:
    """Return the weighted sum of (1 - share) |a - b| + share (1 - SSIM), and its gradient.

    Args:
        image: In [0, 1].
        target: In [0, 1].
        weight: Of every pixel.
        ssim_share: The share of 1 - SSIM.

    Source: Wang et al., Image quality assessment, 2004, section III.B, with its 11-tap window.
    """
    pictures = torch.cat([image.detach(), target]).numpy()
    weights = weight.contiguous().numpy()
    channels, height, width = image.shape
    planes = np.empty((5 * channels, height, width), np.float32)
    blurred = np.empty_like(planes)
    rows = np.empty((2, height))
    _moments(pictures, planes)
    _blur(planes, blurred)
    _similarity(blurred, pictures, weights, planes[: 3 * channels], rows)
    _blur(planes[: 3 * channels], blurred[: 3 * channels])
    gradient = np.empty((channels, height, width), np.float32)
    _gradient(pictures, weights, blurred, ssim_share, gradient)
    absolute, similar = rows.sum(axis=1)
    dissimilar = channels * float(weights.sum(dtype=np.float64)) - similar
    return float((1 - ssim_share) * absolute + ssim_share * dissimilar), torch.from_numpy(gradient)

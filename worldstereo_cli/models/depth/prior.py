"""A geometric guess at depth with no learning in it: what photographs usually look like.

Things low in a picture are near. Segments of even colour that are taller than wide, or reach to the
top, stand upright where their foot touches the ground; the rest lies on a slope that recedes
upwards; sky is far. It is the fallback where no network can be used, named as what it is: it
makes plausible parallax, not measurements.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from worldstereo_cli.geometry.edge_kernels import njit_cached
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.models.depth.sky import find_sky

_WORK_PX = 256
"""Long side at which the picture is segmented."""
_MERGE = 2.0
"""Larger values merge more; at this, a segment is a cushion rather than a whole sofa, and an error
over one segment stays small."""
_MIN_SEGMENT_FRAC = 0.003
"""Smaller segments join a neighbour."""
_TOP_DISPARITY = 0.35
"""Disparity at the top of the picture where that at the bottom is one more; as good a ramp as any
single one on real photographs."""
_STANDING = 0.6
"""Share of a standing segment's disparity that comes from its foot; the rest follows the ramp, so
that a wrong segment makes a slope and not a cut-out."""
_UPRIGHT_ASPECT = 0.8
"""Height over width from which a segment stands; lying things are foreshortened to less."""


class PriorDepth:
    """The `prior` backend."""

    name = "prior"

    def estimate(self, image: Float[Tensor, "3 h w"], focal_px: float | None) -> DepthEstimate:
        """Guess depth up to scale; no focal length is used or found."""
        height, width = image.shape[1:]
        sky = find_sky(image)
        scale = min(1.0, _WORK_PX / max(height, width))
        size = (max(8, round(height * scale)), max(8, round(width * scale)))
        small = torch.nn.functional.interpolate(image[None].double().cpu(), size, mode="area")[0]
        disparity = _disparity(small.permute(1, 2, 0).numpy())
        full = torch.nn.functional.interpolate(
            torch.from_numpy(disparity)[None, None], (height, width), mode="bilinear"
        )
        depth = 1.0 / full[0, 0].to(image.device, torch.float32)
        return DepthEstimate(torch.where(sky, 0.0, depth), ~sky, sky, None, is_metric=False)


def _disparity(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Guess disparity: the ramp, and on it the segments that stand."""
    height, width = image.shape[:2]
    ramp = _TOP_DISPARITY + (np.arange(height) + 0.5) / height
    disparity = np.repeat(ramp[:, None], width, axis=1)
    roots = segments(image, _MERGE, _MIN_SEGMENT_FRAC * height * width)
    labels = np.unique(roots, return_inverse=True)[1].reshape(height, width)
    for index, box in enumerate(ndimage.find_objects(labels + 1)):
        inside = labels[box] == index
        rows = np.nonzero(inside)[0] + box[0].start
        # Quantiles, since one stray pixel must not move a foot.
        top, foot = np.quantile(rows, [0.1, 0.95])
        is_floor = box[0].stop >= 0.97 * height and inside.shape[1] > 0.6 * width
        if (inside.shape[0] > _UPRIGHT_ASPECT * inside.shape[1] or top < 0.1 * height) and not is_floor:
            disparity[box][inside] *= 1 - _STANDING
            disparity[box][inside] += _STANDING * ramp[int(foot)]
    smooth: Float[np.ndarray, "h w"] = ndimage.gaussian_filter(disparity, 1.0)
    return smooth


@njit_cached
def _root(parent: Int[np.ndarray, p], pixel: int) -> int:
    while parent[pixel] != pixel:
        parent[pixel] = parent[parent[pixel]]
        pixel = parent[pixel]
    return pixel


def _links(image: Float[np.ndarray, "h w 3"]) -> tuple[Float[np.ndarray, l], Int[np.ndarray, "l 2"]]:
    """Return every pair of neighbours, the most alike first: colour difference and pixel numbers."""
    height, width = image.shape[:2]
    number = np.arange(height * width).reshape(height, width)
    ends: list[tuple[Any, Any]] = [
        (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]), (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ]  # fmt: skip
    change = [np.sqrt(((image[a] - image[b]) ** 2).sum(-1)).ravel() for a, b in ends]
    pairs = [np.stack([number[a].ravel(), number[b].ravel()], -1) for a, b in ends]
    order = np.argsort(np.concatenate(change), kind="stable")
    return np.concatenate(change)[order], np.concatenate(pairs)[order]


def segments(image: Float[np.ndarray, "h w 3"], merge: float, min_pixels: float) -> Int[np.ndarray, "h w"]:
    """Cut a picture into segments of even colour; each carries the number of one of its pixels.

    Source: Felzenszwalb & Huttenlocher, Efficient Graph-Based Image Segmentation, IJCV 2004.
    """
    change, pairs = _links(image)
    return _merged(change, pairs, image.shape[0] * image.shape[1], merge, min_pixels).reshape(image.shape[:2])


@njit_cached
def _merged(
    change: Float[np.ndarray, l],
    pairs: Int[np.ndarray, "l 2"],
    count: int,
    merge: float,
    min_pixels: float,
) -> Int[np.ndarray, p]:
    parent = np.arange(count)
    size = np.ones(count)
    tolerance = np.full(count, merge)
    for i in range(len(change)):
        a, b = _root(parent, pairs[i, 0]), _root(parent, pairs[i, 1])
        if a != b and change[i] <= min(tolerance[a], tolerance[b]):
            parent[b] = a
            size[a] += size[b]
            tolerance[a] = change[i] + merge / size[a]
    for i in range(len(change)):
        a, b = _root(parent, pairs[i, 0]), _root(parent, pairs[i, 1])
        if a != b and min(size[a], size[b]) < min_pixels:
            parent[b] = a
            size[a] += size[b]
    for i in range(count):
        parent[i] = _root(parent, i)
    return parent

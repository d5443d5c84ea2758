"""Depth that was measured or computed elsewhere, as a backend like any other."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.errors import InputError
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.models.depth.sky import find_sky

_SAME_ASPECT = 0.02
"""Sizes may differ by rounding, not by a crop: a crop would put every edge in a wrong place."""

_MAX_KNOWN_SKY = 0.3
"""Share of what looks like sky that a sensor may still have given a depth, around its edges."""

_SAME_SURFACE = 1.05
"""Neighbours within this ratio are one surface, between which depth may be interpolated."""


class GivenDepth:
    """The `file` backend: a depth map that came with the photo."""

    name = "file"

    def __init__(
        self, depth_m: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"], sky: Bool[Tensor, "h w"]
    ) -> None:
        """Hold a depth map of any size; it is upright like the photo."""
        self._depth_m, self._valid, self._sky = depth_m, valid, sky

    def estimate(self, image: Float[Tensor, "3 h w"], focal_px: float | None) -> DepthEstimate:
        """Bring the map to the size of the picture.

        Sensors and many programs leave sky unknown, so where the map knows nothing the picture is
        asked whether it shows sky.

        Raises:
            InputError: Its aspect is not that of the picture.
        """
        height, width = image.shape[1:]
        rows, columns = self._depth_m.shape
        if abs(columns / rows / (width / height) - 1) > _SAME_ASPECT:
            raise InputError(
                f"The depth file is {columns}x{rows}, and the photo has another shape: {width}x{height}.",
                remedy="Pass depth of the whole photo, turned as the photo is shown.",
            )
        depth, valid = resize_depth(self._depth_m, self._valid, height, width)
        sky = _nearest(self._sky, height, width)
        looks = find_sky(image).cpu()
        # What looks like sky but mostly has depth is a pale wall.
        if float((looks & valid).sum()) < _MAX_KNOWN_SKY * float(looks.sum()):
            sky = sky | (looks & ~valid)
        valid = valid & ~sky
        depth = torch.where(valid, depth, torch.zeros_like(depth)).to(image.device)
        return DepthEstimate(depth, valid.to(image.device), sky.to(image.device), None, is_metric=True)


def resize_depth(
    depth_m: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"], height_px: int, width_px: int
) -> tuple[Float[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Resize a depth map without inventing depth between surfaces.

    Where the four nearest pixels are one surface, disparity is interpolated, which is exact on
    planes; elsewhere the nearest pixel is taken.

    Args:
        depth_m: Positive where valid.
        valid: Where depth is known.
        height_px: Wanted height.
        width_px: Wanted width.

    Returns:
        Depth and validity of the wanted size.
    """
    if depth_m.shape == (height_px, width_px):
        return depth_m, valid
    rows, columns = depth_m.shape
    v = ((torch.arange(height_px) + 0.5) * rows / height_px - 0.5).clamp(0, rows - 1)
    u = ((torch.arange(width_px) + 0.5) * columns / width_px - 0.5).clamp(0, columns - 1)
    top, left = v.floor().long(), u.floor().long()
    bottom, right = (top + 1).clamp(max=rows - 1), (left + 1).clamp(max=columns - 1)
    below, beside = (v - top)[:, None], (u - left)[None]
    taps = [(top, left), (top, right), (bottom, left), (bottom, right)]
    depths = torch.stack([depth_m[r[:, None], c[None]] for r, c in taps])
    known = torch.stack([valid[r[:, None], c[None]] for r, c in taps]).all(0)
    weights = torch.stack([
        (1 - below) * (1 - beside), (1 - below) * beside, below * (1 - beside), below * beside,
    ])  # fmt: skip
    one_surface = known & (depths.amax(0) < _SAME_SURFACE * depths.amin(0))
    smooth = 1 / (weights / depths.clamp_min(1e-9)).sum(0)
    depth = torch.where(one_surface, smooth, _nearest(depth_m, height_px, width_px))
    return depth.to(depth_m.dtype), one_surface | _nearest(valid, height_px, width_px)


def _nearest(values: Tensor, height_px: int, width_px: int) -> Tensor:
    rows, columns = values.shape
    row = ((torch.arange(height_px) + 0.5) * rows / height_px).long().clamp(max=rows - 1)
    column = ((torch.arange(width_px) + 0.5) * columns / width_px).long().clamp(max=columns - 1)
    return values[row[:, None], column[None]]

"""Edges of depth maps: from soft ramps to clean steps, so that no rubber sheet joins two surfaces.

A depth network draws the border of an object several pixels wide. Lifted to points, that border
becomes a sheet from foreground to background. Dropping it (as `reference_edge_mask` does) leaves
the photo full of holes. Here each pixel of such a ramp is given to one side or the other, as the
image decides, and takes the depth that the surface on that side continues with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from worldstereo_cli.geometry.edge_kernels import (
    drop_speckles,
    flood_labels,
    flying_pixels,
    hard_steps,
    local_planes,
    soft_edges,
)

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What counts as an edge, and how its pixels are shared out.

    The values were chosen on Middlebury stereo pairs and a synthetic scene, whose true disparity
    was blurred by 0, 1.5 and 3 pixels with noise added; results change little around them.
    """

    half_width_frac: float = 0.015
    """A ramp may be this wide to either side of its middle, as a share of the longer side."""
    jump_ratio: float = 0.05
    """Surfaces are apart if their disparities differ by this ratio beyond what slopes explain."""
    crisp_frac: float = 0.8
    """A step that one pair of pixels holds to this share needs no sharpening."""
    colour_scale: float = 0.1
    """Colour difference (Euclidean, sRGB) that costs a front as much as `1 / pixel_cost` pixels."""
    pixel_cost: float = 0.05
    """Keeps fronts moving evenly where colour says nothing: the border then lies midway."""
    plane_radius_px: int = 4
    """Half the window over which a surface is continued into a ramp."""


@dataclass(frozen=True, slots=True)
class SharpDepth:
    """A depth map whose edges are steps."""

    depth_m: Float[Tensor, "h w"]
    """Positive everywhere."""
    seed: Int[Tensor, "h w 2"]
    """Row and column of the pixel whose surface each pixel continues; itself where it was sure."""
    moved: Bool[Tensor, "h w"]
    """True where depth was given and not measured: ramps and unsure pixels."""
    reach_px: Float[Tensor, "h w"]
    """Length of the path over which depth was carried there; 0 where it was sure."""
    loose: Bool[Tensor, "h w"]
    """True where a pixel still hangs between two surfaces: it belongs to none."""


def sharpen_depth(
    depth_m: Float[Tensor, "h w"],
    unsure: Bool[Tensor, "h w"],
    image: Float[Tensor, "3 h w"],
    settings: EdgeSettings | None = None,
) -> SharpDepth:
    """Turn soft depth edges into steps that follow the image, and fill what is unsure.

    Args:
        depth_m: Depth along the optical axis; any value where unsure, positive elsewhere.
        unsure: Pixels whose depth is not to be believed; they are filled from around them.
        image: sRGB in [0, 1].
        settings: What counts as an edge.

    Raises:
        ValueError: Nothing is sure, or sizes differ.
    """
    settings = settings or EdgeSettings()
    if not depth_m.shape == unsure.shape == image.shape[1:]:
        raise ValueError(f"Expected maps of one size, got {depth_m.shape}, {unsure.shape}, {image.shape}.")
    if bool(unsure.all()):
        raise ValueError("Expected at least one pixel of known depth.")
    unknown = unsure.cpu().numpy()
    disparity = _filled(1.0 / torch.where(unsure, 1.0, depth_m.double()).cpu().numpy(), unknown)
    open_pixels = unknown | _soft(disparity, settings)
    if open_pixels.all():
        open_pixels = unknown
    pixels = np.ascontiguousarray(image.cpu().permute(1, 2, 0).double().numpy())
    result, seed, steps = _shared_out(disparity, open_pixels, pixels, settings)
    drop_speckles(result, seed, open_pixels, settings.jump_ratio)
    loose = flying_pixels(result, settings.jump_ratio)
    device = depth_m.device
    return SharpDepth(
        torch.from_numpy(1.0 / result).to(device, depth_m.dtype),
        torch.from_numpy(seed).to(device),
        torch.from_numpy(open_pixels).to(device),
        torch.from_numpy(steps).to(device, depth_m.dtype),
        torch.from_numpy(loose).to(device),
    )


def near_break(depth_m: Float[Tensor, "h w"], ratio: float = 0.05) -> Float[Tensor, "h w"]:
    """Return each pixel's distance, in pixels, to the nearest break of the surface.

    Pixels at a break have 1, their neighbours 2, and so on; infinite where nothing breaks.
    """
    marked = hard_steps(1.0 / depth_m.cpu().double().numpy(), ratio)
    if not marked.any():
        return torch.full_like(depth_m, math.inf)
    distance = ndimage.distance_transform_edt(~marked) + 1
    return torch.from_numpy(distance).to(depth_m.device, depth_m.dtype)


def reference_edge_mask(
    depth_m: Float[Tensor, "h w"],
) -> tuple[Bool[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Mark what WorldStereo's own filter drops: the yardstick, which this package does not use.

    One invalid pixel (depth 0) takes the whole range of its normalised disparity, so that true edges
    are no longer seen; and the normalisation makes the threshold depend on the nearest pixel.

    Args:
        depth_m: Contracted depth, 0 where invalid.

    Returns:
        True where dropped for an edge (invalid pixels are dropped besides), and the Sobel magnitude.

    Source: edge filter of WorldStereo 2.0, with its constants.
    """
    disparity = 1.0 / (depth_m + 1e-7)
    low, high = disparity.min(), disparity.max()
    normalised = ((disparity - low) / (high - low))[None, None]
    padded = torch.nn.functional.pad(normalised, (1, 1, 1, 1), mode="replicate")
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=depth_m.dtype)
    kernels = torch.stack([sobel, sobel.T])[:, None].to(depth_m.device)
    slopes = torch.nn.functional.conv2d(padded, kernels)[0]
    magnitude = slopes.square().sum(0).sqrt()
    return torch.exp(-10.0 * magnitude) < 0.35, magnitude


def _reach(disparity: Float[np.ndarray, "h w"], settings: EdgeSettings) -> int:
    height, width = disparity.shape
    reach: int = max(2, math.ceil(settings.half_width_frac * max(height, width)))
    return reach


def _filled(
    disparity: Float[np.ndarray, "h w"], unknown: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Give unknown pixels the value of the nearest known one, so that slopes can be taken."""
    if not unknown.any():
        return disparity
    rows, columns = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return np.ascontiguousarray(disparity[rows, columns])


def _soft(disparity: Float[np.ndarray, "h w"], settings: EdgeSettings) -> Bool[np.ndarray, "h w"]:
    """Mark ramps without gaps, one pixel wider than found: the last pixel still is a little wrong."""
    ramp, crest = soft_edges(disparity, _reach(disparity, settings), settings.jump_ratio, settings.crisp_frac)
    # Walks from neighbouring pixels of a curved border leave gaps between them.
    closed = ndimage.binary_closing(np.pad(ramp, 3))[3:-3, 3:-3] | ramp
    wider: Bool[np.ndarray, "h w"] = ndimage.binary_dilation(closed, _EIGHT) & ~crest
    return wider


def _shared_out(
    disparity: Float[np.ndarray, "h w"],
    open_pixels: Bool[np.ndarray, "h w"],
    image: Float[np.ndarray, "h w 3"],
    settings: EdgeSettings,
) -> tuple[Float[np.ndarray, "h w"], Int[np.ndarray, "h w 2"], Float[np.ndarray, "h w"]]:
    """Give open pixels to the surfaces around them; return disparity, seed positions and path lengths."""
    rows, columns = np.indices(disparity.shape)
    seed = np.stack([rows, columns], -1)
    result = disparity.copy()
    ys, xs = np.nonzero(~open_pixels & ndimage.binary_dilation(open_pixels, _EIGHT))
    label, steps = flood_labels(open_pixels, ys, xs, image, settings.colour_scale, settings.pixel_cost)
    y, x = np.nonzero(open_pixels)
    index = label[y, x]
    plane = local_planes(disparity, ~open_pixels, ys, xs, settings.plane_radius_px)[index]
    value = plane[:, 0] + plane[:, 1] * (x - xs[index]) + plane[:, 2] * (y - ys[index])
    # A slope from a few pixels must not carry a surface far away.
    result[y, x] = np.clip(value, 0.9 * plane[:, 0], 1.1 * plane[:, 0])
    seed[y, x] = np.stack([ys[index], xs[index]], -1)
    return result, seed, steps

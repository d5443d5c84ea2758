"""Sky by rule, for depth backends that know of none: smooth, cool or glaring, and hung from above."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

_WORK_PX = 256
"""Long side at which the rules look: cloud texture and noise are gone, trees are not."""
_MIN_FRAC = 0.02
"""Less sky than this is rather a window or a lamp."""
_REACH_FRAC = 0.016
"""How far the rules stop short of the skyline: half their window, as a share of the longer side."""
_COLOUR_FRAC = 0.08
"""Window in which the colour of the sky is taken, likewise."""
_ALIKE = 0.12
"""Largest difference of a channel between a pixel and the sky around it."""


def find_sky(image: Float[Tensor, "3 h w"], far: Bool[Tensor, "h w"] | None = None) -> Bool[Tensor, "h w"]:
    """Mark the sky.

    Without depth the rules are strict, since a ceiling taken for sky ruins a room, while sky taken
    for a backdrop only stands too near. With depth they may be generous.

    Args:
        image: sRGB in [0, 1].
        far: Where a depth map says that things are far away; sky is nowhere else.
    """
    height, width = image.shape[1:]
    scale = min(1.0, _WORK_PX / max(height, width))
    size = (max(8, round(height * scale)), max(8, round(width * scale)))
    small = torch.nn.functional.interpolate(image[None].float().cpu(), size, mode="area")[0].numpy()
    red, green, blue = small
    grey = small.mean(0)
    mean = ndimage.uniform_filter(grey, 5)
    rough = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, 5) - mean * mean, 0))
    cool = (blue > red + 0.02) & (blue >= green - 0.02) & (blue > 0.3)
    glare = (grey > 0.8) & (blue >= red - 0.02)
    seed = (cool | glare) & (rough < 0.04)
    grown = (seed | ((blue >= red - 0.03) & (grey > 0.45) & (rough < 0.08))) if far is not None else seed
    if far is not None:
        allowed = (
            torch.nn.functional.interpolate(far[None, None].float().cpu(), size, mode="area")[0, 0] > 0.5
        )
        grown = grown & allowed.numpy()
    sky = _hanging(grown)
    if sky.mean() < _MIN_FRAC or (far is None and not _is_open(sky, grey, blue - red)):
        sky[:] = False
    full = torch.nn.functional.interpolate(
        torch.from_numpy(sky.astype(np.float32))[None, None], (height, width), mode="bilinear"
    )
    pixels = image.permute(1, 2, 0).cpu().numpy()
    return torch.from_numpy(_grown_back(full[0, 0].numpy() > 0.5, pixels)).to(image.device)


def _hanging(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Keep what hangs from the top edge; fill holes (birds, wires) that nothing else touches."""
    labels, _ = ndimage.label(mask)
    tops = np.unique(labels[:2])
    kept = np.isin(labels, tops[tops > 0])
    opened = ndimage.binary_opening(np.pad(kept, 2, mode="edge"))[2:-2, 2:-2]
    holes, count = ndimage.label(~opened)
    sizes = ndimage.sum_labels(~opened, holes, np.arange(count + 1))
    filled: Bool[np.ndarray, "h w"] = (
        opened | ((sizes < 1e-3 * mask.size) & (np.arange(count + 1) > 0))[holes]
    )
    return filled


def _grown_back(sky: Bool[np.ndarray, "h w"], image: Float[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Let the sky reach what it stopped short of: roughness near an edge is the edge's, not the sky's.

    A pixel close to the sky joins it if it has the colour of the sky around there.
    """
    if not sky.any():
        return sky
    longer = max(sky.shape[0], sky.shape[1])
    window = 2 * round(_COLOUR_FRAC * longer / 2) + 1
    weight = ndimage.uniform_filter(sky.astype(np.float32), window)
    colour = (
        ndimage.uniform_filter(image * sky[..., None], (window, window, 1))
        / np.maximum(weight, 1e-6)[..., None]
    )
    alike = (weight > 1e-3) & (np.abs(image - colour).max(-1) < _ALIKE)
    near = ndimage.distance_transform_edt(~sky) < _REACH_FRAC * longer
    grown: Bool[np.ndarray, "h w"] = ndimage.binary_propagation(sky, mask=sky | (alike & near))
    return grown


def _is_open(
    sky: Bool[np.ndarray, "h w"], grey: Float[np.ndarray, "h w"], coolness: Float[np.ndarray, "h w"]
) -> bool:
    """Tell sky from a pale ceiling: it fills the top of the picture, and it is bluer or far brighter."""
    if sky[:3].mean() < 0.3 or sky.mean() > 0.97:
        return False
    bluer = coolness[sky].mean() - coolness[~sky].mean()
    brighter = grey[sky].mean() - grey[~sky].mean()
    return bool(coolness[sky].mean() > 0.08 and bluer > 0.05) or bool(brighter > 0.4)

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
    return (full[0, 0] > 0.5).to(image.device)


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


def _is_open(
    sky: Bool[np.ndarray, "h w"], grey: Float[np.ndarray, "h w"], coolness: Float[np.ndarray, "h w"]
) -> bool:
    """Tell sky from a pale ceiling: it fills the top of the picture, and it is bluer or far brighter."""
    if sky[:3].mean() < 0.3 or sky.mean() > 0.97:
        return False
    bluer = coolness[sky].mean() - coolness[~sky].mean()
    brighter = grey[sky].mean() - grey[~sky].mean()
    return bool(coolness[sky].mean() > 0.08 and bluer > 0.05) or bool(brighter > 0.4)

"""What of a sky mask can be sky."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from scipy import ndimage
from torch import Tensor

_MARGIN_FRAC = 0.02
"""Of the image height: a patch may reach so far below the main sky, as gaps between leaves do."""


def without_low_patches(sky: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Drop patches that lie wholly below the sky: snow, water and bright ground.

    The main sky is what touches the upper edge of the picture. Patches apart from it stay where
    they begin above its lowest row, as the gaps of a tree crown do; without a main sky (a window,
    an archway) nothing is dropped.

    Args:
        sky: True where a detector saw sky.
    """
    mask = sky.cpu().numpy()
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    main = np.isin(labels, np.setdiff1d(labels[0], [0]))
    if count == 0 or not main.any():
        return sky
    lowest = int(np.flatnonzero(main.any(1)).max()) + _MARGIN_FRAC * len(mask)
    low = [
        index
        for index, box in enumerate(ndimage.find_objects(labels), start=1)
        if box[0].start > lowest and not main[labels == index].any()
    ]
    return torch.from_numpy(mask & ~np.isin(labels, low)).to(sky.device)

"""How far around the photo the opening view is filled, for windows of another shape than the photo's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.viewer.contents import SceneContents

_LINES = 32
"""Lines that half the photo's extent is divided into: cells of some 15 pixels, many splats each."""
_FARTHEST = 4
"""In half extents of the photo: a phone upright before a panorama of two to one needs as much."""
_MAX_HOLES = 0.01
"""Share of the picture. At 0.03 the shipped photo of a living room opened with black corners: a window shows
but a part of the photo's other extent, and holes may all be in that part."""
_MIN_FILLED = 0.75
"""Of the outermost line: where less is there, the rim itself is a border."""


def filled_reach(contents: SceneContents) -> tuple[float, float]:
    """Measure how much more than the photo its own view may show, across and upright, before it is empty.

    A view that is wider than the photo is as high as the photo, and one that is higher as wide.

    Returns:
        Two factors of at least 1, of the tangents of the photo's half width and half height.
    """
    camera, gaussians = contents.camera, contents.gaussians
    pixels, depth = camera.project(gaussians.means)
    size = torch.tensor([camera.width_px, camera.height_px])
    places = 2 * pixels[0] / size - 1
    places = places[(depth[0] > 0) & (gaussians.opacities > 0.5)]
    return _reach(places), _reach(places.flip(-1))


def _reach(places: Float[Tensor, "n 2"]) -> float:
    """Return how far along the first axis there are splats, in half extents from the photo's centre.

    Args:
        places: Where the splats are; the photo is from -1 to 1 on both axes.
    """
    cells = (places * _LINES).floor()
    lines = _FARTHEST * _LINES
    cells = cells[(cells[:, 0] >= -lines) & (cells[:, 0] < lines) & (places[:, 1].abs() < 1)].long()
    is_filled = torch.zeros(2 * lines, 2 * _LINES, dtype=torch.bool)
    is_filled[cells[:, 0] + lines, cells[:, 1] + _LINES] = True
    filled = is_filled.float().mean(1)
    # A window is centred and grows to both sides at once: the side that is emptier says how far.
    beside = torch.minimum(filled[lines:], filled[:lines].flip(0))[_LINES:]
    shown = _LINES + torch.arange(1, len(beside) + 1)
    is_enough = (beside >= _MIN_FILLED) & ((1 - beside).cumsum(0) <= _MAX_HOLES * shown)
    return 1 + int(is_enough.long().cumprod(0).sum()) / _LINES

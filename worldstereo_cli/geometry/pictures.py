"""Whether two pictures show the same thing."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_BLOCK_PX = 8
_MIN_CORRELATION = 0.4
"""Of blocks. Real views warped by a sensor's depth reach 0.7 and more, noise and other places 0.2."""
_MIN_DIFFERENCE = 0.08
"""Mean difference of grey values, in [0, 1], below which pictures count as alike even if nothing in them
correlates, as on a bare wall."""
_MIN_BLOCKS = 16


def continues_picture(
    picture: Float[Tensor, "3 h w"], reference: Float[Tensor, "3 h w"], common: Bool[Tensor, "h w"]
) -> bool:
    """Tell whether a picture shows, where both know something, what another shows.

    Exposure and fine texture may differ: grey values are compared by the correlation of blocks of
    eight pixels.

    Args:
        picture: sRGB in [0, 1].
        reference: Likewise.
        common: Where they are to be compared.

    Returns:
        True also where too little is common to tell.
    """
    value = picture_correlation(picture, reference, common)
    return value is None or value >= _MIN_CORRELATION


def picture_correlation(
    picture: Float[Tensor, "3 h w"], reference: Float[Tensor, "3 h w"], common: Bool[Tensor, "h w"]
) -> float | None:
    """Return the correlation of the grey values of blocks of eight pixels, as `continues_picture` takes it.

    Args:
        picture: sRGB in [0, 1].
        reference: Likewise.
        common: Where they are to be compared.

    Returns:
        1 for pictures that hardly differ, even if nothing in them correlates; None where too little is
        common to tell.
    """
    grey, other = (p.mean(0) for p in (picture, reference))
    weight = _blocks(common.float())
    full = weight > 0.5
    if int(full.sum()) < _MIN_BLOCKS:
        return None
    if float((grey - other).abs()[common].mean()) < _MIN_DIFFERENCE:
        return 1.0
    a, b = (_blocks(g * common)[full] / weight[full] for g in (grey, other))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-9))


def _blocks(values: Float[Tensor, "h w"]) -> Float[Tensor, "y x"]:
    """Return means of squares; squares that the border cuts are left out."""
    means: Tensor = torch.nn.functional.avg_pool2d(values[None, None], _BLOCK_PX)[0, 0]
    return means

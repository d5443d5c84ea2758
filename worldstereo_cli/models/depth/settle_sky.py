"""Where the network is not sure of the sky, what is around there decides: clouds, skylines, islands.

The network calls bright clouds half sky and half mountain, in patches. But a cloud fades into the sky
around it, and breaks off sharply at a ridge: so what it is sure of spreads over even colour and stops at
edges of the image, from both sides.

Source: Grady 2006, "Random Walks for Image Segmentation", with the network's word as the prior (as in
Grady 2005, "Multilabel Random Walker Image Segmentation Using Prior Models").
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from worldstereo_cli.geometry.jit import kernel
from worldstereo_cli.models.depth.upsample import COLOUR_SIGMA

_HOLD = 0.003
"""How strongly a pixel holds on to what the network said, against links of 1 to neighbours of its own colour:
with a logit of 6 within 2 pixels, with 1 within 35. From 0.001 to 0.01 little changes; below, the tops of
trees and rocks go with the sky, above, heaps of cloud stand as rock."""

_MOST_LOGIT = 12.0
"""Surer than that nothing moves anyway."""

_SURE = 2 / 3
"""Sky that nowhere reaches this probability is none: on four photographs gaps between leaves and houses reach
0.68 to 0.99; a snowfield, a whitewashed wall and half of the glare behind a bicycle's spokes do not."""

_LEAST_LINK = 1e-4
"""Between pixels of quite different colour; keeps every equation regular."""

_COARSEST_PX = 32
"""Sides are halved while both stay at least this long."""

_COARSEST_ROUNDS, _ROUNDS, _BOOST = 200, 100, 1.9
"""Sweeps over the coarsest grid, and over each finer one, which starts from the one before; over-relaxed. The
mask then is that of the exact solution but for at most 2 pixels in 10 000 (70 ms; 24 sweeps left 34)."""


def settle_sky(sky_logit: Float[Tensor, "h w"], image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    """Let the sky spread from where the network is sure of it, and other surfaces likewise.

    The result is an average of what the network says at the pixels that a random walk reaches, so no sky
    appears in a picture without any.

    Args:
        sky_logit: Positive where the network sees sky.
        image: sRGB in [0, 1], of the same size.

    Returns:
        The logit of the settled sky, on the device of `sky_logit`.
    """
    if not bool((sky_logit > 0).any()) or not bool((sky_logit < 0).any()):
        return sky_logit
    logit = sky_logit.cpu().double().clamp(-_MOST_LOGIT, _MOST_LOGIT).numpy()
    colours = np.ascontiguousarray(image.cpu().double().permute(1, 2, 0).numpy())
    # Mean of the network's vote (sky 1, else -1), and that squared over its variance: what is sure stays put.
    settled = _solved(np.tanh(logit / 2), _HOLD * np.sinh(logit / 2) ** 2, colours)
    probability = torch.from_numpy(_without_doubtful(0.5 + 0.5 * settled))
    return torch.logit(probability.clamp(1e-6, 1 - 1e-6)).to(sky_logit)


def _without_doubtful(probability: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Turn patches of sky that nowhere are sure of it into what they else would be.

    Source: hysteresis as in Canny, "A Computational Approach to Edge Detection", 1986, section VII.
    """
    labels, count = ndimage.label(probability > 0.5, structure=np.ones((3, 3)))
    peak = ndimage.maximum(probability, labels, np.arange(count + 1))
    doubtful = (peak < _SURE) & (np.arange(count + 1) > 0)
    settled: Float[np.ndarray, "h w"] = np.where(doubtful[labels], 1 - probability, probability)
    return settled


def _solved(
    belief: Float[np.ndarray, "h w"], weight: Float[np.ndarray, "h w"], colours: Float[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "h w"]:
    """Minimise weight * (value - belief)^2 plus links * (difference of neighbours)^2, coarse to fine."""
    height, width = belief.shape
    pull = weight * belief
    if min(height, width) >= 2 * _COARSEST_PX:
        whole = np.s_[: height - height % 2, : width - width % 2]
        coarse_weight = 4 * _halved(weight[whole])
        coarse_belief = 4 * _halved(pull[whole]) / np.maximum(coarse_weight, 1e-12)
        coarse = _solved(coarse_belief, coarse_weight, _halved(colours[whole]))
        value = np.pad(coarse.repeat(2, 0).repeat(2, 1), ((0, height % 2), (0, width % 2)), mode="edge")
        rounds = _ROUNDS
    else:
        value, rounds = belief.copy(), _COARSEST_ROUNDS
    _sweep(value, pull, weight, _links(colours, 1), _links(colours, 0), rounds, _BOOST)
    return value


def _halved(values: Float[np.ndarray, "h w *c"]) -> Float[np.ndarray, "h2 w2 *c"]:
    total: Float[np.ndarray, "h2 w2 *c"]
    total = values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
    return total / 4


def _links(colours: Float[np.ndarray, "h w 3"], axis: int) -> Float[np.ndarray, "h2 w2"]:
    """Return how strongly each pixel is tied to the next one along an axis."""
    unlike = np.square(np.diff(colours, axis=axis)).sum(-1)
    links: Float[np.ndarray, "h2 w2"] = np.exp(unlike * (-0.5 / COLOUR_SIGMA**2)) + _LEAST_LINK
    return links


@kernel
def _sweep(
    value: Float[np.ndarray, "h w"],
    pull: Float[np.ndarray, "h w"],
    weight: Float[np.ndarray, "h w"],
    along_x: Float[np.ndarray, "h w1"],
    along_y: Float[np.ndarray, "h1 w"],
    rounds: int,
    boost: float,
) -> None:
    """Over-relax in place: all pixels of one colour of a chessboard, then the others."""
    height, width = value.shape
    for half in range(2 * rounds):
        for y in range(height):
            for x in range((y + half) % 2, width, 2):
                total, links = pull[y, x], weight[y, x]
                if x > 0:
                    total += along_x[y, x - 1] * value[y, x - 1]
                    links += along_x[y, x - 1]
                if x + 1 < width:
                    total += along_x[y, x] * value[y, x + 1]
                    links += along_x[y, x]
                if y > 0:
                    total += along_y[y - 1, x] * value[y - 1, x]
                    links += along_y[y - 1, x]
                if y + 1 < height:
                    total += along_y[y, x] * value[y + 1, x]
                    links += along_y[y, x]
                value[y, x] += boost * (total / links - value[y, x])

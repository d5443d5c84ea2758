"""From the working resolution to that of the picture, along its edges.

Source: Kopf et al. 2007, "Joint Bilateral Upsampling", section 3.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

COLOUR_SIGMA = 0.06
"""Of sRGB in [0, 1]: about the noise and texture of one surface, well under the contrast of an edge."""

PLACE_SIGMA = 0.7
"""In pixels of the small map: smooth where colours agree, and no wider than it must be."""

PIXELS_AT_ONCE = 1_000_000
"""Rows are taken in strips of about so many pixels: a large photograph else needs gigabytes."""


def upsample_along_edges(
    maps: Float[Tensor, "c h w"], small: Float[Tensor, "3 h w"], image: Float[Tensor, "3 H W"]
) -> Float[Tensor, "c H W"]:
    """Give every pixel a convex mixture of the 3 x 3 nearest values, by place and by colour.

    Args:
        maps: Values at the working resolution.
        small: The image at that resolution, sRGB in [0, 1].
        image: The image.
    """
    height, width = image.shape[1:]
    rows = max(1, PIXELS_AT_ONCE // width)
    source = functional.pad(torch.cat([small, maps])[None], (1, 1, 1, 1), mode="replicate")[0]
    x_index, x_weight = _nearest(width, small.shape[2], image.device)
    y_index, y_weight = _nearest(height, small.shape[1], image.device)
    strips = []
    for top in range(0, height, rows):
        strip = slice(top, min(top + rows, height))
        colours = image[:, strip]
        total = colours.new_zeros(len(maps), *colours.shape[1:])
        weights = colours.new_zeros(colours.shape[1:])
        for dy in range(3):
            line = source[:, y_index[strip] + dy]
            for dx in range(3):
                near = line[:, :, x_index + dx]
                unlike = (near[:3] - colours).square().sum(dim=0)
                # The constant decides where no neighbour has the colour of the pixel: by place alone.
                like = torch.exp(unlike * (-0.5 / COLOUR_SIGMA**2)) + 1e-3
                weight = like * y_weight[dy, strip, None] * x_weight[dx]
                total += weight * near[3:]
                weights += weight
        strips.append(total / weights)
    return torch.cat(strips, dim=1)


def _nearest(count: int, small_count: int, device: torch.device) -> tuple[Tensor, Float[Tensor, "3 n"]]:
    """Return for each place the nearest small one, and the weights of it and its two neighbours."""
    place = (torch.arange(count, device=device) + 0.5) * (small_count / count) - 0.5
    nearest = place.round().clamp(0, small_count - 1)
    neighbours = nearest + torch.arange(-1, 2, device=device)[:, None]
    weight = torch.exp((neighbours - place).square() * (-0.5 / PLACE_SIGMA**2))
    return nearest.long(), weight

"""What the fit is to match: the photo and the generated frames, each pixel believed as it deserves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.depth_edges import near_break
from worldstereo_cli.splatting.fit import Target
from worldstereo_cli.splatting.initialize import Picture, settled_depth


@dataclass(frozen=True, slots=True)
class Beliefs:
    """How much a pixel counts, beside one of the photo."""

    seen_before: float = 0.15
    """A pixel of a generated frame that shows what the photo shows, only resampled."""
    at_a_break: float = 0.5
    """Factor where two surfaces meet: their colours mix, and the border is not certain."""
    without_depth: float = 0.3
    """Factor where nobody trusts a depth: the colour hangs in the air."""
    break_px: int = 2
    """So near to a break, depth says nothing."""


def photo_target(picture: Picture, beliefs: Beliefs) -> Target:
    """Take every colour of the photo for true, and its depth except where surfaces meet."""
    depth = settled_depth(picture)
    smooth = near_break(depth) > beliefs.break_px
    ones = torch.ones_like(depth)
    return Target(picture.image, depth, ones, (picture.valid & smooth).to(depth), picture.camera)


def frame_target(
    image: Float[Tensor, "3 h w"],
    depth_m: Float[Tensor, "h w"],
    confidence: Float[Tensor, "h w"],
    camera: Cameras,
    beliefs: Beliefs,
) -> Target:
    """Rate the pixels of a generated frame.

    Args:
        image: The frame, sRGB in [0, 1].
        depth_m: Its depth, metres; zero where no depth is trusted.
        confidence: Of pixels that the backend made up, in (0, 1]; 0 where the cloud showed something.
        camera: The frame's camera.
        beliefs: How much each kind of pixel counts.
    """
    trusted = depth_m > 0
    belief = torch.where(confidence > 0, confidence, beliefs.seen_before).to(image)
    filled = torch.where(trusted, depth_m, depth_m.max().clamp_min(1e-3))
    smooth = near_break(filled) > beliefs.break_px
    weight = belief * torch.where(smooth, 1.0, beliefs.at_a_break)
    weight = weight * torch.where(trusted, 1.0, beliefs.without_depth)
    return Target(image, filled, weight, belief * (trusted & smooth), camera)


def spread_out(count: int, most: int) -> list[int]:
    """Choose at most `most` of `count` frames at even distances, the last among them, never the first.

    The first frame of a path is the photo itself.
    """
    wanted = min(most, count - 1)
    return [round((i + 1) * (count - 1) / wanted) for i in range(wanted)]

"""Cameras as tokens: an MLP whose output is added to every token of a frame."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class CameraTokenMLP(nn.Sequential):
    """Seven numbers of a camera (quaternion, translation) to the width of the backbone.

    The last layer starts at zero, so that a model grows the habit of looking at it.
    """

    def __init__(self, camera_dim: int, width: int) -> None:
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(
            nn.Linear(camera_dim, width // 2), nn.SiLU(), nn.Linear(width // 2, width), nn.SiLU(), last
        )


def add_per_frame(
    tokens: Float[Tensor, "b n c"], per_frame: Float[Tensor, "b f c"]
) -> Float[Tensor, "b n c"]:
    """Add one vector to all tokens of each frame; tokens come frame by frame."""
    frames = per_frame.shape[1]
    batch, _, width = tokens.shape
    by_frame = tokens.reshape(batch, frames, -1, width)
    return (by_frame + per_frame[:, :, None].type_as(tokens)).flatten(1, 2)

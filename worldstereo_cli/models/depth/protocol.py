"""What every depth backend takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DepthEstimate:
    """Depth of one picture, at the picture's own size."""

    depth_m: Float[Tensor, "h w"]
    """Metres along the optical axis (up to a scale that `is_metric` speaks of); 0 where unknown."""
    valid: Bool[Tensor, "h w"]
    """True where there is a surface with a depth: not sky, not unknown."""
    sky: Bool[Tensor, "h w"]
    focal_px: float | None
    """The focal length that the backend found, in pixels of this picture; None if it finds none."""
    is_metric: bool
    """Whether the scale is an estimate in metres and not a convention."""

    def __post_init__(self) -> None:
        if not self.depth_m.shape == self.valid.shape == self.sky.shape:
            raise ValueError("Expected depth, valid and sky of one size.")


class DepthBackend(Protocol):
    """Estimates the depth of one picture."""

    name: str
    """As it is called in recipes and recorded in scenes."""

    def estimate(self, image: Float[Tensor, "3 h w"], focal_px: float | None) -> DepthEstimate:
        """Estimate depth.

        Args:
            image: sRGB in [0, 1].
            focal_px: The focal length if it is known, in pixels of this picture.

        Raises:
            BackendError: Weights or a library are missing.
        """
        ...

"""What every rasteriser takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.gaussians import Gaussians


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture of splats over black; every field carries gradients to the splats."""

    rgb: Float[Tensor, "3 h w"]
    """sRGB, not divided by alpha: add `(1 - alpha) * background` for another ground than black."""
    depth_m: Float[Tensor, "h w"]
    """Expected depth along the optical axis, metres: the mean over what a pixel shows; 0 where it
    shows nothing."""
    alpha: Float[Tensor, "h w"]
    """Share of the light that the splats give, in [0, 1)."""

    @staticmethod
    def from_sums(
        rgb: Float[Tensor, "3 h w"],
        depth_sum: Float[Tensor, "h w"],
        alpha: Float[Tensor, "h w"],
    ) -> Rendering:
        """Build a rendering from colour, depth times weight, and alpha, each summed along the ray."""
        return Rendering(rgb, depth_sum / alpha.clamp_min(1e-6), alpha)


class Rasterizer(Protocol):
    """Draws splats."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def render(self, gaussians: Gaussians, camera: Cameras) -> Rendering:
        """Draw splats as one camera sees them.

        Args:
            gaussians: On the rasteriser's device.
            camera: A path of one camera.

        Raises:
            ValueError: `camera` holds more or less than one camera, or has skewed pixels.
        """
        ...

    def median_depth(self, gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "h w"]:
        """Return the depth at which half of the light is stopped, metres; 0 where alpha < 0.5.

        Sharper at the edges of things than the expected depth, and without gradient.
        """
        ...


def require_one_pinhole(camera: Cameras) -> None:
    """Check that there is one camera and that its pixels are not skewed.

    Raises:
        ValueError: They are, or there are several.
    """
    if len(camera) != 1:
        raise ValueError(f"Expected one camera, got {len(camera)}.")
    if float(camera.intrinsics[0, 0, 1]) != 0.0:
        raise ValueError(f"Expected pixels without skew, got {float(camera.intrinsics[0, 0, 1])}.")

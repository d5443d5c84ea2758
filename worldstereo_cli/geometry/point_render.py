"""A cloud as a camera sees it: soft points as the released model was trained on, and closed surface.

`render_points` draws every point as a soft disc of fixed size and lets what lies behind shine
through the gaps; its numbers are those of the release. `render_surface` is for people and for
hole masks: discs grow with the spacing of their points, only the front surface is drawn, and
gaps of a few pixels inside one surface are closed.

On a CPU both run in compiled kernels (`point_kernels`); everywhere else in the readable torch
version (`point_render_torch`), which is their specification.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud


@dataclass(frozen=True, slots=True)
class PointStyle:
    """Soft points, blended front to back.

    A pixel at distance d from a point's centre, closer than the radius r, sees it with opacity
    1 - d^2/r^2. What no point covers keeps the background in proportion.

    Source: pipeline specification of WorldStereo 2.0, point rendering; Wiles et al., SynSin, 2020.
    """

    radius_ndc: float = 0.008
    """Disc radius where the shorter image side measures 2."""
    points_per_pixel: int = 20
    """Only the nearest points of each pixel are blended."""
    background: float = 0.5
    """Value behind everything: mid grey, as the release pads its control pictures."""

    def radius_px(self, width_px: int, height_px: int) -> float:
        """Return the disc radius in pixels of an image of this size."""
        return 0.5 * self.radius_ndc * min(width_px, height_px)


@dataclass(frozen=True, slots=True)
class SurfaceStyle:
    """The front surface without see-through.

    A disc has `radius_spacings` times the projected spacing of its point. In every pixel, hits
    no farther than `depth_tolerance` behind the nearest one form the surface; their colours and
    inverse depths are averaged with weight (1 - d^2/r^2)^4, which keeps pictures sharp. A pixel
    that lies farther than the surface on both sides of it (in at least three of the four lines
    through it, within `close_px`) is a gap between samples and takes their mean.

    Source: Zwicker et al., Surface Splatting, 2001 (normalised averaging inside a depth
    interval); Pintus et al., Real-time Rendering of Massive Unstructured Raw Point Clouds using
    Screen-space Operators, 2011 (closing).
    """

    radius_spacings: float = 1.3
    """At 1.3, samples may lie 1.8 spacings apart, as on a surface that the camera turned towards."""
    min_radius_px: float = 1.0
    """Below 0.71 px a disc can miss every pixel centre."""
    max_radius_px: float = 12.0
    depth_tolerance: float = 0.03
    """A surface seen at 85 degrees recedes this much (in parts of its depth) within two pixels."""
    close_px: int = 2
    background: float = 0.5


@dataclass(frozen=True, slots=True)
class PointRender:
    """What a path of cameras sees."""

    rgb: Float[Tensor, "n 3 h w"]
    """In the value range of the colours that went in."""
    depth_m: Float[Tensor, "n h w"]
    """Front surface, metres along the optical axis; 0 in holes."""
    hole: Bool[Tensor, "n h w"]
    """True where no point is hit."""


def render_points(
    points: Float[Tensor, "p 3"], colors: Float[Tensor, "p 3"], cameras: Cameras, style: PointStyle
) -> PointRender:
    """Render soft points of one size.

    Args:
        points: World frame, metres. Points behind a camera are ignored.
        colors: Any value range that suits `style.background`.
        cameras: The path; its size is the size of the pictures.
        style: Radius, blending depth and background.
    """
    if points.device.type == "cpu":
        from worldstereo_cli.geometry.point_kernels import render_points_cpu

        return render_points_cpu(points, colors, cameras, style)
    from worldstereo_cli.geometry.point_render_torch import render_points_torch

    return render_points_torch(points, colors, cameras, style)


def render_surface(cloud: Cloud, cameras: Cameras, style: SurfaceStyle) -> PointRender:
    """Render the front surface of a cloud.

    Args:
        cloud: Colours in [0, 1]; the spacing of its points sets the size of their discs.
        cameras: The path; its size is the size of the pictures.
        style: Radii, tolerance and closing.
    """
    if cloud.points.device.type == "cpu":
        from worldstereo_cli.geometry.point_kernels import render_surface_cpu

        return render_surface_cpu(cloud, cameras, style)
    from worldstereo_cli.geometry.point_render_torch import render_surface_torch

    return render_surface_torch(cloud, cameras, style)


def nothing_rendered(cameras: Cameras, background: float, like: Tensor) -> PointRender:
    """Return the rendering of an empty cloud."""
    size = (len(cameras), cameras.height_px, cameras.width_px)
    rgb = torch.full((size[0], 3, *size[1:]), background, dtype=torch.float32, device=like.device)
    depth = torch.zeros(size, dtype=torch.float32, device=like.device)
    return PointRender(rgb, depth, torch.ones(size, dtype=torch.bool, device=like.device))

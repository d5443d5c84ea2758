"""How good splats are: figures from renderings at the photo's camera and from its sides."""

from __future__ import annotations

import math

import torch

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.images import crop_resize, fit_within
from worldstereo_cli.geometry.paths import Anchor, orbit_right, scene_median_depth
from worldstereo_cli.splatting.initialize import Picture
from worldstereo_cli.splatting.rasterize.protocol import Rendering

LONG_SIDE_PX = 768
"""Figures of different recipes are compared at this size, at most."""


def at_common_size(picture: Picture) -> Picture:
    """Return the picture with a longer side of 768 pixels, or its own if that is smaller."""
    size = fit_within(picture.camera.width_px, picture.camera.height_px, LONG_SIDE_PX)
    if size == (picture.camera.width_px, picture.camera.height_px):
        return picture
    maps = torch.stack([picture.depth_m, picture.valid.to(picture.depth_m), picture.sky.to(picture.depth_m)])
    depth, valid, sky = crop_resize(maps[None], *size, nearest=True)[0]
    image = crop_resize(picture.image[None], *size)[0].clamp(0, 1)
    return Picture(image, depth, valid > 0.5, sky > 0.5, picture.camera.cropped_to(*size))


def side_camera(picture: Picture, angle_deg: float) -> Cameras:
    """Return a camera on the orbit about the point at median depth; a positive angle is to the right.

    A picture that shows nothing but sky turns about the median of that.
    """
    surface = picture.valid & ~picture.sky
    usable = surface if bool(surface.any()) else torch.ones_like(surface)
    anchor = Anchor(picture.camera, scene_median_depth(picture.depth_m, usable))
    return orbit_right(anchor, math.radians(angle_deg), torch.ones(1, device=usable.device))


def hole_percent(drawn: Rendering) -> float:
    """Return the share of pixels, in percent, through which more than half of the light passes."""
    return 100 * float((drawn.alpha < 0.5).double().mean())


def depth_abs_rel(drawn: Rendering, picture: Picture) -> float | None:
    """Return the mean relative error of depth where the picture shows a surface; None if it shows none."""
    surface = picture.valid & ~picture.sky
    relative = ((drawn.depth_m - picture.depth_m).abs() / picture.depth_m)[surface]
    return float(relative.mean(dtype=torch.float64)) if len(relative) else None

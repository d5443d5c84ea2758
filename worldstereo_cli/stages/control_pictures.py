"""The cloud as a frame backend wants to see it."""

from __future__ import annotations

import torch

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.point_render import PointRender, PointStyle, render_points


def soft_control(cloud: Cloud, cameras: Cameras, device: str) -> PointRender:
    """Render soft points over mid grey, as the released models were trained on.

    Frame by frame, so that the pairs of points and pixels of one picture are all that is held.

    Args:
        cloud: Colours in [0, 1].
        cameras: The path, at the size of the clip.
        device: Where to render.

    Returns:
        The pictures, on the CPU. A pixel is a hole only where no disc reaches it.
    """
    placed, style = cloud.to(device), PointStyle()
    drawn = [
        render_points(placed.points, placed.colors, cameras[i].to(device), style) for i in range(len(cameras))
    ]
    return PointRender(
        torch.cat([frame.rgb.cpu() for frame in drawn]),
        torch.cat([frame.depth_m.cpu() for frame in drawn]),
        torch.cat([frame.hole.cpu() for frame in drawn]),
    )

"""Parity of rendered points."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from worldstereo_cli.evaluation.parity_golden import Deviation, Golden, compare
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.point_render import PointStyle, render_points
from worldstereo_cli.geometry.rigid import invert_rigid

_RGB, _MASK_FRACTION = 5e-4, 1e-3


def check_point_render(golden: Golden) -> Iterator[Deviation]:
    """Compare soft points: colours, and the share of pixels whose hole mask differs."""
    scenes = golden.setting("scenes")
    with_points = [name for name in scenes if f"{name}/points" in golden.tensors]
    for name, settings in scenes.items():
        # A scene without points of its own is another rendering of the one its name begins with.
        source = golden.group(max((n for n in with_points if name.startswith(n)), key=len))
        cameras = Cameras(
            invert_rigid(source["w2c"]), source["K"], int(settings["width"]), int(settings["height"])
        )
        style = PointStyle(float(settings["radius"]), int(settings["points_per_pixel"]), 0.0)
        seen = render_points(source["points"], source["colors"], cameras, style)
        expected = golden.group(name)
        yield compare(f"{name}/rgb", seen.rgb, expected["rgb"], _RGB)
        differs = (seen.hole.float() != expected["hole_mask"][:, 0]).float().mean()
        yield compare(f"{name}/hole_mask", differs, torch.zeros(()), _MASK_FRACTION)

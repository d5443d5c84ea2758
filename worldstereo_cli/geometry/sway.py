"""The first path of a plan: to one side and to the other, as people do who open a scene.

How far there is room on each side is found first. It goes past what is only supposed to be there, such as
a street's facades continued towards the camera: people who look at the scene will do so, too, and see
black where no frame was. Where the wall of a room ends the way, the head makes up for it: it turns by the
whole arc to both sides, inwards as from the end of the whole way, and outwards at what is near beside it,
which from there would be ahead.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.open_space import OpenSpace
from worldstereo_cli.geometry.paths import Anchor, orbit_right
from worldstereo_cli.geometry.rigid import rotation_about

_STEPS = 128
"""Room is told in such parts of the whole arc, rounded down."""


def room_to_sway(anchor: Anchor, space: OpenSpace, arc_rad: float) -> float:
    """Return how far an orbit gets that starts at the photo, before a surface that is there ends it.

    Args:
        anchor: The photo; the orbit is about its pivot.
        space: Where cameras may go.
        arc_rad: The most that is asked for; negative is to the left.

    Returns:
        A part of the arc, from 0 to 1.
    """
    step_m = space.step_m(orbit_right(anchor, arc_rad, torch.linspace(0, 1, _STEPS + 1)).centres)
    pieces = math.ceil(abs(arc_rad) * anchor.median_depth_m / _STEPS / step_m)
    progress = torch.linspace(0, 1, _STEPS * pieces + 1, dtype=torch.float64)
    free = space.lookout(orbit_right(anchor, arc_rad, progress).centres)
    reached = int(free.long().cumprod(0).sum()) - 1
    return max(reached // pieces, 0) / _STEPS


def sway(anchor: Anchor, whole_rad: float, room: tuple[float, float], progress: Float[Tensor, n]) -> Cameras:
    """Swing about the pivot to the right, through the photo to the left, and back.

    Args:
        anchor: The photo, where the path begins and ends.
        whole_rad: Arc to either side if there is room.
        room: Parts of it that can be gone to the right and to the left. On a side where that is less
            than all, the camera looks by the whole arc to the left and to the right, not at the pivot.
        progress: In [0, 1].
    """
    angle = 2 * math.pi * progress.double()
    swing = torch.sin(angle)
    part = torch.where(swing > 0, room[0], room[1])
    cameras = orbit_right(anchor, whole_rad, part * swing)
    # Over the way out and back on one side, once to the left and once to the right.
    turn = torch.where(part < 1, whole_rad * (part * swing - torch.sin(2 * angle)), 0.0)
    poses = cameras.world_from_camera.clone()
    turned = rotation_about(anchor.level_axes[1], turn) @ poses[:, :3, :3].double()
    poses[:, :3, :3] = turned.to(poses.dtype)
    poses[0] = anchor.camera.world_from_camera[0]
    return replace(cameras, world_from_camera=poses)

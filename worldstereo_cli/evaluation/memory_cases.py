"""Recorded walks with true depth: what a growing memory is measured on."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.errors import InputError
from worldstereo_cli.evaluation.view_cases import read_seven_scenes_frame
from worldstereo_cli.geometry.cameras import Cameras, intrinsics_from_focal
from worldstereo_cli.geometry.images import crop_resize
from worldstereo_cli.geometry.rigid import look_at

_TRUTH_TOLERANCE_M = 0.1
"""A point of the truth is seen by a camera when the sensor's depth there differs by no more."""


@dataclass(frozen=True, slots=True)
class MemoryCase:
    """A walk: the first frame is the photo, the others come in rounds."""

    name: str
    cameras: Cameras
    images: Float[Tensor, "n 3 h w"]
    """sRGB in [0, 1]."""
    depth_m: Float[Tensor, "n h w"]
    """True depth along the optical axis, metres; 0 where unknown."""
    truth: Float[Tensor, "p 3"]
    """Points of all surface that the frames see, metres, world frame."""
    rounds: list[list[int]]
    """Frames of each round."""

    def shortened(self, num_rounds: int) -> MemoryCase:
        """Return the same walk with its first rounds only; the truth stays."""
        return replace(self, rounds=self.rounds[:num_rounds])

    def without(self, frame: int) -> MemoryCase:
        """Return the same walk past a frame; the truth stays."""
        return replace(self, rounds=[[i for i in frames if i != frame] for frames in self.rounds])


def read_seven_scenes(folder: Path, num_rounds: int = 8, width_px: int = 320) -> MemoryCase:
    """Read the 7-Scenes walk of the evaluation folder.

    Args:
        folder: Holds `data/rgbd_7scenes_tsdf`.
        num_rounds: The frames after the first are divided into so many rounds, in their order.
        width_px: Pictures are made this wide.

    Raises:
        InputError: The walk is not there.
    """
    root = folder / "data" / "rgbd_7scenes_tsdf"
    names = sorted(path.name.split(".")[0].removeprefix("frame-") for path in root.glob("frame-*.color.jpg"))
    if len(names) <= num_rounds:
        raise InputError(
            f"{root} holds no walk.", remedy="Pass the folder that holds data/rgbd_7scenes_tsdf."
        )
    frames = [read_seven_scenes_frame(root, name) for name in names]
    height_px = width_px * 3 // 4
    pose = torch.stack([frame.world_from_camera for frame in frames])
    full = Cameras(pose, frames[0].intrinsics.repeat(len(frames), 1, 1), 640, 480)
    images = crop_resize(torch.stack([frame.image for frame in frames]), width_px, height_px)
    depth = crop_resize(torch.stack([f.depth_m for f in frames])[:, None], width_px, height_px, nearest=True)[
        :, 0
    ]
    cameras = full.cropped_to(width_px, height_px)
    truth = _seen_points(_read_points(root / "gt_cloud_2cm.ply"), cameras, depth)
    return MemoryCase("7-Scenes", cameras, images, depth, truth, _divided(len(names), num_rounds))


def exact_room(num_rounds: int = 8, frames_per_round: int = 6, width_px: int = 192) -> MemoryCase:
    """Build a walk through a furnished room whose depth is known in closed form.

    Args:
        num_rounds: Rounds of the walk; together they look once around.
        frames_per_round: Frames of each.
        width_px: Width of the pictures; they are three quarters as high.
    """
    height_px = width_px * 3 // 4
    count = 1 + num_rounds * frames_per_round
    turn = torch.linspace(0, 2 * math.pi, count, dtype=torch.float64)
    # The way out and back of a person who looks around and stays within two steps.
    centre = torch.stack([0.6 * torch.sin(turn), 0.15 * torch.sin(2 * turn), 0.5 * (1 - torch.cos(turn))], -1)
    ahead = torch.stack([torch.sin(turn), 0.15 * torch.cos(3 * turn), torch.cos(turn)], -1)
    pose = look_at(centre, centre + ahead, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)).float()
    intrinsics = intrinsics_from_focal(0.8 * width_px, width_px, height_px)
    cameras = Cameras(pose, intrinsics.repeat(count, 1, 1), width_px, height_px)
    views = [_cast(cameras[i]) for i in range(count)]
    images, depth = torch.stack([v[0] for v in views]), torch.stack([v[1] for v in views])
    truth = _voxel_means(
        torch.cat([cameras[i].unproject(depth[i, None]).reshape(-1, 3) for i in range(count)]), 0.02
    )
    return MemoryCase("exact room", cameras, images, depth, truth, _divided(count, num_rounds))


_BOXES = (
    # The room itself, seen from within, then a table, a cupboard, a bench, a crate and a pillar.
    ((-2.5, -1.2, -2.2), (2.5, 1.3, 3.0)),
    ((-0.5, 0.5, 1.7), (0.7, 0.6, 2.4)),
    ((-2.5, -0.9, 1.0), (-2.0, 1.3, 1.9)),
    ((1.4, 0.8, -1.5), (2.4, 1.3, 0.6)),
    ((-1.6, 0.7, -1.9), (-0.9, 1.3, -1.2)),
    ((1.5, -1.2, 1.8), (1.8, 1.3, 2.1)),
)


def _cast(camera: Cameras) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"]]:
    """Cast one ray through every pixel centre: picture and depth."""
    origin = camera.centres[0].double()
    ray = camera.rays()[0].double() @ camera.world_from_camera[0, :3, :3].double().T
    nearest = torch.full(ray.shape[:2], math.inf, dtype=torch.float64)
    which = torch.zeros(ray.shape[:2], dtype=torch.long)
    for number, (low, high) in enumerate(_BOXES):
        sides = torch.stack([(torch.tensor(side).double() - origin) / ray for side in (low, high)])
        entry, leave = sides.amin(0).amax(-1), sides.amax(0).amin(-1)
        hit = leave if number == 0 else torch.where((entry < leave) & (entry > 0), entry, math.inf)
        which = torch.where(hit < nearest, number, which)
        nearest = torch.minimum(hit, nearest)
    points = origin + nearest[..., None] * ray
    return _painted(points, which), nearest.float()


def _painted(points: Float[Tensor, "h w 3"], which: Tensor) -> Float[Tensor, "3 h w"]:
    """Give every box a colour of its own and a pattern in space that no two places share."""
    x, y, z = points.unbind(-1)
    waves = torch.sin(5.1 * x + 0.7) + torch.sin(6.3 * y - 0.4 * z) + torch.sin(4.3 * z + 1.7 * x * y)
    waves = 0.5 + 0.12 * waves + 0.1 * torch.sin(31 * x + 13 * y) * torch.sin(27 * z - 11 * y)
    tint = torch.stack([torch.sin(1.7 * which + k) for k in range(3)])
    return (waves + 0.15 * tint).clamp(0, 1).float()


def _divided(num_frames: int, num_rounds: int) -> list[list[int]]:
    """Divide all frames but the first into rounds, in order, as evenly as can be."""
    ends = [1 + (num_frames - 1) * k // num_rounds for k in range(num_rounds + 1)]
    return [list(range(a, b)) for a, b in itertools.pairwise(ends)]


def _read_points(path: Path) -> Float[Tensor, "p 3"]:
    """Read the positions of a binary PLY whose vertices start with x, y, z as floats."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}", remedy="Pass the evaluation folder.") from error
    end = data.index(b"end_header\n") + len(b"end_header\n")
    count = int(data[:end].split(b"element vertex ")[1].split()[0])
    fields = [("xyz", "<f4", 3), ("rgb", "u1", 3)]
    vertices = np.frombuffer(data, np.dtype(fields), count, end)
    return torch.from_numpy(vertices["xyz"].copy())


def _seen_points(
    points: Float[Tensor, "p 3"], cameras: Cameras, depth_m: Float[Tensor, "n h w"]
) -> Float[Tensor, "q 3"]:
    """Keep the points that some frame sees."""
    seen = torch.zeros(len(points), dtype=torch.bool)
    pixels, depth = cameras.project(points)
    for i in range(len(cameras)):
        u, v = pixels[i].nan_to_num(-1).clamp(-1, 1e6).floor().long().unbind(-1)
        inside = (depth[i] > 0) & (u >= 0) & (v >= 0) & (u < cameras.width_px) & (v < cameras.height_px)
        known = depth_m[i][v.clamp(0, cameras.height_px - 1), u.clamp(0, cameras.width_px - 1)]
        seen |= inside & ((depth[i] - known).abs() < _TRUTH_TOLERANCE_M)
    return points[seen]


def _voxel_means(points: Float[Tensor, "p 3"], side_m: float) -> Float[Tensor, "q 3"]:
    """Return the mean of the points in every cube that holds any."""
    _, group = torch.unique((points / side_m).floor().long(), dim=0, return_inverse=True)
    total = torch.zeros(int(group.max()) + 1, 4, dtype=torch.float64)
    total.index_add_(0, group, torch.cat([points, torch.ones(len(points), 1)], 1).double())
    return (total[:, :3] / total[:, 3:]).float()

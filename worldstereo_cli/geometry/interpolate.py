"""Poses between poses: a smooth camera path through given ones."""

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.rigid import invert_rigid, quaternion_from_rotation, rotation_from_quaternion


def sample_path(cameras: Cameras, progress: Float[Tensor, "n"]) -> Cameras:
    """Return the cameras at any progress along a path, on a smooth curve through all of its poses.

    Positions, focal lengths and rotations (as quaternions, normalised afterwards) run on one
    Catmull-Rom spline, so that velocities have no jumps at the poses.

    Args:
        cameras: At least two poses, evenly spaced in progress.
        progress: 0 is the first pose, 1 the last.

    Raises:
        ValueError: Fewer than two poses, or progress outside [0, 1].

    Source: Catmull & Rom, A class of local interpolating splines, 1974.
    """
    if len(cameras) < 2:
        raise ValueError(f"Expected at least two poses, got {len(cameras)}.")
    if bool(((progress < 0) | (progress > 1)).any()):
        raise ValueError(
            f"Expected progress in [0, 1], got {float(progress.min())} to {float(progress.max())}."
        )
    poses = cameras.world_from_camera.double()
    quaternions = _aligned(quaternion_from_rotation(poses[:, :3, :3]))
    packed = torch.cat([poses[:, :3, 3], quaternions, cameras.intrinsics.double().flatten(1)], -1)
    blended = _catmull_rom(packed, progress.double())
    result = torch.eye(4, dtype=torch.float64, device=poses.device).repeat(len(progress), 1, 1)
    result[:, :3, :3] = rotation_from_quaternion(blended[:, 3:7])
    result[:, :3, 3] = blended[:, :3]
    return Cameras(
        result.to(cameras.world_from_camera.dtype),
        blended[:, 7:].reshape(-1, 3, 3).to(cameras.intrinsics.dtype),
        cameras.width_px,
        cameras.height_px,
    )


def scale_motion(cameras: Cameras, part: float) -> Cameras:
    """Return a path of the same shape that moves less: each pose lies this part of the way from the first.

    Way and angle from the first pose are scaled, and the ratio of focal lengths is raised to the
    power; the principal point stays as it is.

    Args:
        cameras: A path.
        part: 1 leaves the path as it is, 0 stays at its first pose.
    """
    start = cameras.world_from_camera[:1].double()
    motion = invert_rigid(start) @ cameras.world_from_camera.double()
    scaled = motion.clone()
    scaled[:, :3, 3] *= part
    turn = quaternion_from_rotation(motion[:, :3, :3])
    sine = turn[:, 1:].norm(dim=-1, keepdim=True)
    half_rad = part * torch.atan2(sine, turn[:, :1])
    axis = turn[:, 1:] / sine.clamp(min=1e-12)
    scaled[:, :3, :3] = rotation_from_quaternion(torch.cat([half_rad.cos(), half_rad.sin() * axis], -1))
    intrinsics = cameras.intrinsics.clone()
    for axis_index in (0, 1):
        focal = intrinsics[:, axis_index, axis_index]
        intrinsics[:, axis_index, axis_index] = focal[0] * (focal / focal[0]) ** part
    poses = (start @ scaled).to(cameras.world_from_camera.dtype)
    return Cameras(poses, intrinsics, cameras.width_px, cameras.height_px)


def _aligned(quaternions: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Flip signs so that neighbours lie on one side: q and -q are one rotation, but blend differently."""
    flips = torch.sign((quaternions[1:] * quaternions[:-1]).sum(-1))
    flips = torch.where(flips == 0, torch.ones_like(flips), flips)
    return quaternions * torch.cat([torch.ones_like(flips[:1]), torch.cumprod(flips, 0)])[:, None]


def _catmull_rom(values: Float[Tensor, "n c"], progress: Float[Tensor, "m"]) -> Float[Tensor, "m c"]:
    """Blend rows by a uniform Catmull-Rom spline whose ends are mirrored, so that two rows give a line."""
    padded = torch.cat([2 * values[:1] - values[1:2], values, 2 * values[-1:] - values[-2:-1]])
    position = progress * (len(values) - 1)
    index = position.floor().long().clamp(max=len(values) - 2)
    t = (position - index)[:, None]
    before, start, end, after = (padded[index + k] for k in range(4))
    slope_in, slope_out = 0.5 * (end - before), 0.5 * (after - start)
    t2, t3 = t * t, t * t * t
    return (
        (2 * t3 - 3 * t2 + 1) * start
        + (t3 - 2 * t2 + t) * slope_in
        + (3 * t2 - 2 * t3) * end
        + (t3 - t2) * slope_out
    )

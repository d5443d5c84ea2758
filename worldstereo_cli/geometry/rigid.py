"""Rigid motions: inverse, look-at, rotations and their interpolation."""

import torch
from jaxtyping import Float
from torch import Tensor


def invert_rigid(transform: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Invert rigid transforms exactly, without a linear solve.

    Args:
        transform: Rotation and translation in metres, last row (0, 0, 0, 1).

    Returns:
        The inverse transforms.
    """
    rotation = transform[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(transform)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ transform[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def rotation_about(axis: Float[Tensor, "3"], angle_rad: Float[Tensor, "*b"]) -> Float[Tensor, "*b 3 3"]:
    """Rotate about an axis by Rodrigues' formula.

    Args:
        axis: Direction of the axis, any length but zero.
        angle_rad: Right-handed angles.

    Returns:
        Rotation matrices.
    """
    x, y, z = axis / axis.norm()
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    sine = torch.sin(angle_rad)[..., None, None]
    versine = (1 - torch.cos(angle_rad))[..., None, None]
    return torch.eye(3, dtype=axis.dtype, device=axis.device) + sine * cross + versine * (cross @ cross)


def look_at(
    centre: Float[Tensor, "*b 3"], target: Float[Tensor, "*b 3"], down: Float[Tensor, "3"]
) -> Float[Tensor, "*b 4 4"]:
    """Place cameras at `centre` that look at `target` with `down` pointing down in the image.

    Args:
        centre: Camera centres, metres, world frame.
        target: Points to look at, metres, world frame. Must differ from the centres.
        down: World direction that appears downwards; must not be parallel to a line of sight.

    Returns:
        `world_from_camera`, rigid.
    """
    forward = torch.nn.functional.normalize(target - centre, dim=-1)
    right = torch.nn.functional.normalize(torch.cross(down.expand_as(forward), forward, dim=-1), dim=-1)
    below = torch.cross(forward, right, dim=-1)
    pose = torch.zeros(*centre.shape[:-1], 4, 4, dtype=centre.dtype, device=centre.device)
    pose[..., :3, 0] = right
    pose[..., :3, 1] = below
    pose[..., :3, 2] = forward
    pose[..., :3, 3] = centre
    pose[..., 3, 3] = 1.0
    return pose


def quaternion_from_rotation(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Convert rotation matrices to unit quaternions (w, x, y, z) with w >= 0.

    The best-conditioned of the four classical formulas is taken for each matrix.

    Source: Shepperd, Quaternion from rotation matrix, J. Guidance and Control 1978.
    """
    m = rotation
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # Rows are 4 q_i q, one candidate for each component that may be the largest.
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack([1 + trace, wx, wy, wz], -1),
            torch.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
            torch.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
            torch.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        dim=-2,
    )
    best = torch.stack([trace, xx, yy, zz], -1).argmax(-1)
    chosen = torch.take_along_dim(candidates, best[..., None, None], dim=-2)[..., 0, :]
    chosen = torch.nn.functional.normalize(chosen, dim=-1)
    return torch.where(chosen[..., :1] < 0, -chosen, chosen)


def rotation_from_quaternion(quaternion: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Convert quaternions (w, x, y, z), any length but zero, to rotation matrices."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quaternion.shape[:-1], 3, 3)

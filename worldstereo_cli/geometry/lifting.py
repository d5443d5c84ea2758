"""Chosen pixels of a view as points in space."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras


def lift_pixels(
    depth_m: Float[Tensor, "h w"], camera: Cameras, chosen: Bool[Tensor, "h w"]
) -> Float[Tensor, "p 3"]:
    """Lift the centres of chosen pixels to the world, in row-major order.

    Args:
        depth_m: Metres along the optical axis.
        camera: A path of one camera, of the map's size.
        chosen: True where a point is wanted.

    Returns:
        World points, metres: what `Cameras.unproject` gives there, without its work elsewhere.
    """
    row, column = chosen.nonzero(as_tuple=True)
    pixel = torch.stack([column + 0.5, row + 0.5, torch.ones_like(row)], -1).to(depth_m.dtype)
    rays = pixel @ torch.linalg.inv(camera.intrinsics[0]).T
    points = rays * depth_m[row, column, None]
    lifted: Tensor = points @ camera.world_from_camera[0, :3, :3].T + camera.centres[0]
    return lifted

"""Cameras as the video model reads them: a normalised frame, ray maps and one token for each camera.

Here alone cameras are handed over as `camera_from_world`, because that is what the tokens hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.rigid import invert_rigid, quaternion_from_rotation

_OUTLIER_FACTOR = 10.0
_LARGEST_DISTANCE = 1e6
_SAME_PLACE = 1e-5


@dataclass(frozen=True, slots=True)
class NormalisedFrame:
    """A world whose axes are those of the first camera, whose origin is the cameras' centroid.

    The unit is chosen so that the first camera stands at a fixed distance from the origin. It is
    fitted on the cameras of a path and then applied to these and to any other camera.

    Source: the released WorldStereo models expect their cameras in this frame.
    """

    first_camera_from_world: Float[Tensor, "4 4"]
    """Rigid, metres, float64."""
    centroid: Float[Tensor, 3]
    """Metres, in the frame of the first camera, float64."""
    units_per_metre: float

    @staticmethod
    def fit(camera_from_world: Float[Tensor, "f 4 4"], distance: float = 2.0) -> NormalisedFrame:
        """Fit the frame to a path.

        A centre that lies further from the median than ten times the 97 % quantile of all such
        distances, or than a million metres, does not count towards the centroid.

        Args:
            camera_from_world: Rigid, metres.
            distance: Where the first camera stands, in units of the new frame. When it stands on
                the centroid itself (a camera that only turns), this is the unit instead.
        """
        cameras = camera_from_world.double()
        from_first = cameras @ invert_rigid(cameras[0])
        centres = invert_rigid(from_first)[:, :3, 3]
        # torch.median takes the lower of two middle values, as the released models' code does.
        spread = (centres - centres.median(dim=0).values).norm(dim=-1)
        # A camera that is not a number makes no finite limit; it is left to the ray map to say so.
        limit = (_OUTLIER_FACTOR * torch.quantile(spread, 0.97)).clamp(max=_LARGEST_DISTANCE)
        centroid = centres[spread <= limit].mean(dim=0)
        radius = float((centres[0] - centroid).norm())
        scale = distance if radius < _SAME_PLACE else distance / radius
        return NormalisedFrame(cameras[0], centroid, scale)

    def apply(self, camera_from_world: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 4 4"]:
        """Move cameras into this frame.

        Args:
            camera_from_world: Rigid, metres.

        Returns:
            `camera_from_normalised`, float32; translations in units of this frame.
        """
        from_first = camera_from_world.double() @ invert_rigid(self.first_camera_from_world)
        result = from_first.clone()
        moved = from_first[:, :3, 3] + from_first[:, :3, :3] @ self.centroid
        result[:, :3, 3] = moved * self.units_per_metre
        return result.float()


def camera_tokens(camera_from_normalised: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 7"]:
    """Describe cameras by quaternion (w, x, y, z; w >= 0) and translation of `camera_from_normalised`.

    Args:
        camera_from_normalised: From `NormalisedFrame.apply`.
    """
    quaternion = quaternion_from_rotation(camera_from_normalised[:, :3, :3])
    return torch.cat([quaternion, camera_from_normalised[:, :3, 3]], dim=-1)


def plucker_map(
    camera_from_normalised: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    width_px: int,
    height_px: int,
    *,
    first_column_px: float = 0.5,
) -> Float[Tensor, "n 6 h w"]:
    """Describe the ray of every pixel by its unit direction and its moment (origin x direction).

    Args:
        camera_from_normalised: From `NormalisedFrame.apply`.
        intrinsics: Pixels of an image of the given size.
        width_px: Width of the map.
        height_px: Height of the map.
        first_column_px: Where the centre of the left column lies. Right is 0.5; the released
            weights were trained with -0.5, a slip that they have to be given again.

    Returns:
        Direction, then moment. All zeros, for every camera, if any value is not finite.

    Source: Pluecker, On a new geometry of space, 1865; as a camera condition: Sitzmann et al.,
        Light Field Networks, NeurIPS 2021, section 3.
    """
    world_from_camera = invert_rigid(camera_from_normalised.double())
    x = torch.arange(width_px, dtype=torch.float64, device=intrinsics.device) + first_column_px
    y = torch.arange(height_px, dtype=torch.float64, device=intrinsics.device) + 0.5
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    pixels = torch.stack([grid_x, grid_y, torch.ones_like(grid_x)])
    inverse, singular = torch.linalg.inv_ex(intrinsics.double())
    directions = torch.einsum("nij,jhw->nihw", world_from_camera[:, :3, :3] @ inverse, pixels)
    directions = torch.nn.functional.normalize(directions, dim=1)
    origins = world_from_camera[:, :3, 3, None, None].expand_as(directions)
    result = torch.cat([directions, torch.linalg.cross(origins, directions, dim=1)], dim=1)
    if bool(singular.any()) or not bool(torch.isfinite(result).all()):
        return torch.zeros_like(result, dtype=torch.float32)
    return result.float()

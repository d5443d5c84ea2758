"""Pinhole cameras: the one value type, and the one place that builds intrinsics."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.rigid import invert_rigid


def intrinsics_from_focal(focal_px: float, width_px: int, height_px: int) -> Float[Tensor, "3 3"]:
    """Build intrinsics with square pixels and the principal point in the middle of the image.

    Args:
        focal_px: Focal length in pixels of this image.
        width_px: Image width.
        height_px: Image height.

    Raises:
        ValueError: The focal length is not a positive number.
    """
    if not (math.isfinite(focal_px) and focal_px > 0):
        raise ValueError(f"Expected a positive focal length in pixels, got {focal_px}.")
    return torch.tensor([[focal_px, 0.0, width_px / 2], [0.0, focal_px, height_px / 2], [0.0, 0.0, 1.0]])


def focal_from_fov(fov_rad: float, extent_px: float) -> float:
    """Return the focal length, in pixels, at which `extent_px` pixels span `fov_rad`."""
    return 0.5 * extent_px / math.tan(0.5 * fov_rad)


def fov_from_focal(focal_px: float, extent_px: float) -> float:
    """Return the angle, in radians, that `extent_px` pixels span at `focal_px`."""
    return 2 * math.atan(0.5 * extent_px / focal_px)


@dataclass(frozen=True, slots=True)
class Cameras:
    """An ordered path of pinhole cameras that share one image size."""

    world_from_camera: Float[Tensor, "n 4 4"]
    """Rigid, metres. The camera looks along its own +z (OpenCV)."""
    intrinsics: Float[Tensor, "n 3 3"]
    """Pixels. The centre of the top-left pixel is (0.5, 0.5)."""
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        n = self.world_from_camera.shape[0]
        if self.world_from_camera.shape != (n, 4, 4):
            raise ValueError(
                f"Expected world_from_camera (n 4 4), got {tuple(self.world_from_camera.shape)}."
            )
        if self.intrinsics.shape != (n, 3, 3):
            raise ValueError(f"Expected intrinsics ({n} 3 3), got {tuple(self.intrinsics.shape)}.")
        if self.width_px < 1 or self.height_px < 1:
            raise ValueError(f"Expected a positive image size, got {self.width_px}x{self.height_px}.")

    def __len__(self) -> int:
        return self.world_from_camera.shape[0]

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> Cameras:
        """Return the chosen cameras; an integer gives a path of one."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"camera {index} of {len(self)}")
            index = [index]
        return replace(
            self, world_from_camera=self.world_from_camera[index], intrinsics=self.intrinsics[index]
        )

    @property
    def camera_from_world(self) -> Float[Tensor, "n 4 4"]:
        """World to camera, rigid, metres."""
        return invert_rigid(self.world_from_camera)

    @property
    def centres(self) -> Float[Tensor, "n 3"]:
        """Camera centres, metres, world frame."""
        return self.world_from_camera[:, :3, 3]

    def to(self, device: torch.device | str) -> Cameras:
        """Return the same cameras on another device."""
        return replace(
            self,
            world_from_camera=self.world_from_camera.to(device),
            intrinsics=self.intrinsics.to(device),
        )

    def project(
        self, points_world: Float[Tensor, "p 3"]
    ) -> tuple[Float[Tensor, "n p 2"], Float[Tensor, "n p"]]:
        """Project world points into every camera.

        Args:
            points_world: Metres, world frame.

        Returns:
            Pixel positions, and depth along the optical axis in metres. A point behind a camera
            keeps its negative depth; its pixel is meaningless.

        Source: Hartley & Zisserman, Multiple View Geometry, 2nd ed., section 6.1.
        """
        camera_from_world = self.camera_from_world
        points = (
            points_world @ camera_from_world[:, :3, :3].transpose(1, 2) + camera_from_world[:, None, :3, 3]
        )
        depth = points[..., 2]
        homogeneous = points @ self.intrinsics.transpose(1, 2)
        # A tiny depth keeps its sign, so that points behind the camera stay recognisable.
        safe = torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
        return homogeneous[..., :2] / safe[..., None], depth

    def rays(self) -> Float[Tensor, "n h w 3"]:
        """Return the camera-frame direction through every pixel centre, with z = 1."""
        device, dtype = self.intrinsics.device, self.intrinsics.dtype
        u = torch.arange(self.width_px, device=device, dtype=dtype) + 0.5
        v = torch.arange(self.height_px, device=device, dtype=dtype) + 0.5
        grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
        pixels = torch.stack([grid_u, grid_v, torch.ones_like(grid_u)], -1)
        return torch.einsum("nij,hwj->nhwi", torch.linalg.inv(self.intrinsics), pixels)

    def unproject(self, depth_m: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w 3"]:
        """Lift the centre of every pixel to the world.

        Args:
            depth_m: Metres along the optical axis, one map for each camera.

        Returns:
            World points, metres.

        Raises:
            ValueError: The maps do not have the size of these cameras.
        """
        if depth_m.shape != (len(self), self.height_px, self.width_px):
            raise ValueError(
                f"Expected depth ({len(self)} {self.height_px} {self.width_px}), got {tuple(depth_m.shape)}."
            )
        points = self.rays() * depth_m[..., None]
        rotation = self.world_from_camera[:, :3, :3]
        return torch.einsum("nij,nhwj->nhwi", rotation, points) + self.centres[:, None, None]

    def moved_by(self, transform: Float[Tensor, "4 4"]) -> Cameras:
        """Return the cameras in another world frame: `new_world_from_world @ world_from_camera`."""
        return replace(self, world_from_camera=transform @ self.world_from_camera)

    def cropped_to(self, width_px: int, height_px: int) -> Cameras:
        """Return cameras of another size that fill it by a centred crop, never by stretching.

        The images that belong to them come from `geometry.images.crop_resize`.
        """
        scale = max(width_px / self.width_px, height_px / self.height_px)
        intrinsics = self.intrinsics.clone()
        intrinsics[:, :2] *= scale
        intrinsics[:, 0, 2] += 0.5 * (width_px - self.width_px * scale)
        intrinsics[:, 1, 2] += 0.5 * (height_px - self.height_px * scale)
        return replace(self, intrinsics=intrinsics, width_px=width_px, height_px=height_px)

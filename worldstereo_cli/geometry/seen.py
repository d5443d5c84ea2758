"""What earlier views prove: along their rays there is nothing up to the surface that they see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numba import prange
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.jit import kernel, parallel_kernel

Array = np.ndarray[Any, Any]

FRONT_TOLERANCE = 0.05
"""Part of the depth by which a surface may stand in front of what was seen: neither depth maps nor
continued planes are exact."""


@dataclass(frozen=True, slots=True)
class SeenViews:
    """Views that count as observed: nothing may be put in front of their surfaces."""

    cameras: Cameras
    depth_m: Float[Tensor, "n h w"]
    """Metres along the optical axis; 0 where nothing is known."""

    def __post_init__(self) -> None:
        size = (len(self.cameras), self.cameras.height_px, self.cameras.width_px)
        if self.depth_m.shape != size:
            raise ValueError(f"Expected depth {size}, got {tuple(self.depth_m.shape)}.")

    def joined(self, other: SeenViews) -> SeenViews:
        """Return these views and others of the same size."""
        together = replace(
            self.cameras,
            world_from_camera=torch.cat([self.cameras.world_from_camera, other.cameras.world_from_camera]),
            intrinsics=torch.cat([self.cameras.intrinsics, other.cameras.intrinsics]),
        )
        return SeenViews(together, torch.cat([self.depth_m, other.depth_m]))

    def projections(self, world_from_frame: Float[Tensor, "4 4"]) -> tuple[Array, Array]:
        """Return what the kernels of this room take: projections from a frame, and depths.

        A point x of that frame lands in view i at the homogeneous pixel P_i[:, :3] x + P_i[:, 3],
        in double precision.
        """
        views_from_frame = self.cameras.camera_from_world.double() @ world_from_frame.double()
        return (self.cameras.intrinsics.double() @ views_from_frame[:, :3]).numpy(), self.depth_m.numpy()

    def hidden_by(self, points: Float[Tensor, "p 3"]) -> Bool[Tensor, p]:
        """Tell which points (world frame, metres) would hide something that was seen."""
        projections, depths = self.projections(torch.eye(4))
        return torch.from_numpy(_hiding(points.double().numpy(), projections, depths))


@kernel
def hides_something(x: float, y: float, z: float, projections: Array, depths: Array) -> bool:
    """Tell whether a point stands in front of a seen surface by more than the tolerance."""
    for i in range(projections.shape[0]):
        p = projections[i]
        depth = p[2, 0] * x + p[2, 1] * y + p[2, 2] * z + p[2, 3]
        if depth <= 1e-6:
            continue
        u = (p[0, 0] * x + p[0, 1] * y + p[0, 2] * z + p[0, 3]) / depth
        v = (p[1, 0] * x + p[1, 1] * y + p[1, 2] * z + p[1, 3]) / depth
        if u < 0 or v < 0 or u >= depths.shape[2] or v >= depths.shape[1]:
            continue
        if depth < (1 - FRONT_TOLERANCE) * depths[i, int(v), int(u)]:
            return True
    return False


@parallel_kernel
def _hiding(points: Array, projections: Array, depths: Array) -> Array:
    found = np.zeros(points.shape[0], np.bool_)
    for i in prange(points.shape[0]):
        found[i] = hides_something(points[i, 0], points[i, 1], points[i, 2], projections, depths)
    return found


def observed_depth(
    depth_m: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"], reach_px: int = 4
) -> Float[Tensor, "h w"]:
    """Return the depth that a view is evidence for.

    Pixels without valid depth, as along the edges of objects, count as seeing as far as the
    farthest valid pixel within `reach_px`; those with none so near are no evidence (0).
    """
    known = torch.where(valid, depth_m, torch.zeros_like(depth_m))
    farthest = torch.nn.functional.max_pool2d(known[None], 2 * reach_px + 1, 1, reach_px)[0]
    return torch.where(valid, known, farthest)

"""Depth maps of one scene, each improved by what the others say of the same surfaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import prange
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.jit import parallel_kernel
from worldstereo_cli.geometry.seen import SeenViews

Array = np.ndarray[Any, Any]

_SAME_SURFACE = 0.1
"""Depths that differ by more are of different surfaces; nearer ones weigh by how near (Tukey)."""


def agreed_depth(cameras: Cameras, depth_m: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Average every pixel's depth with the depth that other views know of its surface.

    A pixel is carried into each other view; the ratio of the depth found there to the depth expected
    corrects its own, as far as the two agree. Errors that estimates do not share thus shrink with the
    number of views.

    Args:
        cameras: The views.
        depth_m: Metres along the optical axis; 0 where unknown, which stays unknown.

    Source: Merrell et al., Real-time visibility-based fusion of depth maps, 2007 (confidence-weighted
    averages of depths that agree).
    """
    if len(cameras) < 2:
        return depth_m
    poses = torch.eye(4)
    projections, depths = SeenViews(cameras, depth_m).projections(poses)
    depths = np.ascontiguousarray(depths, np.float32)
    inverse = torch.linalg.inv(cameras.intrinsics.double()).numpy()
    pose = cameras.world_from_camera.double().numpy()
    return torch.from_numpy(_averaged(depths, projections, inverse, pose))


@parallel_kernel
def _averaged(depths: Array, projections: Array, inverse: Array, pose: Array) -> Array:
    count, height, width = depths.shape
    agreed = np.zeros_like(depths)
    for line in prange(count * height):
        i, row = line // height, line % height
        for column in range(width):
            own = float(depths[i, row, column])
            if own <= 0:
                continue
            ray, x = np.empty(3), np.empty(3)
            for k in range(3):
                ray[k] = inverse[i, k, 0] * (column + 0.5) + inverse[i, k, 1] * (row + 0.5) + inverse[i, k, 2]
            for k in range(3):
                x[k] = own * (pose[i, k, 0] * ray[0] + pose[i, k, 1] * ray[1] + pose[i, k, 2] * ray[2])
                x[k] += pose[i, k, 3]
            total, weights = 0.0, 1.0
            for j in range(count):
                p = projections[j]
                z = p[2, 0] * x[0] + p[2, 1] * x[1] + p[2, 2] * x[2] + p[2, 3]
                if j == i or z <= 1e-6:
                    continue
                u = (p[0, 0] * x[0] + p[0, 1] * x[1] + p[0, 2] * x[2] + p[0, 3]) / z
                v = (p[1, 0] * x[0] + p[1, 1] * x[1] + p[1, 2] * x[2] + p[1, 3]) / z
                if not (u >= 0 and v >= 0 and u < width and v < height):
                    continue
                found = float(depths[j, int(v), int(u)])
                apart = (found - z) / (_SAME_SURFACE * z)
                if found > 0 and abs(apart) < 1:
                    weight = (1 - apart * apart) * (1 - apart * apart)
                    weights += weight
                    total += weight * np.log(found / z)
            agreed[i, row, column] = own * np.exp(total / weights)
    return agreed

"""Depth for what no camera has seen: surfaces continued into holes, the background behind the foreground.

A hole pixel looks in many directions for the surfaces around it, each continued as its own plane.
Two things are read off the views that were seen. A surface that ends there, in front of something
farther, is not continued: this is the foreground beside a hole. And a continuation that would
stand in front of something seen is impossible. Of what is left the surface with most support
nearby is taken, from the border as from the pixels around, which choose on coarse grids first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from worldstereo_cli.geometry.border_planes import ENDED, SKY, Poses, border_planes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.hole_kernels import View, agreed_surfaces, chosen_surfaces, median_inside
from worldstereo_cli.geometry.seen import SeenViews

Array = np.ndarray[Any, Any]

_GRIDS = ((16, 8), (4, 4))
"""Pixels between nodes, and how often these look at each other: surfaces agree over 130 pixels."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """A view without holes."""

    depth_m: Float[Tensor, "h w"]
    rgb: Float[Tensor, "3 h w"]
    """In holes the smooth mean of the continued surface's border: right in tone, without texture."""
    possible: Bool[Tensor, "h w"]
    """False for hole pixels where every continuation would have hidden something seen."""
    ended: Bool[Tensor, "h w"]
    """True for known pixels beside a hole whose surface was seen to end there."""


def continue_surfaces(
    depth_m: Float[Tensor, "h w"],
    rgb: Float[Tensor, "3 h w"],
    camera: Cameras,
    seen: SeenViews,
    shell_m: float | None = None,
) -> Continuation:
    """Fill the holes of a view with the surfaces around them.

    Planes are exact: inverse depth is linear in the image on a plane, so where all borders of a
    hole lie on one plane the hole becomes that plane.

    Args:
        depth_m: Metres along the optical axis, 0 in holes.
        rgb: The picture; its hole pixels are not looked at.
        camera: The camera of the view (a path of one).
        seen: Views whose surfaces must stay visible.
        shell_m: Radius, about the world's origin, of the shell that carries sky; None without sky. Sky is
            not continued below the horizontal, nor lower than it is known to reach.

    Raises:
        ValueError: The map holds no depth at all.
    """
    depth = depth_m.numpy().astype(np.float32, copy=False)
    picture = np.ascontiguousarray(rgb.permute(1, 2, 0).numpy(), np.float32)
    hole = depth <= 0
    if hole.all():
        raise ValueError("Expected a depth map with at least one known pixel.")
    inverse = np.where(hole, 0, 1 / np.where(hole, 1, depth)).astype(np.float32)
    projections, depths = seen.projections(camera.world_from_camera[0])
    poses = (projections, torch.linalg.inv(camera.intrinsics[0].double()).numpy(), depths)
    view = _view(inverse, depth_m, camera, poses, shell_m)
    chosen, coarser = np.zeros((1, 1), np.float32), 1
    for step, sweeps in _GRIDS:
        chosen = agreed_surfaces(view, (step, coarser), chosen, poses, sweeps)
        coarser = step
    filled, guess, possible = chosen_surfaces(view, picture, chosen, coarser, poses)
    filled = median_inside(filled, hole)
    return Continuation(
        torch.from_numpy(np.where(hole, 1 / filled, depth).astype(np.float32)),
        torch.from_numpy(guess).permute(2, 0, 1),
        torch.from_numpy(possible),
        torch.from_numpy(view[2][..., ENDED] > 0),
    )


def _view(
    inverse: Array, depth_m: Float[Tensor, "h w"], camera: Cameras, poses: Poses, shell_m: float | None
) -> View:
    """Collect what the kernels know of a view."""
    distance = distance_transform_edt(inverse == 0).astype(np.float32)
    # Nothing is put farther than the farthest thing known: beyond lies no evidence at all.
    farthest = max(float(depth_m.max()), float(poses[2].max()))
    sky, lowest = _sky(depth_m, camera, shell_m)
    bounds = np.array([1 / farthest, 2 * inverse.max(), lowest], np.float32)
    planes = border_planes(inverse, distance, poses)
    planes[..., SKY] = sky
    return inverse, distance, planes, bounds, camera.world_from_camera[0, 1, :3].double().numpy()


def _sky(depth_m: Float[Tensor, "h w"], camera: Cameras, shell_m: float | None) -> tuple[Array, float]:
    """Find the pixels of the sky's shell, and the sine of the angle below the horizontal that they reach."""
    if shell_m is None:
        return np.zeros(depth_m.shape, bool), 0.0
    points = camera.unproject(depth_m[None])[0]
    far = points.norm(dim=-1)
    # Contracted depth ends 5 % before the shell.
    sky = (depth_m > 0) & (far > 0.975 * shell_m)
    lowest = float((points[..., 1] / far.clamp_min(1e-9))[sky].max()) if bool(sky.any()) else 0.0
    return sky.numpy(), max(lowest, 0.0)

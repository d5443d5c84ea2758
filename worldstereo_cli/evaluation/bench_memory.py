"""How long it takes to choose references among many past views."""

from __future__ import annotations

import time

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras, intrinsics_from_focal
from worldstereo_cli.geometry.correspondence import correspond, sample_surface
from worldstereo_cli.geometry.rigid import rotation_about
from worldstereo_cli.memory.visible import choose_views, share_views

_WALL_M = 4.0
_PATCH_PX = 16


def bench_retrieval(
    num_targets: int = 81, num_views: int = 500, width_px: int = 768, height_px: int = 512
) -> float:
    """Choose and place references for a path, kernels warm; return seconds.

    Cameras stand at random before a wall, so that most of them see some of what the others see.
    """
    generator = torch.Generator().manual_seed(0)
    targets = _before_a_wall(num_targets, width_px, height_px, generator)
    views = _before_a_wall(num_views, width_px, height_px, generator)
    target_depth, depth = _wall_depth(targets), _wall_depth(views)
    _retrieve(targets[:2], target_depth[:2], views[:2], depth[:2])
    began = time.perf_counter()
    _retrieve(targets, target_depth, views, depth)
    return time.perf_counter() - began


def _retrieve(
    targets: Cameras, target_depth: Float[Tensor, "t h w"], views: Cameras, depth: Float[Tensor, "n h w"]
) -> None:
    chosen = choose_views(share_views(targets, target_depth, views, depth)).bank_index
    correspond(sample_surface(targets, target_depth, _PATCH_PX), views[chosen], depth[chosen])


def _before_a_wall(count: int, width_px: int, height_px: int, generator: torch.Generator) -> Cameras:
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, 3] = 0.5 * torch.randn(count, 3, generator=generator).clamp(-3, 3)
    turn = 0.3 * torch.randn(count, generator=generator).clamp(-3, 3)
    pose[:, :3, :3] = rotation_about(torch.tensor([0.0, 1.0, 0.0]), turn)
    intrinsics = intrinsics_from_focal(0.9 * width_px, width_px, height_px)
    return Cameras(pose, intrinsics.repeat(count, 1, 1), width_px, height_px)


def _wall_depth(cameras: Cameras) -> Float[Tensor, "n h w"]:
    """Return the depth of a plane across the z axis; 0 where rays do not meet it."""
    ahead = torch.einsum("nj,nhwj->nhw", cameras.world_from_camera[:, 2, :3], cameras.rays())
    depth = (_WALL_M - cameras.centres[:, 2])[:, None, None] / ahead
    return torch.where(ahead > 0.05, depth, 0.0)

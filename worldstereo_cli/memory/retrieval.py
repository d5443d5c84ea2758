"""Which past views help a target frame: overlap of view frusta, as in WorldStereo 2.0.

All of it is arithmetic on cameras; pictures enter only when more views qualify than a backend can
look at, and then as quality and as features that keep the choice varied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.rigid import quaternion_from_rotation

NEAR_M = 0.1
MAX_REFERENCES = 8
_CAMERA_SHARE, _PICTURE_SHARE = 0.3, 0.7
_QUALITY_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The views chosen for a path, in the order of their first use."""

    bank_index: Int[Tensor, r]
    """Into the bank."""
    target_index: Int[Tensor, r]
    """The target frame (1 .. n - 1) that each view serves first."""
    served_by: Int[Tensor, t]
    """For targets 1 .. n - 1: the bank index that serves it."""


def frustum_corners(cameras: Cameras, near_m: float = NEAR_M, far_m: float = 10.0) -> Float[Tensor, "n 8 3"]:
    """Return the corners of what each camera can see between two distances along its rays.

    Returns:
        World frame, metres: near corners, then far ones, each clockwise from the top left.
    """
    width, height = float(cameras.width_px), float(cameras.height_px)
    pixels = torch.tensor(
        [[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]],
        dtype=cameras.intrinsics.dtype,
        device=cameras.intrinsics.device,
    )
    rays = torch.einsum("nij,kj->nki", torch.linalg.inv(cameras.intrinsics), pixels)
    rays = torch.nn.functional.normalize(rays, dim=-1)
    corners = torch.cat([near_m * rays, far_m * rays], 1)
    return (
        torch.einsum("nij,nkj->nki", cameras.world_from_camera[:, :3, :3], corners) + cameras.centres[:, None]
    )


def box_overlap(a: Float[Tensor, "t 8 3"], b: Float[Tensor, "n 8 3"]) -> Float[Tensor, "t n"]:
    """Return intersection over union of the axis-aligned boxes around two sets of corners."""
    low = torch.maximum(a.amin(1)[:, None], b.amin(1)[None])
    high = torch.minimum(a.amax(1)[:, None], b.amax(1)[None])
    common = (high - low).clamp_min(0).prod(-1)
    volume_a = (a.amax(1) - a.amin(1)).prod(-1)
    volume_b = (b.amax(1) - b.amin(1)).prod(-1)
    return common / (volume_a[:, None] + volume_b[None] - common)


def axis_angle_deg(targets: Cameras, bank: Cameras) -> Float[Tensor, "t n"]:
    """Return the angle between optical axes, degrees."""
    cosine = targets.world_from_camera[:, :3, 2] @ bank.world_from_camera[:, :3, 2].T
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))


def frustum_scores(targets: Cameras, bank: Cameras, far_m: float = 10.0) -> Float[Tensor, "t n"]:
    """Score every bank view for every target: box overlap, less beyond 90 degrees of turn."""
    overlap = box_overlap(frustum_corners(targets, far_m=far_m), frustum_corners(bank, far_m=far_m))
    turned = torch.exp(5 * (90 - axis_angle_deg(targets, bank)) / 180)
    return overlap * turned.clamp(0, 1)


def retrieve(scores: Float[Tensor, "t n"], allowed: Int[Tensor, m] | None = None) -> Retrieval:
    """Give every target after the first its best view.

    Args:
        scores: For every target, the first included, and every bank view.
        allowed: Bank views to choose from; all when None.
    """
    candidates = torch.arange(scores.shape[1], device=scores.device) if allowed is None else allowed
    served_by = candidates[scores[1:, candidates].argmax(1)]
    order: dict[int, int] = {}
    for target, view in enumerate(served_by.tolist(), start=1):
        order.setdefault(view, target)
    return Retrieval(torch.tensor(list(order)), torch.tensor(list(order.values())), served_by)


def limited(
    retrieval: Retrieval,
    scores: Float[Tensor, "t n"],
    features: Float[Tensor, "t f"],
    quality: Float[Tensor, t],
    limit: int = MAX_REFERENCES,
) -> Retrieval:
    """Reduce a retrieval to the most varied good views when there are too many.

    Args:
        retrieval: What `retrieve` chose.
        scores: As given to it (without any bonus).
        features: Of the retrieved views, one row for each target after the first.
        quality: Likewise, any scale.
        limit: Views to keep at most.
    """
    if len(retrieval.bank_index) <= limit:
        return retrieval
    picks = farthest_points(features, quality, limit)
    # Targets share views, so a pick may repeat a view under another target.
    return retrieve(scores, torch.unique(retrieval.served_by[picks]))


def combined_features(cameras: Cameras, pictures: Float[Tensor, "t f"]) -> Float[Tensor, "t g"]:
    """Standardise camera pose and picture features, weighted 0.3 to 0.7.

    The pose is the camera's centre and the quaternion of its inverse rotation, as released.
    """
    quaternion = quaternion_from_rotation(cameras.camera_from_world[:, :3, :3])
    pose = torch.cat([cameras.centres, quaternion[:, 1:], quaternion[:, :1]], 1).double()
    return torch.cat(
        [_CAMERA_SHARE * _standardised(pose), _PICTURE_SHARE * _standardised(pictures.double())], 1
    )


def picture_quality(images_u8: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, n]:
    """Rate sharpness, richness and contrast of pictures.

    The grey value weighs red as little as blue is usually weighed: that is what the released
    model's bank was chosen with.
    """
    channels = images_u8.long()
    # Fixed-point weights 0.114, 0.587, 0.299 of 2^15, as OpenCV rounds them.
    grey = (3735 * channels[:, 0] + 19235 * channels[:, 1] + 9798 * channels[:, 2] + (1 << 14)) >> 15
    return torch.stack([_grey_quality(g) for g in grey])


def farthest_points(
    features: Float[Tensor, "t f"], quality: Float[Tensor, t], count: int
) -> Int[Tensor, count]:
    """Choose rows that lie far apart, better pictures first among equals.

    Starts at the row nearest to the middle; every next one has the largest distance to those
    chosen, by up to 5 % more or less for the best and worst quality.
    """
    spread = quality.max() - quality.min()
    good = (quality - quality.min()) / spread if spread > 0 else torch.zeros_like(quality)
    start = (-(features - features.mean(0)).norm(dim=1) + _QUALITY_WEIGHT * good).argmax()
    chosen = [int(start)]
    distance = torch.full_like(quality, math.inf)
    for _ in range(min(count, len(features)) - 1):
        distance = torch.minimum(distance, (features - features[chosen[-1]]).norm(dim=1))
        merit = distance * (1 + _QUALITY_WEIGHT * (good - 0.5))
        merit[chosen] = -math.inf
        chosen.append(int(merit.argmax()))
    return torch.tensor(chosen)


def _standardised(values: Float[Tensor, "t f"]) -> Float[Tensor, "t f"]:
    deviation = values.std(0, correction=0)
    return (values - values.mean(0)) / torch.where(deviation > 0, deviation, 1.0)


def _grey_quality(grey: Int[Tensor, "h w"]) -> Float[Tensor, ""]:
    """Rate one grey picture in 0..255."""
    value = grey.double()
    padded = torch.nn.functional.pad(value[None, None], (1, 1, 1, 1), mode="reflect")[0, 0]
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    sharpness = (around - 4 * value).var(correction=0)
    share = torch.bincount(grey.flatten(), minlength=256).double() / grey.numel()
    entropy = -(share[share > 0] * share[share > 0].log2()).sum()
    return 0.4 * torch.log1p(sharpness) + 0.3 * entropy + 0.3 * value.std(correction=0) / 128

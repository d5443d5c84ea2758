"""Depth of a few points from posed views, to fix the scale of a photo's depth where no sensor measured it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras

_RATIO = 0.8
"""Lowe's ratio: the best match must be clearly better than the second."""
_MAX_SIDE_PX = 768
"""Larger pictures are reduced first: matching grows with the square of the feature count."""
_MAX_EPIPOLAR_PX = 1.5
_MIN_ANGLE_RAD = np.deg2rad(1.0)
"""Rays that meet at less than this give no usable depth."""


def triangulated_depths(
    image: Float[Tensor, "3 h w"],
    camera: Cameras,
    others: list[Float[Tensor, "3 h w"]],
    other_cameras: list[Cameras],
) -> tuple[Float[Tensor, "m 2"], Float[Tensor, m]]:
    """Match SIFT features against posed views and triangulate.

    Args:
        image: The reference view, sRGB.
        camera: Its camera (a path of one).
        others: Further views, sRGB.
        other_cameras: Their cameras, each a path of one, in the same world.

    Returns:
        Pixel positions in the reference view and depths along its axis, in world units.

    Source: Lowe, Distinctive image features from scale-invariant keypoints, 2004; Hartley & Zisserman,
    Multiple View Geometry, 2nd ed., section 12.2.
    """
    pixels, descriptors = _sift(image)
    found_pixels, found_depths = [], []
    for other, other_camera in zip(others, other_cameras, strict=True):
        other_pixels, other_descriptors = _sift(other)
        pairs = _match(descriptors, other_descriptors)
        if len(pairs) == 0:
            continue
        a, b = pixels[pairs[:, 0]], other_pixels[pairs[:, 1]]
        depth, good = _two_view_depth(a, b, camera, other_camera)
        found_pixels.append(a[good])
        found_depths.append(depth[good])
    if not found_pixels:
        return torch.zeros(0, 2), torch.zeros(0)
    return torch.from_numpy(np.concatenate(found_pixels)), torch.from_numpy(np.concatenate(found_depths))


def _sift(image: Float[Tensor, "3 h w"]) -> tuple[np.ndarray, np.ndarray]:
    """Extract the strongest features of a picture, positions in its own pixels."""
    scale = max(1.0, max(image.shape[1:]) / _MAX_SIDE_PX)
    if scale > 1:
        size = (round(image.shape[1] / scale), round(image.shape[2] / scale))
        image = torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    grey = (image.mean(0).clamp(0, 1) * 255).to(torch.uint8).numpy()
    keypoints, descriptors = _extractor().extract_from_uint8_array(grey)
    positions = np.array([(k.x, k.y) for k in keypoints], np.float32).reshape(-1, 2)
    return positions * scale, descriptors.data.astype(np.float32)


@cache
def _extractor() -> Any:  # noqa: ANN401  (pycolmap ships no types)
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.WARNING
    return pycolmap.FeatureExtractor.create(device=pycolmap.Device.cpu)


def _match(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if min(len(first), len(second)) < 2:
        return np.zeros((0, 2), int)
    similarity = (
        first
        @ second.T
        / (np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)[None] + 1e-9)
    )
    distance = np.sqrt(np.clip(2 - 2 * similarity, 0, None))
    order = np.argsort(distance, axis=1)[:, :2]
    rows = np.arange(len(first))
    distinct = distance[rows, order[:, 0]] < _RATIO * distance[rows, order[:, 1]]
    mutual = distance.argmin(0)[order[:, 0]] == rows
    keep = distinct & mutual
    return np.stack([rows[keep], order[keep, 0]], 1)


def _two_view_depth(
    a: np.ndarray, b: np.ndarray, camera: Cameras, other: Cameras
) -> tuple[np.ndarray, np.ndarray]:
    """Triangulate by the midpoint of the two rays; keep what both views agree on."""
    inverse_a = np.linalg.inv(camera.intrinsics[0].double().numpy())
    inverse_b = np.linalg.inv(other.intrinsics[0].double().numpy())
    other_from_camera = (other.camera_from_world[0] @ camera.world_from_camera[0]).double().numpy()
    camera_from_other = np.linalg.inv(other_from_camera)
    ray_a = np.c_[a, np.ones(len(a))] @ inverse_a.T
    ray_b = (np.c_[b, np.ones(len(b))] @ inverse_b.T) @ camera_from_other[:3, :3].T
    origin = camera_from_other[:3, 3]
    # Solve s ray_a - t ray_b = origin in the least-squares sense, for all pairs at once.
    aa, bb, ab = (ray_a**2).sum(1), (ray_b**2).sum(1), (ray_a * ray_b).sum(1)
    oa, ob = ray_a @ origin, ray_b @ origin
    determinant = aa * bb - ab**2
    s = (bb * oa - ab * ob) / np.maximum(determinant, 1e-12)
    t = (ab * oa - aa * ob) / np.maximum(determinant, 1e-12)
    point = ray_a * s[:, None]
    in_other = point @ other_from_camera[:3, :3].T + other_from_camera[:3, 3]
    projected = in_other @ other.intrinsics[0].double().numpy().T
    error = np.linalg.norm(projected[:, :2] / np.maximum(projected[:, 2:], 1e-9) - b, axis=1)
    max_error_px = _MAX_EPIPOLAR_PX * max(1.0, max(camera.width_px, camera.height_px) / _MAX_SIDE_PX)
    angle = np.arccos(np.clip(ab / np.sqrt(aa * bb), -1, 1))
    good = (s > 0) & (t > 0) & (error < max_error_px) & (angle > _MIN_ANGLE_RAD)
    return s.astype(np.float32), good

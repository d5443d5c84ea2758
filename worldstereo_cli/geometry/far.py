"""The far field: depth that is contracted towards a bound, and the shell that carries the sky."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras

SHELL_MARGIN = 1.05
"""The shell lies this much beyond all contracted depth, so that sky is always behind surface."""


@dataclass(frozen=True, slots=True)
class FarField:
    """Where depth stops being a distance: one choice for a whole scene."""

    bound_m: float
    """Depth up to here is untouched; beyond, it is contracted towards twice this."""
    shell_m: float
    """Radius, about the world's origin, of the sphere on which sky lies."""


def far_field(
    depth_m: Float[Tensor, "h w"], known: Bool[Tensor, "h w"], camera: Cameras, factor: float
) -> FarField:
    """Choose the far field of a scene from the depth of its photo.

    Args:
        depth_m: Metres along the optical axis.
        known: Where the depth is that of a surface.
        camera: The photo's camera, at the origin of the world.
        factor: The bound, in median depths.

    Raises:
        ValueError: No depth is known.
    """
    if not bool(known.any()):
        raise ValueError("Expected at least one pixel of known depth.")
    bound = factor * float(depth_m[known].median())
    # Depth is along the axis and the shell is round, so corners decide how far it must be.
    corner = float(camera.rays()[0].norm(dim=-1).max())
    return FarField(bound, 2 * bound * corner * SHELL_MARGIN)


def contract_far(depth_m: Float[Tensor, "*n"], bound_m: float) -> Float[Tensor, "*n"]:
    """Bend depth beyond a bound smoothly so that it never reaches twice the bound.

    Value and slope are continuous at the bound; order is kept. What is that far shows no parallax
    for a camera that moves by a fraction of the median depth, but its spread would make clouds
    and paths needlessly large.

    Source: far contraction of WorldStereo 2.0 (8 medians there); the small constant as there.
    """
    contracted = 2 * bound_m - bound_m * bound_m / (depth_m + 1e-6)
    return torch.where(depth_m > bound_m, contracted, depth_m)


def shell_depth(camera: Cameras, shell_m: float) -> Float[Tensor, "h w"]:
    """Return the depth along the optical axis at which each pixel's ray meets the shell.

    Args:
        camera: A path of one camera, inside the shell.
        shell_m: Radius about the origin of the world.

    Raises:
        ValueError: The camera is not inside the shell.
    """
    centre = camera.centres[0]
    if float(centre.norm()) >= shell_m:
        raise ValueError(f"Expected a camera within {shell_m:.3g} m of the origin, got {centre.tolist()}.")
    ray = torch.einsum("ij,hwj->hwi", camera.world_from_camera[0, :3, :3], camera.rays()[0])
    # |centre + depth * ray| = shell; the ray has z = 1 in the camera, so the factor is the depth.
    a = (ray * ray).sum(-1)
    b = ray @ centre
    c = centre @ centre - shell_m * shell_m
    depth: Tensor = (-b + torch.sqrt(b * b - a * c)) / a
    return depth

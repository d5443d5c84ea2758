"""The readable rasteriser: plain torch, any float type, slow. It says what the fast ones must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.geometry.rigid import rotation_from_quaternion
from worldstereo_cli.splatting.rasterize.harmonics import rgb_from_sh
from worldstereo_cli.splatting.rasterize.limits import (
    DILATION_PX2,
    FRUSTUM_MARGIN,
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    NEAR_M,
)
from worldstereo_cli.splatting.rasterize.protocol import Rendering, require_one_pinhole


@dataclass(frozen=True, slots=True)
class ReferenceRasterizer:
    """Draws splats with torch operations alone; gradients come from autograd."""

    name: ClassVar[str] = "reference"

    def render(self, gaussians: Gaussians, camera: Cameras) -> Rendering:
        """Draw splats as one camera sees them (see `Rasterizer.render`)."""
        ellipses = project(gaussians, camera)
        hits = find_hits(ellipses, camera, range(camera.height_px))
        weight, _ = _weights(ellipses, hits)
        colour = rgb_from_sh(gaussians.sh, gaussians.means - camera.centres[0])
        values = torch.cat([colour, ellipses.depth_m[:, None], torch.ones_like(colour[:, :1])], -1)
        flat = values.new_zeros(camera.height_px * camera.width_px, 5)
        flat = flat.index_add(0, hits.pixel, weight[:, None] * values[hits.splat])
        image = flat.T.reshape(5, camera.height_px, camera.width_px)
        return Rendering.from_sums(image[:3], image[3], image[4])

    def median_depth(self, gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "h w"]:
        """Return the depth at which half of the light is stopped (see `Rasterizer.median_depth`)."""
        return median_depth_of_rows(project(gaussians, camera), camera, range(camera.height_px))


@dataclass(frozen=True, slots=True)
class Ellipses:
    """Splats on the image plane."""

    centres: Float[Tensor, "g 2"]
    """Pixels."""
    inverse_covariances: Float[Tensor, "g 2 2"]
    """1 / px^2, of the dilated covariance."""
    opacities: Float[Tensor, g]
    """Zero for splats that are not drawn."""
    depth_m: Float[Tensor, g]
    reach_px: Float[Tensor, "g 2"]
    """How far alpha stays visible, along u and v; no gradient."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Pairs of a splat and a pixel that it touches, pixel by pixel, near to far."""

    splat: Int[Tensor, h]
    pixel: Int[Tensor, h]
    """Row times width plus column; ascending."""
    offset_px: Float[Tensor, "h 2"]
    """Position of the pixel's centre."""


def project(gaussians: Gaussians, camera: Cameras) -> Ellipses:
    """Project splats with the pinhole camera linearised at their centres.

    Source: Zwicker et al., EWA Volume Splatting, 2001, section 4; Kerbl et al. 2023, section 4.
    """
    require_one_pinhole(camera)
    camera_from_world = camera.camera_from_world[0].to(gaussians.means)
    k = camera.intrinsics[0].to(gaussians.means)
    focal, principal = torch.stack([k[0, 0], k[1, 1]]), k[:2, 2]
    size = focal.new_tensor([camera.width_px, camera.height_px])
    centre = gaussians.means @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    drawn = (centre[:, 2] >= NEAR_M) & (gaussians.opacities >= MIN_ALPHA)
    # A depth of one stands in for splats that are not drawn, so that no gradient is NaN.
    depth = torch.where(drawn, centre[:, 2], torch.ones_like(centre[:, 2]))
    slope = centre[:, :2] / depth[:, None]
    margin = FRUSTUM_MARGIN * 0.5 * size / focal
    clipped = slope.maximum(-principal / focal - margin).minimum((size - principal) / focal + margin)
    axes = rotation_from_quaternion(gaussians.quaternions) * gaussians.scales_m[:, None, :]
    axes = camera_from_world[:3, :3] @ axes
    on_image = (focal / depth[:, None])[..., None] * (axes[:, :2] - clipped[..., None] * axes[:, 2:])
    covariance = on_image @ on_image.transpose(1, 2) + DILATION_PX2 * torch.eye(2).to(on_image)
    variances = covariance.diagonal(dim1=1, dim2=2).detach()
    opacity = torch.where(drawn, gaussians.opacities, torch.zeros_like(depth))
    reach = (2 * (opacity.detach() / MIN_ALPHA).clamp_min(1).log()).sqrt()[:, None] * variances.sqrt()
    return Ellipses(slope * focal + principal, torch.linalg.inv(covariance), opacity, depth, reach)


@torch.no_grad()
def find_hits(ellipses: Ellipses, camera: Cameras, rows: range) -> Hits:
    """List all pairs of splat and pixel with a visible alpha, in some rows of the image."""
    width = camera.width_px
    start = torch.tensor([0, rows.start]).to(ellipses.centres)
    stop = torch.tensor([width, rows.stop]).to(ellipses.centres)
    low = (ellipses.centres - ellipses.reach_px - 0.5).ceil().maximum(start).minimum(stop).long()
    high = ((ellipses.centres + ellipses.reach_px - 0.5).floor() + 1).maximum(start).minimum(stop).long()
    near_to_far = torch.argsort(ellipses.depth_m, stable=True)
    near_to_far = near_to_far[ellipses.opacities[near_to_far] > 0]
    extent = (high - low).clamp_min(0)[near_to_far]
    count = extent[:, 0] * extent[:, 1]
    splat = near_to_far.repeat_interleave(count)
    rank = torch.arange(len(splat), device=splat.device) - (count.cumsum(0) - count).repeat_interleave(count)
    columns = extent[:, 0].repeat_interleave(count)
    u, v = low[splat, 0] + rank % columns, low[splat, 1] + rank // columns
    offset = torch.stack([u, v], -1).to(ellipses.centres) + 0.5
    visible = _alpha(ellipses, splat, offset) >= MIN_ALPHA
    pixel, order = torch.sort((v * width + u)[visible], stable=True)
    return Hits(splat[visible][order], pixel, offset[visible][order])


@torch.no_grad()
def median_depth_of_rows(ellipses: Ellipses, camera: Cameras, rows: range) -> Float[Tensor, "r w"]:
    """Return the depth at which half of the light is stopped, in some rows of the image."""
    hits = find_hits(ellipses, camera, rows)
    weight, before = _weights(ellipses, hits)
    crossing = (before > 0.5) & (before - weight <= 0.5)
    flat = ellipses.depth_m.new_zeros(camera.height_px * camera.width_px)
    flat[hits.pixel[crossing]] = ellipses.depth_m[hits.splat[crossing]]
    return flat.reshape(camera.height_px, camera.width_px)[rows.start : rows.stop]


def _alpha(ellipses: Ellipses, splat: Int[Tensor, h], pixel_px: Float[Tensor, "h 2"]) -> Float[Tensor, h]:
    offset = ellipses.centres[splat] - pixel_px
    exponent = 0.5 * torch.einsum("hi,hij,hj->h", offset, ellipses.inverse_covariances[splat], offset)
    return (ellipses.opacities[splat] * torch.exp(-exponent)).clamp_max(MAX_ALPHA)


def _weights(ellipses: Ellipses, hits: Hits) -> tuple[Float[Tensor, h], Float[Tensor, h]]:
    """Return the weight of every hit, and the transmittance in front of it."""
    alpha = _alpha(ellipses, hits.splat, hits.offset_px)
    through = torch.log1p(-alpha).double()
    before = through.cumsum(0) - through
    first = torch.searchsorted(hits.pixel, hits.pixel)
    transmittance = (before - before[first]).exp().to(alpha.dtype)
    transmittance = torch.where(transmittance > MIN_TRANSMITTANCE, transmittance, 0.0)
    return alpha * transmittance, transmittance

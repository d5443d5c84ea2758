"""What the depth network is asked for, and how far off it is.

All terms on shape ignore an offset of log depth for each image (or patch), since one photograph does
not tell it; the offset has a term of its own.

Source: scale-invariant depth and its gradients at several scales as in Eigen et al. 2014 and Li &
Snavely 2018, "MegaDepth", section 3; patches aligned by themselves as in Wang et al. 2025, "MoGe",
section 3.3; normals as in Hu et al. 2019, "Revisiting Single Image Depth Estimation", section 3.2.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from worldstereo_cli.models.depth.network import RawDepth

MAX_ERROR = 3.0
"""Of log depth, a factor of 20: past it a pixel pulls no harder, so a wrong scene does not shout."""

MAX_STEP_ERROR = 1.5
"""The same for differences between neighbours."""

SCALAR_TOLERANCE = 0.1
"""Of log focal length and log scale, one number a photograph: nearer to the truth the pull fades, where that
of an absolute error keeps its strength and turns about with the rounding of bfloat16. On trained weights
it was as strong in the encoder as that of shape, and one photograph of 96 turned the gradient of them all."""

PATCH_FRACTIONS = (4, 8, 16)
"""Patches of the local term: 1/4, 1/8 and 1/16 of the shorter side."""

NORMAL_STRIDE = 4
"""Pixels between the points whose differences give a normal; smaller ones measure rounding."""

SMOOTH_STEP = 0.12
"""Log depth between points of one surface; larger steps are edges, which have no normal."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each term counts."""

    shape: float = 1.0
    local: float = 0.5
    gradient: float = 1.0
    normal: float = 0.15
    sky: float = 0.3
    focal: float = 0.3
    scale: float = 0.1

    def vector(self) -> Float[Tensor, "l"]:
        """Return the weights in the order of `DepthLosses`."""
        return torch.tensor([float(getattr(self, name)) for name in DepthLosses._fields])


class DepthLosses(NamedTuple):
    """The terms, each a mean over the batch."""

    shape: Float[Tensor, ""]
    local: Float[Tensor, ""]
    gradient: Float[Tensor, ""]
    normal: Float[Tensor, ""]
    sky: Float[Tensor, ""]
    focal: Float[Tensor, ""]
    scale: Float[Tensor, ""]


def depth_losses(
    raw: RawDepth, depth_m: Float[Tensor, "b h w"], intrinsics: Float[Tensor, "b 3 3"]
) -> DepthLosses:
    """Compare a batch with its truth.

    Args:
        raw: What the network said.
        depth_m: True depth along the optical axis; infinite in the sky.
        intrinsics: Pixels; the principal point is the middle of the image.
    """
    surface = torch.isfinite(depth_m)
    mask = surface.float()
    log_truth = torch.where(surface, depth_m, torch.ones_like(depth_m)).clamp(min=1e-3).log()
    offset = median_offset(raw.log_depth.detach() - log_truth, mask)
    error = (raw.log_depth - log_truth - offset[:, None, None]) * mask
    longer = max(depth_m.shape[1:])
    log_focal = (intrinsics[:, 0, 0] / longer).log()
    has_surface = (mask.mean(dim=(1, 2)) > 0.02).float()
    scale_error = raw.log_scale + log_focal + offset
    return DepthLosses(
        shape=_masked_mean(error.abs().clamp(max=MAX_ERROR), mask),
        local=_local(error, mask),
        gradient=_gradient(error, mask),
        normal=_normal(error + log_truth, log_truth, surface, intrinsics),
        sky=functional.binary_cross_entropy_with_logits(raw.sky_logit, 1 - mask),
        focal=_fading(raw.log_focal - log_focal).mean(),
        scale=_masked_mean(_fading(scale_error).clamp(max=MAX_ERROR), has_surface),
    )


def _fading(error: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Return the absolute error, rounded off at zero (pseudo-Huber: Charbonnier et al. 1997)."""
    return (error.square() + SCALAR_TOLERANCE**2).sqrt() - SCALAR_TOLERANCE


def _masked_mean(values: Tensor, mask: Tensor) -> Float[Tensor, ""]:
    return (values * mask).sum() / (mask.sum() + 1.0)


def median_offset(error: Float[Tensor, "b h w"], mask: Float[Tensor, "b h w"]) -> Float[Tensor, "b"]:
    """Return nearly the median of the error of each image: a mean, reweighted twice."""
    offset = (error * mask).sum(dim=(1, 2)) / (mask.sum(dim=(1, 2)) + 1.0)
    for _ in range(3):
        weight = mask / ((error - offset[:, None, None]).abs() + 0.05)
        offset = (error * weight).sum(dim=(1, 2)) / (weight.sum(dim=(1, 2)) + 1e-6)
    return offset


def _local(error: Float[Tensor, "b h w"], mask: Float[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Measure errors inside square patches, each with its own mean removed."""
    total = error.new_zeros(())
    height, width = error.shape[1:]
    for index, fraction in enumerate(PATCH_FRACTIONS):
        side = min(height, width) // fraction
        # Grids of different sizes start apart, so that no pixel is at every border.
        start = (side // 2) * (index % 2)
        rows, columns = (height - start) // side, (width - start) // side
        window = (slice(None), slice(start, start + rows * side), slice(start, start + columns * side))
        patches = error[window].reshape(-1, rows, side, columns, side)
        known = mask[window].reshape(-1, rows, side, columns, side)
        mean = (patches * known).sum(dim=(2, 4), keepdim=True)
        mean = mean / (known.sum(dim=(2, 4), keepdim=True) + 1e-3)
        total = total + _masked_mean((patches - mean).abs().clamp(max=MAX_STEP_ERROR), known)
    return total


def _gradient(error: Float[Tensor, "b h w"], mask: Float[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Measure errors of differences between pixels 1, 2, 4 and 8 apart."""
    total = error.new_zeros(())
    for scale in range(4):
        step = 2**scale
        part, known = error[:, ::step, ::step], mask[:, ::step, ::step]
        across = (part[:, :, 1:] - part[:, :, :-1]).abs().clamp(max=MAX_STEP_ERROR)
        along = (part[:, 1:] - part[:, :-1]).abs().clamp(max=MAX_STEP_ERROR)
        total = total + 0.5 * _masked_mean(across, known[:, :, 1:] * known[:, :, :-1])
        total = total + 0.5 * _masked_mean(along, known[:, 1:] * known[:, :-1])
    return total


def _points(
    log_depth: Float[Tensor, "b h w"], intrinsics: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b 3 h w"]:
    height, width = log_depth.shape[1:]
    focal = intrinsics[:, 0, 0, None, None]
    x = (torch.arange(width, device=log_depth.device) + 0.5 - width / 2) / focal
    y = (torch.arange(height, device=log_depth.device) + 0.5 - height / 2)[:, None] / focal
    x, y = x.expand_as(log_depth), y.expand_as(log_depth)
    # Divided by its mean, an image's depth stays in the range where float32 products are exact.
    depth = (log_depth - log_depth.detach().mean(dim=(1, 2), keepdim=True)).clamp(-6, 6).exp()
    return torch.stack([x * depth, y * depth, depth], dim=1)


def _normals(
    log_depth: Float[Tensor, "b h w"], intrinsics: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b 3 h2 w2"]:
    points = _points(log_depth, intrinsics)[:, :, ::NORMAL_STRIDE, ::NORMAL_STRIDE]
    across = points[:, :, 1:-1, 2:] - points[:, :, 1:-1, :-2]
    along = points[:, :, 2:, 1:-1] - points[:, :, :-2, 1:-1]
    normal: Tensor = torch.linalg.cross(across, along, dim=1)
    # Not normalize(): the slope of a square root at zero is infinite, and infinity times a zero
    # mask is no number.
    return normal * torch.rsqrt((normal * normal).sum(dim=1, keepdim=True) + 1e-12)


def _normal(
    log_depth: Float[Tensor, "b h w"],
    log_truth: Float[Tensor, "b h w"],
    surface: Bool[Tensor, "b h w"],
    intrinsics: Float[Tensor, "b 3 3"],
) -> Float[Tensor, ""]:
    """Measure 1 - cosine between normals, on smooth surfaces."""
    got, true = _normals(log_depth, intrinsics), _normals(log_truth, intrinsics)
    part, known = log_truth[:, ::NORMAL_STRIDE, ::NORMAL_STRIDE], surface[:, ::NORMAL_STRIDE, ::NORMAL_STRIDE]
    smooth = known[:, 1:-1, 2:] & known[:, 1:-1, :-2] & known[:, 2:, 1:-1] & known[:, :-2, 1:-1]
    smooth = smooth & ((part[:, 1:-1, 2:] - part[:, 1:-1, :-2]).abs() < SMOOTH_STEP)
    smooth = smooth & ((part[:, 2:, 1:-1] - part[:, :-2, 1:-1]).abs() < SMOOTH_STEP)
    return _masked_mean(1 - (got * true).sum(dim=1), smooth.float())

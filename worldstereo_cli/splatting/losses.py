"""What a fit is asked to make small."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def psnr_db(image: Float[Tensor, "3 h w"], target: Float[Tensor, "3 h w"]) -> float:
    """Return the peak signal-to-noise ratio of values in [0, 1], decibels; at most 100."""
    error = float((image.clamp(0, 1) - target).square().mean(dtype=torch.float64))
    return 100.0 if error < 1e-10 else -10 * math.log10(error)


def ssim(image: Float[Tensor, "c h w"], target: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Return the map of structural similarity.

    The window has 11 taps and a standard deviation of 1.5 pixels; outside the image is zero.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity,
    2004, section III.B.
    """
    offset = torch.arange(-5, 6, dtype=image.dtype, device=image.device)
    window = torch.exp(-offset.square() / (2 * 1.5**2))
    window = window / window.sum()
    stack = torch.cat([image, target, image * image, target * target, image * target])[None]
    n = stack.shape[1]
    stack = torch.nn.functional.conv2d(stack, window.expand(n, 1, 1, 11), padding=(0, 5), groups=n)
    stack = torch.nn.functional.conv2d(stack, window[:, None].expand(n, 1, 11, 1), padding=(5, 0), groups=n)
    a, b, aa, bb, ab = stack[0].chunk(5)
    luminance = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    structure = (2 * (ab - a * b) + 0.03**2) / (aa - a * a + bb - b * b + 0.03**2)
    return luminance * structure


def photometric_loss(
    image: Float[Tensor, "3 h w"],
    target: Float[Tensor, "3 h w"],
    weight: Float[Tensor, "h w"],
    ssim_share: float = 0.2,
) -> Float[Tensor, ""]:
    """Compare pictures by L1 and structural similarity, each pixel with its weight.

    Args:
        image: Rendered, sRGB.
        target: Wanted, sRGB.
        weight: Of every pixel, at least zero.
        ssim_share: The share of 1 - SSIM; the rest is L1.

    Source: Kerbl et al. 2023, equation 7.
    """
    if image.device.type == "cpu" and image.dtype == torch.float32:
        total = _FusedPhotometric.apply(image, target, weight, ssim_share)  # type: ignore[no-untyped-call]
    else:
        total = photometric_sum(image, target, weight, ssim_share)
    loss: Tensor = total / (3 * weight.sum().clamp_min(1.0))
    return loss


def photometric_sum(
    image: Float[Tensor, "3 h w"],
    target: Float[Tensor, "3 h w"],
    weight: Float[Tensor, "h w"],
    ssim_share: float,
) -> Float[Tensor, ""]:
    """Return the weighted sum of (1 - share) |a - b| + share (1 - SSIM), in plain torch."""
    absolute, dissimilar = (image - target).abs(), 1 - ssim(image, target)
    return (((1 - ssim_share) * absolute + ssim_share * dissimilar) * weight).sum()


def depth_loss(
    depth_m: Float[Tensor, "h w"], target_m: Float[Tensor, "h w"], weight: Float[Tensor, "h w"]
) -> Float[Tensor, ""]:
    """Return the mean relative error of depth, each pixel cut at one tenth and with its weight.

    The cut keeps pixels at the edges of things, where expected depth mixes two surfaces, from
    outvoting the rest.

    Args:
        depth_m: Rendered.
        target_m: Wanted; positive wherever the weight is.
        weight: Of every pixel, at least zero.
    """
    relative = (depth_m - target_m).abs() / target_m.clamp_min(1e-6)
    return (relative.clamp_max(0.1) * weight).sum() / weight.sum().clamp_min(1.0)


def coverage_loss(alpha: Float[Tensor, "h w"], weight: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """Return the mean share of light that passes where a surface is known, each pixel with its weight."""
    return ((1 - alpha) * weight).sum() / weight.sum().clamp_min(1.0)


class _FusedPhotometric(torch.autograd.Function):
    """`photometric_sum` by compiled kernels, which find the gradient along the way."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:  # noqa: ANN401  (torch's own signature)
        from worldstereo_cli.splatting.photometric_kernels import photometric_sum_and_gradient

        image, target, weight, ssim_share = inputs
        total, ctx.gradient = photometric_sum_and_gradient(image, target, weight, ssim_share)
        return torch.tensor(total, dtype=image.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return ctx.gradient * outputs[0], None, None, None

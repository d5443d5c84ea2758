"""Colour that depends on the direction of view, as real spherical harmonics up to degree 3."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

SH_C0 = 0.5 / math.sqrt(math.pi)
"""The constant harmonic; one step of the first coefficient changes a colour by this much."""


def rgb_from_sh(sh: Float[Tensor, "g k 3"], directions: Float[Tensor, "g 3"]) -> Float[Tensor, "g 3"]:
    """Evaluate colours for directions of view.

    Args:
        sh: Coefficients, k = (degree + 1)^2, in the order and with the signs of 3DGS files.
        directions: From the camera to the splat, world frame, any length but zero.

    Returns:
        sRGB, not below zero (above one is possible).

    Source: Ramamoorthi and Hanrahan, An efficient representation for irradiance environment maps,
    2001, continued to degree 3; Kerbl et al. 2023 for the offset of one half.
    """
    if sh.shape[1] == 1:
        return (SH_C0 * sh[:, 0] + 0.5).clamp_min(0.0)
    basis = _basis(directions, sh.shape[1])
    return (torch.einsum("gk,gkc->gc", basis, sh) + 0.5).clamp_min(0.0)


def sh_from_rgb(rgb: Float[Tensor, "g 3"]) -> Float[Tensor, "g 1 3"]:
    """Return coefficients of degree 0 that show the colour from every side."""
    return ((rgb - 0.5) / SH_C0)[:, None]


def _basis(directions: Float[Tensor, "g 3"], count: int) -> Float[Tensor, "g k"]:
    x, y, z = torch.nn.functional.normalize(directions, dim=-1).unbind(-1)
    terms = [torch.full_like(x, SH_C0)]
    if count > 1:
        c = math.sqrt(3 / (4 * math.pi))
        terms += [-c * y, c * z, -c * x]
    if count > 4:
        c = math.sqrt(15 / (4 * math.pi))
        terms += [
            c * x * y,
            -c * y * z,
            c / (2 * math.sqrt(3)) * (2 * z * z - x * x - y * y),
            -c * x * z,
            c / 2 * (x * x - y * y),
        ]
    if count > 9:
        a, b = math.sqrt(35 / (32 * math.pi)), math.sqrt(105 / (4 * math.pi))
        c, d = math.sqrt(21 / (32 * math.pi)), math.sqrt(7 / (16 * math.pi))
        terms += [
            -a * y * (3 * x * x - y * y),
            b * x * y * z,
            -c * y * (4 * z * z - x * x - y * y),
            d * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -c * x * (4 * z * z - x * x - y * y),
            b / 2 * z * (x * x - y * y),
            -a * x * (x * x - 3 * y * y),
        ]
    return torch.stack(terms, -1)

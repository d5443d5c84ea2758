"""Lossless pictures between the stages: PNG for colour and masks, npy for depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from worldstereo_cli.errors import ArtifactError

_REMEDY = "Run the stage that wrote it again with --force."


def write_image(path: Path, image: Float[Tensor, "3 h w"]) -> None:
    """Write an sRGB image as 8-bit PNG; values outside [0, 1] are clipped."""
    array = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(array, "RGB").save(path, compress_level=1)


def read_image(path: Path) -> Float[Tensor, "3 h w"]:
    """Read an sRGB image that a stage wrote.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    return torch.from_numpy(_read_array(path, "RGB")).permute(2, 0, 1).float() / 255


def write_mask(path: Path, mask: Bool[Tensor, "h w"]) -> None:
    """Write a mask as 1-bit-valued 8-bit PNG: 255 where true."""
    array = mask.detach().cpu().to(torch.uint8).mul(255).numpy()
    Image.fromarray(array, "L").save(path, compress_level=1)


def read_mask(path: Path) -> Bool[Tensor, "h w"]:
    """Read a mask that a stage wrote.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    return torch.from_numpy(_read_array(path, "L")) > 127


def write_depth(path: Path, depth_m: Float[Tensor, "h w"]) -> None:
    """Write depth as float32 npy, metres along the optical axis."""
    np.save(path, depth_m.detach().cpu().to(torch.float32).numpy(), allow_pickle=False)


def read_depth(path: Path) -> Float[Tensor, "h w"]:
    """Read depth that a stage wrote.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", remedy=_REMEDY) from error


def depth_picture(depth_m: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """Colour depth for people: near is bright and warm, far is dark; invalid is grey.

    The map is monotone in inverse depth between its 2 % and 98 % quantiles.
    """
    inverse = torch.where(valid & (depth_m > 0), 1 / depth_m.clamp_min(1e-6), torch.zeros_like(depth_m))
    known = inverse[valid & (depth_m > 0)]
    if known.numel() == 0:
        return torch.full((3, *depth_m.shape), 0.5)
    sample = known[:: max(1, known.numel() // 100_000)]
    low, high = torch.quantile(sample, torch.tensor([0.02, 0.98]))
    t = ((inverse - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    # A short black-body ramp: dark violet, red, orange, pale yellow.
    stops = torch.tensor(
        [[0.05, 0.03, 0.15], [0.45, 0.10, 0.43], [0.86, 0.31, 0.25], [0.98, 0.65, 0.22], [0.99, 0.98, 0.75]]
    )
    position = t * (len(stops) - 1)
    lower = position.floor().long().clamp(max=len(stops) - 2)
    weight = (position - lower)[..., None]
    colour = stops[lower] * (1 - weight) + stops[lower + 1] * weight
    colour[~valid] = 0.5
    picture: Tensor = colour.permute(2, 0, 1)
    return picture


def _read_array(path: Path, mode: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(path) as image:
            return np.array(image.convert(mode))
    except (OSError, ValueError, SyntaxError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", remedy=_REMEDY) from error

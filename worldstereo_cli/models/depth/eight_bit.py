"""Weights in eight bits: one byte a number and one scale a row.

A tensor `name` of two or more dimensions is stored as int8 `name` and float32 `name.row_scale`, one
for each index of its first dimension; other tensors stay float32. Rounding to 255 levels of a row's
largest weight moves outputs less than bfloat16 arithmetic does.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

ROW_SCALE = ".row_scale"
"""Ends the name of the scales of an eight-bit tensor."""


def to_eight_bit(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round weights to eight bits where they are matrices or kernels.

    Raises:
        ValueError: A tensor holds a number that is not finite.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().float().cpu()
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"Expected finite weights, got {name} with others.")
        if value.ndim < 2:
            stored[name] = value.contiguous()
            continue
        rows = value.flatten(1)
        scale = rows.abs().amax(dim=1).clamp(min=1e-12) / 127
        stored[name] = torch.round(rows / scale[:, None]).to(torch.int8).view(value.shape).contiguous()
        stored[name + ROW_SCALE] = scale
    return stored


def from_eight_bit(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring stored weights back to float32.

    Raises:
        KeyError: An eight-bit tensor comes without its scales.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.endswith(ROW_SCALE):
            continue
        if value.dtype == torch.int8:
            scale = stored[name + ROW_SCALE].view(-1, *[1] * (value.ndim - 1))
            tensors[name] = value.float() * scale
        else:
            tensors[name] = value.float()
    return tensors

"""Weights in eight bits, for GPUs that the sixteen-bit ones do not fit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn


def widened(levels: Int8[Tensor, "o i"], scale: Float[Tensor, "o g 1"]) -> Float[Tensor, "o i"]:
    """Bring weights in eight bits, with a scale for every group of inputs, to the dtype of the scales."""
    grouped = levels.reshape(*scale.shape[:2], -1).to(scale.dtype)
    return (grouped * scale).reshape(levels.shape)


class EightBitLinear(nn.Module):
    """A linear layer whose weight is kept in eight bits and widened when it is used.

    Every group of input channels of an output has its own scale. The arithmetic is that of the
    input's dtype; what is saved is memory, at an error of about 0.3 % of a weight's scale.

    Source: Dettmers et al., LLM.int8(), NeurIPS 2022, section 2 (absolute-maximum quantisation).
    """

    group_size = 128

    def __init__(self, layer: nn.Linear) -> None:
        """Take the place of a layer; its values come by `take_tensor`, or from it if it has any."""
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.groups = max(1, layer.in_features // self.group_size)
        if layer.in_features % self.groups:
            self.groups = 1
        self.weight = nn.Parameter(layer.weight.detach(), requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)
        self.scale: Tensor
        self.register_buffer("scale", torch.empty(0), persistent=False)
        self.widen: Callable[[Tensor, Tensor], Tensor] = widened
        if not layer.weight.is_meta:
            self.take_tensor("weight", layer.weight.detach())

    def take_tensor(self, name: str, value: Tensor) -> None:
        """Take the bias as it is, the weight in eight bits."""
        if name == "weight":
            grouped = value.float().reshape(self.out_features, self.groups, -1)
            self.scale = (grouped.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12).to(value.dtype)
            levels = (grouped / self.scale.float()).round().clamp(-127, 127).to(torch.int8)
            value = levels.reshape(self.out_features, self.in_features)
        setattr(self, name, nn.Parameter(value, requires_grad=False))

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Apply the layer."""
        # Detached, because a compiler takes the shape of every parameter for a constant.
        weight = self.widen(self.weight.detach(), self.scale)
        return torch.nn.functional.linear(x, weight, self.bias)

"""Multi-head attention as Wan has it, with the two seams that faster kernels go through.

`AttentionFunction` is what computes softmax(q k) v, and every projection is a `torch.nn.Linear`
that may be replaced by a module of the same signature; `replace_linears` does that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldstereo_cli.models.video.fused import READABLE, Kernels
from worldstereo_cli.models.video.rotary import Rotary


class AttentionFunction(Protocol):
    """Computes softmax(q k / sqrt(d)) v."""

    def __call__(
        self,
        query: Float[Tensor, "b n heads d"],
        key: Float[Tensor, "b m heads d"],
        value: Float[Tensor, "b m heads d"],
    ) -> Float[Tensor, "b n heads d"]:
        """Attend."""
        ...


def scaled_dot_product(
    query: Float[Tensor, "b n heads d"],
    key: Float[Tensor, "b m heads d"],
    value: Float[Tensor, "b m heads d"],
) -> Float[Tensor, "b n heads d"]:
    """Attend with the kernel that PyTorch chooses."""
    return torch.nn.functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    ).transpose(1, 2)


class Attention(nn.Module):
    """Self- or cross-attention with the parameter names of diffusers' Wan.

    Queries and keys are normalised over all heads together. With `image_dim`, image tokens at the
    front of the context have their own keys and values and are attended to separately.

    Source: Wan 2.1 (diffusers 0.42, transformer_wan.py, Apache-2.0).
    """

    def __init__(self, dim: int, num_heads: int, *, eps: float = 1e-6, image_dim: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)
        if image_dim is not None:
            self.add_k_proj = nn.Linear(image_dim, dim)
            self.add_v_proj = nn.Linear(image_dim, dim)
            self.norm_added_k = nn.RMSNorm(dim, eps=eps)
        self.attend: AttentionFunction = scaled_dot_product
        self.kernels: Kernels = READABLE

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "b m c"] | None = None,
        *,
        rotary: Rotary | None = None,
        num_image_tokens: int = 0,
        first_query: int = 0,
        prepare: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """Attend from `x` to itself, or to a context whose first tokens may be those of an image.

        Args:
            x: What attends.
            context: What is attended to; None for `x` itself.
            rotary: Positions, for attention to itself.
            num_image_tokens: Of the context, at its front.
            first_query: Tokens before it are attended to, but do not attend.
            prepare: Brings `x` into the form that the projections take. Done in here so that the result
                can be let go before the peak.
        """
        x = x if prepare is None else prepare(x)
        source = x if context is None else context[:, num_image_tokens:]
        own = None if rotary is None else (rotary[0][:, first_query:], rotary[1][:, first_query:])
        query = self._heads(self.to_q(x[:, first_query:]), self.norm_q, own)
        key = self._heads(self.to_k(source), self.norm_k, rotary)
        value = self.to_v(source).unflatten(2, (self.num_heads, -1))
        del x, source
        result = self.attend(query, key, value).flatten(2, 3).type_as(query)
        if context is not None and num_image_tokens:
            image_tokens = context[:, :num_image_tokens]
            image_key = self._heads(self.add_k_proj(image_tokens), self.norm_added_k)
            image_value = self.add_v_proj(image_tokens).unflatten(2, (self.num_heads, -1))
            result = result + self.attend(query, image_key, image_value).flatten(2, 3).type_as(query)
        del query, key, value
        projected: Tensor = self.to_out[0](result)
        return projected

    def _heads(
        self, x: Float[Tensor, "b n c"], norm: nn.RMSNorm, rotary: Rotary | None = None
    ) -> Float[Tensor, "b n heads d"]:
        return self.kernels.heads_of(x, norm.weight, norm.eps, self.num_heads, rotary)


def use_attention(model: nn.Module, function: AttentionFunction) -> None:
    """Let every `Attention` of a model compute with another kernel."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.attend = function


def replace_linears(model: nn.Module, build: Callable[[nn.Linear], nn.Module], *, within: str) -> int:
    """Replace the linear layers below a named part of a model.

    Args:
        model: Changed in place.
        build: Makes the substitute, with the same parameter names, from the layer.
        within: Dotted name of the part, such as `blocks`.

    Returns:
        How many were replaced.
    """
    count = 0
    for module in model.get_submodule(within).modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, build(child))
                count += 1
    return count

"""Faster ways through the transformer on a GPU: another attention kernel, fused steps between products."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from worldstereo_cli.models.eight_bit import EightBitLinear
from worldstereo_cli.models.video.attention import scaled_dot_product, use_attention
from worldstereo_cli.models.video.fused import Kernels, compiled

# cuDNN's kernel is the fastest on Hopper; the others follow where it does not apply.
_PREFERENCE = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def cudnn_first(
    query: Float[Tensor, "b n heads d"],
    key: Float[Tensor, "b m heads d"],
    value: Float[Tensor, "b m heads d"],
) -> Float[Tensor, "b n heads d"]:
    """Attend with cuDNN's kernel where it can."""
    with sdpa_kernel(_PREFERENCE, set_priority=True):
        return scaled_dot_product(query, key, value)


def accelerate(model: nn.Module) -> None:
    """Let a model compute with the kernels that were measured to be fastest on a GPU.

    Args:
        model: A video transformer, for inference; changed in place. Its weights may be in eight bits.
    """
    use_attention(model, cudnn_first)
    use_kernels(model, compiled())


def use_kernels(model: nn.Module, kernels: Kernels) -> None:
    """Let every part of a model compute its small steps with these."""
    for module in model.modules():
        if isinstance(getattr(module, "kernels", None), Kernels):
            module.kernels = kernels
        if isinstance(module, EightBitLinear):
            module.widen = kernels.widened

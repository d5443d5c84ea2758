"""Faster ways through the transformer: another attention kernel, compiled blocks."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from worldstereo_cli.models.video.attention import scaled_dot_product, use_attention
from worldstereo_cli.models.video.transformer import WorldStereoTransformer

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


def accelerate(model: WorldStereoTransformer, *, compiled: bool, cudnn: bool) -> None:
    """Choose kernels for a model.

    Args:
        model: Changed in place.
        compiled: Compile the blocks, which fuses norms, modulation and rotation. All blocks share one
            compilation, which takes about a minute and is worth it for many forward passes.
        cudnn: Prefer cuDNN's attention kernel.
    """
    if cudnn:
        use_attention(model, cudnn_first)
    if compiled:
        for block in model.blocks:
            block.compile(dynamic=False)
        if model.control_config is not None:
            for block in model.controlnet.controlnet_blocks:
                block.compile(dynamic=False)

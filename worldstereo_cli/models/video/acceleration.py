"""Faster ways through the transformer on a GPU: another attention kernel, fused steps between products."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from worldstereo_cli.models.eight_bit import EightBitLinear
from worldstereo_cli.models.video.attention import scaled_dot_product, use_attention
from worldstereo_cli.models.video.fused import Kernels, compiled

_HOPPER = 9
"""Compute capability from which on cuDNN's attention is the fastest: 585 TFLOP/s on an H100, flash 370."""
# The others follow where it does not apply.
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
    """Let a model on a GPU compute with the kernels that were measured to be fastest there.

    Args:
        model: A video transformer, for inference; changed in place. Its weights may be in eight bits.
    """
    major, _ = torch.cuda.get_device_capability()
    if major >= _HOPPER:
        use_attention(model, cudnn_first)
    if why_not_fused() is None:
        use_kernels(model, compiled())


def why_not_fused() -> str | None:
    """Say what keeps this machine from fusing the steps between products; None if nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not os.environ.get("CC") and not any(map(shutil.which, ("gcc", "clang", "cc"))):
        return "Triton finds no C compiler"
    # What the compiler is given includes Python.h, which distributions keep in a package of its own.
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    if not (Path(sysconfig.get_paths(scheme=scheme)["include"]) / "Python.h").is_file():
        return "Python's header files are not installed"
    return None


def use_kernels(model: nn.Module, kernels: Kernels) -> None:
    """Let every part of a model compute its small steps with these."""
    for module in model.modules():
        part: Any = module
        if isinstance(getattr(part, "kernels", None), Kernels):
            part.kernels = kernels
        if isinstance(module, EightBitLinear):
            module.widen = kernels.widened

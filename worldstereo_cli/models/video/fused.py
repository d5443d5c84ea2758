"""The small steps between matrix products, each as one function that a compiler can fuse.

At full size a clip has 45 240 tokens of 5120 channels: taken one operation after the other, norms,
modulation, rotation and gates move ten times the bytes that they have to. Each function here says
what is computed; `compiled` gives the same functions as one kernel each. Functions are compiled, not
whole blocks, because they then take any number of tokens, which changes with the references of a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, ParamSpec

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.models.eight_bit import widened
from worldstereo_cli.models.video.rotary import Rotary, rotate

_Arguments = ParamSpec("_Arguments")


def layer_norm(
    x: Float[Tensor, "b n c"], weight: Float[Tensor, c] | None, bias: Float[Tensor, c] | None, eps: float
) -> Float[Tensor, "b n c"]:
    """Normalise tokens in float32."""
    weight, bias = (None if t is None else t.float() for t in (weight, bias))
    return torch.nn.functional.layer_norm(x.float(), x.shape[-1:], weight, bias, eps).type_as(x)


def modulated_norm(
    x: Float[Tensor, "b n c"],
    weight: Float[Tensor, c] | None,
    bias: Float[Tensor, c] | None,
    eps: float,
    shift: Float[Tensor, "b 1 c"],
    scale: Float[Tensor, "b 1 c"],
) -> Float[Tensor, "b n c"]:
    """Normalise tokens, then scale them (about 1) and shift them, all in float32."""
    return (layer_norm(x.float(), weight, bias, eps) * (1 + scale) + shift).type_as(x)


def gated_add(
    x: Float[Tensor, "b n c"], change: Float[Tensor, "b n c"], gate: Float[Tensor, "b 1 c"]
) -> Float[Tensor, "b n c"]:
    """Add a change of which a part is let through, in float32."""
    return (x.float() + change.float() * gate).type_as(x)


def heads_of(
    x: Float[Tensor, "b n c"], weight: Float[Tensor, c], eps: float, num_heads: int, rotary: Rotary | None
) -> Float[Tensor, "b n heads d"]:
    """Normalise over all heads together, split into heads, and turn these by position."""
    normed = torch.nn.functional.rms_norm(x, x.shape[-1:], weight, eps)
    heads = normed.reshape(*x.shape[:2], num_heads, -1)
    return heads if rotary is None else rotate(heads, rotary)


@dataclass(frozen=True, slots=True)
class Kernels:
    """What computes these steps."""

    layer_norm: Callable[..., Tensor] = layer_norm
    modulated_norm: Callable[..., Tensor] = modulated_norm
    gated_add: Callable[..., Tensor] = gated_add
    heads_of: Callable[..., Tensor] = heads_of
    widened: Callable[..., Tensor] = widened


READABLE = Kernels()
"""The functions of this file as they stand: the specification, and what runs on a CPU."""


@cache
def compiled() -> Kernels:
    """Return the same functions fused by torch.compile; each is built when it is first called."""
    return Kernels(
        _for_any_number_of_tokens(layer_norm),
        _for_any_number_of_tokens(modulated_norm),
        _for_any_number_of_tokens(gated_add),
        _for_any_number_of_tokens(heads_of),
        # A dozen shapes of weights share one kernel.
        torch.compile(widened, dynamic=True),
    )


def _for_any_number_of_tokens(function: Callable[_Arguments, Tensor]) -> Callable[_Arguments, Tensor]:
    """Compile a function of tokens for each width, dtype and set of constants, but not for each count."""
    fused = torch.compile(function, dynamic=False)

    @wraps(function)
    def run(*args: _Arguments.args, **named: _Arguments.kwargs) -> Tensor:
        return fused(*_of_any_length(args), **named)

    return run


def _of_any_length(value: Any) -> Any:  # noqa: ANN401  (any argument)
    """Tell the compiler that the second dimension of tensors, in tuples too, may be of any length."""
    if isinstance(value, tuple):
        return tuple(_of_any_length(part) for part in value)
    if not isinstance(value, Tensor) or value.ndim < 3 or value.shape[1] == 1:
        return value
    # A slice of a batch of one says so in a stride that nothing uses, and would be compiled anew.
    value = value[0][None] if len(value) == 1 else value
    torch._dynamo.maybe_mark_dynamic(value, 1)
    return value

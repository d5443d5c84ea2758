"""The video autoencoder over single frames: its convolutions in time become plain ones."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from jaxtyping import Float
from torch import Tensor, nn


class FrameConv(nn.Module):
    """A causal convolution whose kernel meets nothing but zeros before a film's first frame.

    Of a kernel of three frames only the last then counts: a third of the arithmetic, and that of
    pictures, for which libraries have their fastest kernels. Longer films go the usual way.
    """

    def __init__(self, conv: WanCausalConv3d) -> None:
        super().__init__()
        self.conv = conv
        self.padding = (conv._padding[2], conv._padding[0])
        last = conv.weight.detach()[:, :, -1].contiguous(memory_format=torch.channels_last)
        self.frame_weight: Tensor
        self.register_buffer("frame_weight", last, persistent=False)

    def forward(
        self, x: Float[Tensor, "b c t h w"], cache_x: Float[Tensor, "b c p h w"] | None = None
    ) -> Float[Tensor, "b o t h w"]:
        """Convolve, with the frames before `x` if there are any."""
        if x.shape[2] > 1 or cache_x is not None:
            film: Tensor = self.conv(x, cache_x)
            return film
        frame = torch.nn.functional.conv2d(
            x[:, :, 0], self.frame_weight, self.conv.bias, self.conv.stride[1:], self.padding
        )
        return frame[:, :, None]


def flatten_single_frames(vae: Any) -> None:  # noqa: ANN401  (diffusers has no types)
    """Let an AutoencoderKLWan take the short way over films of one frame.

    Args:
        vae: On its device and in its dtype, weights loaded; changed in place.
    """
    for module in list(vae.modules()):
        for name, child in list(module.named_children()):
            known = isinstance(module, FrameConv) or not isinstance(child, WanCausalConv3d)
            # Only where zeros stand for all that comes before.
            if not known and child._padding[4] == child.kernel_size[0] - 1:
                setattr(module, name, FrameConv(child))

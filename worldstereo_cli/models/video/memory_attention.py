"""The spatial-stereo memory: transformer blocks in which targets and references attend to each other.

One sequence holds both, references first, so that self-attention needs no gathering and a block
without references is Wan's own. What makes a pair of pictures stereo is position alone: a
reference has the time of its target and the columns beside it (`RotaryGrid.tables`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.normalization import FP32LayerNorm
from jaxtyping import Float
from torch import Tensor, nn

from worldstereo_cli.models.video.attention import Attention
from worldstereo_cli.models.video.config import BackboneConfig
from worldstereo_cli.models.video.fused import READABLE, Kernels
from worldstereo_cli.models.video.rotary import Rotary


@dataclass(frozen=True, slots=True)
class BlockInputs:
    """What every block of a forward pass shares."""

    modulation: Float[Tensor, "b 6 c"]
    """Of the timestep: shift, scale and gate for attention, then for the feed-forward."""
    context: Float[Tensor, "b t c"]
    """Image tokens, if there are any, then text."""
    num_image_tokens: int
    rotary: Rotary
    num_reference_tokens: int
    keep_references: bool = True
    """Whether a block returns the references too, or only the targets."""


class StereoBlock(nn.Module):
    """A Wan block over references and targets, with the same parameters under the same names.

    Both streams share weights and modulation. Only targets see text and image. Without references
    it computes what diffusers' `WanTransformerBlock` does, bit for bit.

    Source: Wan 2.1 (diffusers 0.42, Apache-2.0); the joint stream: Team HY-World, HY-World 2.0
        technical report, arXiv 2604.14268, section on SSM++.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        dim, heads, eps = config.width, config.num_attention_heads, config.eps
        self.norm1 = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = Attention(dim, heads, eps=eps)
        self.attn2 = Attention(dim, heads, eps=eps, image_dim=config.added_kv_proj_dim)
        self.norm2 = FP32LayerNorm(dim, eps) if config.cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(dim, inner_dim=config.ffn_dim, activation_fn="gelu-approximate")
        self.norm3 = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        self.feed_forward_rows: int | None = None
        """Tokens that go through the feed-forward at once (only without gradients); None for all."""
        self.kernels: Kernels = READABLE

    def forward(self, x: Float[Tensor, "b n c"], inputs: BlockInputs) -> Float[Tensor, "b n c"]:
        """Transform references and targets; references come back if `inputs.keep_references`."""
        # Nothing is given a name that would keep it until the feed-forward, where most memory is taken.
        return self._after_meeting(self._meeting(x, inputs), inputs)

    def fork(self, x: Float[Tensor, "b n c"], inputs: list[BlockInputs]) -> list[Float[Tensor, "b k c"]]:
        """Transform one sequence for inputs that differ in their context only.

        What comes before the context is computed once; every result has the bits of `forward`.
        """
        met = [self._meeting(x, inputs[0])]
        # Copies, because targets are changed in place; the last takes it out of the list that held it.
        results = [self._after_meeting(met[0].clone(), given) for given in inputs[:-1]]
        return [*results, self._after_meeting(met.pop(), inputs[-1])]

    def _meeting(self, x: Float[Tensor, "b n c"], inputs: BlockInputs) -> Float[Tensor, "b k c"]:
        """Let references and targets attend to each other."""
        shift, scale, gate = self._modulation(inputs)[:3]
        dropped = 0 if inputs.keep_references else inputs.num_reference_tokens
        return self.kernels.gated_add(
            x[:, dropped:],
            self.attn1(
                x,
                rotary=inputs.rotary,
                first_query=dropped,
                prepare=lambda x: self.kernels.modulated_norm(x, None, None, self.norm1.eps, shift, scale),
            ),
            gate,
        )

    def _after_meeting(self, x: Float[Tensor, "b k c"], inputs: BlockInputs) -> Float[Tensor, "b k c"]:
        """Let targets look at text and image; then the feed-forward."""
        num_references = inputs.num_reference_tokens if inputs.keep_references else 0
        x = add_to_targets(
            x,
            self.attn2(
                x[:, num_references:],
                inputs.context,
                num_image_tokens=inputs.num_image_tokens,
                prepare=self._before_context,
            ),
            num_references,
        )
        return self._feed_forward(x, self._modulation(inputs)[3:])

    def _modulation(self, inputs: BlockInputs) -> tuple[Float[Tensor, "b 1 c"], ...]:
        """Return shift, scale and gate of attention, then of the feed-forward."""
        return (self.scale_shift_table + inputs.modulation.float()).chunk(6, dim=1)

    def _feed_forward(
        self, x: Float[Tensor, "b n c"], modulation: tuple[Tensor, ...]
    ) -> Float[Tensor, "b n c"]:
        if self.feed_forward_rows is None or torch.is_grad_enabled():
            return self._feed_forward_rows(x, modulation)
        for rows in torch.split(x, self.feed_forward_rows, dim=1):
            rows.copy_(self._feed_forward_rows(rows, modulation))
        return x

    def _feed_forward_rows(
        self, x: Float[Tensor, "b n c"], modulation: tuple[Tensor, ...]
    ) -> Float[Tensor, "b n c"]:
        shift, scale, gate = modulation
        normed = self.kernels.modulated_norm(x, None, None, self.norm3.eps, shift, scale)
        return self.kernels.gated_add(x, self.ffn(normed), gate)

    def _before_context(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        if isinstance(self.norm2, nn.Identity):
            return x
        return self.kernels.layer_norm(x, self.norm2.weight, self.norm2.bias, self.norm2.eps)


def add_to_targets(
    x: Float[Tensor, "b n c"], change: Float[Tensor, "b t c"], num_reference_tokens: int
) -> Float[Tensor, "b n c"]:
    """Add to the targets of a joint sequence, in place where no gradient forbids it."""
    if num_reference_tokens == 0:
        return x + change
    references, targets = x[:, :num_reference_tokens], x[:, num_reference_tokens:]
    if torch.is_grad_enabled():
        return torch.cat([references, targets + change], dim=1)
    targets += change
    return x

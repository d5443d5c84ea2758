"""What a clip costs, told from the model's config before anything is loaded: bytes, and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from worldstereo_cli.errors import OutOfMemory
from worldstereo_cli.models.eight_bit import EightBitLinear
from worldstereo_cli.models.video.attention import replace_linears
from worldstereo_cli.models.video.config import BackboneConfig, ControlConfig, ModelConfig
from worldstereo_cli.models.video.transformer import WorldStereoTransformer

Tier = Literal["resident", "eight-bit"]
TIERS: tuple[Tier, ...] = ("resident", "eight-bit")
"""From fast to small."""

_GIB = 1 << 30
_SPATIAL_DOWNSAMPLE = 8
# What lives at the two peaks of a block, in copies of the whole sequence of tokens, with half a copy for
# positions, control and the inputs of all blocks. At attention: sequence, queries, keys, values, result.
# Counted by object; on an H100 the count was met within 2 % (9.4 and 8.4 copies, before two were saved).
_ATTENTION_COPIES = 6.0
# Without fused steps: rotation in float32, step by step.
_UNFUSED_ATTENTION_COPIES = 13.0
# At the feed-forward: what came into the block, sequence, normalised copy; and the hidden layer twice.
_FEED_FORWARD_COPIES = 3.9
SMALL_ROWS = 16384
"""Tokens that go through the feed-forward at once in the small tier. As many as keep its peak below that
of attention: the weights are widened for each piece."""
# Feature maps of the autoencoder that live at once at full resolution, in multiples of its base width.
_CODEC_MAPS = 14
_FILM_FRAMES = 4
"""Frames of a film that the autoencoder takes at once: as many as share a latent."""
_RESERVE = 0.04
"""Part of a device that its allocator cannot use well."""
_TEXT_TOKENS, _IMAGE_TOKENS = 512, 257
_EFFICIENCY = 0.8
"""Of a matrix product's throughput, what a whole forward pass reaches (measured on an H100)."""


@dataclass(frozen=True, slots=True)
class Workload:
    """How much one clip asks for."""

    num_keyframes: int
    width_px: int
    height_px: int
    num_references: int
    num_steps: int
    """Of denoising."""
    num_prompts: int = 1
    """Velocities of each step: that of the prompt, and with guidance that of the negative one."""


@dataclass(frozen=True, slots=True)
class OtherParts:
    """What lives on the device besides the transformer."""

    codec_width: int
    """Base width of the autoencoder."""
    codec_bytes: int
    """The autoencoder's weights, in the dtype of the run."""
    text_encoder_bytes: int
    """Likewise of the text encoder; 0 without one."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes and arithmetic of one clip."""

    weights: dict[Tier, int]
    """Bytes that stay: of the transformer, the autoencoder, and what the cloud shows."""
    activations: dict[Tier, int]
    """Bytes that a forward pass adds."""
    codec: dict[Tier, int]
    """Bytes that encoding and decoding add."""
    text_encoder: int
    """Bytes of the text encoder, which runs first and alone."""
    flops: float
    """Floating-point operations of the clip's denoising."""

    def peak(self, tier: Tier) -> int:
        """Return the peak in bytes: whichever is largest of prompt, denoising and decoding."""
        loaded = self.weights[tier] + max(self.activations[tier], self.codec[tier])
        return max(self.text_encoder, loaded)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The tier that was chosen, and what to expect."""

    tier: Tier
    peak_bytes: int
    available_bytes: int
    seconds: float
    """Expected for one clip's denoising."""

    @property
    def feed_forward_rows(self) -> int | None:
        """Tokens that go through the feed-forward at once; None for all."""
        return SMALL_ROWS if self.tier == "eight-bit" else None

    @property
    def frames_at_once(self) -> int:
        """Frames that the autoencoder takes at once."""
        return 1 if self.tier == "eight-bit" else 4

    def describe(self) -> str:
        """Say it in one line."""
        return (
            f"{self.tier} weights, at most {self.peak_bytes / _GIB:.1f} of {self.available_bytes / _GIB:.1f} "
            f"GiB, about {self.seconds:.0f} s a clip"
        )


def transformer_bytes(backbone: BackboneConfig, config: ModelConfig, tier: Tier, dtype: torch.dtype) -> int:
    """Count the transformer's bytes, by building it without memory."""
    with torch.device("meta"):
        model = WorldStereoTransformer(backbone, config.control, config.text)
        total: int = sum(p.numel() for p in model.parameters()) * dtype.itemsize
        if tier == "resident":
            return total
        pack_linears(model)
    packed = [m for m in model.modules() if isinstance(m, EightBitLinear)]
    saved = sum(m.weight.numel() * (dtype.itemsize - 1) for m in packed)
    scales = sum(m.out_features * m.groups for m in packed) * dtype.itemsize
    return int(total - saved + scales)


def pack_linears(model: WorldStereoTransformer) -> None:
    """Let the linear layers of all blocks keep their weights in eight bits."""
    replace_linears(model, EightBitLinear, within="blocks")
    if model.control_config is not None:
        replace_linears(model, EightBitLinear, within="controlnet.controlnet_blocks")


def step_flops(backbone: BackboneConfig, control: ControlConfig | None, work: Workload) -> float:
    """Count the floating-point operations of one denoising step: matrix products and attention."""
    targets = _tokens_of_frame(backbone, work) * work.num_keyframes
    joint = targets + _tokens_of_frame(backbone, work) * work.num_references
    width = backbone.width
    context = _TEXT_TOKENS + (_IMAGE_TOKENS if backbone.image_dim else 0)
    products = joint * (4 * width**2 + 2 * width * backbone.ffn_dim) + targets * 2 * width**2
    products += context * 2 * width**2
    attention = 2 * width * (joint**2 + targets * context)
    total = 2.0 * backbone.num_layers * (products + attention) * work.num_prompts
    # Prompts are first looked at after the first block's self-attention, which is the same for all.
    total -= 2.0 * (work.num_prompts - 1) * joint * (4 * width**2 + 2 * width * joint)
    if control is not None:
        dim = control.dim
        products = targets * (4 * dim**2 + 2 * dim * control.ffn_dim + dim * width)
        total += 2.0 * control.num_layers * (products + 2 * dim * targets**2)
    return total


def clip_footprint(
    backbone: BackboneConfig,
    config: ModelConfig,
    work: Workload,
    others: OtherParts,
    *,
    dtype: torch.dtype,
    fused: bool,
) -> Footprint:
    """Compute what a clip needs.

    Args:
        backbone: The transformer's config.
        config: The weights folder's config.
        work: The clip.
        others: Sizes of the other parts.
        dtype: Of the arithmetic.
        fused: Whether the steps between matrix products are fused.
    """
    tokens = _tokens_of_frame(backbone, work) * (work.num_keyframes + work.num_references)
    sequence = tokens * backbone.width * dtype.itemsize
    frame = _CODEC_MAPS * others.codec_width * work.width_px * work.height_px * dtype.itemsize
    attention = int((_ATTENTION_COPIES if fused else _UNFUSED_ATTENTION_COPIES) * sequence)
    feed_forward = int((_FEED_FORWARD_COPIES + 2 * backbone.ffn_dim / backbone.width) * sequence)
    waiting = (work.num_prompts - 1) * sequence
    # Convolutions in time keep their last slice a second time, a third of their size (`frame_conv`).
    codec = others.codec_bytes * 4 // 3
    # As one film, frames come in fours, whatever the tier (`KeyframeCodec.encode_film`).
    least = _FILM_FRAMES if config.latent_cond_mode == "full_vae" else 1
    # Hole and ray maps at full resolution.
    maps = 7 * work.num_keyframes * work.width_px * work.height_px * dtype.itemsize
    return Footprint(
        {tier: transformer_bytes(backbone, config, tier, dtype) + codec + maps for tier in TIERS},
        {"resident": max(attention, feed_forward) + waiting, "eight-bit": attention + waiting},
        {"resident": 4 * frame, "eight-bit": least * frame},
        others.text_encoder_bytes,
        step_flops(backbone, config.control, work) * work.num_steps,
    )


def choose_tier(
    footprint: Footprint, available_bytes: int, flops_per_second: float, wanted: Tier | None = None
) -> MemoryPlan:
    """Choose the fastest tier that fits.

    Args:
        footprint: Of a clip.
        available_bytes: Of the device.
        flops_per_second: What a large matrix product reaches there.
        wanted: Take this tier whether it fits or not; None to choose.

    Raises:
        OutOfMemory: None fits.
    """
    usable = int(available_bytes * (1 - _RESERVE))
    seconds = footprint.flops / (flops_per_second * _EFFICIENCY)
    for tier in TIERS:
        if wanted == tier or (wanted is None and footprint.peak(tier) <= usable):
            return MemoryPlan(tier, footprint.peak(tier), available_bytes, seconds)
    smallest = TIERS[-1]
    raise OutOfMemory(
        f"This model needs {footprint.peak(smallest) / _GIB:.1f} GiB even with {smallest} weights; "
        f"{usable / _GIB:.1f} GiB are there.",
        remedy="Use a larger GPU, a smaller model, or --recipe default, which needs no video model.",
    )


def tier_below(tier: Tier) -> Tier | None:
    """Return the next smaller tier, if there is one."""
    index = TIERS.index(tier) + 1
    return TIERS[index] if index < len(TIERS) else None


def _tokens_of_frame(backbone: BackboneConfig, work: Workload) -> int:
    _, rows, columns = backbone.patch_size
    height, width = work.height_px // _SPATIAL_DOWNSAMPLE, work.width_px // _SPATIAL_DOWNSAMPLE
    return (height // rows) * (width // columns)

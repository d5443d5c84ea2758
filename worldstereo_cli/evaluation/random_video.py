"""The released video model at full size with random weights, built on its device, and a clip to ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras, intrinsics_from_focal
from worldstereo_cli.geometry.rigid import look_at
from worldstereo_cli.geometry.seen import SeenViews
from worldstereo_cli.models.catalogue import WeightsFolder
from worldstereo_cli.models.eight_bit import EightBitLinear
from worldstereo_cli.models.video.acceleration import accelerate
from worldstereo_cli.models.video.config import (
    BackboneConfig,
    ControlConfig,
    DistilledConfig,
    ModelConfig,
    SolverConfig,
)
from worldstereo_cli.models.video.encoders import PromptSettings
from worldstereo_cli.models.video.footprint import MemoryPlan, Tier, pack_linears
from worldstereo_cli.models.video.keyframes import KeyframeCodec
from worldstereo_cli.models.video.parts import VideoParts
from worldstereo_cli.models.video.protocol import ClipRequest, References
from worldstereo_cli.models.video.transformer import WorldStereoTransformer
from worldstereo_cli.progress import Progress, silent

RELEASED_BACKBONE = BackboneConfig(image_dim=1280, added_kv_proj_dim=5120)
"""Wan 2.1 I2V 14B."""
RELEASED_CONTROL = ControlConfig(
    conv_out_dim=5120, dim=1024, ffn_dim=4096, num_heads=16, num_layers=20, time_embed_dim=5120,
    main_camera_embedding=True,
)  # fmt: skip
"""The branch of worldstereo-memory-dmd."""
_IMAGE_TOKENS = 257


@dataclass(frozen=True, slots=True)
class VideoSize:
    """A model and a clip of it; the defaults are the release's."""

    backbone: BackboneConfig = RELEASED_BACKBONE
    control: ControlConfig = RELEASED_CONTROL
    codec_base_dim: int = 96
    """Of the autoencoder of Wan 2.1."""
    text_encoder_parameters: int = 5_680_922_624
    """Of UMT5-XXL's encoder, which is not drawn but counts when memory is foretold."""
    num_keyframes: int = 21
    width_px: int = 832
    height_px: int = 480
    num_references: int = 8
    num_steps: int = 4


@dataclass(frozen=True, slots=True)
class _RandomPrompts:
    """Stands in for the text encoder, which runs before everything else and alone."""

    settings: PromptSettings
    width: int

    def is_cached(self, prompts: list[str]) -> bool:
        return True

    def encode(self, prompts: list[str]) -> Float[Tensor, "p t e"]:
        generator = torch.Generator().manual_seed(4)
        shape = (len(prompts), self.settings.num_tokens, self.width)
        return torch.randn(shape, generator=generator).to(self.settings.device, self.settings.dtype)


@dataclass(frozen=True)
class RandomParts(VideoParts):
    """A weights folder that is not there: its parts are drawn at random instead of loaded."""

    codec_base_dim: int = 96
    text_encoder_parameters: int = 0
    accelerated: bool = True
    """With the kernels that the backend takes on a GPU."""
    made: dict[Tier, WorldStereoTransformer] = field(default_factory=dict)
    """Transformers that were drawn; shared with copies that differ in their steps."""

    @staticmethod
    def of(size: VideoSize, device: torch.device, dtype: torch.dtype, *, accelerated: bool) -> RandomParts:
        """Describe random parts of a size."""
        steps = DistilledConfig(num_steps=size.num_steps)
        config = ModelConfig.model_validate(
            {"nframe": size.num_keyframes, "controlnet_cfg": size.control.model_dump(), "distilled": steps,
             "scale_map": [[size.height_px, size.width_px]], "max_references": size.num_references}
        )  # fmt: skip
        nowhere = WeightsFolder("random weights", Path(), Path(), "none", "none")
        return RandomParts(
            nowhere,
            config,
            size.backbone,
            device,
            dtype,
            size.codec_base_dim,
            size.text_encoder_parameters,
            accelerated,
        )

    def transformer(self, plan: MemoryPlan, progress: Progress = silent) -> WorldStereoTransformer:
        """Draw a transformer, or return the one that was drawn for this tier."""
        if plan.tier not in self.made:
            self.made[plan.tier] = random_transformer(self, plan)
        return self.made[plan.tier]

    def codec(self, frames_at_once: int) -> KeyframeCodec:
        """Draw an autoencoder."""
        torch.manual_seed(0)
        with self.device:
            vae = AutoencoderKLWan(base_dim=self.codec_base_dim, z_dim=self.backbone.out_channels)
        return KeyframeCodec(vae.to(self.dtype).eval(), frames_at_once)

    def prompt_encoder(self, cache: Path) -> _RandomPrompts:  # type: ignore[override]
        """Return the means to draw embeddings."""
        settings = PromptSettings(self.device, self.dtype, self.config.text.num_tokens)
        return _RandomPrompts(settings, self.backbone.text_dim)

    def picture_tokens(self, picture: Image.Image) -> Float[Tensor, "1 i e"] | None:
        """Draw the image encoder's tokens; None for a model without them."""
        if self.backbone.image_dim is None:
            return None
        generator = torch.Generator().manual_seed(5)
        tokens = torch.randn(1, _IMAGE_TOKENS, self.backbone.image_dim, generator=generator)
        return tokens.to(self.device, self.dtype)

    def solver(self) -> SolverConfig:
        """Return the solver's defaults."""
        return SolverConfig()

    def codec_size(self) -> tuple[int, int]:
        """Return the autoencoder's base width and its bytes on the device."""
        with torch.device("meta"):
            vae = AutoencoderKLWan(base_dim=self.codec_base_dim, z_dim=self.backbone.out_channels)
        return self.codec_base_dim, sum(p.numel() for p in vae.parameters()) * self.dtype.itemsize

    def text_encoder_bytes(self) -> int:
        """Return what the released model's text encoder takes."""
        return self.text_encoder_parameters * self.dtype.itemsize


@torch.no_grad()
def random_transformer(parts: RandomParts, plan: MemoryPlan) -> WorldStereoTransformer:
    """Draw a transformer on its device, without a copy on the host."""
    with torch.device("meta"):
        model = WorldStereoTransformer(parts.backbone, parts.config.control, parts.config.text)
    if plan.tier == "eight-bit":
        pack_linears(model)
    model.process_feed_forward_in(plan.feed_forward_rows)
    generator = torch.Generator(parts.device).manual_seed(0)
    for name, parameter in list(model.named_parameters()):
        owner_name, _, leaf = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        exact = "time_embedder" in name or "scale_shift_table" in name
        value = torch.randn(parameter.shape, generator=generator, device=parts.device, dtype=parts.dtype)
        # Norm weights about one, everything else small enough to keep activations of unit size.
        value = 1 + 0.1 * value if parameter.ndim == 1 and leaf == "weight" else value
        value = value / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else value
        value = value.float() if exact else value
        if isinstance(owner, EightBitLinear):
            owner.take_tensor(leaf, value)
        else:
            setattr(owner, leaf, torch.nn.Parameter(value, requires_grad=False))
    if parts.accelerated and parts.device.type == "cuda":
        accelerate(model)
    return model.eval()  # type: ignore[no-any-return]


def random_request(size: VideoSize) -> ClipRequest:
    """Ask for a clip along a short arc: noise for pictures, a fifth of them holes."""
    generator = torch.Generator().manual_seed(1)
    frames, height, width = size.num_keyframes, size.height_px, size.width_px
    angle = torch.linspace(0, 0.4, frames)
    centres = torch.stack([2 * angle.sin(), 0 * angle, 2 - 2 * angle.cos()], -1)
    target = torch.tensor([0.0, 0.0, 2.0]).expand(frames, 3)
    poses = look_at(centres, target, torch.tensor([0.0, 1.0, 0.0]))
    cameras = Cameras(poses, intrinsics_from_focal(width, width, height).repeat(frames, 1, 1), width, height)
    pictures = torch.rand(frames, 3, height, width, generator=generator)
    chosen = torch.arange(size.num_references) % frames
    index = chosen % (frames - 1) + 1
    return ClipRequest(
        cameras,
        pictures,
        torch.ones(frames, height, width),
        torch.rand(frames, height, width, generator=generator) > 0.8,
        pictures[0],
        SeenViews(cameras[:1], torch.ones(1, height, width)),
        references=References(pictures[chosen], cameras[chosen], index) if size.num_references else None,
    )

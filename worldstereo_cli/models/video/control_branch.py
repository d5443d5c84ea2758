"""The global-geometric memory: a small transformer that steers the backbone by renders of the cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldstereo_cli.models.video.attention import Attention
from worldstereo_cli.models.video.config import BackboneConfig, ControlConfig
from worldstereo_cli.models.video.fused import READABLE, Kernels
from worldstereo_cli.models.video.rotary import Rotary, RotaryGrid

_SPATIAL_DOWNSAMPLE = 8
_GROUP_CHANNELS = 8
_NORM_EPS = 1e-5


_Layer = TypeVar("_Layer", nn.Linear, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Control:
    """What the cloud shows along the path."""

    render_latent: Float[Tensor, "b c f h w"]
    """Latent of the renders, keyframe by keyframe."""
    hole: Float[Tensor, "b 1 t height width"]
    """Full resolution; 1 where nothing was rendered, 0 where the cloud covers the pixel."""
    rays: Float[Tensor, "b 6 t height width"]
    """Pluecker map: direction, moment (`geometry.camera_encoding.plucker_map`)."""


class MapEmbedding(nn.Module):
    """Hole and ray maps to tokens.

    With `mask_downsample` above 1 the maps have a frame for each video frame; three zero frames go
    before them (with `interp` also behind) so that the first shares its latent frame with nothing.
    """

    def __init__(self, config: ControlConfig, patch_size: tuple[int, int, int]) -> None:
        super().__init__()
        if config.mask_downsample == 1:
            self.padding = (0, 0)
        else:
            self.padding = (3, 3) if config.interp else (3, 0)
        kernel = (config.mask_downsample, _SPATIAL_DOWNSAMPLE, _SPATIAL_DOWNSAMPLE)
        self.mask_proj = nn.Sequential(
            nn.Conv3d(config.add_channels, config.mid_channels, kernel, kernel),
            nn.GroupNorm(config.mid_channels // _GROUP_CHANNELS, config.mid_channels),
            nn.SiLU(),
        )
        self.mask_zero_proj = _zeroed(
            nn.Conv3d(config.mid_channels, config.conv_out_dim, patch_size, patch_size)
        )

    def forward(self, maps: Float[Tensor, "b a t height width"]) -> Float[Tensor, "b c f h w"]:
        """Embed the maps on the token grid."""
        padded = torch.nn.functional.pad(maps, (0, 0, 0, 0, *self.padding))
        result: Tensor = self.mask_zero_proj(self.mask_proj(padded))
        return result


class ModulatedNorm(nn.Module):
    """LayerNorm whose shift, scale and output gate follow the timestep."""

    def __init__(self, time_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(time_dim, 3 * dim)
        self.norm = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.kernels: Kernels = READABLE

    def forward(
        self, x: Float[Tensor, "b n c"], time: Float[Tensor, "b e"]
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b 1 c"]]:
        """Return the normalised tokens and the gate."""
        shift, scale, gate = self.linear(torch.nn.functional.silu(time))[:, None].chunk(3, dim=-1)
        norm = self.norm
        return self.kernels.modulated_norm(x, norm.weight, norm.bias, norm.eps, shift, scale), gate


class ControlBlock(nn.Module):
    """Self-attention and feed-forward, both gated by the timestep; no text, no image."""

    def __init__(self, config: ControlConfig) -> None:
        super().__init__()
        self.norm1 = ModulatedNorm(config.time_embed_dim, config.dim)
        self.self_attn = Attention(config.dim, config.num_heads)
        self.norm2 = ModulatedNorm(config.time_embed_dim, config.dim)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, config.dim),
        )
        self.kernels: Kernels = READABLE

    def forward(
        self, x: Float[Tensor, "b n c"], time: Float[Tensor, "b e"], rotary: Rotary
    ) -> Float[Tensor, "b n c"]:
        """Transform the tokens of the branch."""
        normed, gate = self.norm1(x, time)
        x = self.kernels.gated_add(x, self.self_attn(normed, rotary=rotary), gate)
        normed, gate = self.norm2(x, time)
        return self.kernels.gated_add(x, self.ffn(normed), gate)


class ControlBranch(nn.Module):
    """A transformer beside the backbone; block i is projected and added after backbone block i.

    Source: Cao et al., Uni3C, 2025 (the branch); Team HY-World, HY-World 2.0 technical report,
        arXiv 2604.14268 (renders of a global cloud as memory).
    """

    def __init__(self, config: ControlConfig, backbone: BackboneConfig) -> None:
        super().__init__()
        if config.conv_out_dim != backbone.width or config.time_embed_dim != backbone.width:
            raise ValueError(
                f"Expected conv_out_dim and time_embed_dim of the backbone's width {backbone.width}, got "
                f"{config.conv_out_dim} and {config.time_embed_dim}."
            )
        patch = backbone.patch_size
        self.latent_channels = backbone.out_channels
        self.controlnet_patch_embedding = nn.Conv3d(backbone.in_channels, config.conv_out_dim, patch, patch)
        self.controlnet_mask_embedding = MapEmbedding(config, patch)
        same = config.conv_out_dim == config.dim
        self.proj_in = nn.Identity() if same else nn.Linear(config.conv_out_dim, config.dim)
        self.controlnet_blocks = nn.ModuleList(ControlBlock(config) for _ in range(config.num_layers))
        self.proj_out = nn.ModuleList(
            _zeroed(nn.Linear(config.dim, backbone.width)) for _ in range(config.num_layers)
        )
        self.rope = RotaryGrid(config.dim // config.num_heads, patch, backbone.rope_max_seq_len)

    def embed(self, hidden_states: Float[Tensor, "b c f h w"], control: Control) -> Float[Tensor, "b n d"]:
        """Make the branch's tokens.

        Args:
            hidden_states: What the backbone gets; its conditioning latent gives way to the renders.
            control: What the cloud shows.
        """
        seen = torch.cat([hidden_states[:, : -self.latent_channels], control.render_latent], dim=1)
        maps = torch.cat([control.hole, control.rays], dim=1)
        embedded = self.controlnet_patch_embedding(seen) + self.controlnet_mask_embedding(maps)
        tokens: Tensor = self.proj_in(embedded.flatten(2).transpose(1, 2))
        return tokens

    def __len__(self) -> int:
        return len(self.controlnet_blocks)


def _zeroed(layer: _Layer) -> _Layer:
    """Start a layer at zero, so that the branch changes nothing until it is trained."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

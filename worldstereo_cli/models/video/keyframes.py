"""Keyframes to latents and back: the video autoencoder, one frame at a time."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.models.video.config import ModelConfig
from worldstereo_cli.models.video.frame_conv import flatten_single_frames


class KeyframeCodec:
    """An `AutoencoderKLWan` that sees every frame as a film of its own.

    Encoding takes the mode of the posterior; latents are normalised by the autoencoder's own
    statistics, so that the transformer works on values of about unit variance.

    Source: Wan 2.1 (diffusers, Apache-2.0); one film for each keyframe: HY-World 2.0 technical
        report, arXiv 2604.14268, section on keyframe latents.
    """

    def __init__(self, vae: Any, frames_at_once: int = 4) -> None:  # noqa: ANN401  (diffusers has no types)
        """Wrap an autoencoder.

        Args:
            vae: diffusers' AutoencoderKLWan, loaded, on its device and in its dtype; changed in place so
                that single frames go through it the short way.
            frames_at_once: How many frames share one pass; more is faster and takes more memory.
        """
        flatten_single_frames(vae)
        self._vae = vae
        self._frames_at_once = frames_at_once
        shape = (1, -1, 1, 1, 1)
        self._mean = torch.tensor(vae.config.latents_mean).reshape(shape)
        self._std = torch.tensor(vae.config.latents_std).reshape(shape)
        self.frames_per_latent: int = vae.config.scale_factor_temporal

    def encode(self, frames: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "1 c n h w"]:
        """Encode pictures in [-1, 1], each alone."""
        latents = [self._encode_frames(part) for part in torch.split(frames, self._frames_at_once)]
        return torch.cat(latents, dim=2)

    def encode_film(self, film: Float[Tensor, "t 3 height width"]) -> Float[Tensor, "1 c f h w"]:
        """Encode pictures in [-1, 1] as one film."""
        posterior = self._vae.encode(self._taken(film).transpose(0, 1)[None], return_dict=False)[0]
        return self._normalised(posterior.mode())

    def decode(self, latents: Float[Tensor, "1 c n h w"]) -> Float[Tensor, "n 3 height width"]:
        """Decode every keyframe alone, to pictures in [0, 1]."""
        mean, std = self._mean.to(latents.device), self._std.to(latents.device)
        frames = (latents.float() * std + mean).transpose(0, 2)
        parts = []
        for part in torch.split(frames, self._frames_at_once):
            # The autoencoder's own `decode` keeps every feature map, for a next frame that never comes.
            values = self._vae.post_quant_conv(part.to(self._vae.dtype))
            decoded = self._vae.decoder(values, first_chunk=True)
            parts.append((decoded[:, :, 0].float().clamp(-1, 1) + 1) / 2)
        return torch.cat(parts)

    def _encode_frames(self, frames: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "1 c n h w"]:
        """Encode each frame alone, without the feature maps that the autoencoder's `encode` keeps."""
        moments = self._vae.quant_conv(self._vae.encoder(self._taken(frames)[:, :, None]))
        mode, _ = moments.chunk(2, dim=1)
        return self._normalised(mode).transpose(0, 2)

    def _taken(self, frames: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 3 height width"]:
        taken: Tensor = frames.to(self._vae.device, self._vae.dtype)
        return taken

    def _normalised(self, mode: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        return (mode.float() - self._mean.to(mode.device)) / self._std.to(mode.device)


def conditioning_latent(
    codec: KeyframeCodec,
    first_frame: Float[Tensor, "3 height width"],
    config: ModelConfig,
    mask_channels: int,
) -> Float[Tensor, "1 c f h w"]:
    """Build what tells the model its first frame: a mask (1 where a frame is given) and a latent.

    Args:
        codec: Of the model.
        first_frame: In [-1, 1].
        config: How many keyframes there are, and how the unknown ones are filled.
        mask_channels: Channels of the mask.
    """
    num_keyframes = config.num_keyframes
    if config.latent_cond_mode == "full_vae":
        film = first_frame.new_zeros(codec.frames_per_latent * (num_keyframes - 1) + 1, *first_frame.shape)
        film[0] = first_frame
        latent = codec.encode_film(film)
    else:
        both = codec.encode(torch.stack([first_frame, torch.zeros_like(first_frame)]))
        latent = both[:, :, [0] + [1] * (num_keyframes - 1)]
    mask = torch.zeros_like(latent[:, :1]).repeat(1, mask_channels, 1, 1, 1)
    mask[:, :, 0] = 1
    return torch.cat([mask, latent], dim=1)


def reference_latents(
    codec: KeyframeCodec, references: Float[Tensor, "r 3 height width"], mask_channels: int
) -> Float[Tensor, "1 c r h w"]:
    """Build what the backbone sees of past views: latent, a mask of ones, and the latent again.

    Args:
        codec: Of the model.
        references: In [-1, 1].
        mask_channels: Channels of the mask.
    """
    latent = codec.encode(references)
    mask = torch.ones_like(latent[:, :1]).repeat(1, mask_channels, 1, 1, 1)
    return torch.cat([latent, mask, latent], dim=1)

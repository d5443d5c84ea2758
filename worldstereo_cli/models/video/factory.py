"""From the name in a recipe to a frame backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worldstereo_cli.models.video.protocol import VideoBackend
from worldstereo_cli.progress import Progress, silent

WARP = "warp"
"""The backend without a model."""


@dataclass(frozen=True, slots=True)
class VideoChoice:
    """What a recipe says about the frame backend."""

    name: str = WARP
    """`warp`, the name of a released model, or a folder of weights."""
    num_frames: int = 8
    """Frames for each path, for backends that are free to choose."""
    num_steps: int = 40
    """Denoising steps, for models that were not distilled to a fixed count."""
    guidance: float = 5.0
    """How far to go beyond the prompt, for models that were not distilled."""
    weights: Literal["auto", "resident", "eight-bit"] = "auto"
    """How a model's weights are stored on the device; `auto` takes the fastest way that fits."""


def make_video_backend(choice: VideoChoice, device: str = "cpu", progress: Progress = silent) -> VideoBackend:
    """Make a backend; a model's weights are found now and loaded with the first clip.

    Args:
        choice: Which, and with which settings.
        device: `cpu` or `cuda`.
        progress: Told after every denoising step.

    Raises:
        BackendError: There is none of that name, or a library or weights of it are missing.
    """
    if choice.name == WARP:
        from worldstereo_cli.models.video.warp import WarpBackend

        return WarpBackend(choice.num_frames)

    import torch

    from worldstereo_cli.models.catalogue import find_weights
    from worldstereo_cli.models.video.parts import VideoParts
    from worldstereo_cli.models.video.worldstereo import VideoSettings, WorldStereoBackend

    tier = None if choice.weights == "auto" else choice.weights
    settings = VideoSettings(num_steps=choice.num_steps, guidance=choice.guidance, tier=tier)
    parts = VideoParts.open(find_weights(choice.name), torch.device(device))
    return WorldStereoBackend(parts, settings, progress)


def describe_needs(choice: VideoChoice, device: str, width_px: int, height_px: int) -> str | None:
    """Say what a clip of a model needs, before anything heavy loads; None for `warp`.

    Raises:
        BackendError: Weights are missing, or a GPU without which a clip would take hours.
        OutOfMemory: No way to store them fits on the device.
    """
    if choice.name == WARP:
        return None
    from worldstereo_cli.models.video.worldstereo import WorldStereoBackend

    backend = make_video_backend(choice, device)
    if not isinstance(backend, WorldStereoBackend):
        raise TypeError(f"Expected a model, got {type(backend).__name__}.")
    return backend.describe_needs(backend.clip_size(width_px, height_px))

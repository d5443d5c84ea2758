"""Depth Anything V2: robust relative depth, or metric depth with one of its metric checkpoints."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.models.depth.pretrained import load_pretrained
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.models.depth.sky import find_sky

_PATCHES = 37
"""Patches along the shorter side: 518 pixels of 14, as the model was trained."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, as the model was trained."""

_MAX_RATIO = 100.0
"""Relative disparity reaches zero at infinity; nothing is taken to be farther than this many times
the nearest."""

_FAR_RATIO = 20.0
"""Sky is at least this many times farther than the nearest thing."""


class DepthAnything:
    """The `depth-anything` backend.

    A relative checkpoint gives disparity up to scale and a small shift. Zero stands for infinity in
    its training (sky), so no shift is applied here, and the scale is a convention.

    Source: Yang et al., Depth Anything V2, NeurIPS 2024.
    """

    name = "depth-anything"
    # The small model alone is under Apache-2.0; the larger ones are not for commercial use.
    usual_weights: ClassVar[str] = "depth-anything/Depth-Anything-V2-Small-hf"

    def __init__(self, model: Any) -> None:  # noqa: ANN401  (a class of transformers)
        """Hold a loaded `DepthAnythingForDepthEstimation`."""
        if model.head.max_depth is None:
            # A configuration of a relative model may say so; the library then fails to multiply by it.
            model.head.max_depth = 1
        self._model = model

    @classmethod
    def load(cls, weights: str, device: str) -> DepthAnything:
        """Load weights from the hub's cache or a folder.

        Raises:
            BackendError: They are not here, or damaged.
        """
        from transformers.models.depth_anything.modeling_depth_anything import (
            DepthAnythingForDepthEstimation,
        )

        return cls(load_pretrained(DepthAnythingForDepthEstimation, weights, device))

    @torch.inference_mode()
    def estimate(self, image: Float[Tensor, "3 h w"], focal_px: float | None) -> DepthEstimate:
        """Estimate depth; the model neither uses nor finds a focal length.

        Raises:
            ValueError: The image is not (3, h, w).
        """
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"Expected an image (3, h, w), got {tuple(image.shape)}.")
        output = self._model(pixel_values=self._pixels(image)).predicted_depth[None].float()
        values = torch.nn.functional.interpolate(output, image.shape[1:], mode="bilinear")[0, 0]
        values = values.to(image.device)
        is_metric = self._model.config.depth_estimation_type == "metric"
        if is_metric:
            depth = values.clamp_min(1e-3)
        else:
            nearest = values.max().clamp_min(1e-9)
            depth = nearest / values.clamp_min(float(nearest) / _MAX_RATIO)
        sky = find_sky(image, depth > _FAR_RATIO * depth.min())
        return DepthEstimate(torch.where(sky, 0.0, depth), ~sky, sky, None, is_metric=is_metric)

    def _pixels(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 3 s t"]:
        """Scale the shorter side to the trained size, both sides to whole patches, and normalise."""
        patch = int(self._model.config.patch_size)
        scale = _PATCHES * patch / min(image.shape[1:])
        size = [max(1, round(side * scale / patch)) * patch for side in image.shape[1:]]
        pixels = torch.nn.functional.interpolate(
            image[None].to(self._model.device, torch.float32), size, mode="bicubic", antialias=True
        ).clamp(0, 1)
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (_MEAN, _STD))
        return (pixels - mean) / std

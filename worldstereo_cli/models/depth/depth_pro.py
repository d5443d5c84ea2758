"""Depth Pro: sharp metric depth and a focal length, from a large network that is fetched once."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import focal_from_fov
from worldstereo_cli.models.depth.pretrained import load_pretrained
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.models.depth.sky import find_sky

_MIN_INVERSE, _MAX_INVERSE = 1e-4, 1e4
"""Bounds of the model's own post-processing, 1/metres."""

_PLAUSIBLE_FOV_DEG = (2.0, 170.0)
"""Outside, the head for the field of view has failed."""

_SKY_FROM_M = 60.0
"""The model puts sky at hundreds of metres or more; nearer things are not asked whether they are sky."""


class DepthPro:
    """The `depth-pro` backend.

    Source: Bochkovskii et al., Depth Pro: Sharp Monocular Metric Depth in Less Than a Second, 2024.
    """

    name = "depth-pro"
    usual_weights: ClassVar[str] = "apple/DepthPro-hf"

    def __init__(self, model: Any) -> None:  # noqa: ANN401  (a class of transformers)
        """Hold a loaded `DepthProForDepthEstimation`."""
        self._model = model

    @classmethod
    def load(cls, weights: str, device: str) -> DepthPro:
        """Load weights from the hub's cache or a folder.

        Raises:
            BackendError: They are not here, or damaged.
        """
        from transformers.models.depth_pro.modeling_depth_pro import DepthProForDepthEstimation

        return cls(load_pretrained(DepthProForDepthEstimation, weights, device))

    @torch.inference_mode()
    def estimate(self, image: Float[Tensor, "3 h w"], focal_px: float | None) -> DepthEstimate:
        """Estimate metric depth; a known focal length replaces the model's own in the metric scale.

        Raises:
            ValueError: The image is not (3, h, w).
        """
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"Expected an image (3, h, w), got {tuple(image.shape)}.")
        height, width = image.shape[1:]
        output = self._model(pixel_values=self._pixels(image))
        fov_deg = 0.0 if output.field_of_view is None else float(output.field_of_view.flatten()[0])
        plausible = _PLAUSIBLE_FOV_DEG[0] < fov_deg < _PLAUSIBLE_FOV_DEG[1]
        found = focal_from_fov(math.radians(fov_deg), width) if plausible else None
        focal = focal_px or found
        # The network predicts inverse depth of a camera as wide as its focal length is long.
        inverse = output.predicted_depth[None].float() * (width / focal if focal else 1.0)
        inverse = torch.nn.functional.interpolate(inverse, (height, width), mode="bilinear")[0, 0]
        depth = (1.0 / inverse.clamp(_MIN_INVERSE, _MAX_INVERSE)).to(image.device)
        sky = find_sky(image, depth > _SKY_FROM_M)
        return DepthEstimate(torch.where(sky, 0.0, depth), ~sky, sky, found, is_metric=focal is not None)

    def _pixels(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 3 s s"]:
        """Stretch to the square that the model was trained on, in [-1, 1]."""
        config = self._model.config
        side = round(config.patch_size / min(config.scaled_images_ratios))
        pixels = (2.0 * image[None] - 1.0).to(self._model.device, torch.float32)
        return torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear")

"""Take the bias out of the metric scale of averaged weights.

An average of weights is a network that was never trained: its depth and its one number for the scale
each come from many steps, and need not fit each other. As the statistics of batch norms are measured
anew after averaging, so is this number, on rendered scenes.

Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization",
section 3.2.
"""

import torch
from torch import Tensor

from worldstereo_cli.models.depth.network import DepthNetwork
from worldstereo_cli.training.depth.augment import AugmentSettings, photograph
from worldstereo_cli.training.depth.batches import BatchSource
from worldstereo_cli.training.depth.losses import median_offset

FIRST_SCENE = 3_000_000_000
"""Scenes from here on; a run numbered from its seed hardly ever meets them."""

BATCH = 8


@torch.inference_mode()
def log_scale_bias(
    network: DepthNetwork, source: BatchSource, num_scenes: int, size: tuple[int, int]
) -> float:
    """Measure the median error of the logarithm of the metric scale on rendered scenes.

    Args:
        network: On the CPU.
        source: Scenes.
        num_scenes: How many; their median is known to about 0.4 / sqrt(num_scenes).
        size: Height and width, pixels.
    """
    errors: list[Tensor] = []
    for first in range(FIRST_SCENE, FIRST_SCENE + num_scenes, BATCH):
        batch = source(list(range(first, min(first + BATCH, FIRST_SCENE + num_scenes))), size)
        surface = torch.isfinite(batch.depth_m)
        log_truth = torch.where(surface, batch.depth_m, torch.ones_like(batch.depth_m)).clamp(min=1e-3).log()
        raw = network(photograph(batch.rgb_linear, batch.depth_m, AugmentSettings(0.7, 0.0)))
        offset = median_offset(raw.log_depth - log_truth, surface.float())
        log_focal = (batch.intrinsics[:, 0, 0] / max(size)).log()
        has_surface = surface.float().mean(dim=(1, 2)) > 0.02
        errors.append((raw.log_scale + log_focal + offset)[has_surface])
    return float(torch.cat(errors).median())

"""From noise to a clean latent: a multistep solver with guidance, and a few-step Euler walk."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.models.video.config import DistilledConfig, SolverConfig

_NUM_TRAIN_TIMESTEPS = 1000

Schedule = Literal["release", "current"]


class Sampler(Protocol):
    """Walks a sample along the flow, one velocity at a time; good for one walk."""

    timesteps: Tensor
    """What the model is told at each step, descending from about 1000."""
    sigmas: Tensor
    """Noise level before each step, and after the last."""

    def step(self, index: int, velocity: Tensor, sample: Tensor) -> Tensor:
        """Return the sample after step `index`."""
        ...


class DistilledSampler:
    """Deterministic Euler steps of the flow, for models distilled to a few of them.

    Source: Yin et al., Improved Distribution Matching Distillation, NeurIPS 2024, for such models;
        the time shift: Esser et al., Scaling Rectified Flow Transformers, 2024, section 5.3.2.
    """

    def __init__(self, config: DistilledConfig, device: torch.device | str = "cpu") -> None:
        end = config.end_timestep
        even = torch.linspace(config.start_timestep, end, config.num_steps).flip(0) / end
        shifted = config.shift * even / (1 + (config.shift - 1) * even)
        timesteps = shifted * end
        self.timesteps = timesteps.to(device)
        sigmas = torch.cat([timesteps / _NUM_TRAIN_TIMESTEPS, timesteps.new_zeros(1)])
        self.sigmas = sigmas.to(device)

    def step(
        self, index: int, velocity: Float[Tensor, ...], sample: Float[Tensor, ...]
    ) -> Float[Tensor, ...]:
        """Return the sample after step `index`."""
        return sample + (self.sigmas[index + 1] - self.sigmas[index]) * velocity


class UniPCSampler:
    """Predictor-corrector of second order.

    Source: Zhao et al., UniPC, NeurIPS 2023; diffusers' implementation (Apache-2.0).
    """

    def __init__(
        self,
        config: SolverConfig,
        num_steps: int,
        *,
        schedule: Schedule = "release",
        device: torch.device | str = "cpu",
    ) -> None:
        """Lay out the steps.

        Args:
            config: The base model's scheduler_config.json.
            num_steps: How many velocities will be asked for.
            schedule: The noise levels of diffusers 0.36, with which the models were released, or
                those of the diffusers that is installed.
            device: Where the samples live.
        """
        self._scheduler = UniPCMultistepScheduler(**config.model_dump())
        if schedule == "release":
            # Evenly from 0.999 down, before the shift; 0.42 starts at 1 and stops 1/1000 above 0.
            even = (1 - 1 / _NUM_TRAIN_TIMESTEPS) * np.arange(num_steps, 0, -1) / num_steps
            self._scheduler.set_timesteps(sigmas=even, device=device)
        else:
            self._scheduler.set_timesteps(num_steps, device=device)
        self.timesteps: Tensor = self._scheduler.timesteps
        self.sigmas: Tensor = self._scheduler.sigmas

    def step(
        self, index: int, velocity: Float[Tensor, ...], sample: Float[Tensor, ...]
    ) -> Float[Tensor, ...]:
        """Return the sample after step `index`."""
        moved: Tensor = self._scheduler.step(velocity, self.timesteps[index], sample, return_dict=False)[0]
        return moved

"""One clip from noise to latent: the loop that every model of this family runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.samplers import Sampler
from worldstereo_cli.models.video.transformer import ReferenceLatents, WorldStereoTransformer

OnStep = Callable[[int, Tensor], None]


@dataclass(frozen=True, slots=True)
class ClipConditions:
    """Everything that a clip is made from, in the form and on the device that the model reads."""

    first_frame: Float[Tensor, "1 m f h w"]
    """Mask and conditioning latent (`keyframes.conditioning_latent`)."""
    control: Control | None
    references: ReferenceLatents | None = None
    camera: Float[Tensor, "1 f 7"] | None = None
    text: Float[Tensor, "1 t e"] | None = None
    negative_text: Float[Tensor, "1 t e"] | None = None
    """What guidance leads away from; needed where `guidance` is not 1."""
    image: Float[Tensor, "1 i e"] | None = None


def _ignore(index: int, sample: Tensor) -> None:
    """Do nothing after a step."""


@torch.inference_mode()
def denoise(
    model: WorldStereoTransformer,
    sampler: Sampler,
    noise: Float[Tensor, "1 c f h w"],
    conditions: ClipConditions,
    *,
    guidance: float = 1.0,
    on_step: OnStep = _ignore,
) -> Float[Tensor, "1 c f h w"]:
    """Walk from noise to a clean latent.

    Args:
        model: On the device of the inputs.
        sampler: A fresh one.
        noise: Unit normal, float32.
        conditions: What the clip is made from.
        guidance: How far to go beyond the prompt, away from the negative one; 1 leaves the latter out.
        on_step: Called with the index of each step and the sample after it.

    Raises:
        ValueError: Guidance is asked for without the prompts that it needs.

    Source: Ho & Salimans, Classifier-free diffusion guidance, 2022, equation 6.
    """
    sample, known, text = noise, conditions.first_frame, conditions.text
    if guidance != 1.0:
        if text is None or conditions.negative_text is None:
            raise ValueError("Expected a prompt and a negative one, between which guidance leads.")
        text = torch.cat([text, conditions.negative_text])
    for index, timestep in enumerate(sampler.timesteps):
        predicted = model(
            torch.cat([sample.to(known.dtype), known], dim=1),
            timestep.float().reshape(1),
            text,
            conditions.image,
            control=conditions.control,
            references=conditions.references,
            camera=conditions.camera,
        ).float()
        if guidance != 1.0:
            prompted, unprompted = predicted.chunk(2)
            predicted = unprompted + guidance * (prompted - unprompted)
        sample = sampler.step(index, predicted, sample)
        on_step(index, sample)
    return sample

"""The walk from noise to a clean latent, with guidance: nothing is computed twice, and no bit changes."""

from collections import Counter

import pytest
import torch
from tiny import build, inputs, memory

from worldstereo_cli.models.video.config import SolverConfig
from worldstereo_cli.models.video.denoising import ClipConditions, denoise
from worldstereo_cli.models.video.samplers import UniPCSampler

STEPS, GUIDANCE = 3, 5.0


def conditions(with_references: bool) -> ClipConditions:
    given, remembered = inputs(), memory()
    texts = torch.randn(2, 1, 512, 10, generator=torch.Generator().manual_seed(8))
    return ClipConditions(
        given["hidden_states"][:, 16:], remembered["control"],
        remembered["references"] if with_references else None, remembered["camera"],
        texts[0], texts[1], given["encoder_hidden_states_image"],
    )  # fmt: skip


def noise() -> torch.Tensor:
    return torch.randn(1, 16, 3, 4, 6, generator=torch.Generator().manual_seed(9))


@torch.inference_mode()
def in_two_passes(model, sampler, known: ClipConditions) -> torch.Tensor:
    """The same walk as the formula says it: the model is asked once with each prompt."""
    sample = noise()
    for index, timestep in enumerate(sampler.timesteps):
        prompted, unprompted = (
            model(
                torch.cat([sample, known.first_frame], dim=1), timestep.float()[None], text, known.image,
                control=known.control, references=known.references, camera=known.camera,
            )
            for text in (known.text, known.negative_text)
        )  # fmt: skip
        sample = sampler.step(index, unprompted + GUIDANCE * (prompted - unprompted), sample)
    return sample


@pytest.mark.parametrize("with_references", [True, False])
def test_guidance_in_one_pass_is_guidance_in_two_bit_for_bit(with_references: bool) -> None:
    model, known = build(), conditions(with_references)
    ran: Counter[str] = Counter()
    counted = {"block": model.blocks[0].attn1, "second": model.blocks[1].attn1} | {
        name: model.get_submodule(name)
        for name in ("patch_embedding", "controlnet.controlnet_patch_embedding", "condition_embedder",
                     "controlnet.controlnet_mask_embedding", "camera_embedding",
                     "controlnet.controlnet_blocks.0", "controlnet.controlnet_blocks.1",
                     "controlnet.proj_out.1")
    }  # fmt: skip
    for name, part in counted.items():
        part.register_forward_hook(lambda *_, name=name: ran.update([name]))
    walked = denoise(model, UniPCSampler(SolverConfig(), STEPS), noise(), known, guidance=GUIDANCE)
    streams = 2 if with_references else 1
    per_step = {name: count / STEPS for name, count in ran.items()}
    assert per_step.pop("second") == 2
    assert per_step.pop("patch_embedding") == per_step.pop("camera_embedding") == streams
    # The whole control branch, and the first block's attention among the frames: once, not twice.
    assert per_step == dict.fromkeys(per_step, 1) and len(per_step) == len(counted) - 3
    assert torch.equal(walked, in_two_passes(model, UniPCSampler(SolverConfig(), STEPS), known))


def test_guidance_needs_two_prompts() -> None:
    known = conditions(False)
    with pytest.raises(ValueError, match="a negative one"):
        denoise(
            build(), UniPCSampler(SolverConfig(), 1), noise(),
            ClipConditions(known.first_frame, known.control, camera=known.camera, text=known.text),
            guidance=2.0,
        )  # fmt: skip

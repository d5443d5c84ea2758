"""Parity of what surrounds the transformer: samplers, picture preprocessing, whole clips."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from torch import Tensor

from worldstereo_cli.errors import InputError
from worldstereo_cli.evaluation.parity_golden import Deviation, Golden, compare
from worldstereo_cli.evaluation.parity_transformer import build_model
from worldstereo_cli.models.video.config import DistilledConfig, ModelConfig, SolverConfig
from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.denoising import ClipConditions, denoise
from worldstereo_cli.models.video.encoders import ClipPreprocess
from worldstereo_cli.models.video.keyframes import KeyframeCodec, conditioning_latent, reference_latents
from worldstereo_cli.models.video.samplers import DistilledSampler, Sampler, UniPCSampler
from worldstereo_cli.models.video.transformer import ReferenceLatents, WorldStereoTransformer

_TIMESTEPS, _SIGMAS, _SAMPLE = 1e-4, 1e-6, 1e-5
_LATENTS_GIVEN, _LATENTS_MADE = 1e-5, 1e-4
_CLIP = 1e-3


def check_sampler(golden: Golden) -> Iterator[Deviation]:
    """Compare schedules, and the walks that the stored velocities lead to."""
    configs = golden.setting("configs")
    for name in dict.fromkeys(key.split("/")[0] for key in golden.own if "/" in key):
        expected = golden.group(name)
        base = name if name in configs else re.sub(r"_\d+$", "", name)
        if base not in configs:
            raise InputError(f"{golden.path} has no settings for {name}.", remedy="Check its metadata.")
        sampler = _sampler(configs[base], len(expected["timesteps"]), golden.release_schedule)
        exact = not expected["timesteps"].is_floating_point()
        yield compare(
            f"{name}/timesteps", sampler.timesteps, expected["timesteps"], 0.0 if exact else _TIMESTEPS
        )
        yield compare(f"{name}/sigmas", sampler.sigmas, expected["sigmas"], _SIGMAS)
        if "x" not in expected:
            continue
        sample = golden.tensors["x_start"]
        walk = []
        for index, velocity in enumerate(expected["v"]):
            sample = sampler.step(index, velocity, sample)
            walk.append(sample)
        yield compare(f"{name}/x", torch.stack(walk), expected["x"], _SAMPLE)


def check_clip(golden: Golden) -> Iterator[Deviation]:
    """Compare a preprocessed picture, where it was sampled and as a whole."""
    processor = golden.setting("processor")
    preprocess = ClipPreprocess(
        int(processor["crop_size"]["height"]),
        tuple(processor["image_mean"]),
        tuple(processor["image_std"]),
        bool(processor["do_rescale"]),
    )
    pixels = golden.tensors["image_uint8"].to(torch.uint8).numpy()
    values = preprocess(Image.fromarray(pixels))
    for name, expected in golden.tensors.items():
        stride = re.fullmatch(r"pixel_values_stride(\d+)", name)
        if stride:
            step = int(stride.group(1))
            yield compare(name, values[..., ::step, ::step], expected, _CLIP)
    summary = torch.stack([values.mean(), values.std(), values.min(), values.max()])
    yield compare("mean_std_min_max", summary, golden.tensors["mean_std_min_max"], _CLIP)


@torch.no_grad()
def check_pipelines(golden: Golden) -> Iterator[Deviation]:
    """Compare whole clips, from pictures and noise to latents and pictures."""
    vae = AutoencoderKLWan(**golden.setting("vae_config")).eval()
    vae.load_state_dict(golden.group("vae"))
    codec = KeyframeCodec(vae)
    names = dict.fromkeys(key.split("/")[0] for key in golden.own if key.endswith("/latents"))
    for name in names:
        kind = "memory" if f"{name}/reference_latent" in golden.tensors or name == "memory" else "camera"
        state = golden.sibling(f"transformer_{kind}").group("state")
        model = build_model(golden, golden.setting(f"transformer_config_{kind}"), state)
        yield from _check_pipeline(golden, name, kind, codec, model)


def _check_pipeline(
    golden: Golden, name: str, kind: str, codec: KeyframeCodec, model: WorldStereoTransformer
) -> Iterator[Deviation]:
    given = golden.group("in")
    mask_channels = model.backbone_config.mask_channels
    rendered = codec.encode(given["render_video"][0].transpose(0, 1))
    if f"{name}/render_latent" in golden.own:
        expected = golden.own[f"{name}/render_latent"]
        yield compare(f"{name}/render_latent", rendered, expected, _LATENTS_GIVEN)
    references = None
    if kind == "memory":
        seen = reference_latents(codec, given["reference_video"][0].transpose(0, 1), mask_channels)
        if f"{name}/reference_latent" in golden.own:
            expected = golden.own[f"{name}/reference_latent"]
            yield compare(f"{name}/reference_latent", seen, expected, _LATENTS_GIVEN)
        references = ReferenceLatents(seen, given["ref_index"], given["camera_qt_ref"])
    first = given["image_uint8"].permute(2, 0, 1) / 127.5 - 1
    modes = [m for m in ("first_frame_only", "full_vae") if f"{name}/{m}/latents" in golden.own]
    for mode in modes:
        config = ModelConfig.model_validate({"nframe": rendered.shape[2], "latent_cond_mode": mode})
        known = conditioning_latent(codec, first, config, mask_channels)
        conditions = ClipConditions(
            known,
            Control(rendered, given["render_mask"], given["camera_embedding"]),
            references,
            given["camera_qt"],
            given[f"prompt_embeds_{kind}"],
            given[f"negative_prompt_embeds_{kind}"],
            given[f"clip_tokens_{kind}"],
        )
        results = {"condition": known, **_walk(golden, name, model, conditions)}
        results["pixels"] = codec.decode(results["latents"])[None]
        for label, expected in golden.group(f"{name}/{mode}").items():
            if f"{name}/{mode}/{label}" in golden.own:
                tolerance = _LATENTS_GIVEN if label == "condition" else _LATENTS_MADE
                yield compare(f"{name}/{mode}/{label}", results[label], expected, tolerance)


def _walk(
    golden: Golden, name: str, model: WorldStereoTransformer, conditions: ClipConditions
) -> dict[str, Tensor]:
    """Denoise, keeping every velocity and every step."""
    velocities: list[Tensor] = []
    steps: list[Tensor] = []
    # With guidance, one call returns the velocity of the prompt and that of the negative one.
    handle = model.register_forward_hook(lambda *call: velocities.extend(call[-1].split(1)))
    distilled = name == "dmd"
    sampler = _sampler(
        golden.setting("scheduler_dmd" if distilled else "scheduler_unipc"),
        int(golden.setting("steps")),
        golden.release_schedule,
    )
    latents = denoise(
        model,
        sampler,
        golden.tensors["in/initial_noise"],
        conditions,
        guidance=1.0 if distilled else float(golden.setting("guidance_scale")),
        on_step=lambda _, sample: steps.append(sample),
    )
    handle.remove()
    return {
        "latents": latents,
        "latents_per_step": torch.stack(steps),
        "velocity_per_call": torch.stack(velocities),
    }


def _sampler(settings: dict[str, Any], num_steps: int, release_schedule: bool) -> Sampler:
    """Build the sampler that settings in the words of the release describe."""
    if "dmd_steps" in settings:
        return DistilledSampler(
            DistilledConfig(
                start_timestep=settings["start_timesteps"],
                end_timestep=settings["num_train_timesteps"],
                num_steps=settings["dmd_steps"],
                shift=settings["shift"],
            )
        )
    config = SolverConfig.model_validate(settings)
    return UniPCSampler(config, num_steps, schedule="release" if release_schedule else "current")

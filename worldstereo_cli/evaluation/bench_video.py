"""The video model at full size with random weights: seconds, peak memory, precision, where time goes.

Random weights take the same time as trained ones, so no download is needed; what is drawn is noise.
All goes through the frame backend, as in a run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldstereo_cli.evaluation.random_video import (
    RandomParts,
    VideoSize,
    random_request,
    random_transformer,
)
from worldstereo_cli.models.video.acceleration import accelerate
from worldstereo_cli.models.video.config import DistilledConfig
from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.denoising import ClipConditions
from worldstereo_cli.models.video.footprint import MemoryPlan, Tier
from worldstereo_cli.models.video.transformer import WorldStereoTransformer
from worldstereo_cli.models.video.worldstereo import VideoSettings, WorldStereoBackend

_GIB = 1 << 30
_KERNELS_SHOWN = 8

_KINDS = {
    "attention": ("sdpa", "flash", "fmha", "attention"),
    "convolutions": ("conv", "implicit_gemm", "nhwc", "nchw"),
    "matrix products": ("gemm", "nvjet", "cutlass", "addmm", "::mm", "bmm"),
    "fused steps": ("triton",),
    "copies": ("memcpy", "memset", "copy"),
}
"""Kinds of kernels by parts of their names; the first that fits counts."""


@dataclass(frozen=True, slots=True)
class VideoBenchRow:
    """What was measured of one way to store the weights."""

    plan: MemoryPlan
    """What was foretold."""
    warm_up_s: float
    """First denoising step: weights are drawn, kernels are compiled."""
    denoise_s: float
    """Of one clip."""
    clip_s: float
    """With encoding of renders and references, and decoding."""
    peak_gib: float
    """Of the device, over the whole clip; NaN where it does not count."""


@dataclass(frozen=True, slots=True)
class GuidedStep:
    """What a denoising step with guidance takes, for which the model is asked with two prompts."""

    together_s: float
    """Side by side, as the backend does it: what does not look at prompts is computed once."""
    apart_s: float
    """One after the other."""
    same_bits: bool
    """Whether the velocities are the same."""
    peak_gib: float
    """Of the device, side by side; NaN where it does not count."""


@dataclass(frozen=True, slots=True)
class KernelTime:
    """A kernel, or a kind of kernels."""

    name: str
    seconds: float
    calls: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the time of a clip with one denoising step goes."""

    kinds: list[KernelTime]
    kernels: list[KernelTime]
    """The longest."""


def bench_tier(parts: RandomParts, size: VideoSize, tier: Tier) -> VideoBenchRow:
    """Time one clip with the weights stored in one way.

    Args:
        parts: Of that size; keeps the transformer that it draws.
        size: The clip.
        tier: How weights are stored.
    """
    request = random_request(size)
    settings = VideoSettings(tier=tier)
    once = _with_steps(parts, 1)
    warm_up_s = _timed(parts, lambda: WorldStereoBackend(once, settings).generate(request))
    stamps: list[float] = []

    def stamp(done: int, total: int, what: str) -> None:
        _wait(parts)
        stamps.append(time.perf_counter())

    backend = WorldStereoBackend(_with_steps(parts, size.num_steps), settings, stamp)
    # Loads the autoencoder, which a scene does once.
    backend.conditions(request)
    _forget_peak(parts)
    clip_s = _timed(parts, lambda: backend.generate(request))
    denoise_s = stamps[-1] - stamps[0]
    return VideoBenchRow(foretold(parts, size, tier), warm_up_s, denoise_s, clip_s, _peak_gib(parts))


def bench_guidance(parts: RandomParts, size: VideoSize, tier: Tier) -> GuidedStep:
    """Time a denoising step with guidance, after `bench_tier` has warmed everything up.

    Args:
        parts: As `bench_tier` left them.
        size: The clip.
        tier: How weights are stored.
    """
    backend = WorldStereoBackend(parts, VideoSettings(tier=tier))
    given = backend.conditions(random_request(size))
    model = parts.transformer(backend.plan(backend.clip_size(size.width_px, size.height_px)))
    texts = parts.prompt_encoder(Path()).encode(["prompt", "negative prompt"])
    inputs = _inputs(model, given)

    @torch.inference_mode()
    def together() -> Tensor:
        velocities: Tensor = model(**inputs | {"encoder_hidden_states": texts})
        return velocities

    @torch.inference_mode()
    def apart() -> Tensor:
        return torch.cat([model(**inputs | {"encoder_hidden_states": text[None]}) for text in texts])

    _forget_peak(parts)
    expected = together()
    peak = _peak_gib(parts)
    # In turn, there and back, so that a GPU that warms up slows down both.
    found: list[Tensor] = []
    apart_s, together_s = _timed(parts, lambda: found.append(apart())), _timed(parts, together)
    together_s, apart_s = min(together_s, _timed(parts, together)), min(apart_s, _timed(parts, apart))
    return GuidedStep(together_s, apart_s, torch.equal(expected, found[0]), peak)


def foretold(parts: RandomParts, size: VideoSize, tier: Tier) -> MemoryPlan:
    """Foretell what a tier takes, whether it fits on the device or not."""
    backend = WorldStereoBackend(parts, VideoSettings(tier=tier))
    return backend.plan(backend.clip_size(size.width_px, size.height_px))


def profile_clip(parts: RandomParts, size: VideoSize, tier: Tier) -> Profile:
    """Tell which kernels (on a CPU: operators) take the time of a clip with one denoising step."""
    backend = WorldStereoBackend(_with_steps(parts, 1), VideoSettings(tier=tier))
    request = random_request(size)
    backend.conditions(request)
    on_gpu = parts.device.type == "cuda"
    spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if on_gpu else activity.CPU]) as profile:
        backend.generate(request)
        _wait(parts)
    rows = [KernelTime(row.key, 1e-6 * getattr(row, spent), row.count) for row in profile.key_averages()]
    kinds: dict[str, KernelTime] = {}
    for row in rows:
        kind = kind_of(row.name)
        known = kinds.get(kind, KernelTime(kind, 0.0, 0))
        kinds[kind] = KernelTime(kind, known.seconds + row.seconds, known.calls + row.calls)

    def longest(times: list[KernelTime]) -> list[KernelTime]:
        return sorted(times, key=lambda time: -time.seconds)

    return Profile(longest(list(kinds.values())), longest(rows)[:_KERNELS_SHOWN])


def kind_of(kernel: str) -> str:
    """Tell the kind of a kernel from its name."""
    name = kernel.lower()
    return next((kind for kind, parts in _KINDS.items() if any(p in name for p in parts)), "other")


def precision_ratio(size: VideoSize, device: torch.device, num_layers: int = 4) -> float:
    """Return how far our arithmetic is from float32, relative to plain bfloat16, on a model cut short.

    Plain is the model in bfloat16 throughout, with the steps of `fused` as they are written; ours
    keeps timestep and modulation in float32 and, on a GPU, takes the kernels of the backend.
    """
    control = size.control.model_copy(update={"num_layers": min(num_layers, size.control.num_layers)})
    short = replace(
        size, backbone=size.backbone.model_copy(update={"num_layers": num_layers}), control=control
    )
    exact = RandomParts.of(short, device, torch.float32, accelerated=False)
    backend = WorldStereoBackend(exact, VideoSettings(tier="resident"))
    request = random_request(short)
    given = backend.conditions(request)
    plan = backend.plan(backend.clip_size(short.width_px, short.height_px))
    model = random_transformer(exact, plan)
    reference, state = _velocity(model, given), {k: v.cpu() for k, v in model.state_dict().items()}
    del model
    errors = []
    rounded = replace(exact, dtype=torch.bfloat16)
    for ours in (True, False):
        model = random_transformer(rounded, plan)
        model.load_state_dict(state)
        if not ours:
            model.to(torch.bfloat16)
        elif device.type == "cuda":
            accelerate(model)
        errors.append(float((_velocity(model, given) - reference).square().mean().sqrt()))
        del model
    return errors[0] / errors[1]


@torch.inference_mode()
def _velocity(model: WorldStereoTransformer, given: ClipConditions) -> Tensor:
    """Run one forward pass in the dtype of a model's blocks."""
    velocity: Tensor = model(**_inputs(model, given))
    return velocity.float()


def _inputs(model: WorldStereoTransformer, given: ClipConditions) -> dict[str, Any]:
    """Return what a model takes for a first step, by name, in the dtype of its blocks."""
    like = model.patch_embedding.weight
    known = given.first_frame.to(like)
    shape = (1, model.backbone_config.out_channels, *known.shape[2:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(like)
    control, references = given.control, given.references
    if control is not None:
        control = Control(*(part.to(like) for part in (control.render_latent, control.hole, control.rays)))
    return {
        "hidden_states": torch.cat([noise, known], dim=1),
        "timestep": torch.full((1,), 900.0, device=like.device),
        "encoder_hidden_states": None if given.text is None else given.text.to(like),
        "encoder_hidden_states_image": None if given.image is None else given.image.to(like),
        "control": control,
        "references": None if references is None else replace(references, latent=references.latent.to(like)),
        "camera": given.camera,
    }


def _forget_peak(parts: RandomParts) -> None:
    if parts.device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(parts.device)


def _peak_gib(parts: RandomParts) -> float:
    on_gpu = parts.device.type == "cuda"
    return torch.cuda.max_memory_allocated(parts.device) / _GIB if on_gpu else float("nan")


def _with_steps(parts: RandomParts, num_steps: int) -> RandomParts:
    config = parts.config.model_copy(update={"distilled": DistilledConfig(num_steps=num_steps)})
    return replace(parts, config=config)


def _timed(parts: RandomParts, work: Callable[[], object]) -> float:
    _wait(parts)
    began = time.perf_counter()
    work()
    _wait(parts)
    return time.perf_counter() - began


def _wait(parts: RandomParts) -> None:
    if parts.device.type == "cuda":
        torch.cuda.synchronize(parts.device)

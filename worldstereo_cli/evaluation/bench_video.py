"""The video model at full size with random weights: seconds, peak memory, precision, where time goes.

Random weights take the same time as trained ones, so no download is needed; what is drawn is noise.
All goes through the frame backend, as in a run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

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
    on_gpu = parts.device.type == "cuda"
    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(parts.device)
    clip_s = _timed(parts, lambda: backend.generate(request))
    peak = torch.cuda.max_memory_allocated(parts.device) / _GIB if on_gpu else float("nan")
    return VideoBenchRow(foretold(parts, size, tier), warm_up_s, stamps[-1] - stamps[0], clip_s, peak)


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
    like = model.patch_embedding.weight
    known = given.first_frame.to(like)
    shape = (1, model.backbone_config.out_channels, *known.shape[2:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(like)
    control, references = given.control, given.references
    if control is not None:
        control = Control(*(part.to(like) for part in (control.render_latent, control.hole, control.rays)))
    velocity: Tensor = model(
        torch.cat([noise, known], dim=1),
        torch.full((1,), 900.0, device=like.device),
        None if given.text is None else given.text.to(like),
        None if given.image is None else given.image.to(like),
        control=control,
        references=None if references is None else replace(references, latent=references.latent.to(like)),
        camera=given.camera,
    )
    return velocity.float()


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

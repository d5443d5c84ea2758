"""The video model at full size with random weights: seconds, peak memory, precision, where time goes.

Random weights take the same time as trained ones, so no download is needed; what is drawn is noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from worldstereo_cli.models.eight_bit import EightBitLinear
from worldstereo_cli.models.video.acceleration import accelerate
from worldstereo_cli.models.video.config import (
    BackboneConfig,
    ControlConfig,
    DistilledConfig,
    ModelConfig,
)
from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.denoising import ClipConditions, denoise
from worldstereo_cli.models.video.footprint import SMALL_ROWS, Tier, pack_linears
from worldstereo_cli.models.video.keyframes import KeyframeCodec, conditioning_latent, reference_latents
from worldstereo_cli.models.video.samplers import DistilledSampler
from worldstereo_cli.models.video.transformer import ReferenceLatents, WorldStereoTransformer

_GIB = 1 << 30
_KERNELS_SHOWN = 15

RELEASED_BACKBONE = BackboneConfig(image_dim=1280, added_kv_proj_dim=5120)
"""Wan 2.1 I2V 14B."""
RELEASED_CONTROL = ControlConfig(
    conv_out_dim=5120, dim=1024, ffn_dim=4096, num_heads=16, num_layers=20, time_embed_dim=5120,
    main_camera_embedding=True,
)  # fmt: skip
"""The branch of worldstereo-memory-dmd."""


@dataclass(frozen=True, slots=True)
class VideoBench:
    """What to measure."""

    backbone: BackboneConfig = RELEASED_BACKBONE
    control: ControlConfig = RELEASED_CONTROL
    codec_base_dim: int = 96
    """Of the autoencoder of Wan 2.1."""
    num_keyframes: int = 21
    width_px: int = 832
    height_px: int = 480
    num_references: int = 8
    num_steps: int = 4
    tier: Tier = "resident"
    accelerated: bool = True
    """With the kernels that the backend takes on a GPU."""
    device: torch.device = field(default_factory=lambda: torch.device("cuda"))
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True, slots=True)
class VideoBenchRow:
    """What was measured."""

    bench: VideoBench
    denoise_s: float
    """Of one clip, after a first pass that compiled and warmed up."""
    clip_s: float
    """With encoding of renders and references and decoding."""
    warm_up_s: float
    peak_gib: float
    """Of the device; NaN where it does not count."""


def bench_video(bench: VideoBench) -> VideoBenchRow:
    """Time one clip."""
    model = _prepared(bench)
    codec = _codec(bench)
    warm_up = _timed(bench, lambda: _denoise(model, _conditions(bench, codec), replace(bench, num_steps=1)))
    conditions = _conditions(bench, codec)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    denoise_s = _timed(bench, lambda: _denoise(model, conditions, bench))

    def whole() -> None:
        codec.decode(_denoise(model, _conditions(bench, codec), bench))

    clip_s = _timed(bench, whole)
    peak = (
        torch.cuda.max_memory_allocated(bench.device) / _GIB if bench.device.type == "cuda" else float("nan")
    )
    return VideoBenchRow(bench, denoise_s, clip_s, warm_up, peak)


def precision_ratio(bench: VideoBench, num_layers: int = 4) -> float:
    """Return how far our arithmetic is from float32, relative to plain bfloat16, on a model cut short.

    Plain is the model as it stands, in bfloat16 throughout; ours keeps timestep and modulation in
    float32 and takes the kernels of `bench`.
    """
    short = replace(bench, backbone=bench.backbone.model_copy(update={"num_layers": num_layers}))
    short = replace(
        short,
        control=bench.control.model_copy(update={"num_layers": min(num_layers, bench.control.num_layers)}),
    )
    exact = replace(short, dtype=torch.float32, tier="resident")
    reference_model = random_model(exact)
    state = {k: v.cpu() for k, v in reference_model.state_dict().items()}
    given = _conditions(exact, _codec(exact))
    reference = _velocity(reference_model, given)
    del reference_model
    errors = []
    for ours in (True, False):
        model = random_model(replace(short, tier="resident"))
        model.load_state_dict(state)
        if ours:
            if bench.accelerated:
                accelerate(model)
        else:
            model.to(short.dtype)
        errors.append(float((_velocity(model, given) - reference).square().mean().sqrt()))
        del model
    return errors[0] / errors[1]


def profile_forward(bench: VideoBench) -> list[tuple[str, float]]:
    """Return the kernels (on a CPU: operators) that take most of one forward pass, with their seconds."""
    model = _prepared(bench)
    conditions = _conditions(bench, _codec(bench))
    once = replace(bench, num_steps=1)
    _denoise(model, conditions, once)
    activity = torch.profiler.ProfilerActivity
    on_gpu = bench.device.type == "cuda"
    with torch.profiler.profile(activities=[activity.CUDA if on_gpu else activity.CPU]) as profile:
        _denoise(model, conditions, once)
        _wait(bench)
    rows = [
        (row.key, (row.self_device_time_total if on_gpu else row.self_cpu_time_total) / 1e6)
        for row in profile.key_averages()
    ]
    return sorted(rows, key=lambda row: -row[1])[:_KERNELS_SHOWN]


@torch.no_grad()
def random_model(bench: VideoBench) -> WorldStereoTransformer:
    """Build the transformer on its device with random weights, without a copy on the host."""
    with torch.device("meta"):
        model = WorldStereoTransformer(bench.backbone, bench.control)
    if bench.tier == "eight-bit":
        pack_linears(model)
        model.process_feed_forward_in(SMALL_ROWS)
    generator = torch.Generator(bench.device).manual_seed(0)
    for name, parameter in list(model.named_parameters()):
        owner_name, _, leaf = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        exact = "time_embedder" in name or "scale_shift_table" in name
        value = torch.randn(parameter.shape, generator=generator, device=bench.device, dtype=bench.dtype)
        # Norm weights about one, everything else small enough to keep activations of unit size.
        value = 1 + 0.1 * value if parameter.ndim == 1 and leaf == "weight" else value
        value = value / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else value
        value = value.float() if exact else value
        if isinstance(owner, EightBitLinear):
            owner.take_tensor(leaf, value)
        else:
            setattr(owner, leaf, torch.nn.Parameter(value, requires_grad=False))
    return model.eval()  # type: ignore[no-any-return]


def _prepared(bench: VideoBench) -> WorldStereoTransformer:
    model = random_model(bench)
    if bench.accelerated:
        accelerate(model)
    return model


def _codec(bench: VideoBench) -> KeyframeCodec:
    vae = AutoencoderKLWan(base_dim=bench.codec_base_dim, z_dim=bench.backbone.out_channels)
    frames_at_once = 1 if bench.tier == "eight-bit" else 4
    return KeyframeCodec(vae.to(bench.device, bench.dtype).eval(), frames_at_once)


@torch.inference_mode()
def _conditions(bench: VideoBench, codec: KeyframeCodec) -> ClipConditions:
    """Encode random pictures, as a clip's conditions are encoded."""
    generator = torch.Generator().manual_seed(1)
    frames, dtype, device = bench.num_keyframes, bench.dtype, bench.device
    size = (bench.height_px, bench.width_px)
    mask_channels = bench.backbone.mask_channels
    pictures = torch.rand(frames, 3, *size, generator=generator) * 2 - 1
    maps = torch.rand(1, 7, frames, *size, generator=generator).to(device, dtype)
    control = Control(codec.encode(pictures).to(dtype), (maps[:, :1] > 0.8).to(dtype), maps[:, 1:])
    seen = reference_latents(codec, pictures[: bench.num_references], mask_channels).to(dtype)
    index = torch.arange(bench.num_references, device=device)
    config = ModelConfig.model_validate({"nframe": frames})
    known = conditioning_latent(codec, pictures[0], config, mask_channels).to(dtype)
    cameras = torch.rand(1, frames + bench.num_references, 7, generator=generator).to(device)
    text = torch.rand(1, 512, bench.backbone.text_dim, generator=generator).to(device, dtype)
    image = None
    if bench.backbone.image_dim is not None:
        image = torch.rand(1, 257, bench.backbone.image_dim, generator=generator).to(device, dtype)
    references = ReferenceLatents(seen, index, cameras[:, frames:])
    return ClipConditions(known, control, references, cameras[:, :frames], text, None, image)


def _denoise(model: WorldStereoTransformer, conditions: ClipConditions, bench: VideoBench) -> Tensor:
    sampler = DistilledSampler(DistilledConfig(num_steps=bench.num_steps), bench.device)
    known = conditions.first_frame
    generator = torch.Generator(bench.device).manual_seed(2)
    shape = (1, bench.backbone.out_channels, *known.shape[2:])
    noise = torch.randn(shape, generator=generator, device=bench.device)
    return denoise(model, sampler, noise, conditions)


@torch.inference_mode()
def _velocity(model: WorldStereoTransformer, given: ClipConditions) -> Tensor:
    """Run one forward pass in the dtype of a model's blocks."""
    dtype = model.patch_embedding.weight.dtype
    known = given.first_frame.to(dtype)
    noise = torch.randn(
        known[:, : model.backbone_config.out_channels].shape, generator=torch.Generator().manual_seed(3)
    ).to(known)
    control, references = given.control, given.references
    velocity = model(
        torch.cat([noise, known], dim=1),
        torch.full((1,), 900.0, device=known.device),
        None if given.text is None else given.text.to(dtype),
        None if given.image is None else given.image.to(dtype),
        control=None
        if control is None
        else Control(control.render_latent.to(dtype), control.hole.to(dtype), control.rays.to(dtype)),
        references=None if references is None else replace(references, latent=references.latent.to(dtype)),
        camera=given.camera,
    )
    result: Tensor = velocity.float()
    return result


def _timed(bench: VideoBench, work: Callable[[], object]) -> float:
    _wait(bench)
    began = time.perf_counter()
    work()
    _wait(bench)
    return time.perf_counter() - began


def _wait(bench: VideoBench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.synchronize(bench.device)

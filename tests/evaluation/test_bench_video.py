"""The benchmark of the video model, on a model that is small enough for a test."""

import json
import math
from dataclasses import replace

import pytest
import torch

from worldstereo_cli.cli.bench_video import Lines, measure_precision, measure_tiers
from worldstereo_cli.cli.main import run
from worldstereo_cli.evaluation import bench_video as bench
from worldstereo_cli.evaluation.bench_video import (
    bench_guidance,
    bench_tier,
    foretold,
    kind_of,
    precision_ratio,
    profile_clip,
)
from worldstereo_cli.evaluation.random_video import (
    RELEASED_CONTROL,
    RandomParts,
    VideoSize,
    random_request,
)
from worldstereo_cli.models.video import worldstereo
from worldstereo_cli.models.video.config import BackboneConfig
from worldstereo_cli.models.video.footprint import TIERS

CPU = torch.device("cpu")
TINY = VideoSize(
    BackboneConfig(
        num_attention_heads=2, attention_head_dim=12, text_dim=10, freq_dim=16, ffn_dim=40, num_layers=2,
        image_dim=14, added_kv_proj_dim=24,
    ),
    RELEASED_CONTROL.model_copy(
        update={"conv_out_dim": 24, "time_embed_dim": 24, "dim": 16, "ffn_dim": 32, "num_heads": 2,
                "num_layers": 1, "mid_channels": 16}
    ),
    codec_base_dim=8, text_encoder_parameters=0, num_keyframes=3, width_px=48, height_px=32,
    num_references=2, num_steps=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> RandomParts:
    return RandomParts.of(TINY, CPU, torch.float32, accelerated=True)


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_is_timed_through_the_backend(parts: RandomParts, tier) -> None:
    assert 0 < foretold(parts, TINY, tier).peak_bytes
    row = bench_tier(parts, TINY, tier)
    assert row.plan.tier == tier
    assert 0 < row.denoise_s < row.clip_s
    assert math.isnan(row.peak_gib)
    # The model that was drawn stays, and is the one that is timed and profiled.
    assert set(parts.made) >= {tier}


@pytest.mark.parametrize("tier", TIERS)
def test_a_guided_step_runs_the_branch_once_with_the_same_bits(parts: RandomParts, tier) -> None:
    bench_tier(parts, TINY, tier)
    branch = parts.made[tier].controlnet.controlnet_blocks[0]
    calls = []
    handle = branch.register_forward_hook(lambda *_: calls.append(1))
    step = bench_guidance(parts, TINY, tier)
    handle.remove()
    # Three times side by side, and twice one prompt after the other.
    assert len(calls) == 3 * 1 + 2 * 2
    assert step.same_bits and step.together_s > 0 and step.apart_s > 0


def test_a_profile_accounts_for_all_of_its_kernels(parts: RandomParts) -> None:
    profile = profile_clip(parts, TINY, "resident")
    assert {"matrix products", "attention", "convolutions"} <= {kind.name for kind in profile.kinds}
    seconds = [kernel.seconds for kernel in profile.kernels]
    assert seconds == sorted(seconds, reverse=True) and seconds[-1] > 0
    assert sum(kind.seconds for kind in profile.kinds) >= sum(seconds)


def test_kernels_are_told_apart_by_their_names() -> None:
    names = {
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16": "attention",
        "nvjet_sm90_tst_192x208_64x4_1x2_h_bz_coopB_bias_TNT": "matrix products",
        "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc": "convolutions",
        "triton_red_fused__fused_rms_norm__to_copy_add_mul_0": "fused steps",
        "Memcpy HtoD (Pageable -> Device)": "copies",
        "void at::native::vectorized_elementwise_kernel<8, at::native::GeluCUDAKernelImpl": "other",
    }
    assert {name: kind_of(name) for name in names} == names


def test_our_arithmetic_is_no_coarser_than_plain_bfloat16() -> None:
    assert precision_ratio(TINY, CPU, num_layers=2) < 1.2


def test_the_command_reports_every_tier_and_the_precision(capsys: pytest.CaptureFixture[str]) -> None:
    say = Lines(beside_json=False)
    results = measure_tiers(TINY, CPU, torch.float32, say) | measure_precision(TINY, CPU, say)
    assert set(results) == {*TIERS, "guided_step", "profile", "precision_ratio"}
    said = capsys.readouterr().out
    assert all(f"\n{tier:<12}" in f"\n{said}" for tier in TIERS)
    assert "with one prompt after the other; the same bits: yes" in said
    assert "matrix products" in said and "against plain bfloat16: 0." in said
    json.dumps(results)


def test_what_does_not_fit_is_said_and_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worldstereo, "available_bytes", lambda device: 1000)
    assert measure_tiers(TINY, CPU, torch.float32, Lines(beside_json=False)) == {}
    assert "resident    does not fit: resident weights, at most" in capsys.readouterr().out


def test_a_row_that_fails_is_said_and_does_not_cost_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RandomParts.transformer

    def refusing(parts: RandomParts, plan, *given):
        if plan.tier == "resident":
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 33 GiB.")
        return whole(parts, plan, *given)

    monkeypatch.setattr(RandomParts, "transformer", refusing)
    say = Lines(beside_json=False)
    results = measure_tiers(TINY, CPU, torch.float32, say)
    assert set(results) == {"eight-bit", "guided_step", "profile"} and list(say.failed) == ["resident"]
    said = capsys.readouterr().out
    assert "resident failed: OutOfMemory: The GPU ran out of memory with resident weights" in said
    assert "\neight-bit" in said and "Tried to allocate" not in said


def test_an_error_of_any_class_is_said_where_it_happened_and_beside_json_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given):
        raise KeyError("self_device_time_total")

    monkeypatch.setattr(bench, "profile_clip", broken)
    say = Lines(beside_json=True)
    results = measure_tiers(TINY, CPU, torch.float32, say)
    assert set(results) == {*TIERS, "guided_step", "profile"} and results["profile"] is None
    assert say.failed == {"profile": "KeyError: 'self_device_time_total'"}
    said = capsys.readouterr()
    assert said.out == "" and "in broken" in said.err and "eight-bit" in said.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench-video"]) == 5
    assert "needs an NVIDIA GPU, and there is none" in capsys.readouterr().err


@pytest.mark.gpu
def test_the_kernels_of_a_gpu_are_no_coarser_than_plain_bfloat16() -> None:
    # Heads as wide as the release's, which the fast attention kernels ask for.
    wide = replace(
        TINY,
        backbone=TINY.backbone.model_copy(update={"attention_head_dim": 128, "added_kv_proj_dim": 256}),
        control=TINY.control.model_copy(
            update={"conv_out_dim": 256, "time_embed_dim": 256, "dim": 128, "num_heads": 2}
        ),
        width_px=160,
        height_px=96,
    )
    assert precision_ratio(wide, torch.device("cuda"), num_layers=2) < 1.2


def test_the_clip_that_is_asked_for_has_holes_and_references() -> None:
    request = random_request(TINY)
    assert 0.1 < float(request.hole.float().mean()) < 0.3
    assert request.references is not None and len(request.references.images) == 2
    alone = VideoSize(num_references=0, num_keyframes=2, width_px=32, height_px=32)
    assert random_request(alone).references is None

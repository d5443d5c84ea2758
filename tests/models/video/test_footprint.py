"""What a run needs is known before it starts, and decides how it is run."""

from dataclasses import replace

import pytest
import torch
from tiny import BACKBONE, CONTROL, build, inputs, memory
from torch.utils.flop_counter import FlopCounterMode

from tests.counted_memory import CountedMemory
from worldstereo_cli.errors import OutOfMemory
from worldstereo_cli.evaluation.random_video import RELEASED_BACKBONE, RELEASED_CONTROL
from worldstereo_cli.models.video.acceleration import use_kernels
from worldstereo_cli.models.video.attention import use_attention
from worldstereo_cli.models.video.config import ModelConfig
from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.footprint import (
    SMALL_ROWS,
    TIERS,
    Footprint,
    OtherParts,
    Tier,
    Workload,
    choose_tier,
    clip_footprint,
    pack_linears,
    step_flops,
    tier_below,
    transformer_bytes,
)
from worldstereo_cli.models.video.fused import Kernels
from worldstereo_cli.models.video.transformer import ReferenceLatents, WorldStereoTransformer

GIB = 1 << 30
RELEASED = ModelConfig.model_validate({"controlnet_cfg": RELEASED_CONTROL.model_dump()})
CLIP = Workload(21, 832, 480, 8, 4)


@pytest.fixture(scope="module")
def footprint() -> Footprint:
    return clip_footprint(
        RELEASED_BACKBONE, RELEASED, CLIP, OtherParts(96, 254_000_000, 11_361_845_248),
        dtype=torch.bfloat16, fused=True,
    )  # fmt: skip


def test_the_released_architecture_has_the_bytes_of_the_released_file() -> None:
    assert transformer_bytes(RELEASED_BACKBONE, RELEASED, "resident", torch.bfloat16) == 34_863_549_568


def _spelled_out(query, key, value):
    """Attention as two matrix products, which the counter below sees."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, -1)
    return (weights @ value).transpose(1, 2)


@pytest.mark.parametrize("prompts", [1, 2])
def test_arithmetic_is_counted_as_a_profiler_counts_it(prompts: int) -> None:
    backbone = BACKBONE.model_copy(update={"num_layers": 8, "ffn_dim": 200})
    control = CONTROL.model_copy(update={"num_layers": 4})
    model = build(backbone, control)
    given, remembered = inputs(), memory()
    # The counter also sees what embeds text, time and pictures, once for all blocks: less than a tenth here.
    given["encoder_hidden_states"] = torch.randn(prompts, 512, 10)
    image = torch.randn(1, 257, 14)
    with torch.no_grad():
        use_attention(model, _spelled_out)
        with FlopCounterMode(display=False) as counter:
            model(**{**given, "encoder_hidden_states_image": image}, **remembered)
    counted = step_flops(backbone, control, Workload(3, 48, 32, 2, 1, prompts))
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_a_released_clip_costs_what_was_measured(footprint: Footprint) -> None:
    assert step_flops(RELEASED_BACKBONE, RELEASED_CONTROL, CLIP) == pytest.approx(2.85e15, rel=0.03)
    # An H100 of 743 TFLOP/s took 18.98 s and 37.19 GiB, of which a forgotten tensor held 0.31.
    plan = choose_tier(footprint, 79 * GIB, 743e12)
    assert (plan.tier, plan.feed_forward_rows, plan.frames_at_once) == ("resident", None, 4)
    assert plan.seconds == pytest.approx(18.98, rel=0.03)
    assert 1 <= plan.peak_bytes / GIB / (37.19 - 0.31) < 1.03
    assert plan.describe().startswith("resident weights, at most 36.9 of 79.0 GiB, about 19 s a clip")
    # 17.44 GiB were held with the weights in eight bits, for 18.98 s and 2 % more.
    assert footprint.weights["eight-bit"] / GIB == pytest.approx(17.44, rel=0.02)


def test_guidance_costs_a_second_sequence_but_no_second_branch(footprint: Footprint) -> None:
    guided = clip_footprint(
        RELEASED_BACKBONE, RELEASED, replace(CLIP, num_steps=40, num_prompts=2),
        OtherParts(96, 254_000_000, 11_361_845_248), dtype=torch.bfloat16, fused=True,
    )  # fmt: skip
    waiting = 45_240 * 5120 * 2
    for tier in TIERS:
        assert guided.activations[tier] - footprint.activations[tier] == waiting
        assert guided.weights[tier] == footprint.weights[tier]
    # The branch is 4 % of a pass, and the first block's self-attention 2 %.
    saved = 1 - guided.flops / (20 * footprint.flops)
    assert 0.025 < saved < 0.035
    assert choose_tier(guided, 24 * GIB, 160e12).tier == "eight-bit"


def _empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(*shape, device="meta", dtype=dtype)


def _released_on_meta(tier: Tier, num_layers: int) -> WorldStereoTransformer:
    """A model of the released width that takes no memory; like fused kernels, its own make results only."""

    def one_kernel(like: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.empty_like(like)

    control = RELEASED_CONTROL.model_copy(update={"num_layers": num_layers - 1})
    with torch.device("meta"):
        model = WorldStereoTransformer(
            RELEASED_BACKBONE.model_copy(update={"num_layers": num_layers}), control
        ).eval()
    for name, parameter in list(model.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        exact = "time_embedder" in name or "scale_shift_table" in name
        value = parameter.detach() if exact else parameter.detach().bfloat16()
        setattr(model.get_submodule(owner), leaf, torch.nn.Parameter(value, requires_grad=False))
    if tier == "eight-bit":
        pack_linears(model)
        model.process_feed_forward_in(SMALL_ROWS)
    fused = Kernels(
        one_kernel, one_kernel, one_kernel,
        lambda x, weight, eps, heads, rotary: torch.empty_like(x).unflatten(2, (heads, -1)),
        lambda levels, scale: _empty(*levels.shape),
    )  # fmt: skip
    use_kernels(model, fused)
    use_attention(model, lambda query, key, value: torch.empty_like(query))
    return model


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("prompts", [1, 2])
def test_a_forward_pass_of_the_release_takes_what_was_foretold(tier: Tier, prompts: int) -> None:
    model, frames, references = _released_on_meta(tier, 3), 21, 8
    counter = CountedMemory(*model.parameters(), *model.buffers())
    float32 = {"dtype": torch.float32}
    with torch.inference_mode(), counter:
        model(
            _empty(1, 36, frames, 60, 104), _empty(1, **float32), _empty(prompts, 512, 4096),
            _empty(1, 257, 1280),
            control=Control(
                _empty(1, 16, frames, 60, 104), _empty(1, 1, frames, 480, 832), _empty(1, 6, frames, 480, 832)
            ),
            references=ReferenceLatents(
                _empty(1, 36, references, 60, 104), torch.arange(references),
                _empty(1, references, 7, **float32),
            ),
            camera=_empty(1, frames, 7, **float32),
        )  # fmt: skip
    foretold = clip_footprint(
        RELEASED_BACKBONE, RELEASED, replace(CLIP, num_prompts=prompts), OtherParts(96, 0, 0),
        dtype=torch.bfloat16, fused=True,
    ).activations[tier]  # fmt: skip
    # Half a sequence is spare, for what kernels take for themselves.
    assert 0.9 < counter.peak / foretold < 1


def test_a_model_that_wants_its_first_frame_as_a_film_needs_more_to_encode_it(footprint: Footprint) -> None:
    film = clip_footprint(
        RELEASED_BACKBONE, RELEASED.model_copy(update={"latent_cond_mode": "full_vae"}), CLIP,
        OtherParts(96, 254_000_000, 11_361_845_248), dtype=torch.bfloat16, fused=True,
    )  # fmt: skip
    # Counted tensor by tensor, a film of 81 frames takes 3.3 GiB in fours, a single frame 0.5.
    assert film.codec["eight-bit"] > 3.3 * GIB > footprint.codec["eight-bit"] > 0.5 * GIB
    assert film.codec["resident"] == footprint.codec["resident"]
    assert choose_tier(film, 24 * GIB, 160e12).tier == "eight-bit"


def test_a_smaller_gpu_gets_smaller_weights_and_one_below_a_refusal(footprint: Footprint) -> None:
    plan = choose_tier(footprint, 24 * GIB, 160e12)
    assert (plan.tier, plan.frames_at_once) == ("eight-bit", 1)
    assert plan.peak_bytes < 23 * GIB and plan.feed_forward_rows is not None
    with pytest.raises(OutOfMemory) as caught:
        choose_tier(footprint, 16 * GIB, 160e12)
    assert "needs 19.9 GiB" in caught.value.problem and "15.4 GiB" in caught.value.problem
    assert choose_tier(footprint, 16 * GIB, 160e12, "resident").tier == "resident"
    assert tier_below("resident") == "eight-bit" and tier_below("eight-bit") is None

"""The video transformer: Wan's without memory, and with memory what its architecture promises."""

import gc
from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel
from tiny import BACKBONE, CONTROL, build, inputs, memory

from worldstereo_cli.models.video.attention import replace_linears, scaled_dot_product, use_attention
from worldstereo_cli.models.video.config import TextConfig
from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.transformer import WorldStereoTransformer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_memory_it_is_the_stock_wan_transformer_bit_for_bit(dtype: torch.dtype) -> None:
    model = build(control=None).to(dtype)
    stock = WanTransformer3DModel(**BACKBONE.model_dump()).eval().to(dtype)
    stock.load_state_dict(model.state_dict(), strict=True)
    # diffusers keeps positions in float32 when it loads a model; .to(dtype) alone does not.
    stock.rope = WanTransformer3DModel(**BACKBONE.model_dump()).rope
    given = {k: v.to(dtype) if k != "timestep" else v for k, v in inputs(batch=2).items()}
    with torch.no_grad():
        assert torch.equal(model(**given), stock(**given, return_dict=False)[0])


def test_an_untrained_branch_changes_nothing() -> None:
    torch.manual_seed(0)
    model = WorldStereoTransformer(BACKBONE, CONTROL).eval()
    given, remembered = inputs(), memory()
    with torch.no_grad():
        plain = model(**given, camera=remembered["camera"])
        steered = model(**given, camera=remembered["camera"], control=remembered["control"])
    assert torch.equal(plain, steered)


def test_the_order_of_references_does_not_matter() -> None:
    model, given, remembered = build(), inputs(frames=5), memory(frames=5, references=3)
    order = torch.tensor([2, 0, 1])
    references = remembered["references"]
    shuffled = replace(
        references,
        latent=references.latent[:, :, order],
        index=references.index[order],
        camera=references.camera[:, order],
    )
    with torch.no_grad():
        expected = model(**given, **remembered)
        torch.testing.assert_close(
            model(**given, **{**remembered, "references": shuffled}), expected, atol=2e-6, rtol=0
        )
        elsewhere = replace(references, index=references.index.flip(0))
        moved = model(**given, **{**remembered, "references": elsewhere})
        assert float((moved - expected).abs().max()) > 1e-4


@pytest.mark.parametrize("evolving", [True, False])
def test_references_reach_the_targets_and_gradients_reach_the_references(evolving: bool) -> None:
    model = build(control=CONTROL.model_copy(update={"update_ref": evolving}))
    given, remembered = inputs(), memory()
    latent = remembered["references"].latent.requires_grad_()
    result = model(**given, **remembered)
    with torch.no_grad():  # the in-place path of inference
        torch.testing.assert_close(model(**given, **remembered), result.detach(), atol=2e-6, rtol=0)
    result.square().mean().backward()
    assert latent.grad is not None and float(latent.grad.abs().min(dim=2).values.max()) > 0
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = build()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(**inputs(), **memory()).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_a_model_built_on_the_meta_device_needs_its_parameters_only() -> None:
    model = build()
    with torch.device("meta"):
        empty = WorldStereoTransformer(BACKBONE, CONTROL)
    assert not list(empty.buffers())
    empty.load_state_dict(model.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(empty.eval()(**inputs(), **memory()), model(**inputs(), **memory()))


@pytest.mark.parametrize("interp", [False, True])
def test_maps_may_come_at_video_rate(interp: bool) -> None:
    model = build(control=CONTROL.model_copy(update={"mask_downsample": 4, "interp": interp}))
    with torch.no_grad():
        remembered = memory(video_frames=9)
        expected = model(**inputs(), **remembered)
        assert expected.shape == (1, 16, 3, 4, 6)
        # Three zero frames and the first frame share a keyframe: frames 1 to 4 belong to the second.
        rays = remembered["control"].rays.clone()
        rays[:, :, 0] += 1
        embed = model.controlnet.controlnet_mask_embedding
        maps = torch.cat([remembered["control"].hole, remembered["control"].rays], 1)
        moved = torch.cat([remembered["control"].hole, rays], 1)
        before = embed.mask_proj[0](torch.nn.functional.pad(maps, (0, 0, 0, 0, *embed.padding)))
        after = embed.mask_proj[0](torch.nn.functional.pad(moved, (0, 0, 0, 0, *embed.padding)))
        changed = (after - before).abs().amax((0, 1, 3, 4)) > 0
    assert changed.tolist() == [True, False, False]


def test_references_may_carry_a_learned_place() -> None:
    model = build(control=CONTROL.model_copy(update={"ref_embedding": True}))
    with torch.no_grad():
        expected = model(**inputs(), **memory())
        model.ref_index_embedding.weight[1] += torch.linspace(-1, 1, 24)
        assert float((model(**inputs(), **memory()) - expected).abs().max()) > 1e-4


@pytest.mark.parametrize("source", ["learned", "zero"])
def test_a_small_model_needs_neither_text_nor_image(source: str) -> None:
    backbone = BACKBONE.model_copy(update={"image_dim": None, "added_kv_proj_dim": None})
    model = build(backbone, text=TextConfig(source=source, num_tokens=3))
    given = {k: v for k, v in inputs(batch=2).items() if not k.startswith("encoder")}
    result = model(**given, **memory(batch=2))
    assert result.shape == (2, 16, 3, 4, 6)
    assert ("text_tokens" in model.state_dict()) == (source == "learned")
    result.sum().backward()
    if source == "learned":
        assert float(model.text_tokens.grad.abs().max()) > 0


def test_a_model_with_a_prompt_or_cameras_says_when_they_are_missing() -> None:
    model, given = build(), inputs()
    with pytest.raises(ValueError, match="camera tokens"):
        model(**given)
    del given["encoder_hidden_states"]
    with pytest.raises(ValueError, match="prompt"):
        model(**given, camera=memory()["camera"])


def test_more_positions_than_the_model_knows_are_refused() -> None:
    model = build(BACKBONE.model_copy(update={"rope_max_seq_len": 5}))
    with torch.no_grad():
        model(**inputs(), camera=memory()["camera"])  # 3 columns fit ...
        with pytest.raises(ValueError, match="at most 5 positions"):
            model(**inputs(), **memory())  # ... 6 with references do not


def test_feed_forward_in_pieces_is_the_same() -> None:
    model, given, remembered = build(), inputs(), memory()
    with torch.no_grad():
        expected = model(**given, **remembered)
        model.process_feed_forward_in(7)
        torch.testing.assert_close(model(**given, **remembered), expected, atol=2e-6, rtol=0)


def _copies_alive(size: int) -> list[int]:
    """How many sequences large every living tensor is, by its storage."""
    alive = {}
    for thing in gc.get_objects():
        if type(thing) is torch.Tensor and thing.numel() * thing.element_size() >= 0.7 * size:
            alive[thing.untyped_storage().data_ptr()] = round(thing.untyped_storage().nbytes() / size)
    return sorted(alive.values())


@pytest.mark.parametrize("prompts", [1, 2])
def test_nothing_is_held_longer_than_it_is_needed(prompts: int) -> None:
    # Wide and short of weights, so that nothing but the sequence is as large as the sequence.
    backbone = BACKBONE.model_copy(update={"attention_head_dim": 48, "ffn_dim": 192, "added_kv_proj_dim": 96})
    model = build(backbone, CONTROL.model_copy(update={"conv_out_dim": 96, "time_embed_dim": 96}))
    given, remembered = inputs(frames=21), memory(frames=21, references=8)
    given["encoder_hidden_states"] = given["encoder_hidden_states"][:, :8].repeat(prompts, 1, 1)
    size = (21 + 8) * 6 * 96 * 4
    at_attention, at_feed_forward = [], []

    def counting(query, key, value):
        result = scaled_dot_product(query, key, value)
        if query.shape[1] == key.shape[1] == 29 * 6:
            at_attention.append(_copies_alive(size))
        return result

    use_attention(model, counting)
    for block in model.blocks:
        block.ffn.net[0].register_forward_hook(lambda *_: at_feed_forward.append(_copies_alive(size)))
    with torch.inference_mode():
        model(**given, **remembered)
    maps = _copies_alive(size)
    # What waits for the other prompt: nothing in the first block's attention, which all share.
    waiting = [1] * (prompts - 1)
    # The sequence, queries, keys, values, and the result.
    assert at_attention[0] == sorted([*[1] * 5, *maps])
    assert at_attention[1:] == [sorted([*[1] * 5, *waiting, *maps])] * prompts
    # What came into the block, the sequence, its normalised copy; and the hidden layer.
    assert at_feed_forward[: 2 * prompts] == [sorted([1, 1, 1, 2, *waiting, *maps])] * 2 * prompts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("update_ref", [True, False])
@pytest.mark.parametrize("parts", [("control", "references"), ("control",), ("references",), ()])
def test_prompts_side_by_side_have_the_bits_that_they_have_alone(
    dtype: torch.dtype, update_ref: bool, parts: tuple[str, ...]
) -> None:
    model = build(control=CONTROL.model_copy(update={"update_ref": update_ref})).to(dtype)
    model.process_feed_forward_in(7)
    given = {k: v.to(dtype) if k != "timestep" else v for k, v in inputs().items()}
    remembered = {k: v for k, v in memory().items() if k in (*parts, "camera")}
    if "control" in parts:
        shown = remembered["control"]
        remembered["control"] = Control(*(m.to(dtype) for m in (shown.render_latent, shown.hole, shown.rays)))
    if "references" in parts:
        past = remembered["references"]
        remembered["references"] = replace(past, latent=past.latent.to(dtype))
    texts = torch.randn(3, 512, 10).to(dtype)
    with torch.inference_mode():
        alone = [model(**{**given, "encoder_hidden_states": text[None]}, **remembered) for text in texts]
        together = model(**{**given, "encoder_hidden_states": texts}, **remembered)
    assert torch.equal(together, torch.cat(alone))
    assert float((alone[0] - alone[1]).abs().max()) > 1e-3


def test_prompts_come_in_turn_for_a_batch_of_latents() -> None:
    model, remembered = build(), memory(batch=2)
    given = inputs(batch=2)
    texts = torch.randn(4, 512, 10)
    with torch.inference_mode():
        together = model(**{**given, "encoder_hidden_states": texts}, **remembered)
        first, second = (
            model(**{**given, "encoder_hidden_states": pair}, **remembered) for pair in texts.split(2)
        )
        assert torch.equal(together, torch.cat([first, second]))
        with pytest.raises(ValueError, match="each of 2 latents, got 3"):
            model(**{**given, "encoder_hidden_states": texts[:3]}, **remembered)


def test_attention_and_linear_layers_can_be_swapped() -> None:
    model, given, remembered = build(), inputs(), memory()
    calls = []

    def counting(query, key, value):
        calls.append(query.shape[1])
        return scaled_dot_product(query, key, value)

    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    def doubled(layer: torch.nn.Linear) -> torch.nn.Module:
        result = Doubled(layer.in_features, layer.out_features)
        result.load_state_dict(layer.state_dict())
        return result

    with torch.no_grad():
        expected = model(**given, **remembered)
        use_attention(model, counting)
        assert torch.equal(model(**given, **remembered), expected)
        # Three blocks with joint, text and image attention, and two control blocks. What the last block
        # would make of the references is read by nobody.
        assert sorted(calls) == [18] * 9 + [30] * 2
        model.finish_references = True
        torch.testing.assert_close(model(**given, **remembered), expected, atol=2e-6, rtol=0)
        assert sorted(calls[11:]) == [18] * 8 + [30] * 3
        assert replace_linears(model, doubled, within="blocks") == 3 * 12
        assert float((model(**given, **remembered) - expected).abs().max()) > 1e-3

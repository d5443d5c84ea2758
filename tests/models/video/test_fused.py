"""The fast ways through the model compute what the readable ones say."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from released import VAE
from tiny import build, inputs, memory
from torch._dynamo.utils import counters

from worldstereo_cli.models.eight_bit import EightBitLinear, widened
from worldstereo_cli.models.video import acceleration
from worldstereo_cli.models.video.acceleration import accelerate, use_kernels, why_not_fused
from worldstereo_cli.models.video.footprint import pack_linears
from worldstereo_cli.models.video.frame_conv import FrameConv
from worldstereo_cli.models.video.fused import READABLE, compiled, gated_add, heads_of, modulated_norm
from worldstereo_cli.models.video.keyframes import KeyframeCodec
from worldstereo_cli.models.video.rotary import RotaryGrid, TokenGrid

NEEDS_COMPILER = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")


def test_each_step_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    x, change = torch.randn(2, 5, 12, generator=generator), torch.randn(2, 5, 12, generator=generator)
    shift, scale, gate = torch.randn(3, 2, 1, 12, generator=generator)
    weight, bias = torch.randn(2, 12, generator=generator)
    wide = x.double()
    standard = (wide - wide.mean(-1, True)) / (wide.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    expected = (standard * weight + bias) * (1 + scale) + shift
    got = modulated_norm(x, weight, bias, 1e-6, shift, scale)
    torch.testing.assert_close(got, expected.float(), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(gated_add(x, change, gate), x + change * gate)
    table = RotaryGrid(6, (1, 2, 2), 16).tables(TokenGrid(5, 1, 1), None, torch.device("cpu"))
    normed = wide / (wide.square().mean(-1, True) + 1e-6).sqrt() * weight
    pairs = torch.view_as_complex(normed.reshape(2, 5, 2, 3, 2))
    angle = torch.complex(table[0][..., 0::2].double(), table[1][..., 0::2].double())
    expected = torch.view_as_real(pairs * angle).flatten(-2)
    got = heads_of(x, weight, 1e-6, 2, table)
    torch.testing.assert_close(got, expected.float(), atol=2e-5, rtol=1e-5)


@pytest.mark.slow
@NEEDS_COMPILER
@pytest.mark.parametrize("packed", [False, True])
def test_fused_steps_are_the_readable_ones_for_any_number_of_references(packed: bool) -> None:
    model, given = build(), inputs(frames=6)
    if packed:
        pack_linears(model)
    torch.compiler.reset()
    counters.clear()
    with torch.inference_mode():
        expected = {r: model(**given, **memory(frames=6, references=r)) for r in (2, 1, 3, 5)}
        use_kernels(model, compiled())
        for references, frames in expected.items():
            got = model(**given, **memory(frames=6, references=references))
            torch.testing.assert_close(got, frames, atol=1e-5, rtol=0)
            # The first clip compiles; other counts of tokens need nothing new.
            assert counters["stats"]["unique_graphs"] == (11 if packed else 9)
        use_kernels(model, READABLE)
        assert torch.equal(model(**given, **memory(frames=6, references=2)), expected[2])


def test_every_part_takes_the_kernels_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    pack_linears(model)
    monkeypatch.setattr(acceleration, "why_not_fused", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    accelerate(model)
    for module in model.modules():
        assert getattr(module, "kernels", compiled()) is compiled()
        assert getattr(module, "attend", acceleration.cudnn_first) is acceleration.cudnn_first
        if isinstance(module, EightBitLinear):
            assert module.widen is compiled().widened
    older = build()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    monkeypatch.setattr(acceleration, "why_not_fused", lambda: "there is no compiler")
    accelerate(older)
    assert older.blocks[0].kernels is READABLE
    assert older.blocks[0].attn1.attend is not acceleration.cudnn_first


def test_a_machine_that_cannot_fuse_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(acceleration.importlib.util, "find_spec", lambda name: None)
    assert why_not_fused() == "Triton is not installed"
    monkeypatch.setattr(acceleration.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert why_not_fused() == "Triton finds no C compiler"
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(acceleration.sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    assert why_not_fused() == "Python's header files are not installed"
    (tmp_path / "Python.h").touch()
    assert why_not_fused() is None


def test_weights_in_eight_bits_come_back_group_by_group() -> None:
    levels = torch.tensor([[1, -2, 3, 4], [5, 6, 7, -127]], dtype=torch.int8)
    scale = torch.tensor([[[0.5], [2.0]], [[1.0], [0.1]]])
    expected = torch.tensor([[0.5, -1.0, 6.0, 8.0], [5.0, 6.0, 0.7, -12.7]])
    torch.testing.assert_close(widened(levels, scale), expected)


def test_single_frames_take_a_shorter_way_to_the_same_latents_and_pictures() -> None:
    torch.manual_seed(3)
    vae = AutoencoderKLWan(**VAE).eval()
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(3, 3, 32, 48, generator=generator) * 2 - 1
    film = torch.rand(9, 3, 32, 48, generator=generator) * 2 - 1
    with torch.inference_mode():
        modes = [vae.encode(frame[None, :, None]).latent_dist.mode() for frame in frames]
        pictures = [vae.decode(mode).sample[:, :, 0] for mode in modes]
        film_mode = vae.encode(film.transpose(0, 1)[None]).latent_dist.mode()
        codec = KeyframeCodec(vae, frames_at_once=2)
        assert any(isinstance(module, FrameConv) for module in vae.decoder.modules())
        latents, film_latents = codec.encode(frames), codec.encode_film(film)
        mean, std = (torch.tensor(v).reshape(1, -1, 1, 1, 1)
                     for v in (vae.config.latents_mean, vae.config.latents_std))  # fmt: skip
        torch.testing.assert_close(latents * std + mean, torch.cat(modes, 2), atol=5e-6, rtol=0)
        torch.testing.assert_close(film_latents * std + mean, film_mode, atol=5e-6, rtol=0)
        expected = (torch.cat(pictures).clamp(-1, 1) + 1) / 2
        torch.testing.assert_close(codec.decode(latents), expected, atol=5e-6, rtol=0)

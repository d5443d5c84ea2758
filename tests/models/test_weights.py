"""Weights reach the model exactly, in bounded memory, or are refused in words."""

import json
import multiprocessing
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from worldstereo_cli.errors import BackendError
from worldstereo_cli.models import weights
from worldstereo_cli.models.catalogue import find_weights, list_weights
from worldstereo_cli.models.eight_bit import EightBitLinear
from worldstereo_cli.models.weights import Checkpoint, LoadPlan, load_streaming

CPU = torch.device("cpu")
EXACT = LoadPlan(CPU, torch.float32)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time_embedder = nn.Linear(4, 6)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 5, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self.time_embedder(x))


def _net() -> Net:
    torch.manual_seed(0)
    return Net()


def _empty() -> Net:
    with torch.device("meta"):
        return Net()


def _single(folder: Path, state: dict[str, torch.Tensor]) -> Checkpoint:
    save_file(state, folder / "model.safetensors")
    return Checkpoint.find(folder)


def _sharded(folder: Path, state: dict[str, torch.Tensor]) -> Checkpoint:
    keys = sorted(state)
    parts = {"model-00001-of-00002.safetensors": keys[:2], "model-00002-of-00002.safetensors": keys[2:]}
    for name, chosen in parts.items():
        save_file({key: state[key] for key in chosen}, folder / name)
    index = {"weight_map": {key: name for name, chosen in parts.items() for key in chosen}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return Checkpoint.find(folder)


@pytest.mark.parametrize("write", [_single, _sharded])
def test_what_was_saved_is_what_is_loaded(tmp_path: Path, write) -> None:
    source, empty = _net(), _empty()
    told = []
    load_streaming(
        empty,
        write(tmp_path, source.state_dict()),
        EXACT,
        progress=lambda done, total, what: told.append(done),
    )
    for name, value in source.state_dict().items():
        assert torch.equal(empty.state_dict()[name], value)
    assert told == [1, 2, 3, 4, 5]
    x = torch.randn(2, 4)
    assert torch.equal(empty(x), source(x))


def test_loaded_weights_outlive_their_file(tmp_path: Path) -> None:
    source, empty = _net(), _empty()
    load_streaming(empty, _single(tmp_path, source.state_dict()), EXACT)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 8)
    assert torch.equal(empty.body[0].weight, source.body[0].weight)


def test_named_parts_keep_their_precision(tmp_path: Path) -> None:
    empty = _empty()
    plan = LoadPlan(CPU, torch.bfloat16, keep_float32=("time_embedder",))
    load_streaming(empty, _single(tmp_path, _net().state_dict()), plan)
    assert empty.time_embedder.weight.dtype == torch.float32
    assert empty.body[0].weight.dtype == torch.bfloat16


def test_everything_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    state = _net().state_dict()
    del state["body.0.bias"]
    state["body.2.weight"] = torch.zeros(5, 7)
    state["other.weight"] = torch.zeros(1)
    empty = _empty()
    with pytest.raises(BackendError) as caught:
        load_streaming(empty, _single(tmp_path, state), EXACT)
    for words in ("1 missing (body.0.bias)", "1 unexpected (other.weight)", "[5, 7] instead of [5, 6]"):
        assert words in caught.value.problem
    assert all(p.is_meta for p in empty.parameters())


def test_ignored_names_may_be_there(tmp_path: Path) -> None:
    state = {**_net().state_dict(), "body.norm_added_q.weight": torch.zeros(3)}
    load_streaming(
        _empty(), _single(tmp_path, state), LoadPlan(CPU, torch.float32, ignored=("norm_added_q",))
    )


def test_only_what_a_checkpoint_may_lack_is_asked_of_its_base(tmp_path: Path) -> None:
    source = _net()
    state = source.state_dict()
    (tmp_path / "base").mkdir()
    base = _single(tmp_path / "base", {**state, "time_embedder.weight": torch.zeros(6, 4)})
    lacking = {k: v for k, v in state.items() if not k.startswith("body.")}
    asked: list[list[str]] = []

    def fallback(names: list[str]) -> Checkpoint:
        asked.append(names)
        return base

    plan = LoadPlan(CPU, torch.float32, fallback=fallback, may_lack=lambda name: name.startswith("body."))
    empty = _empty()
    load_streaming(empty, _single(tmp_path, lacking), plan)
    assert asked == [["body.0.weight", "body.0.bias", "body.2.weight"]]
    # What the checkpoint holds is not overwritten by its base.
    assert torch.equal(empty.time_embedder.weight, source.time_embedder.weight)
    assert torch.equal(empty.body[2].weight, source.body[2].weight)

    (tmp_path / "less").mkdir()
    with pytest.raises(BackendError, match=r"time_embedder\.bias"):
        load_streaming(_empty(), _single(tmp_path / "less", {"body.0.bias": state["body.0.bias"]}), plan)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no model.safetensors"),
        ({"pytorch_model.bin": b"pickle"}, "could run code"),
        ({"model.safetensors": b"\x10\0\0\0\0\0\0\0 no header"}, "cannot be read"),
        ({"model.safetensors.index.json": b"{}"}, "no index"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "../outside.safetensors"}}'},
            "not beside it",
        ),
    ],
)
def test_a_folder_that_holds_no_safe_weights_is_refused(tmp_path: Path, files, words: str) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "outside.safetensors")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(BackendError, match=words):
        Checkpoint.find(folder)


def test_a_file_is_mapped_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = _net().state_dict()
    checkpoint = _single(tmp_path, state)
    monkeypatch.setattr(weights, "_MAPPED_BYTES", 100)
    opened: list[Path] = []
    plain = weights._opened
    monkeypatch.setattr(weights, "_opened", lambda path: opened.append(path) or plain(path))
    assert dict(checkpoint.stream(state)).keys() == state.keys()
    assert len(opened) >= 4


class Sink(nn.Linear):
    """Reads what it is given and keeps nothing."""

    def take_tensor(self, name: str, value: torch.Tensor) -> None:
        assert float(value.float().std()) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_loading_a_large_file_takes_little_memory_besides_the_model(tmp_path: Path) -> None:
    state = {f"{i}.weight": torch.full((4096, 8192), float(i), dtype=torch.bfloat16) for i in range(16)}
    save_file(state, tmp_path / "model.safetensors")
    del state
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        extra = pool.apply(_extra_bytes_while_loading, (str(tmp_path),))
    # The file has 1 GiB; 128 MiB of it are mapped at once (two pieces overlap while one is let go).
    assert extra < 0.6 * 2**30


def _extra_bytes_while_loading(folder: str) -> int:
    """Return by how much the peak grew."""
    import resource

    weights._MAPPED_BYTES = 1 << 27
    with torch.device("meta"):
        model = nn.Sequential(*(Sink(8192, 4096, bias=False) for _ in range(16)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load_streaming(model, Checkpoint.find(Path(folder)), LoadPlan(CPU))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def test_eight_bits_are_close_and_load_like_the_rest(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(256, 64)
    with torch.no_grad():
        layer.weight[3] *= 40  # an output of another scale costs the others nothing
    x = torch.randn(8, 256)
    packed = EightBitLinear(layer)
    error = ((packed(x) - layer(x)).abs() / layer.weight.std(1)).detach()
    assert packed.weight.dtype == torch.int8 and float(error.max()) < 0.5
    assert float(error.square().mean().sqrt() / x.square().sum(1).mean().sqrt()) < 0.01

    with torch.device("meta"):
        model = nn.Sequential(EightBitLinear(nn.Linear(256, 64)))
    load_streaming(model, _single(tmp_path, nn.Sequential(layer).state_dict()), EXACT)
    assert torch.equal(model(x), packed(x))


def test_a_model_that_is_not_here_is_asked_for_by_its_command(tmp_path: Path) -> None:
    assert [s.cached_bytes for s in list_weights(tmp_path)] == [0, 0, 0]
    with pytest.raises(BackendError) as caught:
        find_weights("worldstereo-memory-dmd", tmp_path)
    assert caught.value.remedy.startswith("worldstereo weights pull worldstereo-memory-dmd  (59 GB)")
    with pytest.raises(BackendError, match="no weights 'nonsense'"):
        find_weights("nonsense", tmp_path)


def test_a_local_folder_may_hold_everything_or_name_its_base(tmp_path: Path) -> None:
    own, base = tmp_path / "own", tmp_path / "base"
    (own / "vae").mkdir(parents=True)
    (base / "tokenizer").mkdir(parents=True)
    (own / "config.json").write_text('{"licence": "Apache-2.0"}')
    alone = find_weights(str(own))
    assert (alone.base, alone.licence, alone.part("vae")) == (own, "Apache-2.0", own / "vae")
    with pytest.raises(BackendError, match=f"needs tokenizer, which is not in {own}.") as caught:
        alone.part("tokenizer")
    # No release, so that there is nothing to pull.
    assert "base_model" in caught.value.remedy
    assert "weights pull" not in caught.value.remedy
    (own / "config.json").write_text('{"base_model": "../base"}')
    assert find_weights(str(own)).part("tokenizer").samefile(base / "tokenizer")

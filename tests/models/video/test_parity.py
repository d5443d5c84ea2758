"""Parity is checked against whatever references there are, and a wrong number does not pass."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from worldstereo_cli.errors import InputError
from worldstereo_cli.evaluation.parity import ParityReport, check_parity

NUMBERS = Path(__file__).parent / "numbers"


def _explain(report: ParityReport) -> str:
    return "\n".join(f"{f.name}: {d}" for f in report.files for d in f.failures)


def test_our_own_numbers_stay_what_they_are() -> None:
    report = check_parity(NUMBERS)
    assert {f.kind for f in report.files} == {"transformer", "pipeline", "cameras", "retrieval"}
    assert report.passed, _explain(report)


def test_every_public_reference_is_met(goldens_dir: Path) -> None:
    report = check_parity(goldens_dir)
    assert report.passed, _explain(report)
    compared = {f.name: len(f.deviations) for f in report.files}
    assert compared["transformer_memory.safetensors"] == 42
    assert compared["pipelines.safetensors"] == 32
    assert compared["sampler.safetensors"] == 14
    assert compared["retrieval.safetensors"] == 63
    assert [name for name, count in compared.items() if count == 0] == []


def _copy(source: Path, target: Path, change) -> None:
    with safe_open(source, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        metadata = file.metadata()
    change(tensors, metadata)
    save_file(tensors, target, metadata)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("transformer_memory", "out/sample"),
        ("transformer_memory", "in/camera_qt_ref"),
        ("transformer_video_rate", "state/ref_index_embedding.weight"),
        ("camera", "arc/plucker"),
        ("retrieval", "bank/w2c"),
        ("retrieval", "arc/overlap"),
        ("retrieval", "arc/score"),
    ],
)
def test_one_wrong_number_fails(tmp_path: Path, name: str, tensor: str) -> None:
    def nudge(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
        tensors[tensor].view(-1)[1] += 0.5

    _copy(NUMBERS / f"{name}.safetensors", tmp_path / f"{name}.safetensors", nudge)
    report = check_parity(tmp_path)
    assert not report.passed
    assert report.files[0].worst in report.files[0].failures


def test_settings_come_from_the_file(tmp_path: Path) -> None:
    def other_norm(_: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        metadata["config"] = metadata["config"].replace('"eps": 1e-06', '"eps": 0.01')

    name = "transformer_memory.safetensors"
    _copy(NUMBERS / name, tmp_path / name, other_norm)
    assert not check_parity(tmp_path).passed


def test_not_a_number_fails(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
        tensors["in/timestep"][:] = float("nan")

    name = "transformer_memory.safetensors"
    _copy(NUMBERS / name, tmp_path / name, spoil)
    report = check_parity(tmp_path)
    assert not report.passed
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert not told["passed"]
    assert [d["name"] for d in told["files"][0]["deviations"] if d["largest"] is None]


def test_a_folder_without_references_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.safetensors"):
        check_parity(tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="cannot be read"):
        check_parity(tmp_path)


def test_a_file_of_another_kind_is_named_but_does_not_count(tmp_path: Path) -> None:
    save_file({"something": torch.zeros(2)}, tmp_path / "other.safetensors")
    report = check_parity(tmp_path)
    assert report.files[0].kind == "" and not report.passed

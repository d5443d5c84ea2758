"""Promises of clouds on disk, and of what rounds change in them."""

import pytest
import torch

from tests import scenes
from worldstereo_cli.artifacts.cloud import read_cloud, read_removed, write_cloud, write_removed
from worldstereo_cli.artifacts.references import ReferenceRecord
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.correspondence import Correspondence


def test_an_empty_cloud_and_a_full_one_come_back(tmp_path):
    cloud = scenes.cloud_of(scenes.view_of(scenes.room(), scenes.camera(32, 24)))
    for name, each in (("full", cloud), ("empty", Cloud.empty())):
        write_cloud(tmp_path / name, each)
        again = read_cloud(tmp_path / name)
        assert torch.equal(again.points, each.points)
        assert torch.equal(again.round_index, each.round_index)
        assert len(again) == len(each)


@pytest.mark.parametrize("indices", [[], [0, 3, 9_000_000_000]])
def test_removed_points_come_back(tmp_path, indices):
    write_removed(tmp_path / "removed.npy", torch.tensor(indices, dtype=torch.int64))
    assert read_removed(tmp_path / "removed.npy").tolist() == indices


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY"])
def test_damaged_lists_are_refused(tmp_path, damage):
    path = tmp_path / "removed.npy"
    path.write_bytes(damage)
    with pytest.raises(ArtifactError):
        read_removed(path)
    with pytest.raises(ArtifactError):
        read_removed(tmp_path / "missing.npy")


def test_references_come_back_to_the_bit(tmp_path):
    generator = torch.Generator().manual_seed(1)
    visible = torch.rand(3, 2, 4, 5, generator=generator) < 0.5
    place = Correspondence(torch.rand(3, 2, 4, 5, 2, generator=generator), visible)
    scores = torch.rand(3, 2, generator=generator)
    record = ReferenceRecord(
        ("photo", "01-up/0003"), "visible", torch.tensor([1, 2]), scores.argsort(1), scores, place
    )
    record.write(tmp_path / "references.safetensors")
    again = ReferenceRecord.read(tmp_path / "references.safetensors")
    assert (again.names, again.rule) == (record.names, record.rule)
    for name in ("target_index", "ranked", "scores"):
        assert torch.equal(getattr(again, name), getattr(record, name))
    assert torch.equal(again.correspondence.pixels, place.pixels)
    assert torch.equal(again.correspondence.visible, place.visible)
    (tmp_path / "references.safetensors").write_bytes(b"no")
    with pytest.raises(ArtifactError, match="cannot be read"):
        ReferenceRecord.read(tmp_path / "references.safetensors")

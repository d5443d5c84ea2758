"""Promises of the bank of past views."""

import json

import pytest
import torch
from safetensors import safe_open

from tests import scenes
from worldstereo_cli.memory.bank import Bank, kept_frames


def bank_of(*names: str) -> Bank:
    camera = scenes.camera()
    cameras = camera[[0] * len(names)]
    count = len(names)
    return Bank(names, cameras, torch.zeros(count, 3, 64, 96, dtype=torch.uint8), torch.ones(count, 64, 96))


def test_kept_frames_equal_the_golden(goldens_dir):
    with safe_open(goldens_dir / "retrieval.safetensors", "pt") as golden:
        table = json.loads(golden.metadata()["bank_update_indices"])
    assert len(table) >= 8
    for key, expected in table.items():
        num_frames, slots = map(int, key.split(","))
        assert kept_frames(num_frames, slots) == expected


@pytest.mark.parametrize("num_frames", [1, 2, 5, 9, 21, 81])
def test_the_last_frame_is_kept_and_the_first_never(num_frames):
    kept = kept_frames(num_frames)
    assert len(kept) == min(8, num_frames - 1)
    assert kept == sorted(set(kept))
    assert not kept or (kept[-1] == num_frames - 1 and kept[0] > 0)


def test_a_bank_grows_in_order():
    together = bank_of("photo").joined(bank_of("01-right/0003", "01-right/0007"))
    assert together.names == ("photo", "01-right/0003", "01-right/0007")
    assert len(together.seen.cameras) == 3


def test_a_name_stands_for_one_view():
    with pytest.raises(ValueError, match="different names"):
        bank_of("photo").joined(bank_of("photo"))

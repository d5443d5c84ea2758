"""Promises of retrieval by view frusta, held against the released model's."""

import json

import pytest
import torch
from safetensors import safe_open

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.rigid import invert_rigid
from worldstereo_cli.memory.retrieval import (
    axis_angle_deg,
    box_overlap,
    combined_features,
    farthest_points,
    frustum_corners,
    frustum_scores,
    limited,
    picture_quality,
    retrieve,
)

CASES = ["aerial", "clip81", "smooth_none", "smooth_traj0", "smooth_traj1", "wide_fps"]


class Golden:
    """The file, opened, with its cameras as values."""

    def __init__(self, file):
        self.get = file.get_tensor
        self.facts = {k: json.loads(v) for k, v in file.metadata().items()}
        self.bank = self.cameras("bank/w2c", "bank/K")
        self.images = self.get("bank/images").permute(0, 3, 1, 2)

    def cameras(self, pose: str, intrinsics: str) -> Cameras:
        width, height = self.facts["image_width"], self.facts["image_height"]
        return Cameras(invert_rigid(self.get(pose)), self.get(intrinsics), width, height)

    def targets(self, case: str) -> Cameras:
        cameras = self.cameras(f"{case}/target_w2c", f"{case}/target_K")
        return cameras[::4] if len(cameras) == 81 else cameras


@pytest.fixture(scope="module")
def golden(goldens_dir):
    with safe_open(goldens_dir / "retrieval.safetensors", "pt") as file:
        yield Golden(file)


def shortcut_bonus(golden: Golden, case: str) -> torch.Tensor:
    """The released model's bonus for views of preset earlier trajectories, by their names."""
    facts = golden.facts["cases"][case]
    view, trajectory = facts["view_id"], int(facts["traj_id"].removeprefix("traj"))
    bonus = torch.zeros(21, len(golden.bank))
    history: list[int] = []
    targets: list[int] = []
    if view.startswith(("wonder", "target")) and trajectory > 0:
        history, targets = (
            named(golden, f"{view}/traj0/"),
            [i for i in range(1, 21) if i not in (4, 8, 12, 16)],
        )
    elif view.startswith("view") and trajectory in (0, 1):
        history, targets = named(golden, f"{view}/traj2/"), [1, 2, 3, 5, 7, 9, 13, 17]
        history = history[: len(history) // 2] if trajectory == 1 else history
    for i in targets if history else []:
        bonus[i, history[i * len(history) // 21]] = 1
    return bonus


def named(golden: Golden, prefix: str) -> list[int]:
    return [i for i, name in enumerate(golden.facts["bank_names"]) if name.startswith(prefix)][3::2]


def test_frustum_corners_equal_the_golden(golden):
    far = golden.facts["far"]
    difference = frustum_corners(golden.bank, golden.facts["near"], far) - golden.get("bank/frustum_corners")
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("case", ["aerial", "clip81", "smooth_none", "wide_fps"])
def test_scores_equal_the_golden(golden, case):
    targets = golden.targets(case)
    overlap = box_overlap(frustum_corners(targets), frustum_corners(golden.bank))
    assert (overlap - golden.get(f"{case}/overlap")).abs().max() < 1e-5
    # The golden's arc cosine is in float32, which is coarse near zero.
    assert (axis_angle_deg(targets, golden.bank) - golden.get(f"{case}/angle_deg")).abs().max() < 0.05
    assert (frustum_scores(targets, golden.bank) - golden.get(f"{case}/penalised")).abs().max() < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_chosen_views_equal_the_golden(golden, case):
    scores = frustum_scores(golden.targets(case), golden.bank)
    chosen = retrieve(scores + shortcut_bonus(golden, case))
    features = combined_features(golden.bank[chosen.served_by], golden.get("bank/features")[chosen.served_by])
    quality = picture_quality(golden.images[chosen.served_by])
    chosen = limited(chosen, scores, features, quality, golden.facts["max_reference"])
    assert torch.equal(chosen.served_by, golden.get(f"{case}/retrieved_bank_index"))
    # The golden counts positions among the targets after the first, from zero.
    assert torch.equal(chosen.target_index - 1, golden.get(f"{case}/ref_index"))
    poses = invert_rigid(golden.bank[chosen.bank_index].world_from_camera)
    assert (poses - golden.get(f"{case}/ref_w2c")).abs().max() < 1e-5


def test_varied_choice_equals_the_golden(golden):
    index = golden.get("selector/bank_index")
    quality = picture_quality(golden.images[index])
    assert (quality - golden.get("selector/quality")).abs().max() < 1e-5
    features = combined_features(golden.bank[index], golden.get("bank/features")[index])
    assert (features - golden.get("selector/combined_features")).abs().max() < 1e-5
    for count, key in ((8, "selector/selected"), (12, "selector_fps_only/selected_12")):
        assert torch.equal(farthest_points(features, quality, count), golden.get(key))


def test_every_target_is_served_by_its_best_view():
    scores = torch.tensor([[0.9, 0.0, 0.0], [0.1, 0.2, 0.9], [0.3, 0.8, 0.1], [0.0, 0.1, 0.7]])
    chosen = retrieve(scores)
    assert chosen.served_by.tolist() == [2, 1, 2]
    assert chosen.bank_index.tolist() == [2, 1]
    assert chosen.target_index.tolist() == [1, 2]

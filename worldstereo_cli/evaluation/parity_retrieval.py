"""Parity of the memory's choices: frusta, scores, chosen views, and which frames are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from worldstereo_cli.evaluation.parity_golden import Deviation, Golden, compare
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.rigid import invert_rigid
from worldstereo_cli.memory.bank import kept_frames
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
from worldstereo_cli.models.video.config import ModelConfig

_SCORE, _ANGLE_DEG, _EXACT = 1e-5, 0.05, 0.0


def check_retrieval(golden: Golden) -> Iterator[Deviation]:
    """Compare what the memory chooses, step by step."""
    bank = _cameras(golden, "bank/w2c", "bank/K")
    corners = frustum_corners(bank, float(golden.setting("near")), float(golden.setting("far")))
    yield compare("bank/frustum_corners", corners, golden.tensors["bank/frustum_corners"], _SCORE)
    for name, facts in dict(golden.setting("cases")).items():
        yield from _check_case(golden, name, facts, bank)
    if "selector/bank_index" in golden.tensors:
        yield from _check_selector(golden, bank)
    yield from _check_facts(golden)


def _cameras(golden: Golden, pose: str, intrinsics: str) -> Cameras:
    size = (int(golden.setting("image_width")), int(golden.setting("image_height")))
    return Cameras(invert_rigid(golden.tensors[pose]), golden.tensors[intrinsics], *size)


def _check_case(golden: Golden, name: str, facts: dict[str, Any], bank: Cameras) -> Iterator[Deviation]:
    case, far_m = golden.group(name), float(golden.setting("far"))
    targets = _cameras(golden, f"{name}/target_w2c", f"{name}/target_K")
    # A path at video rate has more poses than the model has keyframes.
    targets = targets[:: (len(targets) - 1) // (int(golden.setting("nframe")) - 1)]
    overlap = box_overlap(frustum_corners(targets, far_m=far_m), frustum_corners(bank, far_m=far_m))
    angle, scores = axis_angle_deg(targets, bank), frustum_scores(targets, bank, far_m)
    for key, value, tolerance in (
        ("overlap", overlap, _SCORE), ("angle_deg", angle, _ANGLE_DEG), ("penalised", scores, _SCORE),
    ):  # fmt: skip
        if key in case:
            yield compare(f"{name}/{key}", value, case[key], tolerance)
    bonus = _shortcut_bonus(list(golden.setting("bank_names")), facts, len(targets))
    first = retrieve(scores + bonus)
    features = combined_features(bank[first.served_by], golden.tensors["bank/features"][first.served_by])
    quality = picture_quality(_pictures(golden)[first.served_by])
    limit = int(golden.setting("max_reference"))
    chosen = limited(first, scores, features, quality, limit)
    yield compare(f"{name}/retrieved_bank_index", chosen.served_by, case["retrieved_bank_index"], _EXACT)
    # Positions there are counted from the first target that retrieves.
    yield compare(f"{name}/ref_index", chosen.target_index - 1, case["ref_index"], _EXACT)
    poses = invert_rigid(bank[chosen.bank_index].world_from_camera)
    yield compare(f"{name}/ref_w2c", poses, case["ref_w2c"], _SCORE)
    served = torch.arange(1, len(targets)), chosen.served_by
    # A choice that was limited forgets the bonus.
    with_bonus = scores if len(first.bank_index) > limit else scores + bonus
    yield compare(f"{name}/score", with_bonus[served], case["score"], _SCORE)
    yield compare(f"{name}/angle_of_choice", angle[served], case["angle_of_choice"], _ANGLE_DEG)


def _shortcut_bonus(names: list[str], facts: dict[str, Any], num_targets: int) -> Tensor:
    """Return the released model's bonus for views of preset earlier trajectories, told by their names."""
    view, trajectory = str(facts["view_id"]), int(str(facts["traj_id"]).removeprefix("traj"))

    def history(prefix: str) -> list[int]:
        return [i for i, name in enumerate(names) if name.startswith(prefix)][3::2]

    bonus, earlier, targets = torch.zeros(num_targets, len(names)), list[int](), list[int]()
    if view.startswith(("wonder", "target")) and trajectory > 0:
        earlier = history(f"{view}/traj0/")
        targets = [i for i in range(1, num_targets) if i not in (4, 8, 12, 16)]
    elif view.startswith("view") and trajectory in (0, 1):
        earlier, targets = history(f"{view}/traj2/"), [1, 2, 3, 5, 7, 9, 13, 17]
        earlier = earlier[: len(earlier) // 2] if trajectory == 1 else earlier
    for i in targets if earlier else []:
        bonus[i, earlier[i * len(earlier) // num_targets]] = 1
    return bonus


def _check_selector(golden: Golden, bank: Cameras) -> Iterator[Deviation]:
    index = golden.tensors["selector/bank_index"]
    quality = picture_quality(_pictures(golden)[index])
    features = combined_features(bank[index], golden.tensors["bank/features"][index])
    expected = golden.group("selector")
    yield compare("selector/quality", quality, expected["quality"], _SCORE)
    yield compare("selector/combined_features", features, expected["combined_features"], _SCORE)
    picks = farthest_points(features, quality, len(expected["selected"]))
    yield compare("selector/selected", picks, expected["selected"], _EXACT)
    for key, selected in golden.group("selector_fps_only").items():
        picks = farthest_points(features, quality, len(selected))
        yield compare(f"selector_fps_only/{key}", picks, selected, _EXACT)


def _check_facts(golden: Golden) -> Iterator[Deviation]:
    """Compare what the file's metadata tells: frames that a bank keeps, and frame sizes."""
    for key, kept in dict(golden.setting("bank_update_indices", {})).items():
        frames, count = map(int, key.split(","))
        got = torch.tensor(kept_frames(frames, count))
        yield compare(f"bank_update_indices {key}", got, torch.tensor(kept), _EXACT)
    for key, size in dict(golden.setting("scale_bucket_fallback", {})).items():
        height, width = map(int, key.split(","))
        got = torch.tensor(ModelConfig().size_for(width, height)[::-1])
        yield compare(f"scale_bucket_fallback {key}", got, torch.tensor(size), _EXACT)


def _pictures(golden: Golden) -> Tensor:
    return golden.tensors["bank/images"].permute(0, 3, 1, 2).to(torch.uint8)

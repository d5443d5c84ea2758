"""Paths are chosen for what they add, and the account says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.candidates import mean_parallax_depth, preset_candidates
from worldstereo_cli.geometry.choose_paths import Budget, Field, choose_paths
from worldstereo_cli.geometry.clearance import SurfaceDistance
from worldstereo_cli.geometry.coverage import CoarseSurface, Coverage
from worldstereo_cli.geometry.open_space import OpenSpace
from worldstereo_cli.geometry.paths import Anchor
from worldstereo_cli.geometry.unseen import CoarseView, guess_unseen

BUDGET = Budget(max_paths=3, min_gain_frac=0.02, max_hole_frac=0.4, num_poses=21, num_frames=8)


@pytest.fixture(scope="module")
def field() -> Field:
    photo = scenes.camera(96, 64)
    view = scenes.view_of(scenes.room(), photo)
    coarse = CoarseView(view.depth_m, view.sky, photo)
    unseen = guess_unseen(coarse)
    space = OpenSpace(coarse, SurfaceDistance(scenes.cloud_of(view)), 0.1)
    near = mean_parallax_depth(view.depth_m, ~view.sky)
    return Field(Anchor(photo, 4.0), near, unseen, Coverage(CoarseSurface(coarse), unseen), space)


def test_each_path_adds_less_than_the_one_before_and_no_other_would_add_more(field: Field) -> None:
    choice = choose_paths(field, BUDGET, [])
    assert choice.chosen
    account = choice.considered
    gains = [c.added_frac for c in account[: len(choice.chosen)]]
    assert [c.verdict for c in account[: len(gains)]] == ["chosen"] * len(gains)
    assert gains == sorted(gains, reverse=True)
    # Tours of later rounds were drawn up for what the first path had left.
    first_round = [c for c in account if not c.name.startswith(("tour-2", "tour-3"))]
    assert gains[0] == max(c.alone_frac for c in first_round if "adds" in c.verdict or c.verdict == "chosen")
    left = [c.added_frac for c in account if "adds" in c.verdict]
    assert max(left) <= gains[-1] + 1e-6
    weight = field.unseen.weight
    uncovered = float(weight[choice.uncovered].sum() / weight.sum())
    assert sum(gains) == pytest.approx(uncovered, rel=1e-5)


def test_the_choice_ends_when_little_is_added_or_the_budget_is_spent(field: Field) -> None:
    greedy = choose_paths(field, replace(BUDGET, max_paths=6, min_gain_frac=0.0), [])
    frugal = choose_paths(field, replace(BUDGET, max_paths=6, min_gain_frac=0.2), [])
    assert len(greedy.chosen) > len(frugal.chosen) >= 1
    assert "adds too little" in {c.verdict for c in frugal.considered}
    assert len(choose_paths(field, replace(BUDGET, max_paths=1), []).chosen) == 1


def test_no_frame_shows_more_emptiness_than_allowed(field: Field) -> None:
    for limit in (0.1, 0.25):
        choice = choose_paths(field, replace(BUDGET, max_hole_frac=limit), [])
        for candidate in choice.chosen:
            assert float(field.looks(candidate.cameras, 8).hole_frac.max()) <= limit
        assert any("not seen in one frame" in c.verdict for c in choice.considered)


def test_what_was_flown_before_is_not_flown_again(field: Field) -> None:
    first = choose_paths(field, replace(BUDGET, max_paths=1), [])
    second = choose_paths(field, replace(BUDGET, max_paths=1), [first.chosen[0].cameras])
    assert second.considered[0].added_frac < 0.5 * first.considered[0].added_frac


def test_choosing_twice_chooses_the_same(field: Field) -> None:
    one, two = (choose_paths(field, BUDGET, []) for _ in range(2))
    assert one.considered == two.considered
    for a, b in zip(one.chosen, two.chosen, strict=True):
        assert torch.equal(a.cameras.world_from_camera, b.cameras.world_from_camera)


def test_every_candidate_starts_with_the_photo_and_keeps_the_pivot_in_sight(field: Field) -> None:
    choice = choose_paths(field, BUDGET, [])
    middle = torch.tensor([48.0, 32.0])
    for candidate in [*preset_candidates(field.anchor, field.near_m, 21), *choice.chosen]:
        assert torch.equal(
            candidate.cameras.world_from_camera[0], field.anchor.camera.world_from_camera[0]
        ), candidate.name
        if candidate.family != "look-around":
            pixels, _ = candidate.cameras.project(field.anchor.pivot.float()[None])
            assert torch.allclose(pixels[:, 0], middle.expand(21, 2), atol=2e-2), candidate.name


def test_amounts_follow_what_is_near() -> None:
    photo = scenes.camera(96, 64)
    # A field at one's feet and mountains: the median is far away, what moves in the picture is near.
    depth = torch.full((64, 96), 40.0)
    depth[32:] = 2.0
    near = mean_parallax_depth(depth, torch.ones_like(depth))
    assert near == pytest.approx(2 / (1 / 2 + 1 / 40), rel=1e-5)
    anchor = Anchor(photo, 40.0)
    by_name = {c.name: c for c in preset_candidates(anchor, near, 9)}
    assert float(by_name["right:36"].cameras.centres.norm(dim=-1).max()) < near
    with pytest.raises(ValueError, match="some surface"):
        mean_parallax_depth(depth, torch.zeros_like(depth))

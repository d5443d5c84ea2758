"""What visitors would miss is every hole of their views, as far away as what lies behind it."""

from __future__ import annotations

import math

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.coverage import CoarseSurface, Coverage, hole_frac
from worldstereo_cli.geometry.paths import Anchor, arc_towards
from worldstereo_cli.geometry.unseen import CoarseView, Unseen, guess_unseen
from worldstereo_cli.geometry.visitors import HOLES_SHARE, likely_views, missed_in_views, valued

PHOTO = scenes.camera(96, 64)
ANCHOR = Anchor(PHOTO, 4.0)


def coarse(surfaces: list) -> CoarseView:
    view = scenes.view_of(surfaces, PHOTO)
    return CoarseView(view.depth_m, view.sky, PHOTO)


def test_people_look_from_the_sides_more_than_from_above_and_near_more_than_far() -> None:
    views, odds = likely_views(ANCHOR)
    assert float(odds.sum()) == pytest.approx(1)
    way = views.centres
    assert float(way[:, :2].norm(dim=-1).max()) == pytest.approx(4 * math.sin(math.radians(15)), rel=1e-4)
    sideways = way[:, 0].abs() > way[:, 1].abs()
    assert float(odds[sideways].sum()) > 2 * float(odds[~sideways].sum())
    assert float((odds @ way).norm()) < 0.15, "no side is preferred"
    pixels, _ = views.project(ANCHOR.pivot.float()[None])
    assert torch.allclose(pixels[:, 0], torch.tensor([48.0, 32.0]).expand(len(views), 2), atol=1e-2)


def test_every_hole_counts_and_together_they_weigh_what_visitors_are_expected_to_miss() -> None:
    view = coarse(scenes.room())
    surface = CoarseSurface(view)
    views, odds = likely_views(ANCHOR)
    missed = missed_in_views(view, surface, views, odds)
    expected = float(odds @ hole_frac(surface.front(views)))
    assert expected > 0.03
    assert float(missed.weight.sum()) == pytest.approx(expected, rel=1e-4)
    assert missed.missed.all()
    assert float(missed_in_views(view, surface, PHOTO, torch.ones(1)).weight.sum()) == 0


def test_a_hole_beside_a_board_is_closed_by_the_wall_and_its_own_view_uncovers_it() -> None:
    view = coarse(scenes.two_planes(2.0, 5.0))
    surface = CoarseSurface(view)
    aside = arc_towards(ANCHOR, 0.0, math.radians(8), torch.ones(1))
    missed = missed_in_views(view, surface, aside, torch.ones(1))
    pixels, _ = PHOTO.project(missed.points)
    inside = ((pixels[0] >= 0) & (pixels[0] < torch.tensor([96.0, 64.0]))).all(-1)
    behind_board = missed.points[inside, 2]
    assert len(behind_board) > 20
    # As far as the wall beside it; the camera is turned by 8 degrees.
    assert float((behind_board - 5).abs().median()) < 0.15
    seen = Coverage(surface, missed).look(aside).uncovers[0]
    assert float(missed.weight[seen].sum() / missed.weight.sum()) > 0.95
    other_side = arc_towards(ANCHOR, math.pi, math.radians(8), torch.ones(1))
    seen = Coverage(surface, missed).look(other_side).uncovers[0]
    assert float(missed.weight[seen].sum() / missed.weight.sum()) < 0.3


def test_both_kinds_of_worth_make_up_the_whole_and_one_alone_is_all() -> None:
    view = coarse(scenes.room())
    guessed = guess_unseen(view)
    missed = missed_in_views(view, CoarseSurface(view), *likely_views(ANCHOR))
    both = valued(guessed, missed)
    everything = torch.ones_like(both.missed)
    assert float(both.weight.sum()) == pytest.approx(1, rel=1e-4)
    assert both.share(both.missed, everything) == pytest.approx(HOLES_SHARE, rel=1e-4)
    assert both.share(~both.missed, ~both.missed) == pytest.approx(1)
    none = Unseen(torch.zeros(0, 3), torch.zeros(0), *(torch.zeros(0, dtype=torch.bool) for _ in range(2)))
    assert torch.allclose(valued(guessed, none).weight * float(guessed.weight.sum()), guessed.weight)
    assert float(valued(none, missed).weight.sum()) == pytest.approx(1, rel=1e-4)
    assert len(valued(none, none).weight) == 0

"""The sway goes as far as walls allow, and the head turns for the rest."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests import scenes
from tests.furnished import CORRIDOR, Furnished
from worldstereo_cli.evaluation.planning import missed_beside
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.clearance import SurfaceDistance
from worldstereo_cli.geometry.open_space import OpenSpace
from worldstereo_cli.geometry.paths import Anchor, preset_path
from worldstereo_cli.geometry.sway import room_to_sway, sway
from worldstereo_cli.geometry.unseen import CoarseView

WHOLE = math.radians(16.0)
PROGRESS = torch.linspace(0, 1, 81, dtype=torch.float64)


def space_of(scene: Furnished) -> OpenSpace:
    view = scene.view()
    return OpenSpace(
        CoarseView(view.depth_m, view.sky, view.camera), SurfaceDistance(scenes.cloud_of(view)), 0.1
    )


def yaw_of(path: Cameras) -> Tensor:
    """Angles to the right of straight ahead."""
    return torch.atan2(path.world_from_camera[:, 0, 2], path.world_from_camera[:, 2, 2])


def test_the_way_to_each_side_ends_before_the_wall_on_that_side() -> None:
    # Walls at -0.6 m and 0.8 m, which the camera first sees well ahead of it; 0.1 m is kept.
    scene = Furnished("corridor", CORRIDOR)
    anchor, space = Anchor(scene.camera, 5.0), space_of(scene)
    right, left = room_to_sway(anchor, space, WHOLE), room_to_sway(anchor, space, -WHOLE)
    # Within a few hundredths, for what rounding does to a fitted plane.
    assert right == pytest.approx(math.asin(0.7 / 5) / WHOLE, abs=0.03)
    assert left == pytest.approx(math.asin(0.5 / 5) / WHOLE, abs=0.03)
    centres = sway(anchor, WHOLE, (right, left), PROGRESS).centres
    assert scene.cuts(centres) == 0
    assert float(scene.distance(centres).min()) > 0.09
    assert float(scene.distance(sway(anchor, WHOLE, (1.0, 1.0), PROGRESS).centres).min()) < 0.05


def test_where_no_wall_stands_the_whole_way_is_free_however_far_from_the_view() -> None:
    field = Furnished("field", [((-90.0, 1.5, -50.0), (90.0, 1.6, 90.0))], scenes.camera(96, 64))
    anchor, space = Anchor(field.camera, 20.0), space_of(field)
    assert room_to_sway(anchor, space, WHOLE) == room_to_sway(anchor, space, -WHOLE) == 1.0
    assert not space.along(sway(anchor, WHOLE, (1.0, 1.0), PROGRESS).centres), "other paths do not go so far"


def test_no_step_is_free_past_a_wall_even_where_space_behind_it_is() -> None:
    # A screen, 0.3 m to the left: beyond it the field is as open as on this side.
    screen = [((-90.0, 1.5, -50.0), (90.0, 1.6, 90.0)), ((-0.32, -9.0, -5.0), (-0.3, 1.5, 30.0))]
    scene = Furnished("screen", screen, scenes.camera(192, 128))
    anchor, space = Anchor(scene.camera, 10.0), space_of(scene)
    room = room_to_sway(anchor, space, -WHOLE)
    assert room * WHOLE <= math.asin(0.2 / 10) + 1e-3
    assert room_to_sway(anchor, space, WHOLE) == 1.0


def street(facade_m: float, roof: bool) -> Furnished:
    """Ground, and a facade to the left that enters the view 8 m ahead, 9 m after its beginning."""
    facade = [((-4.7, -14.0, -1.0), (-4.6, 1.5, 8.1 + facade_m))]
    above = [((-30.0, -6.1, -9.0), (30.0, -6.0, 90.0))] if roof else []
    ground = [((-90.0, 1.5, -50.0), (90.0, 1.6, 90.0))]
    return Furnished("street", facade + above + ground, scenes.camera(192, 128, 60.0))


def test_who_looks_from_aside_in_the_open_is_not_held_by_what_a_facade_may_go_on_for() -> None:
    # 25 m about the pivot: 16 degrees are 6.9 m, and the facade's plane lies 4.6 m to the left.
    for facade_m, roof, is_held in ((15.0, False, False), (15.0, True, True), (80.0, False, True)):
        scene = street(facade_m, roof)
        room = room_to_sway(Anchor(scene.camera, 25.0), space_of(scene), -WHOLE)
        if is_held:
            assert room == pytest.approx(math.asin(4.5 / 25) / WHOLE, abs=0.02), (facade_m, roof)
        else:
            assert room == 1.0, "nine metres are a long way to continue what was seen for fifteen"


def test_paths_keep_before_a_facade_that_the_sway_goes_past() -> None:
    scene = street(15.0, roof=False)
    space = space_of(scene)
    past = torch.tensor([[-4.9, 0.0, 0.5]])
    assert bool(space.lookout(past)[0])
    assert not bool(space.open(past)[0])
    # What the photo shows of it holds everybody: beside it, in it, and behind it.
    for x in (-4.55, -4.65, -5.5):
        assert not bool(space.lookout(torch.tensor([[x, 0.0, 12.0]]))[0])


def test_with_room_it_is_the_orbit_and_without_it_a_turn_of_the_head_to_both_sides() -> None:
    anchor = Anchor(scenes.camera(), 4.0)
    whole = sway(anchor, WHOLE, (1.0, 1.0), PROGRESS)
    orbit = preset_path("orbit", anchor, 16.0, 81)
    assert torch.allclose(whole.world_from_camera, orbit.world_from_camera, atol=1e-6)
    still = sway(anchor, WHOLE, (0.0, 0.0), PROGRESS)
    assert torch.equal(still.centres, anchor.camera.centres.expand(81, 3))
    for half in (yaw_of(still)[:41], yaw_of(still)[40:]):
        assert float(half.max()) == pytest.approx(WHOLE, rel=1e-3)
        assert float(half.min()) == pytest.approx(-WHOLE, rel=1e-3)


def test_on_the_side_of_a_wall_it_looks_in_and_out_and_on_the_other_at_the_pivot() -> None:
    anchor = Anchor(scenes.camera(), 4.0)
    path = sway(anchor, WHOLE, (0.25, 1.0), PROGRESS)
    assert torch.equal(path.world_from_camera[0], anchor.camera.world_from_camera[0])
    assert torch.allclose(path.world_from_camera[-1], anchor.camera.world_from_camera[0], atol=1e-6)
    right, left = path[list(range(41))], path[list(range(40, 81))]
    assert float(right.centres[:, 0].max()) == pytest.approx(4 * math.sin(0.25 * WHOLE), rel=1e-3)
    assert float(left.centres[:, 0].min()) == pytest.approx(-4 * math.sin(WHOLE), rel=1e-3)
    yaw = yaw_of(right)
    assert float(yaw.min()) == pytest.approx(-WHOLE, rel=1e-3)
    assert float(yaw.max()) == pytest.approx(WHOLE, rel=1e-3)
    assert int(yaw.argmin()) < int(yaw.argmax()), "inwards first, as the way begins"
    to_pivot = torch.atan2(-left.centres[:, 0], 4 - left.centres[:, 2])
    assert torch.allclose(yaw_of(left), to_pivot, atol=1e-5)


def test_turning_shows_what_the_way_that_is_lacking_would_have_shown() -> None:
    # A screen to the right that is continued as a wall; from the end of the whole way one looks past it.
    screen = [((-30.0, -9.0, 10.0), (30.0, 9.0, 10.1)), ((0.6, -9.0, 0.5), (0.62, 9.0, 2.5))]
    scene = Furnished("screen", screen)
    anchor, space = Anchor(scene.camera, 10.0), space_of(scene)
    room = (room_to_sway(anchor, space, WHOLE), room_to_sway(anchor, space, -WHOLE))
    assert room[0] < 0.25
    assert room[1] == 1.0

    def missed(path: Cameras) -> float:
        return missed_beside(scene, anchor, [scene.camera, path])

    narrow = missed(sway(anchor, room[0] * WHOLE, (1.0, 1.0), PROGRESS))
    assert narrow > 0.04
    assert missed(sway(anchor, WHOLE, (room[0], room[0]), PROGRESS)) < 0.5 * narrow, "as far, but turning"
    assert missed(sway(anchor, WHOLE, room, PROGRESS)) < 0.02 * narrow, "and to the left as far as it is free"

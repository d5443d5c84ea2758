"""Cameras go where the photo saw free space, or near beside it, and nowhere else."""

from __future__ import annotations

import torch

from tests import scenes
from tests.furnished import CORRIDOR, LIVING_ROOM, Furnished
from worldstereo_cli.geometry.clearance import SurfaceDistance
from worldstereo_cli.geometry.open_space import OpenSpace
from worldstereo_cli.geometry.unseen import CoarseView


def space_of(scene: Furnished, required_m: float = 0.1) -> OpenSpace:
    view = scene.view()
    surface = SurfaceDistance(scenes.cloud_of(view))
    return OpenSpace(CoarseView(view.depth_m, view.sky, view.camera), surface, required_m)


def is_open(space: OpenSpace, *place: float) -> bool:
    return bool(space.open(torch.tensor([place]))[0])


def test_a_wall_that_leaves_the_view_goes_on_towards_the_camera() -> None:
    space = space_of(Furnished("corridor", CORRIDOR))
    # The walls are first seen well ahead, so that no point of the cloud is near these places.
    assert is_open(space, -0.25, 0.0, 0.1)
    assert not is_open(space, -0.55, 0.0, 0.0), "0.05 m before the wall"
    assert not is_open(space, -0.62, 0.0, 0.0), "in the wall"
    assert not is_open(space, 0.85, 0.0, 0.0)


def test_what_is_hidden_is_not_open_and_what_was_seen_through_is() -> None:
    space = space_of(Furnished("room", LIVING_ROOM))
    assert is_open(space, 0.0, -0.3, 2.0), "above the table"
    assert not is_open(space, -1.4, 0.8, 4.6), "behind the sofa, half a metre from anything"
    assert not is_open(space, 1.6, -0.2, 4.4), "behind the cupboard"
    assert not is_open(space, 0.0, 0.0, 5.05), "in the wall"


def test_nobody_vouches_for_what_lies_far_beside_the_view() -> None:
    open_field = Furnished("field", [((-50.0, 1.5, -50.0), (50.0, 1.6, 50.0))], scenes.camera(96, 64))
    space = space_of(open_field)
    assert is_open(space, 0.0, -0.5, 0.0)
    # The field leaves the view at 3.9 m and 1.5 m below; down there 15 % of that is trusted.
    assert not is_open(space, 0.0, 1.45, 0.0)
    assert is_open(space, 15.0, -1.0, 30.0), "seen through"


def test_who_moves_level_does_not_come_nearer_to_the_ground_and_who_sinks_does() -> None:
    space = space_of(Furnished("field", [((-50.0, 1.5, -50.0), (50.0, 1.6, 50.0))], scenes.camera(96, 64)))
    # The corner of the view shows the field 4.5 m away: 45 % of that to the side, 15 % of it lower.
    assert is_open(space, 1.0, 0.0, 0.0)
    assert not is_open(space, 1.0, 0.8, 0.0)
    assert not is_open(space, 9.0, 0.0, 0.0), "nobody vouches for what is so far aside"
    assert bool(space.in_sight(torch.tensor([[9.0, 0.0, 0.0]]))[0]), "but one could look from there"


def test_paths_are_open_when_all_between_is() -> None:
    space = space_of(Furnished("room", LIVING_ROOM))
    straight = torch.tensor([[0.0, 0.0, 0.0], [0.0, -0.2, 1.5]])
    through_the_vase = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.8, 4.5]])
    assert space.along(straight)
    assert not space.along(through_the_vase)


def test_being_clear_is_being_far_enough() -> None:
    view = scenes.view_of(scenes.room(), scenes.camera(96, 64))
    surface = SurfaceDistance(scenes.cloud_of(view))
    places = torch.rand(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 2.0, 6.0])
    places -= torch.tensor([2.0, 1.0, 0.0])
    for required in (0.05, 0.3, 1.0):
        assert torch.equal(surface.clear(places, required), surface.at(places) >= required)

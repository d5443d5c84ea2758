"""Promises of free-space votes."""

import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.seen import SeenViews
from worldstereo_cli.geometry.votes import seen_through

FLOATER = torch.tensor([[0.0, 0.0, 2.0]])


def walls(depths: list[float]) -> SeenViews:
    """Views beside each other that see a wall, each at its own distance."""
    camera = scenes.camera()
    pose = camera.world_from_camera.repeat(len(depths), 1, 1)
    pose[:, 0, 3] = 0.05 * torch.arange(len(depths))
    cameras = Cameras(pose, camera.intrinsics.repeat(len(depths), 1, 1), 96, 64)
    return SeenViews(cameras, torch.tensor(depths)[:, None, None].expand(-1, 64, 96).contiguous())


def test_what_two_views_see_through_floats():
    assert seen_through(FLOATER, walls([4.0, 4.0])).all()


def test_one_view_alone_removes_nothing():
    assert not seen_through(FLOATER, walls([4.0])).any()


def test_views_that_confirm_a_point_outweigh():
    assert not seen_through(FLOATER, walls([4.0, 4.0, 2.1])).any()
    assert seen_through(FLOATER, walls([4.0, 4.0, 4.0, 2.1])).all()


def test_a_surface_and_what_it_hides_get_no_vote_against_them():
    points = torch.tensor(
        [[0.0, 0.0, 4.0], [0.0, 0.0, 3.7], [0.0, 0.0, 9.0], [0.0, 0.0, -1.0], [9.0, 0.0, 2.0]]
    )
    assert not seen_through(points, walls([4.0, 4.0, 4.0])).any()


def test_beside_unknown_depth_and_at_outlines_nothing_is_told():
    views = walls([4.0, 4.0, 4.0])
    u, v = 48, 32
    unknown, outline = views.depth_m.clone(), views.depth_m.clone()
    unknown[:, v - 1 : v + 1, u - 6 : u + 6] = 0
    # A pixel beside the point's own shows the object that it belongs to.
    outline[:, v, u - 6 : u + 6] = 2.0
    assert not seen_through(FLOATER, SeenViews(views.cameras, unknown)).any()
    assert not seen_through(FLOATER, SeenViews(views.cameras, outline)).any()


def test_no_view_tells_nothing():
    assert not seen_through(FLOATER, walls([])).any()

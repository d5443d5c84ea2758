"""Promises of free-space evidence, and of sizes that crops connect."""

import torch

from tests import scenes
from worldstereo_cli.geometry.images import crop_resize, crop_restore
from worldstereo_cli.geometry.seen import SeenViews, observed_depth


def test_only_points_in_front_of_what_was_seen_hide_something():
    camera = scenes.camera()
    view = scenes.view_of(scenes.wall(4.0), camera)
    seen = SeenViews(camera, view.depth_m[None])
    points = torch.tensor(
        [
            [0.0, 0.0, 2.0],  # in front of the wall
            [0.0, 0.0, 3.9],  # within the tolerance of 5 %
            [0.0, 0.0, 6.0],  # behind
            [0.0, 0.0, -2.0],  # behind the camera
            [9.0, 0.0, 2.0],  # outside its view
        ]
    )
    assert seen.hidden_by(points).tolist() == [True, False, False, False, False]


def test_each_of_several_views_counts():
    camera = scenes.camera()
    blind = torch.zeros(1, 64, 96)
    wall = torch.full((1, 64, 96), 4.0)
    point = torch.tensor([[0.0, 0.0, 2.0]])
    assert not SeenViews(camera, blind).hidden_by(point).any()
    assert SeenViews(camera, blind).joined(SeenViews(camera, wall)).hidden_by(point).all()


def test_beside_an_edge_a_view_counts_as_seeing_far():
    depth = torch.full((20, 20), 5.0)
    depth[:, :8] = 2.0
    valid = torch.ones_like(depth, dtype=torch.bool)
    valid[:, 7:9] = False
    seen = observed_depth(depth, valid)
    assert (seen[:, 7:9] == 5.0).all()
    assert (seen[:, :7] == 2.0).all()
    assert (observed_depth(depth, valid & False) == 0).all()


def test_a_crop_comes_back_to_its_place():
    """Wide to square and back: the middle is where it was, and the lost margins are reported."""
    v, u = torch.meshgrid(torch.linspace(0, 1, 60), torch.linspace(0, 1, 90), indexing="ij")
    image = torch.stack([u, v, u * v])[None]
    small = crop_resize(image, 32, 32)
    restored, covered = crop_restore(small, 90, 60)
    assert covered[:, 15:75].all()
    assert not covered[:, :15].any()
    assert not covered[:, 75:].any()
    # Linear ramps survive both resamplings, but for the rim, where half a pixel is repeated.
    inner = (slice(None), slice(None), slice(2, -2), slice(17, 73))
    assert (restored[inner] - image[inner]).abs().max() < 2e-3

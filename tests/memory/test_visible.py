"""Promises of retrieval by visible surface."""

import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.memory.visible import SharedViews, choose_views, share_views

SURFACES = scenes.two_planes(2.0, 5.0)


def at(*shifts: float) -> tuple[Cameras, torch.Tensor]:
    """Cameras beside each other with what they see."""
    camera = scenes.camera()
    pose = camera.world_from_camera.repeat(len(shifts), 1, 1)
    pose[:, 0, 3] = torch.tensor(shifts)
    cameras = Cameras(pose, camera.intrinsics.repeat(len(shifts), 1, 1), 96, 64)
    return cameras, torch.stack([scenes.render(SURFACES, cameras[i])[1] for i in range(len(shifts))])


def test_overlap_is_the_share_of_visible_surface():
    targets, depth = at(0.0)
    bank, bank_depth = at(0.0, 1.0, 30.0)
    overlap = share_views(targets, depth, bank, bank_depth).overlap[0]
    assert overlap[0] > 0.99
    assert overlap[2] == 0
    # By rays: what the shifted camera sees of the target's places, by its resolution on the wall ahead.
    places = targets.unproject(depth)[0].reshape(-1, 3)
    way = places.double() - bank.centres[1].double()
    first = torch.stack([s.hit(bank.centres[1].double(), way) for s in SURFACES]).amin(0)
    pixel, _ = bank[1].project(places)
    inside = ((pixel[0] >= 0) & (pixel[0] < torch.tensor([96, 64]))).all(-1)
    assert abs(float(overlap[1]) - float((inside & (first > 0.999)).float().mean())) < 0.03


def test_what_is_hidden_does_not_count_though_frusta_overlap():
    targets, depth = at(0.0)
    bank, bank_depth = at(0.0)
    # The past view stood behind a screen: it saw nothing but that.
    screened = torch.full_like(bank_depth, 0.5)
    assert share_views(targets, depth, bank, screened).overlap[0, 0] == 0


def test_holes_of_a_target_do_not_count():
    targets, depth = at(0.0)
    half = depth.clone()
    half[:, :, 48:] = 0
    shared = share_views(targets, half, *at(0.0))
    assert shared.overlap[0, 0] > 0.99
    assert int(shared.num_known[0]) < 0.6 * shared.quality.shape[2]


def shared(*rows: list[list[float]]) -> SharedViews:
    """Quality by target, view and sample; the first target is never served."""
    quality = torch.tensor([[[0.0] * len(rows[0][0])] * len(rows[0]), *rows])
    return SharedViews(quality, torch.full((len(quality),), quality.shape[2]))


def test_views_are_chosen_for_what_they_add():
    # Two near twins that show the left half, and a poorer view of the right half.
    left, twin, right = [1.0, 1.0, 0.0, 0.0], [0.9, 0.9, 0.0, 0.0], [0.0, 0.0, 0.4, 0.4]
    chosen = choose_views(shared([left, twin, right], [left, twin, right]), limit=2)
    assert sorted(chosen.bank_index.tolist()) == [0, 2]


def test_a_sharper_view_of_the_same_is_preferred():
    chosen = choose_views(shared([[0.5, 0.5], [0.8, 0.8]]), limit=1)
    assert chosen.bank_index.tolist() == [1]


def test_views_that_add_nothing_are_not_taken_and_at_most_so_many_as_wished():
    generator = torch.Generator().manual_seed(1)
    quality = torch.rand(13, 40, 100, generator=generator) * (
        torch.rand(13, 40, 100, generator=generator) < 0.1
    )
    many = SharedViews(quality, torch.full((13,), 100))
    chosen = choose_views(many)
    assert len(chosen.bank_index) == 8 == len(set(chosen.bank_index.tolist()))
    assert chosen.target_index.tolist() == sorted(set(chosen.target_index.tolist()))
    assert set(chosen.served_by.tolist()) <= set(chosen.bank_index.tolist())
    one = SharedViews(quality[:, :1].expand(-1, 5, -1).contiguous(), many.num_known)
    assert choose_views(one).bank_index.tolist() == [0]


def test_every_view_sits_beside_a_target_of_its_own():
    row = [[1.0, 0.0, 0.0], [0.0, 0.9, 0.0], [0.0, 0.0, 0.8]]
    weaker = [[0.5, 0.0, 0.0], [0.0, 0.9, 0.0], [0.0, 0.0, 0.1]]
    chosen = choose_views(shared(row, weaker, weaker))
    assert chosen.target_index.tolist() == [1, 2, 3]
    assert sorted(chosen.bank_index.tolist()) == [0, 1, 2]


def test_fewer_targets_than_views_and_nothing_in_common():
    assert len(choose_views(shared([[1.0, 0.0], [0.0, 1.0]])).bank_index) == 1
    assert len(choose_views(shared([[0.0, 0.0]])).bank_index) == 0


def test_a_target_that_no_view_shows_is_served_by_its_neighbours():
    chosen = choose_views(shared([[1.0], [0.0]], [[0.0], [0.0]], [[0.0], [1.0]], [[0.0], [0.0]]))
    assert chosen.served_by.tolist() == [0, 0, 1, 1]

"""Promises of the growing cloud."""

from dataclasses import replace

import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.point_render import SurfaceStyle, render_surface
from worldstereo_cli.geometry.seen import SeenViews
from worldstereo_cli.memory.growth import FinishedFrames, changed, grow, new_surface, thinned

SURFACES = scenes.two_planes(2.0, 5.0)
PHOTO = scenes.camera(144, 96)
BLIND = SeenViews(PHOTO[[]], torch.zeros(0, 96, 144))


def true_frames(shifts: list[float]) -> tuple[FinishedFrames, SeenViews]:
    """Frames of a perfect model beside the photo, and the photo as evidence."""
    view = scenes.view_of(SURFACES, PHOTO)
    pose = PHOTO.world_from_camera.repeat(len(shifts), 1, 1)
    pose[:, 0, 3] = torch.tensor(shifts)
    cameras = Cameras(pose, PHOTO.intrinsics.repeat(len(shifts), 1, 1), 144, 96)
    drawn = render_surface(scenes.cloud_of(view), cameras, SurfaceStyle())
    made = [scenes.render(SURFACES, cameras[i]) for i in range(len(shifts))]
    frames = FinishedFrames(
        cameras, torch.stack([m[0] for m in made]), torch.stack([m[1] for m in made]), drawn.hole
    )
    return frames, SeenViews(PHOTO, view.depth_m[None])


def test_only_what_the_cloud_lacks_is_added():
    frames, seen = true_frames([0.4])
    added, counts = new_surface(frames, seen, BLIND, round_index=1, shell_m=None)
    assert 0 < counts[0] == len(added) <= int(frames.hole.sum())
    assert (added.round_index == 1).all()
    assert (added.points[:, 2] - 5.0).abs().max() < 1e-4
    assert torch.allclose(added.spacing_m, 5.0 / PHOTO.intrinsics[0, 0, 0])


def true_colours(points: torch.Tensor) -> torch.Tensor:
    """What the board and the wall behind it look like at points on them."""
    tints = torch.tensor([surface.tint for surface in SURFACES])
    return tints[(points[:, 2] > 3.5).long()] * scenes.texture(points.double())[:, None].float()


def test_every_added_point_has_the_colour_of_the_surface_where_it_lies():
    frames, seen = true_frames([0.4, -0.4])
    growth = grow(
        photo := scenes.cloud_of(scenes.view_of(SURFACES, PHOTO)),
        frames, seen, BLIND, round_index=1, shell_m=None,
    )  # fmt: skip
    assert min(growth.counts) > 100
    assert torch.allclose(growth.added.colors, true_colours(growth.added.points), atol=1e-4)
    # Thinning chooses among points; it mixes none.
    grown = changed(photo, growth.added, growth.removed)
    assert len(grown) > len(photo) + 500
    assert torch.allclose(grown.colors, true_colours(grown.points), atol=1e-4)


def test_a_surface_that_several_frames_show_is_added_once():
    frames, seen = true_frames([0.4, 0.39, 0.4])
    added, counts = new_surface(frames, seen, BLIND, round_index=1, shell_m=None)
    alone, _ = new_surface(true_frames([0.4])[0], seen, BLIND, round_index=1, shell_m=None)
    # A frame two pixels beside shows a little more of the wall's end, and edges round differently.
    assert len(added) < 1.15 * len(alone)
    assert min(counts) < 0.1 * max(counts)


def test_what_would_hide_something_seen_is_left_out():
    frames, seen = true_frames([0.4])
    wrong = replace(frames, depth_m=0.5 * frames.depth_m)
    added, _ = new_surface(wrong, seen, BLIND, round_index=1, shell_m=None)
    assert not seen.hidden_by(added.points).any()
    # Beside the photo's view nothing contradicts it; inside, only what the board hides is left.
    pixel, depth = PHOTO.project(added.points)
    inside = (pixel[0] > 0).all(-1) & (pixel[0, :, 0] < 144) & (pixel[0, :, 1] < 96)
    assert 0 < int(inside.sum()) < 0.5 * int(frames.hole.sum())
    assert (depth[0][inside] > 2.0).all()


def test_single_pixels_of_odd_depth_are_noise():
    frames, seen = true_frames([0.4])
    depth = frames.depth_m.clone()
    row, column = frames.hole[0].nonzero()[len(frames.hole[0].nonzero()) // 2].tolist()
    depth[0, row, column] = 9.0
    added, _ = new_surface(replace(frames, depth_m=depth), seen, BLIND, round_index=1, shell_m=None)
    assert added.points[:, 2].max() < 6.0


def test_confidence_falls_with_the_distance_from_what_is_known():
    frames, seen = true_frames([1.5])
    added, _ = new_surface(frames, seen, BLIND, round_index=1, shell_m=None)
    # The photo ends at the left of what this camera adds on its right.
    right = added[added.points[:, 0] > 3.2]
    order = right.points[:, 0].argsort()
    assert right.confidence[order[:20]].mean() > 1.5 * right.confidence[order[-20:]].mean()
    assert 0 < added.confidence.min() <= added.confidence.max() <= 0.5


def test_points_near_the_shell_are_sky():
    frames, seen = true_frames([0.4])
    added, _ = new_surface(frames, seen, BLIND, round_index=1, shell_m=5.0)
    assert added.sky.all()
    added, _ = new_surface(frames, seen, BLIND, round_index=1, shell_m=50.0)
    assert not added.sky.any()


def test_thinning_spares_the_photo_and_drops_what_repeats_it():
    photo = scenes.cloud_of(scenes.view_of(SURFACES, PHOTO))
    ghost = replace(
        photo,
        points=photo.points + 1e-5,
        round_index=photo.round_index + 1,
        confidence=photo.confidence * 0.5,
    )
    far_away = replace(ghost, points=ghost.points + torch.tensor([0.0, 40.0, 0.0]))
    kept = thinned(Cloud.joined([photo, ghost, far_away]))
    assert int((kept.round_index == 0).sum()) == len(photo)
    beside = kept[(kept.round_index == 1) & (kept.points[:, 1] < 20)]
    assert len(beside) < 0.02 * len(ghost)
    assert int((kept.points[:, 1] > 20).sum()) > 0.3 * len(far_away)
    again = thinned(kept)
    assert len(again) == len(kept)


def test_of_invented_points_in_one_cell_the_surest_stays():
    one = scenes.cloud_of(scenes.view_of(scenes.wall(), PHOTO))[:1]
    doubtful = replace(one, round_index=one.round_index + 1, confidence=torch.tensor([0.1]))
    sure = replace(doubtful, confidence=torch.tensor([0.4]))
    assert thinned(Cloud.joined([doubtful, sure])).confidence.tolist() == [0.4000000059604645]


def seeing(surfaces, shifts: list[float]) -> SeenViews:
    """Witnesses beside the photo that know the truth."""
    frames, _ = true_frames(shifts)
    depth = torch.stack([scenes.render(surfaces, frames.cameras[i])[1] for i in range(len(shifts))])
    return SeenViews(frames.cameras, depth)


def test_floaters_of_earlier_rounds_go_and_all_else_stays():
    frames, seen = true_frames([0.4])
    photo = scenes.cloud_of(scenes.view_of(SURFACES, PHOTO))
    floater = replace(photo[:500], points=0.6 * photo.points[:500], round_index=photo.round_index[:500] + 1)
    cloud = Cloud.joined([photo, floater])
    witnesses = seeing(SURFACES, [0.02, 0.05, 0.08])
    growth = grow(cloud, frames, seen, witnesses, round_index=2, shell_m=None)
    # Those at the rim of the pictures are seen by too few.
    assert len(growth.removed) > 250
    assert (growth.removed >= len(photo)).all()
    left = changed(cloud, growth.added, growth.removed)
    assert int((left.round_index == 0).sum()) == len(photo)
    # Some of the rest share a cell.
    assert 0 < int((left.round_index == 1).sum()) <= 500 - len(growth.removed)
    assert growth.counts == [len(growth.added)]


def test_photo_points_go_only_where_the_photo_did_not_tell_their_depth():
    frames, seen = true_frames([0.4])
    photo = scenes.cloud_of(scenes.view_of(SURFACES, PHOTO))
    wrong = replace(photo, points=0.6 * photo.points)
    witnesses = seeing(SURFACES, [0.02, 0.05, 0.08])
    assert len(grow(wrong, frames, seen, witnesses, round_index=1, shell_m=None).removed) == 0
    guessed = replace(wrong, confidence=0.2 * wrong.confidence)
    assert len(grow(guessed, frames, seen, witnesses, round_index=1, shell_m=None).removed) > 0.8 * len(photo)
    sky = replace(guessed, sky=~guessed.sky)
    assert len(grow(sky, frames, seen, witnesses, round_index=1, shell_m=None).removed) == 0


def test_new_points_that_other_frames_see_through_are_not_added():
    frames, seen = true_frames([1.5])
    wrong = replace(frames, depth_m=0.6 * frames.depth_m)
    without, _ = new_surface(wrong, seen, BLIND, round_index=1, shell_m=None)
    witnesses = seeing(SURFACES, [1.4, 1.5, 1.6])
    added, counts = new_surface(wrong, seen, witnesses, round_index=1, shell_m=None)
    assert len(without) > 1000
    assert sum(counts) == len(added) < 0.1 * len(without)


def test_a_round_without_frames_adds_nothing():
    frames, seen = true_frames([0.4])
    none = FinishedFrames(frames.cameras[[]], frames.rgb[:0], frames.depth_m[:0], frames.hole[:0])
    cloud = scenes.cloud_of(scenes.view_of(SURFACES, PHOTO))
    growth = grow(cloud, none, seen, BLIND, round_index=1, shell_m=None)
    assert (len(growth.added), len(growth.removed), growth.counts) == (0, 0, [])
    assert changed(cloud, growth.added, growth.removed) is cloud


def test_invented_points_stay_within_their_budget_and_the_photo_is_whole():
    photo = scenes.cloud_of(scenes.view_of(SURFACES, PHOTO))
    generator = torch.Generator().manual_seed(1)
    many = replace(
        photo, points=photo.points + torch.tensor([0.0, 30.0, 0.0]), round_index=photo.round_index + 1,
        confidence=torch.rand(len(photo), generator=generator),
    )  # fmt: skip
    kept = thinned(Cloud.joined([photo, many]), most=3000)
    invented = kept[kept.round_index > 0]
    assert 500 < len(invented) <= 3000
    assert int((kept.round_index == 0).sum()) == len(photo)
    assert torch.equal(kept[kept.round_index == 0].spacing_m, photo.spacing_m)
    # Fewer points stand for as much surface each.
    assert invented.spacing_m.min() >= 2 * many.spacing_m.min()

"""What a view hides is guessed where it can be, and told apart from what it shows."""

from __future__ import annotations

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.coverage import CoarseSurface, Coverage
from worldstereo_cli.geometry.paths import Anchor, preset_path
from worldstereo_cli.geometry.unseen import CoarseView, guess_unseen

PHOTO = scenes.camera(96, 64)


def coarse(surfaces: list[scenes.Plane | scenes.Sphere]) -> CoarseView:
    view = scenes.view_of(surfaces, PHOTO)
    return CoarseView(view.depth_m, view.sky, PHOTO)


def in_photo(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, depth = PHOTO.project(points)
    inside = ((pixels[0] >= 0) & (pixels[0] < torch.tensor([96.0, 64.0]))).all(-1)
    return inside, depth[0]


def test_the_wall_goes_on_behind_the_board_and_beyond_the_frame() -> None:
    unseen = guess_unseen(coarse(scenes.two_planes(2.0, 5.0)))
    inside, depth = in_photo(unseen.points)
    behind = unseen.behind & (depth > 4)
    assert int(behind.sum()) > 50
    assert inside[unseen.behind].all()
    # A plane is continued exactly; float32 of the depth map is all that is lost.
    assert torch.allclose(unseen.points[behind][:, 2], torch.tensor(5.0), atol=0.02)
    # The board covers |x|, |y| < 0.5 at 2 m: what it hides of the wall lies within 1.25 m.
    assert float(unseen.points[behind][:, :2].abs().max()) < 1.35
    assert not inside[~unseen.behind].any()
    assert torch.allclose(unseen.points[~unseen.behind][:, 2], torch.tensor(5.0), atol=0.02)


def test_the_board_is_guessed_to_be_no_deeper_than_it_is_wide() -> None:
    unseen = guess_unseen(coarse(scenes.two_planes(2.0, 5.0)))
    sides = unseen.points[unseen.behind & (unseen.points[:, 2] < 4)]
    assert len(sides) > 20
    assert float(sides[:, 2].min()) > 2.0
    assert float(sides[:, 2].max()) <= 2.0 + 1.0 + 1e-3, "half its distance, which is its width"
    middle = sides[:, :2] * 2.0 / sides[:, 2:]
    assert (middle.abs().max(-1).values > 0.42).all(), "sides start at the edges of the board"


def test_weights_fall_with_the_distance_from_what_was_seen() -> None:
    unseen = guess_unseen(coarse(scenes.two_planes(2.0, 5.0)))
    chosen = unseen.behind & (unseen.points[:, 2] > 4)
    depth_inside = 1.25 - unseen.points[chosen][:, :2].abs().max(-1).values
    near_edge, deep = depth_inside < 0.2, depth_inside > 0.6
    assert float(unseen.weight[chosen][near_edge].min()) > float(unseen.weight[chosen][deep].max())


def test_a_bare_wall_hides_nothing_and_sky_is_not_continued() -> None:
    assert not guess_unseen(coarse(scenes.wall())).behind.any()
    ball = guess_unseen(coarse([scenes.Sphere((0.0, 0.0, 3.0), 0.8)]))
    assert len(ball.points) > 0
    assert float(ball.points.norm(dim=-1).max()) < 5, "the ball has sides, the sky has none"
    slope = [scenes.Plane((0.0, 0.6, 0.8), 2.0)]
    assert not guess_unseen(coarse(slope)).behind.any(), "a floor that recedes is no edge"


def test_coarse_pixels_are_where_the_fine_ones_were() -> None:
    fine = scenes.camera(96, 64)
    view = scenes.view_of(scenes.room(), fine)
    small = CoarseView.sampled(view.depth_m, view.sky, fine, 24)
    assert small.depth_m.shape == (16, 24)
    exact = scenes.view_of(scenes.room(), small.camera).depth_m
    assert torch.allclose(small.depth_m, exact, atol=1e-4)


@pytest.mark.parametrize("name", ["left", "up", "right"])
def test_patches_of_the_wall_are_uncovered_where_true_rays_reach_them(name: str) -> None:
    surfaces = scenes.two_planes(2.0, 5.0)
    view = coarse(surfaces)
    unseen = guess_unseen(view)
    wall = unseen.behind & (unseen.points[:, 2] > 4)
    end = preset_path(name, Anchor(PHOTO, 4.0), 20.0, 3)[2]
    uncovers = Coverage(CoarseSurface(view), unseen).look(end).uncovers[0]
    pixels, z = end.project(unseen.points)
    inside = ((pixels[0] >= 0) & (pixels[0] < torch.tensor([96.0, 64.0]))).all(-1) & (z[0] > 0)
    assert not uncovers[~inside].any()
    # Board and wall are all there is, so that a true ray through a patch's pixel says what is seen.
    _, depth = scenes.render(surfaces, end)
    u, v = pixels[0].long().clamp(torch.tensor(0), torch.tensor([95, 63])).unbind(-1)
    truly = inside & (depth[v, u] > 0.97 * z[0])
    assert 0.1 < float(truly[wall].float().mean()) < 0.9
    # A coarse pixel to either side of the board's outline.
    assert float((uncovers[wall] == truly[wall]).float().mean()) > 0.93


def test_the_photo_itself_uncovers_nothing() -> None:
    view = coarse(scenes.room())
    unseen = guess_unseen(view)
    looks = Coverage(CoarseSurface(view), unseen).look(PHOTO)
    assert float(looks.hole_frac[0]) == 0
    # Half a pixel at the edges of the ball.
    assert float(looks.uncovers[0].float().mean()) < 0.03


def test_a_turned_head_sees_as_much_emptiness_as_it_turns() -> None:
    view = coarse(scenes.wall(3.0))
    coverage = Coverage(CoarseSurface(view), guess_unseen(view))
    turned = preset_path("pan", Anchor(PHOTO, 3.0), 10.0, 2)[1]
    # The right border lies at 30 degrees; at 20 degrees from the new axis, tan(20) of tan(30) is seen.
    expected = 0.5 * (1 - 0.36397 / 0.57735)
    assert float(coverage.look(turned).hole_frac[0]) == pytest.approx(expected, abs=0.02)

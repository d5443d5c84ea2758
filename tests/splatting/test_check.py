"""The figures of a reconstruction are those that their names promise."""

import math

import pytest
import torch

from tests import scenes
from worldstereo_cli.splatting.check import at_common_size, depth_abs_rel, hole_percent, side_camera
from worldstereo_cli.splatting.initialize import Picture
from worldstereo_cli.splatting.rasterize.protocol import Rendering


def picture(width_px: int = 96, height_px: int = 64) -> Picture:
    view = scenes.view_of(scenes.two_planes(2.0, 5.0), scenes.camera(width_px, height_px))
    return Picture(view.image, view.depth_m, view.valid, view.sky, view.camera)


def test_holes_are_counted_where_more_than_half_of_the_light_passes() -> None:
    alpha = torch.tensor([[0.0, 0.49], [0.5, 1.0]])
    assert hole_percent(Rendering(torch.zeros(3, 2, 2), torch.ones(2, 2), alpha)) == 50.0


def test_depth_error_counts_surface_alone() -> None:
    shown = picture()
    sky = torch.zeros_like(shown.sky)
    sky[:32] = True
    half = Picture(shown.image, shown.depth_m, shown.valid, sky, shown.camera)
    wrong = torch.where(sky, 99.0, 1.1 * shown.depth_m)
    drawn = Rendering(shown.image, wrong, torch.ones_like(wrong))
    assert depth_abs_rel(drawn, half) == pytest.approx(0.1, rel=1e-5)
    assert (
        depth_abs_rel(drawn, Picture(shown.image, shown.depth_m, shown.valid, shown.valid, shown.camera))
        is None
    )


def test_side_cameras_orbit_the_point_at_median_depth() -> None:
    shown = picture()
    pivot = torch.tensor([[0.0, 0.0, 2.0]])  # The board fills the central window.
    for angle in (10.0, -10.0):
        side = side_camera(shown, angle)
        pixel, depth = side.project(pivot)
        torch.testing.assert_close(pixel[0, 0], torch.tensor([48.0, 32.0]), atol=1e-3, rtol=0)
        assert depth.item() == pytest.approx(2.0, rel=1e-5)
        assert side.centres[0, 0].item() == pytest.approx(2 * math.sin(math.radians(angle)), rel=1e-4)


def test_large_pictures_are_compared_at_768_pixels_and_small_ones_as_they_are() -> None:
    small, large = picture(), picture(1536, 1024)
    assert at_common_size(small) is small
    shrunk = at_common_size(large)
    assert shrunk.image.shape == (3, 512, 768) and shrunk.camera.width_px == 768
    assert shrunk.camera.intrinsics[0, 0, 0] == pytest.approx(0.5 * float(large.camera.intrinsics[0, 0, 0]))
    assert set(shrunk.depth_m.unique().tolist()) == set(large.depth_m.unique().tolist())

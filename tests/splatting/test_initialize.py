"""Splats start where and as large as the surface that they stand for."""

import math
from dataclasses import replace

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.rigid import rotation_from_quaternion
from worldstereo_cli.splatting.initialize import (
    Picture,
    SplatStyle,
    backing_splats,
    lies_on_picture,
    seen_in_picture,
    settled_depth,
    splats_from_cloud,
    splats_from_picture,
    thinned,
    unmixed_colors,
)
from worldstereo_cli.splatting.losses import psnr_db
from worldstereo_cli.splatting.parameters import joined
from worldstereo_cli.splatting.rasterize.cpu import CpuRasterizer

STYLE = SplatStyle()


def picture(surfaces: list[scenes.Plane | scenes.Sphere], camera: Cameras | None = None) -> Picture:
    view = scenes.view_of(surfaces, camera or scenes.camera())
    return Picture(view.image, view.depth_m, view.valid, view.sky, view.camera)


def tilted(angle_deg: float) -> list[scenes.Plane | scenes.Sphere]:
    """A wall turned about the vertical axis, four metres away."""
    angle = math.radians(angle_deg)
    normal = (math.sin(angle), 0.0, math.cos(angle))
    return [scenes.Plane(normal, 4.0 * normal[2])]


@pytest.mark.parametrize("angle_deg", [0.0, 40.0, 65.0])
def test_splats_lie_flat_on_a_tilted_wall_and_stretch_with_its_slope(angle_deg: float) -> None:
    shown = picture(tilted(angle_deg))
    made = splats_from_picture(shown, STYLE)
    middle = 32 * 96 + 48
    axes = rotation_from_quaternion(made.quaternions[middle])
    angle = math.radians(angle_deg)
    normal = torch.tensor([math.sin(angle), 0.0, math.cos(angle)])
    assert abs(float(axes[:, 2] @ normal)) == pytest.approx(1.0, abs=1e-3)
    # Seen from the camera the splat is as wide as the pixel; along the slope it is 1 / cos longer.
    spacing = STYLE.sigma_spacings * 4.0 / float(shown.camera.intrinsics[0, 0, 0])
    expected = [spacing / math.cos(angle), spacing, STYLE.flatness * spacing]
    assert made.scales_m[middle].tolist() == pytest.approx(expected, rel=0.05)


def test_stretch_is_limited_where_the_surface_is_grazed() -> None:
    shown = picture(tilted(84.0))
    limited = splats_from_picture(shown, STYLE)
    free = splats_from_picture(shown, replace(STYLE, max_stretch=100.0))
    ratios = [m.scales_m[:, 0] / m.scales_m[:, 1] for m in (limited, free)]
    assert ratios[1].max() > 7 > STYLE.max_stretch >= ratios[0].max() * (1 - 1e-5)
    same = ratios[1] < STYLE.max_stretch
    torch.testing.assert_close(limited.log_scales[same], free.log_scales[same])


@pytest.mark.parametrize("surfaces", [scenes.room(), scenes.two_planes(), scenes.wall()])
def test_the_first_drawing_shows_the_picture_and_its_depth(
    surfaces: list[scenes.Plane | scenes.Sphere],
) -> None:
    shown = picture(surfaces)
    drawn = CpuRasterizer().render(splats_from_picture(shown, STYLE), shown.camera)
    assert psnr_db(drawn.rgb, shown.image) > 28
    assert drawn.alpha.min() > 0.9
    assert ((drawn.depth_m - shown.depth_m).abs() / shown.depth_m).mean() < 0.015


def test_no_gaps_open_when_the_camera_comes_closer_or_moves_aside() -> None:
    shown = picture(scenes.wall(4.0))
    made = splats_from_picture(shown, STYLE)
    for place in ([0.0, 0.0, 2.4], [1.0, 0.0, 2.0], [0.0, 0.4, 1.5]):
        pose = torch.eye(4)
        pose[:3, 3] = torch.tensor(place)
        moved = Cameras(pose[None], shown.camera.intrinsics, 96, 64)
        alpha = CpuRasterizer().render(made, moved).alpha
        # The part of the wall that the picture covers, a little inside its border.
        points = moved.unproject(torch.full((1, 64, 96), 4.0 - place[2]))[0]
        pixels, _ = shown.camera.project(points.reshape(-1, 3))
        inside = ((pixels[0] > 2) & (pixels[0] < torch.tensor([94.0, 62.0]))).all(-1).reshape(64, 96)
        assert inside.any() and alpha[inside].min() > 0.6


def test_no_splat_bridges_a_step_in_depth() -> None:
    shown = picture(scenes.two_planes(2.0, 5.0))
    made = splats_from_picture(shown, STYLE)
    reach = made.scales_m.amax(-1) * 3
    between = (made.means[:, 2] - 2.0).abs().minimum((made.means[:, 2] - 5.0).abs())
    assert between.max() < 1e-4 and reach.max() < 0.3


def test_pixels_without_depth_take_the_surface_beside_them() -> None:
    shown = picture(scenes.wall(3.0))
    valid = shown.valid.clone()
    valid[10:20, 30:40] = False
    depth = torch.where(valid, shown.depth_m, float("nan"))
    holed = Picture(shown.image, depth, valid, shown.sky, shown.camera)
    torch.testing.assert_close(settled_depth(holed), shown.depth_m)
    nothing = Picture(shown.image, depth, torch.zeros_like(valid), shown.sky, shown.camera)
    with pytest.raises(ValueError, match="none among 6144"):
        settled_depth(nothing)


@pytest.mark.parametrize("share", [0.8, 0.4, 0.1])
def test_a_limit_is_kept_and_merges_where_the_picture_is_smooth(share: float) -> None:
    shown = picture(scenes.room())
    image = shown.image.clone()
    g = torch.Generator().manual_seed(0)
    image[:, :, 48:] = torch.rand(3, 64, 48, generator=g)
    busy = Picture(image, shown.depth_m, shown.valid, shown.sky, shown.camera)
    limit = int(share * 96 * 64)
    made = splats_from_picture(busy, STYLE, limit)
    assert 0.7 * limit < len(made) <= limit
    drawn = CpuRasterizer().render(made, shown.camera)
    assert drawn.alpha.min() > 0.4
    # At a tenth, splats stand apart, and what passes between them is black: colours alone count here.
    colours = drawn.rgb / drawn.alpha
    assert psnr_db(colours[:, :, :46], image[:, :, :46]) > 24
    pixels, _ = shown.camera.project(made.means)
    left = (pixels[0, :, 0] < 48).float().mean()
    assert left < 0.5


def plane_cloud(count: int = 900, spacing: float = 0.05) -> Cloud:
    """A tilted square of points on a grid."""
    side = math.isqrt(count)
    v, u = torch.meshgrid(torch.arange(side) * 1.0, torch.arange(side) * 1.0, indexing="ij")
    flat = torch.stack([u, v], -1).reshape(-1, 2) * spacing
    points = torch.stack([flat[:, 0], 0.6 * flat[:, 1], 0.8 * flat[:, 1] + 2], -1)
    ones = torch.ones(len(points))
    grey = torch.full_like(points, 0.5)
    return Cloud(points, grey, ones, ones.int(), ones * spacing, torch.zeros(len(points)).bool())


def test_splats_of_a_cloud_lie_in_its_plane_and_reach_their_neighbours() -> None:
    cloud = plane_cloud()
    made = splats_from_cloud(cloud, torch.zeros(3), STYLE)
    normals = rotation_from_quaternion(made.quaternions)[:, :, 2]
    inner = torch.zeros(30, 30, dtype=torch.bool)
    inner[3:-3, 3:-3] = True
    cosine = (normals @ torch.tensor([0.0, -0.8, 0.6])).abs()[inner.reshape(-1)]
    assert cosine.min() > 0.99
    sizes = made.scales_m[inner.reshape(-1)]
    torch.testing.assert_close(
        sizes[:, 0], torch.full_like(sizes[:, 0], STYLE.sigma_spacings * 0.05), rtol=0.02, atol=0
    )
    torch.testing.assert_close(sizes[:, 2], STYLE.flatness * sizes[:, 0])


def test_loose_points_become_no_blobs_and_face_the_viewpoint() -> None:
    cloud = plane_cloud(4)
    far = cloud.points.clone()
    far[:, 0] += torch.tensor([0.0, 10.0, 20.0, 30.0])
    loose = Cloud(far, cloud.colors, cloud.confidence, cloud.round_index, cloud.spacing_m, cloud.sky)
    for points in (loose, loose[:1]):
        made = splats_from_cloud(points, torch.zeros(3), STYLE)
        assert made.scales_m.max() <= STYLE.sigma_spacings * STYLE.max_gap * 0.05 * (1 + 1e-5)
        towards = torch.nn.functional.normalize(points.points, dim=-1)
        normal = rotation_from_quaternion(made.quaternions)[:, :, 2]
        assert (normal * towards).sum(-1).abs().min() > 0.99


def test_thinning_keeps_the_limit_and_lets_each_point_stand_for_more() -> None:
    cloud = plane_cloud()
    kept = thinned(cloud, 225, torch.Generator().manual_seed(0))
    assert len(kept) == 225
    torch.testing.assert_close(kept.spacing_m, torch.full((225,), 0.1))
    assert thinned(cloud, 900, torch.Generator()) is cloud


def test_thinning_leaves_the_doubtful_more_coarsely() -> None:
    cloud = plane_cloud()
    sure = torch.arange(len(cloud)) % 2 == 0
    cloud = replace(cloud, confidence=torch.where(sure, 0.5, 0.05))
    kept = thinned(cloud, 225, torch.Generator().manual_seed(0))
    doubtful = kept.confidence < 0.1
    # Ten times less sure; of the sure ones more than half are taken, so that the rest catches up a little.
    assert 15 < int(doubtful.sum()) < 50
    assert kept.spacing_m[doubtful].min() > 2 * kept.spacing_m[~doubtful].max()


def test_points_before_behind_and_beside_what_the_picture_shows_are_told_apart() -> None:
    shown = picture(scenes.two_planes(2.0, 5.0))  # The board reaches to 0.5 m from the axis.
    points = torch.tensor(
        [[0, 0, 1.5], [0, 0, 2.01], [0, 0, 3.5], [1.5, 0, 3], [1.5, 0, 5], [9, 0, 1], [0, 0, -1]]
    )
    assert seen_in_picture(points, shown).tolist() == [True, True, False, True, True, False, False]
    assert lies_on_picture(points, shown).tolist() == [False, True, False, False, True, False, False]
    # One pixel inside the board's edge: just behind it is kept, halfway to the wall is not.
    at_edge = torch.tensor([[0.49, 0.0, 2.0]]) * torch.tensor([[1.0], [1.01], [1.6], [2.45]])
    assert seen_in_picture(at_edge, shown).tolist() == [True, True, True, False]
    inside = torch.tensor([[0.3, 0.0, 2.0]]) * torch.tensor([[1.01], [1.1], [1.6], [2.45]])
    assert seen_in_picture(inside, shown).tolist() == [True, False, False, False]


def test_pixels_at_an_edge_take_the_colour_of_their_own_side() -> None:
    depth = torch.full((20, 30), 5.0)
    depth[:, :15] = 2.0
    depth[10, 15:] = 2.0  # A wire across the background.
    image = torch.where(depth == 2.0, 0.2, 0.8).expand(3, 20, 30).clone()
    image[:, :, 14:16] = 0.5
    clean = unmixed_colors(image, depth)
    assert clean[:, :7, 14].sub(0.2).abs().max() < 1e-6 and clean[:, :7, 15].sub(0.8).abs().max() < 1e-6
    assert torch.equal(clean[:, 10, 18:], image[:, 10, 18:])
    assert torch.equal(clean[:, :, :13], image[:, :, :13])


def test_the_backing_closes_the_grid_for_a_camera_that_comes_close_and_hides_from_the_first() -> None:
    shown = picture(scenes.two_planes(2.0, 5.0), scenes.camera(192, 128))
    front = splats_from_picture(shown, STYLE)
    backing = backing_splats(shown, SplatStyle(sigma_spacings=0.65))
    assert 192 * 128 / 20 < len(backing) < 192 * 128 / 8
    both = joined([front, backing])
    close = torch.eye(4)
    close[2, 3] = 1.6  # The board is five times nearer than it was.
    near = Cameras(close[None], shown.camera.intrinsics, 192, 128)
    alpha = [CpuRasterizer().render(g, near).alpha for g in (front, both)]
    assert alpha[0].quantile(0.05) < 0.9 < 0.98 < alpha[1].quantile(0.05)
    drawn = [CpuRasterizer().render(g, shown.camera).rgb for g in (front, both)]
    assert (drawn[1] - drawn[0]).abs().max() < 0.02

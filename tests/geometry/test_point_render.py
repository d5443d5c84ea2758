"""Promises of the point renderers."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.point_kernels import render_points_cpu, render_surface_cpu
from worldstereo_cli.geometry.point_render import PointStyle, SurfaceStyle, render_points, render_surface
from worldstereo_cli.geometry.point_render_torch import render_points_torch, render_surface_torch
from worldstereo_cli.geometry.rigid import invert_rigid

BOTH = pytest.mark.parametrize("renderer", [render_points_cpu, render_points_torch])


def moved(view: Cameras, x: float, z: float) -> Cameras:
    pose = view.world_from_camera.clone()
    pose[:, 0, 3] += x
    pose[:, 2, 3] += z
    return replace(view, world_from_camera=pose)


GOLDEN_SCENES = pytest.mark.parametrize(
    "scene", ["hand_placed", "room", "dense_cluster", "dense_cluster_4pp"]
)


@BOTH
@GOLDEN_SCENES
def test_soft_points_equal_the_golden(goldens_dir, renderer, scene):
    compare_with_golden(goldens_dir, renderer, scene, "cpu")


@GOLDEN_SCENES
def test_soft_points_equal_the_golden_on_a_gpu(cuda, goldens_dir, scene):
    compare_with_golden(goldens_dir, render_points, scene, cuda)


def compare_with_golden(goldens_dir, renderer, scene, device):
    with safe_open(goldens_dir / "point_render.safetensors", "pt") as golden:
        facts = json.loads(golden.metadata()["scenes"])[scene]
        source = scene.removesuffix("_4pp")
        cameras = Cameras(
            invert_rigid(golden.get_tensor(f"{source}/w2c")),
            golden.get_tensor(f"{source}/K"),
            facts["width"],
            facts["height"],
        )
        style = PointStyle(facts["radius"], facts["points_per_pixel"], background=0.0)
        points, colors = (golden.get_tensor(f"{source}/{name}").to(device) for name in ("points", "colors"))
        drawn = renderer(points, colors, cameras.to(device), style)
        # 5e-4 is the table's tolerance: opacity amplifies position errors by 1/r^2.
        assert (drawn.rgb.cpu() - golden.get_tensor(f"{scene}/rgb")).abs().max() < 5e-4
        assert torch.equal(drawn.hole.cpu(), golden.get_tensor(f"{scene}/hole_mask")[:, 0] > 0)


def test_fast_and_readable_soft_points_agree():
    cloud = scenes.cloud_of(scenes.view_of(scenes.room(), scenes.camera()))
    camera = moved(scenes.camera(160, 96), 0.4, 0.5)
    style = PointStyle(0.03)
    fast = render_points_cpu(cloud.points, cloud.colors, camera, style)
    slow = render_points_torch(cloud.points, cloud.colors, camera, style)
    # Positions differ in the last bits of a float32; a disc's rim may gain or lose a pixel.
    assert (fast.hole != slow.hole).float().mean() < 1e-3
    assert ((fast.rgb - slow.rgb).abs().amax(1) > 1e-3).float().mean() < 1e-3
    assert ((fast.depth_m - slow.depth_m).abs() > 1e-3).float().mean() < 1e-3
    assert 0.01 < fast.hole.float().mean() < 0.9


def test_fast_and_readable_surface_agree():
    cloud = scenes.cloud_of(scenes.view_of(scenes.room(), scenes.camera()))
    camera = moved(scenes.camera(160, 96), 0.4, 0.8)
    fast = render_surface_cpu(cloud, camera, SurfaceStyle())
    slow = render_surface_torch(cloud, camera, SurfaceStyle())
    assert (fast.hole != slow.hole).float().mean() < 1e-3
    assert ((fast.rgb - slow.rgb).abs().amax(1) > 1e-3).float().mean() < 2e-3
    assert ((fast.depth_m - slow.depth_m).abs() > 1e-3).float().mean() < 2e-3


@pytest.mark.parametrize("renderer", [render_surface_cpu, render_surface_torch])
def test_nothing_shines_through_a_surface_that_comes_close(renderer):
    """At twice the size, soft points of fixed radius show the wall through the board; surface does not."""
    surfaces = scenes.two_planes(near_m=2.0, far_m=5.0)
    cloud = scenes.cloud_of(scenes.view_of(surfaces, scenes.camera()))
    close = moved(scenes.camera(), 0.1, 1.0)
    _, truth = scenes.render(surfaces, close)
    board = (truth < 1.5) & ~edge_of(truth)
    drawn = renderer(cloud, close, SurfaceStyle())
    assert (drawn.depth_m[0][board] - truth[board]).abs().max() < 1e-3
    soft = render_points(cloud.points, cloud.colors, close, PointStyle())
    assert (soft.depth_m[0][board] - truth[board]).abs().max() > 1.0


def test_surface_is_where_the_scene_is_and_holes_are_what_was_hidden():
    surfaces = scenes.two_planes(near_m=2.0, far_m=5.0)
    photo = scenes.camera(192, 128)
    cloud = scenes.cloud_of(scenes.view_of(surfaces, photo))
    beside = moved(photo, 0.3, 0.0)
    image, truth = scenes.render(surfaces, beside)
    points = beside.unproject(truth[None])[0].reshape(-1, 3)
    pixel, depth = photo.project(points)
    _, photo_depth = scenes.render(surfaces, photo)
    column, row = pixel[0].floor().long().unbind(-1)
    inside = (column >= 0) & (column < 192) & (row >= 0) & (row < 128)
    seen = photo_depth[row.clamp(0, 127), column.clamp(0, 191)]
    hidden = (~inside | (depth[0] > seen + 0.1)).reshape(128, 192)
    drawn = render_surface(cloud, beside, SurfaceStyle())
    near_edge = edge_of(truth) | edge_of(torch.where(hidden, 1e3, 0.0))
    assert torch.equal(drawn.hole[0][~near_edge], hidden[~near_edge])
    shown = ~drawn.hole[0] & ~near_edge
    assert (drawn.depth_m[0][shown] - truth[shown]).abs().max() < 1e-3
    # The texture is smooth: half a pixel of blur changes it by less than a hundredth.
    assert (drawn.rgb[0][:, shown] - image[:, shown]).abs().max() < 0.01


def test_points_behind_the_camera_are_not_drawn():
    cloud = scenes.cloud_of(scenes.view_of(scenes.wall(2.0), scenes.camera()))
    beyond = moved(scenes.camera(), 0.0, 3.0)
    assert render_surface(cloud, beyond, SurfaceStyle()).hole.all()
    drawn = render_points(cloud.points, cloud.colors, beyond, PointStyle(background=0.25))
    assert drawn.hole.all()
    assert torch.equal(drawn.rgb, torch.full_like(drawn.rgb, 0.25))


def test_an_empty_cloud_is_one_hole():
    cloud = scenes.cloud_of(scenes.view_of(scenes.wall(), scenes.camera()))[:0]
    assert render_surface(cloud, scenes.camera(), SurfaceStyle()).hole.all()


def test_both_renderings_come_out_alike_on_a_gpu(cuda):
    cloud = scenes.cloud_of(scenes.view_of(scenes.room(), scenes.camera()))
    camera = moved(scenes.camera(160, 96), 0.4, 0.8)
    there = cloud.to(cuda)
    soft = PointStyle(0.03)
    pairs = [
        (render_surface_torch(cloud, camera, SurfaceStyle()),
         render_surface(there, camera.to(cuda), SurfaceStyle())),
        (render_points_torch(cloud.points, cloud.colors, camera, soft),
         render_points(there.points, there.colors, camera.to(cuda), soft)),
    ]  # fmt: skip
    for here, drawn in pairs:
        # A GPU fuses products with sums: a disc's rim, or what counts as one surface, may change.
        assert (here.hole != drawn.hole.cpu()).float().mean() < 1e-3
        assert ((here.rgb - drawn.rgb.cpu()).abs().amax(1) > 1e-3).float().mean() < 2e-3
        assert ((here.depth_m - drawn.depth_m.cpu()).abs() > 1e-3).float().mean() < 2e-3
        assert 0.005 < here.hole.float().mean() < 0.9


def edge_of(depth: torch.Tensor, reach: int = 3) -> torch.Tensor:
    """True within `reach` pixels of a step in depth."""
    window = torch.nn.functional.pad(depth[None, None], (reach,) * 4, mode="replicate")
    high = torch.nn.functional.max_pool2d(window, 2 * reach + 1, 1)
    low = -torch.nn.functional.max_pool2d(-window, 2 * reach + 1, 1)
    return (high - low)[0, 0] > 0.5

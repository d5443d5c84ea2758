"""Promises of the scene renderer, kept on its CPU build."""

import shutil

import numpy as np
import pytest
import torch

from worldstereo_cli.training.scenes import (
    CATEGORIES,
    SceneCameras,
    SceneRenderer,
    preview_srgb,
)
from worldstereo_cli.training.scenes.build import compile_gpu
from worldstereo_cli.training.scenes.plants import _core
from worldstereo_cli.training.scenes.renderer import mixture_weights

pytestmark = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="needs a C++ compiler"
)
WIDTH, HEIGHT = 32, 24


@pytest.fixture(scope="module")
def renderer():
    return SceneRenderer("cpu")


def looking_down(height_m, count=1):
    """World from camera of a camera above the ground that looks straight down."""
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, :3] = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    pose[:, 1, 3] = -height_m
    return pose


def lens(focal_px, count=1):
    k = torch.tensor([[focal_px, 0.0, WIDTH / 2], [0.0, focal_px, HEIGHT / 2], [0.0, 0.0, 1.0]])
    return k.repeat(count, 1, 1)


def unproject(batch):
    """World point of every pixel, (b h w 3)."""
    _, height, width = batch.depth_m.shape
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([u, v, torch.ones_like(u)], -1) @ batch.intrinsics.inverse().mT[:, None]
    camera = rays * batch.depth_m[..., None]
    pose = batch.world_from_camera[:, None]
    return camera @ pose[..., :3, :3].mT + pose[:, :, None, :3, 3]


def test_every_category_renders_finite_light_and_positive_depth(renderer):
    for name in CATEGORIES:
        batch = renderer.render(range(3), WIDTH, HEIGHT, mixture={name: 1.0})
        assert batch.valid.all(), name
        assert (batch.category == CATEGORIES.index(name)).all()
        assert torch.isfinite(batch.rgb_linear).all() and (batch.rgb_linear >= 0).all()
        assert (batch.depth_m > 0).all()
        assert not torch.isnan(batch.depth_m).any()
        assert preview_srgb(batch.rgb_linear).std() > 0.02, f"{name} shows nothing"


def test_a_seed_is_a_scene_whatever_stands_beside_it(renderer):
    together = renderer.render([5, 6, 7], WIDTH, HEIGHT)
    alone = renderer.render([7], WIDTH, HEIGHT)
    assert torch.equal(together.rgb_linear[2], alone.rgb_linear[0])
    assert torch.equal(together.depth_m[2], alone.depth_m[0])
    assert not torch.equal(together.depth_m[1], together.depth_m[2])


def test_ground_seen_from_above_is_as_far_as_the_camera_is_high(renderer):
    # Driving scenes stand on the plane y = 0; far to the side and behind there is nothing but ground,
    # or a slab of lawn and pavement at most 16 cm high.
    pose = looking_down(5.0, 4)
    pose[:, 0, 3], pose[:, 2, 3] = 500.0, -900.0
    batch = renderer.render(
        range(4), WIDTH, HEIGHT, mixture={"driving": 1.0}, cameras=SceneCameras(pose, lens(40.0, 4))
    )
    # z-depth is constant over a plane parallel to the image; the ray length is not.
    assert torch.allclose(batch.depth_m, torch.full_like(batch.depth_m, 5.0), atol=1e-4)


def test_walls_floor_and_ceiling_of_a_room_are_a_box(renderer):
    # From one point of an empty upper corner region, opposite views measure the room: the sum of the
    # largest z-depths of two opposite cameras is the same from any point of the room.
    spans = []
    for x in (0.0, 0.4):
        pose = torch.eye(4).repeat(2, 1, 1)
        pose[1, 0, 0] = pose[1, 2, 2] = -1.0
        pose[:, 0, 3], pose[:, 1, 3] = x, -2.05
        batch = renderer.render(
            [11, 11], WIDTH, HEIGHT, mixture={"room": 1.0}, cameras=SceneCameras(pose, lens(60.0, 2))
        )
        spans.append(float(batch.depth_m.flatten(1).max(1).values.sum()))
    assert spans[0] > 2.0
    assert abs(spans[0] - spans[1]) < 2e-3


def test_two_views_of_a_scene_agree(renderer):
    seeds = [21, 21]
    own = renderer.render([21], WIDTH, HEIGHT, mixture={"room": 1.0})
    pose = own.world_from_camera.repeat(2, 1, 1)
    pose[1, :3, 3] += 0.06 * pose[1, :3, 0]
    cameras = SceneCameras(pose, own.intrinsics.repeat(2, 1, 1))
    pair = renderer.render(seeds, WIDTH, HEIGHT, mixture={"room": 1.0}, cameras=cameras)
    assert torch.allclose(pair.depth_m[0], own.depth_m[0], rtol=1e-3)
    points = unproject(pair)
    view = torch.linalg.inv(pose[1])
    in_second = points[0] @ view[:3, :3].T + view[:3, 3]
    pixel = in_second @ pair.intrinsics[1].T
    u, v, z = pixel[..., 0] / pixel[..., 2], pixel[..., 1] / pixel[..., 2], in_second[..., 2]
    inside = (u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT)
    seen = pair.depth_m[1][v[inside].long(), u[inside].long()]
    agree = ((seen - z[inside]).abs() < 0.05 * z[inside]).float().mean()
    # Edges and what one view hides from the other are the rest.
    assert inside.float().mean() > 0.7
    assert agree > 0.8


def test_level_cameras_have_up_against_gravity(renderer):
    batch = renderer.render(range(6), WIDTH, HEIGHT, mixture={"driving": 1.0})
    assert (batch.up_camera[:, 1] < -0.95).all()
    rotation = batch.world_from_camera[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand(6, 3, 3), atol=1e-4)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(6), atol=1e-4)


def test_hand_held_cameras_are_close_and_look_down(renderer):
    batch = renderer.render(range(24), 16, 12, mixture={"handheld": 1.0})
    medians = batch.depth_m.flatten(1).median(1).values
    assert 0.5 < medians.median() < 2.5
    pitch = torch.asin(-batch.world_from_camera[:, 1, 2])
    assert pitch.mean() < -0.1
    assert (batch.depth_m < 0.15).float().mean((1, 2)).max() < 0.4, "no camera is buried"


def test_the_field_of_view_belongs_to_the_long_side(renderer):
    wide = renderer.render([3], 48, 24, mixture={"room": 1.0})
    tall = renderer.render([3], 24, 48, mixture={"room": 1.0})
    assert torch.isclose(wide.intrinsics[0, 0, 0], tall.intrinsics[0, 1, 1])
    assert torch.isclose(wide.intrinsics[0, 0, 0], wide.intrinsics[0, 1, 1])


def test_a_wrong_mixture_is_refused():
    with pytest.raises(ValueError, match="castle"):
        mixture_weights({"castle": 1.0})
    with pytest.raises(ValueError, match="positive sum"):
        mixture_weights({"room": 0.0})


def test_some_clouds_reach_the_horizon_and_are_sky(renderer):
    # Far above all ground, through a lens that sees two and a half degrees over the horizon.
    pose = torch.eye(4).repeat(40, 1, 1)
    pose[:, 1, 3] = -900.0
    batch = renderer.render(
        range(40), WIDTH, HEIGHT, mixture={"nature": 1.0}, cameras=SceneCameras(pose, lens(270.0, 40))
    )
    assert batch.sky[:, :11].all()
    low_sky = batch.rgb_linear[:, :, :11].mean(1).flatten(1)
    contrast = low_sky.std(1) / low_sky.mean(1)
    # Without them the most uneven of these skies, with a glow of the sun, varies by 4 %.
    assert (contrast > 0.05).sum() >= 4


def test_snow_lies_in_patches_and_is_ground(renderer):
    pose = looking_down(60.0, 40)
    batch = renderer.render(
        range(40), WIDTH, HEIGHT, mixture={"nature": 1.0}, cameras=SceneCameras(pose, lens(30.0, 40))
    )
    luminance = batch.rgb_linear.mean(1).flatten(1)
    spread = luminance.quantile(0.95, dim=1) / luminance.quantile(0.05, dim=1)
    assert not batch.sky.any()
    # Snowfields beside bare ground; without them the ratio is at most 5.
    assert (spread > 7).sum() >= 3


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, but no GPU")
def test_the_same_source_is_a_program_for_gpus(tmp_path):
    assert compile_gpu("90", tmp_path).stat().st_size > 100_000


@pytest.mark.gpu
def test_every_gpu_renders_the_same_scenes():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    first, second = (SceneRenderer(f"cuda:{index}").render(range(4), WIDTH, HEIGHT) for index in range(2))
    assert second.depth_m.device.index == 1
    assert torch.equal(first.depth_m.cpu(), second.depth_m.cpu())


def test_a_crown_in_leaf_is_closed_inside():
    # Triangles all around a point fill its whole sphere of directions.
    # Source: Van Oosterom & Strackee 1983, "The Solid Angle of a Plane Triangle".
    corners = _core(np.array([[0.3, -0.2, 0.1, 0.5]])) - [0.3, -0.2, 0.1]
    a, b, c = (corners[:, k] / np.linalg.norm(corners[:, k], axis=1, keepdims=True) for k in range(3))
    volume = (a * np.cross(b, c)).sum(1)
    dots = 1 + (a * b).sum(1) + (b * c).sum(1) + (c * a).sum(1)
    assert abs((2 * np.arctan2(volume, dots)).sum()) == pytest.approx(4 * np.pi, rel=1e-6)


def test_ground_goes_on_until_the_mountains(renderer):
    # Rays along the ground ran out of steps, and ended as a band of sky before every mountain.
    for name in ("nature", "vista"):
        batch = renderer.render(range(40), WIDTH, HEIGHT, mixture={name: 1.0})
        down = torch.eye(4).repeat(40, 1, 1)
        # Level, higher than any hill nearby; the lens sees two degrees up and down.
        down[:, 1, 3] = batch.world_from_camera[:, 1, 3] - 5.0
        cameras = SceneCameras(down, lens(HEIGHT / 2 / np.tan(np.radians(2)), 40))
        level = renderer.render(range(40), WIDTH, HEIGHT, mixture={name: 1.0}, cameras=cameras)
        # Rows that look down by more than half a degree meet ground within 1500 m.
        below = level.sky[:, HEIGHT // 2 + 4 :]
        assert not below.any(), name


def test_roads_are_seen_from_cars(renderer):
    batch = renderer.render(range(60), 16, 12, samples=1, mixture={"road": 1.0})
    height = -batch.world_from_camera[:, 1, 3]
    assert 1.3 <= height.min() and height.max() <= 1.85
    forward = batch.world_from_camera[:, [0, 2], 2]
    ahead, aside = (forward[:, 1] > 0.9).float().mean(), (forward[:, 0].abs() > 0.6).float().mean()
    assert ahead > 0.2 and aside > 0.2
    fov = torch.rad2deg(2 * torch.atan(8 / batch.intrinsics[:, 0, 0]))
    assert fov.quantile(0.1) < 56 and fov.quantile(0.9) > 80
    reach = torch.where(torch.isfinite(batch.depth_m), batch.depth_m, 0.0).amax((1, 2))
    assert reach.median() > 50


def test_small_rooms_are_seen_by_depth_cameras(renderer):
    batch = renderer.render(range(60), 16, 12, samples=1, mixture={"sensor": 1.0})
    assert batch.depth_m.max() < 7
    medians = batch.depth_m.flatten(1).median(1).values
    assert 0.8 < medians.median() < 2.5
    fov = torch.rad2deg(2 * torch.atan(8 / batch.intrinsics[:, 0, 0]))
    assert fov.min() > 55.9 and fov.max() < 71.1
    pitch = torch.asin(-batch.world_from_camera[:, 1, 2])
    assert pitch.mean() < -0.15

"""The world is levelled by the ground that the depth shows, and left alone where there is none."""

import math

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.gravity import find_ground, level_rotation
from worldstereo_cli.geometry.rigid import rotation_about


def held(pitch_deg: float, roll_deg: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A camera turned down by pitch and then rolled: its pose, and true gravity in its coordinates."""
    pose = torch.eye(4)
    pitch = rotation_about(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(-math.radians(pitch_deg)))
    roll = rotation_about(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(math.radians(roll_deg)))
    pose[:3, :3] = pitch @ roll
    return pose, pose[:3, :3].T @ torch.tensor([0.0, 1.0, 0.0])


def noisy_points(surfaces: list[scenes.Plane | scenes.Sphere], pose: torch.Tensor, noise: float) -> tuple:
    camera = scenes.camera(192, 128).moved_by(pose)
    _, depth = scenes.render(surfaces, camera)
    known = depth.isfinite()
    generator = torch.Generator().manual_seed(0)
    depth = torch.where(known, depth, 0.0) * (1 + noise * torch.randn(depth.shape, generator=generator))
    return scenes.camera(192, 128).unproject(depth[None])[0], known


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (20, 0), (10, -12), (30, 3), (5, 15)])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_floor_of_a_room_tells_which_way_is_down(pitch: float, roll: float, noise: float) -> None:
    pose, down = held(pitch, roll)
    points, known = noisy_points(scenes.room(), pose, noise)
    ground = find_ground(points, known)
    error = math.degrees(math.acos(min(1.0, float(ground.down @ down))))
    assert error < (0.1 if noise == 0 else 2.0)
    assert ground.camera_height_m == pytest.approx(1.0, rel=0.05)
    assert 0 < ground.confidence <= 1


def test_a_camera_held_level_is_surer_than_one_that_leans() -> None:
    straight, leaning = (
        find_ground(*noisy_points(scenes.room(), held(p, r)[0], 0.0)) for p, r in ((5, 0), (5, 14))
    )
    assert straight.confidence > leaning.confidence


def test_a_wall_alone_has_no_ground() -> None:
    ground = find_ground(*noisy_points(scenes.wall(), torch.eye(4), 0.01))
    assert ground.camera_height_m is None
    assert ground.confidence == 0
    assert ground.down.tolist() == [0, 1, 0]


def test_a_ceiling_is_no_ground() -> None:
    ceiling = [scenes.Plane((0.0, 1.0, 0.0), -1.0), scenes.Plane((0.0, 0.0, 1.0), 6.0)]
    assert find_ground(*noisy_points(ceiling, torch.eye(4), 0.0)).camera_height_m is None


def test_the_floor_under_a_table_is_the_ground() -> None:
    table = scenes.Plane((0.0, 1.0, 0.0), 0.5, (0.0, 0.5, 2.0), 0.8)
    surfaces = [table, scenes.Plane((0.0, 1.0, 0.0), 1.4), scenes.Plane((0.0, 0.0, 1.0), 6.0)]
    pose, _ = held(15, 0)
    assert find_ground(*noisy_points(surfaces, pose, 0.0)).camera_height_m == pytest.approx(1.4, rel=0.02)


def test_unknown_pixels_do_not_vote() -> None:
    pose, down = held(10, 5)
    points, known = noisy_points(scenes.room(), pose, 0.0)
    points[:, :96] = torch.rand(128, 96, 3) * torch.tensor([1.0, 1.0, 3.0])
    known[:, :96] = False
    assert float(find_ground(points, known).down @ down) > 0.9999


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (25, 0), (-20, 10), (10, -15)])
def test_levelling_takes_out_pitch_and_roll_and_keeps_the_heading(pitch: float, roll: float) -> None:
    _, down = held(pitch, roll)
    rotation = level_rotation(down)
    assert torch.allclose(rotation @ rotation.T, torch.eye(3), atol=1e-6)
    assert torch.linalg.det(rotation) == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(rotation @ down, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    ahead = rotation @ torch.tensor([0.0, 0.0, 1.0])
    assert ahead[0] == pytest.approx(0.0, abs=1e-6)
    assert ahead[2] > 0

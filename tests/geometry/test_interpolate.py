"""Paths between poses are smooth and pass through the poses."""

from __future__ import annotations

import math

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.interpolate import sample_path, scale_motion
from worldstereo_cli.geometry.paths import Anchor, preset_path
from worldstereo_cli.geometry.rigid import rotation_about


def test_the_curve_passes_through_every_pose() -> None:
    path = preset_path("right", Anchor(scenes.camera(), 3.0), 180.0, 6)
    again = sample_path(path, torch.linspace(0, 1, 6, dtype=torch.float64))
    assert torch.allclose(again.world_from_camera, path.world_from_camera, atol=1e-5)
    assert torch.allclose(again.intrinsics, path.intrinsics)


def test_a_few_keyframes_give_nearly_the_path_they_were_taken_from() -> None:
    anchor = Anchor(scenes.camera(), 3.0)
    dense = preset_path("orbit", anchor, 40.0, 81)
    few = preset_path("orbit", anchor, 40.0, 17)
    between = sample_path(few, torch.linspace(0, 1, 81, dtype=torch.float64))
    error = (between.centres - dense.centres).norm(dim=-1)
    # Ends are straight, inner pieces cubic: 2 cm on a swing of 4 m, where lines would be 10 cm off.
    assert float(error.max()) < 0.02
    assert float(error[10:-10].max()) < 0.005
    rotation = between.world_from_camera[:, :3, :3]
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(81, 3, 3), atol=1e-6)


def test_speed_has_no_jumps_at_the_poses() -> None:
    few = preset_path("eloop", Anchor(scenes.camera(), 3.0), 0.6, 9)
    fine = sample_path(few, torch.linspace(0, 1, 801, dtype=torch.float64)).centres.double()
    speed = (fine[1:] - fine[:-1]) * 800
    jumps = (speed[1:] - speed[:-1]).norm(dim=-1)
    assert float(jumps.max()) < 0.05 * float(speed.norm(dim=-1).max())


def test_a_full_turn_does_not_flip_half_way() -> None:
    angles = torch.linspace(0, 2 * math.pi, 9)
    poses = torch.eye(4).repeat(9, 1, 1)
    poses[:, :3, :3] = rotation_about(torch.tensor([0.0, 1.0, 0.0]), angles)
    photo = scenes.camera()
    path = Cameras(poses, photo.intrinsics.expand(9, 3, 3), photo.width_px, photo.height_px)
    fine = sample_path(path, torch.linspace(0, 1, 400, dtype=torch.float64)).world_from_camera[:, :3, 2]
    cosine = (fine[1:] * fine[:-1]).sum(-1).clamp(-1, 1)
    assert float(torch.rad2deg(torch.acos(cosine)).max()) < 2.0, "0.9 degrees a step, evenly"


def test_nonsense_is_refused() -> None:
    photo = scenes.camera()
    with pytest.raises(ValueError, match="two poses"):
        sample_path(photo, torch.zeros(1))
    path = preset_path("pan", Anchor(photo, 1.0), 10.0, 3)
    with pytest.raises(ValueError, match="progress"):
        sample_path(path, torch.tensor([1.5]))


def test_a_path_that_moves_less_keeps_its_shape() -> None:
    turn = rotation_about(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.3, 0.5, 0.9]))
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, :3, :3] = turn
    poses[:, :3, 3] = torch.tensor([[1.0, 2.0, 3.0], [1.0, 4.0, 3.0], [7.0, 2.0, 3.0]])
    camera = scenes.camera()
    intrinsics = camera.intrinsics.repeat(3, 1, 1)
    intrinsics[2, 0, 0] *= 4
    path = Cameras(poses, intrinsics, camera.width_px, camera.height_px)
    half = scale_motion(path, 0.5)
    assert torch.allclose(half.centres, (path.centres + path.centres[:1]) / 2, atol=1e-6)
    expected = rotation_about(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.3, 0.4, 0.6]))
    assert torch.allclose(half.world_from_camera[:, :3, :3], expected, atol=1e-6)
    assert torch.allclose(half.intrinsics[2, 0, 0], 2 * path.intrinsics[0, 0, 0])
    assert torch.equal(half.intrinsics[:, :, 2], path.intrinsics[:, :, 2])
    whole, still = scale_motion(path, 1.0), scale_motion(path, 0.0)
    assert torch.allclose(whole.world_from_camera, path.world_from_camera, atol=1e-6)
    assert torch.allclose(still.world_from_camera, path.world_from_camera[:1].expand(3, 4, 4), atol=1e-6)

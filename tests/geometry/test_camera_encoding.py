"""Cameras reach the video model in the frame, rays and tokens that it was trained with."""

import math

import pytest
import torch
from safetensors.torch import load_file

from worldstereo_cli.geometry.camera_encoding import NormalisedFrame, camera_tokens, plucker_map
from worldstereo_cli.geometry.cameras import intrinsics_from_focal
from worldstereo_cli.geometry.rigid import invert_rigid, look_at, rotation_about


def _orbit(num: int) -> torch.Tensor:
    angle = torch.linspace(0.2, 1.4, num)
    centres = torch.stack([3 * angle.sin(), 0.3 * angle.cos(), -3 * angle.cos()], -1)
    return invert_rigid(look_at(centres, torch.zeros(num, 3), torch.tensor([0.0, 1.0, 0.0])))


def test_the_first_camera_looks_along_the_axes_from_the_given_distance() -> None:
    cameras = _orbit(9)
    normalised = NormalisedFrame.fit(cameras, distance=2.0).apply(cameras)
    centres = invert_rigid(normalised)[:, :3, 3]
    torch.testing.assert_close(normalised[0, :3, :3], torch.eye(3))
    assert float(centres[0].norm()) == pytest.approx(2.0, abs=1e-5)
    torch.testing.assert_close(centres.mean(0), torch.zeros(3), atol=1e-6, rtol=0)


def test_the_frame_forgets_where_the_world_was_and_how_large() -> None:
    cameras = _orbit(7)
    moved = cameras.clone()
    turn = torch.eye(4)
    turn[:3, :3] = rotation_about(torch.tensor([1.0, 2.0, -0.5]), torch.tensor(1.1))
    turn[:3, 3] = torch.tensor([4.0, -2.0, 9.0])
    moved = moved @ turn
    moved[:, :3, 3] *= 37.0
    expected = NormalisedFrame.fit(cameras).apply(cameras)
    torch.testing.assert_close(NormalisedFrame.fit(moved).apply(moved), expected, atol=2e-5, rtol=0)


def test_a_camera_that_only_turns_keeps_finite_tokens() -> None:
    cameras = torch.eye(4).repeat(5, 1, 1)
    cameras[:, :3, :3] = rotation_about(torch.tensor([0.0, 1.0, 0.0]), torch.linspace(0, 1, 5))
    frame = NormalisedFrame.fit(cameras)
    assert frame.units_per_metre == 2.0
    expected = torch.tensor([math.cos(0.5), 0, math.sin(0.5), 0, 0, 0, 0])
    torch.testing.assert_close(camera_tokens(frame.apply(cameras))[-1], expected, atol=1e-6, rtol=0)


def test_rays_pass_through_pixel_centres_and_their_origin() -> None:
    cameras = _orbit(3)
    intrinsics = intrinsics_from_focal(11.0, 20, 12).repeat(3, 1, 1)
    rays = plucker_map(cameras, intrinsics, 20, 12)
    # The point that the middle ray of a camera reaches after 3 units projects to that pixel.
    directions, moments = rays[:, :3], rays[:, 3:]
    origins = invert_rigid(cameras)[:, :3, 3]
    point = origins + 3 * directions[:, :, 5, 17]
    in_camera = (cameras[:, :3, :3] @ point[..., None])[..., 0] + cameras[:, :3, 3]
    pixel = (intrinsics @ in_camera[..., None])[..., 0]
    torch.testing.assert_close(pixel[:, :2] / pixel[:, 2:], torch.tensor([[17.5, 5.5]]).expand(3, 2))
    torch.testing.assert_close(
        moments[:, :, 5, 17], torch.linalg.cross(origins, directions[:, :, 5, 17]), atol=1e-5, rtol=0
    )


def test_the_released_grid_lies_one_pixel_to_the_left() -> None:
    cameras = _orbit(2)
    intrinsics = intrinsics_from_focal(11.0, 20, 12).repeat(2, 1, 1)
    right, released = (plucker_map(cameras, intrinsics, 20, 12, first_column_px=x) for x in (0.5, -0.5))
    torch.testing.assert_close(right[..., :-1], released[..., 1:], atol=1e-6, rtol=0)


def test_a_camera_that_is_not_a_number_gives_no_rays_at_all() -> None:
    cameras = _orbit(4)
    cameras[2, 0, 0] = float("nan")
    intrinsics = intrinsics_from_focal(11.0, 20, 12).repeat(4, 1, 1)
    normalised = NormalisedFrame.fit(cameras).apply(cameras)
    assert plucker_map(normalised, intrinsics, 20, 12).abs().max() == 0


def test_golden_cameras(goldens_dir) -> None:
    golden = load_file(goldens_dir / "camera.safetensors")
    cases = sorted({key.split("/")[0] for key in golden if key.endswith("/w2c_ref")})
    assert len(cases) == 6
    for case in cases:
        values = {k.split("/")[1]: v for k, v in golden.items() if k.startswith(case + "/")}
        frame = NormalisedFrame.fit(values["w2c"])
        targets, references = frame.apply(values["w2c"]), frame.apply(values["w2c_ref"])
        largest = float(values["normalised_w2c"].abs().max())
        tolerance = 1e-4 + 1e-6 * largest if "outlier" in case else 1e-5
        for name, got in {
            "normalised_w2c": targets,
            "unified_w2c_ref": references,
            "camera_qt": camera_tokens(targets),
            "camera_qt_ref": camera_tokens(references),
        }.items():
            assert float((got - values[name]).abs().max()) <= tolerance, (case, name)
        if "plucker" in values:
            rays = plucker_map(targets, values["K"], 20, 12, first_column_px=-0.5)
            assert float((rays.transpose(0, 1) - values["plucker"][0]).abs().max()) <= 1e-5, case

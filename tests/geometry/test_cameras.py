import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldstereo_cli.geometry.cameras import Cameras, focal_from_fov, fov_from_focal, intrinsics_from_focal
from worldstereo_cli.geometry.images import crop_resize, fit_within
from worldstereo_cli.geometry.rigid import (
    invert_rigid,
    look_at,
    quaternion_from_rotation,
    rotation_about,
    rotation_from_quaternion,
)

unit = st.floats(-1, 1)
angle = st.floats(-math.pi, math.pi)


def random_pose(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    axis = torch.randn(3, generator=generator)
    pose = torch.eye(4)
    pose[:3, :3] = rotation_about(axis, torch.rand((), generator=generator) * 6 - 3)
    pose[:3, 3] = torch.randn(3, generator=generator)
    return pose


def cameras(seed: int, width: int = 31, height: int = 17) -> Cameras:
    return Cameras(random_pose(seed)[None], intrinsics_from_focal(25.0, width, height)[None], width, height)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_projecting_what_was_unprojected_returns_every_pixel_centre(seed):
    camera = cameras(seed)
    depth = torch.rand(1, 17, 31, generator=torch.Generator().manual_seed(seed)) * 5 + 0.1
    pixels, z = camera.project(camera.unproject(depth).reshape(-1, 3))
    u, v = pixels.reshape(17, 31, 2).unbind(-1)
    # 1e-3 px: float32 through a rotation and back at a focal length of 25 px.
    assert torch.allclose(u, (torch.arange(31) + 0.5).expand(17, 31), atol=1e-3)
    assert torch.allclose(v, (torch.arange(17) + 0.5)[:, None].expand(17, 31), atol=1e-3)
    assert torch.allclose(z.reshape(17, 31), depth[0], atol=1e-4)


def test_a_point_on_the_axis_projects_to_the_middle_of_the_image():
    camera = Cameras(torch.eye(4)[None], intrinsics_from_focal(50, 40, 30)[None], 40, 30)
    pixel, depth = camera.project(torch.tensor([[0.0, 0.0, 2.0], [0.4, 0.0, 2.0], [0.0, 0.4, 2.0]]))
    assert pixel[0].tolist() == [[20, 15], [30, 15], [20, 25]]
    assert depth[0].tolist() == [2, 2, 2]


def test_a_point_behind_the_camera_keeps_its_negative_depth():
    camera = Cameras(torch.eye(4)[None], intrinsics_from_focal(50, 40, 30)[None], 40, 30)
    assert camera.project(torch.tensor([[0.0, 0.0, -3.0]]))[1].item() == -3


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_rigid_motion_times_its_inverse_is_identity(seed):
    pose = random_pose(seed)
    assert torch.allclose(invert_rigid(pose) @ pose, torch.eye(4), atol=1e-5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_rotation_survives_the_trip_through_its_quaternion(seed):
    rotation = random_pose(seed)[:3, :3]
    quaternion = quaternion_from_rotation(rotation)
    assert quaternion[0] >= 0
    assert torch.allclose(rotation_from_quaternion(quaternion), rotation, atol=1e-5)


@pytest.mark.parametrize("axis", [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
def test_half_turns_have_exact_quaternions(axis):
    rotation = rotation_about(torch.tensor(axis), torch.tensor(math.pi))
    assert torch.allclose(quaternion_from_rotation(rotation)[1:].abs(), torch.tensor(axis), atol=1e-6)


def test_rotation_about_y_turns_forward_to_the_right():
    turned = rotation_about(torch.tensor([0.0, 1.0, 0.0]), torch.tensor(math.pi / 2)) @ torch.tensor(
        [0.0, 0, 1]
    )
    assert torch.allclose(turned, torch.tensor([1.0, 0, 0]), atol=1e-6)


def test_looking_along_z_with_y_down_is_the_identity():
    pose = look_at(torch.zeros(3), torch.tensor([0.0, 0, 5]), torch.tensor([0.0, 1, 0]))
    assert torch.allclose(pose, torch.eye(4))


def test_field_of_view_and_focal_length_invert_each_other():
    assert focal_from_fov(math.radians(90), 100) == pytest.approx(50)
    assert fov_from_focal(focal_from_fov(0.7, 123), 123) == pytest.approx(0.7)


@pytest.mark.parametrize("size", [(20, 10), (10, 20), (62, 34), (31, 17), (100, 17)])
def test_cropped_cameras_and_cropped_images_agree(size):
    """A ramp image stores each pixel's own position; after the crop it must still name the right ray."""
    camera = cameras(3)
    u = (torch.arange(31) + 0.5).expand(17, 31)
    v = (torch.arange(17) + 0.5)[:, None].expand(17, 31)
    cropped = camera.cropped_to(*size)
    picture = crop_resize(torch.stack([u, v])[None], *size)[0]
    rays = camera.rays()[0]
    wanted = cropped.rays()[0]
    source_k = camera.intrinsics[0]
    x = (picture[0] - source_k[0, 2]) / source_k[0, 0]
    inner = slice(2, -2)
    assert rays.shape == (17, 31, 3)
    # Inside, away from borders: an antialiased average of a ramp is the ramp, up to the rounding
    # of the intermediate size to whole pixels.
    assert torch.allclose(x[inner, inner], wanted[inner, inner, 0], atol=0.01)


def test_fitting_within_a_bound_keeps_the_aspect_and_never_grows():
    assert fit_within(4000, 3000, 768) == (768, 576)
    assert fit_within(300, 400, 768) == (300, 400)
    assert fit_within(1000, 10, 500, multiple=8) == (496, 8)


def test_wrong_shapes_are_refused_in_words():
    with pytest.raises(ValueError, match=r"Expected intrinsics \(1 3 3\)"):
        Cameras(torch.eye(4)[None], torch.eye(4)[None], 4, 4)
    with pytest.raises(ValueError, match="positive focal length"):
        intrinsics_from_focal(float("nan"), 4, 4)

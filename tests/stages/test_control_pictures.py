"""A frame backend is shown the cloud in the way that it asks for."""

import torch

from tests import scenes
from tests.stages.rounds import PHOTO, SURFACES
from tests.stages.test_generate_estimated import Perfect, fly
from worldstereo_cli.artifacts.scene import Lift
from worldstereo_cli.geometry.images import crop_resize
from worldstereo_cli.geometry.point_render import PointStyle, SurfaceStyle, render_points, render_surface


def test_a_model_that_was_trained_on_soft_points_gets_them(tmp_path, monkeypatch):
    monkeypatch.setattr(Perfect, "control_style", "points")
    made, video = fly(tmp_path, shift=0.2)
    request, cloud = video.request, Lift.read(tmp_path / "lift").cloud
    released = PointStyle(radius_ndc=0.008, points_per_pixel=20, background=0.5)
    for i in range(3):
        expected = render_points(cloud.points, cloud.colors, request.cameras[i], released)
        assert torch.equal(request.control[i], expected.rgb[0])
        assert torch.equal(request.hole[i], expected.hole[0])
        assert torch.equal(request.control_depth_m[i], expected.depth_m[0])
    assert torch.all(request.control[2][:, request.hole[2]] == 0.5)
    # The first frame is the photo itself (in eight bits), and what people see is the closed surface.
    photo, _ = scenes.render(SURFACES, PHOTO)
    assert (request.first_frame - crop_resize(photo[None], 72, 64)[0]).abs().max() < 0.51 / 255
    surface = render_surface(cloud, made.round.cameras[2], SurfaceStyle())
    assert torch.equal(made.round.control[2], surface.rgb[0])


def test_a_backend_that_fills_holes_gets_the_closed_surface(tmp_path):
    _, video = fly(tmp_path, shift=0.2)
    cloud = Lift.read(tmp_path / "lift").cloud
    soft = render_points(cloud.points, cloud.colors, video.request.cameras[2], PointStyle())
    assert float((video.request.control[2] - soft.rgb[0]).abs().max()) > 0.01

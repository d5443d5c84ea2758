"""Promises of correspondences: exact places, an exact depth test, and quality."""

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.correspondence import Correspondence, correspond, sample_surface, shared_surface
from worldstereo_cli.geometry.rigid import look_at

WIDTH, HEIGHT = 96, 64


def beside(*centres: tuple[float, float, float], target=(0.0, 0.0, 5.0)) -> Cameras:
    """Cameras that look at one point."""
    camera = scenes.camera(WIDTH, HEIGHT)
    pose = look_at(
        torch.tensor(centres), torch.tensor(target).expand(len(centres), 3), torch.tensor([0.0, 1.0, 0.0])
    )
    return Cameras(pose, camera.intrinsics.repeat(len(centres), 1, 1), WIDTH, HEIGHT)


def truth(surfaces, cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    views = [scenes.render(surfaces, cameras[i]) for i in range(len(cameras))]
    return torch.stack([v[0] for v in views]), torch.stack([v[1] for v in views])


def test_every_pixel_corresponds_to_the_same_place_of_a_wall():
    surfaces = scenes.wall()
    targets, views = beside((0.0, 0.0, 0.0), (0.3, 0.0, 0.0)), beside((-0.5, 0.1, 0.2), (0.6, 0.0, -0.5))
    found = correspond(
        sample_surface(targets, truth(surfaces, targets)[1], 1), views, truth(surfaces, views)[1]
    )
    assert found.pixels.shape == (2, 2, HEIGHT, WIDTH, 2)
    assert found.visible.float().mean() > 0.7
    for t in range(2):
        places = targets[t].unproject(truth(surfaces, targets[t])[1])[0].double()
        for r in range(2):
            expected, _ = views[r].project(places.reshape(-1, 3).float())
            seen = found.visible[t, r].reshape(-1)
            assert (found.pixels[t, r].reshape(-1, 2) - expected[0])[seen].abs().max() < 1e-2
            outside = ((expected[0] < 0) | (expected[0] >= torch.tensor([WIDTH, HEIGHT]))).any(-1)
            assert torch.equal(seen, ~outside)


def test_what_a_board_hides_has_no_correspondence():
    surfaces = scenes.two_planes(2.0, 5.0)
    target, view = beside((0.0, 0.0, 0.0)), beside((0.8, 0.0, 0.0))
    found = correspond(sample_surface(target, truth(surfaces, target)[1], 1), view, truth(surfaces, view)[1])
    depth = truth(surfaces, target)[1]
    places = target.unproject(depth)[0].reshape(-1, 3)
    # Seen exactly when the way to the other camera meets nothing before the place.
    way = places.double() - view.centres[0].double()
    first = torch.stack([s.hit(view.centres[0].double(), way) for s in surfaces]).amin(0)
    pixel, _ = view.project(places)
    inside = ((pixel[0] >= 0) & (pixel[0] < torch.tensor([WIDTH, HEIGHT]))).all(-1)
    expected = inside & (first > 0.999)
    seen = found.visible[0, 0].reshape(-1)
    hidden = inside & (first < 0.999)
    assert int(hidden.sum()) > 300
    # The test looks at the pixels around a place, so that outlines are uncertain by one pixel.
    assert float((seen != expected).float().mean()) < 0.02
    assert not seen[hidden].all()
    assert float(seen[hidden].float().mean()) < 0.15


def test_normals_and_density_are_those_of_a_plane():
    target = beside((0.0, 0.0, 0.0), target=(1.0, 0.3, 4.0))
    samples = sample_surface(target, truth(scenes.wall(), target)[1], 8)
    assert torch.allclose(samples.normals[..., 2], -torch.ones_like(samples.density), atol=1e-4)
    # Pixels for an area, measured: four corners of a pixel carried to the wall.
    row, column = 3, 5
    focal = float(target.intrinsics[0, 0, 0])
    corners = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]]) + torch.tensor(
        [column * 8 + 4.5, row * 8 + 4.5]
    )
    rays = torch.cat([(corners - torch.tensor([48.0, 32.0])) / focal, torch.ones(3, 1)], 1).double()
    rays = rays @ target.world_from_camera[0, :3, :3].double().T
    on_wall = rays * (4.0 / rays[:, 2:])
    area = torch.linalg.cross(on_wall[1] - on_wall[0], on_wall[2] - on_wall[0]).norm()
    assert float(samples.density[0, row, column]) == pytest.approx(1 / float(area), rel=0.02)


def test_far_and_grazing_views_count_less_and_the_back_of_a_board_nothing():
    surfaces = [scenes.Plane((0.0, 0.0, 1.0), 5.0, (0.0, 0.0, 5.0), 2.0)]
    target = beside((0.0, 0.0, 3.0))
    views = beside((0.0, 0.0, 3.0), (0.0, 0.0, 1.0), (1.9, 0.0, 4.7), (0.0, 0.0, 7.0))
    depth = truth(surfaces, views)[1]
    samples = sample_surface(target, truth(surfaces, target)[1], 8)
    quality = shared_surface(samples, views, torch.where(depth.isfinite(), depth, 0.0))[0]
    same, far, _, behind = (q.flatten() for q in quality)
    assert torch.allclose(same, torch.ones_like(same), atol=1e-3)
    # Twice as far: half as fine.
    assert float(far.median()) == pytest.approx(0.5, abs=0.01)
    middle = quality[2][quality[2] > 0]
    assert 0 < float(middle.min()) < 0.6
    assert (behind == 0).all()


def test_holes_correspond_to_nothing():
    target, depth = beside((0.0, 0.0, 0.0)), torch.zeros(1, HEIGHT, WIDTH)
    samples = sample_surface(target, depth, 16)
    assert samples.known.shape == (1, 4, 6)
    assert not samples.known.any()
    assert not correspond(samples, target, depth).visible.any()


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="Expected pixels"):
        Correspondence(torch.zeros(1, 1, 2, 2, 3), torch.zeros(1, 1, 2, 2, dtype=torch.bool))

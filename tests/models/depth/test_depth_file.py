"""Depth from a file fits the photo or is refused; resizing invents nothing between surfaces."""

import math

import pytest
import torch

from worldstereo_cli.errors import InputError
from worldstereo_cli.models.depth.depth_file import GivenDepth, resize_depth


def step(height: int = 60, width: int = 80) -> torch.Tensor:
    depth = torch.full((height, width), 2.0)
    depth[:, width // 2 :] = 5.0
    return depth


def everywhere(depth: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(depth, dtype=torch.bool)


@pytest.mark.parametrize("size", [(180, 240), (45, 60), (20, 27), (97, 131)])
def test_no_depth_appears_between_two_surfaces(size: tuple[int, int]) -> None:
    depth, valid = resize_depth(step(), everywhere(step()), *size)
    assert valid.all()
    # Interpolated disparity may be off by a rounding, never by a step.
    assert torch.minimum((depth - 2).abs(), (depth - 5).abs()).max() < 1e-5
    middle = size[1] / 2
    assert (depth[:, : math.floor(middle) - 1] < 3).all()
    assert (depth[:, math.ceil(middle) + 1 :] > 4).all()


@pytest.mark.parametrize("size", [(180, 240), (97, 131)])
def test_a_plane_stays_exactly_a_plane(size: tuple[int, int]) -> None:
    def plane(height: int, width: int) -> torch.Tensor:
        v, u = torch.meshgrid(
            (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
        )
        return 1 / (0.2 + 0.1 * u + 0.3 * v)

    depth, _ = resize_depth(plane(60, 80), everywhere(plane(60, 80)), *size)
    inside = (slice(3, -3), slice(3, -3))
    assert torch.allclose(depth[inside], plane(*size)[inside], rtol=1e-5)


def test_unknown_depth_does_not_leak_into_known() -> None:
    depth = step()
    valid = everywhere(depth)
    valid[10:20, 10:20] = False
    depth[~valid] = 0.0
    resized, known = resize_depth(depth, valid, 180, 240)
    assert not known[33:57, 33:57].any()
    assert (resized[known] >= 1.999).all()


def test_the_same_size_is_left_alone() -> None:
    depth = torch.rand(30, 40) + 1
    resized, _ = resize_depth(depth, everywhere(depth), 30, 40)
    assert torch.equal(resized, depth)


def test_given_depth_is_metric_and_keeps_its_sky() -> None:
    depth = step()
    sky = torch.zeros_like(depth, dtype=torch.bool)
    sky[:10] = True
    estimate = GivenDepth(depth, ~sky, sky).estimate(torch.rand(3, 120, 160), None)
    assert estimate.is_metric
    assert estimate.focal_px is None
    assert estimate.sky[:20].all()
    assert not estimate.sky[20:].any()
    assert not (estimate.sky & estimate.valid).any()
    assert (estimate.depth_m[estimate.sky] == 0).all()


def test_what_the_file_does_not_know_and_the_picture_shows_as_sky_is_sky() -> None:
    image = 0.3 * torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
    image[:, :25] = torch.tensor([0.5, 0.65, 0.95])[:, None, None]
    depth, valid = step(), everywhere(step())
    valid[:25, :60] = False
    estimate = GivenDepth(depth, valid, ~everywhere(depth)).estimate(image, None)
    assert estimate.sky[:23, :58].all()
    assert not estimate.sky[:, 60:].any()
    assert not estimate.sky[27:].any()
    assert torch.equal(estimate.valid, valid)


@pytest.mark.parametrize("size", [(80, 60), (60, 60), (60, 84)])
def test_depth_of_another_shape_than_the_photo_is_refused(size: tuple[int, int]) -> None:
    backend = GivenDepth(step(), everywhere(step()), ~everywhere(step()))
    with pytest.raises(InputError, match="80x60"):
        backend.estimate(torch.rand(3, *size), None)


def test_depth_a_pixel_off_by_rounding_is_taken() -> None:
    backend = GivenDepth(step(), everywhere(step()), ~everywhere(step()))
    assert backend.estimate(torch.rand(3, 511, 681), None).depth_m.shape == (511, 681)

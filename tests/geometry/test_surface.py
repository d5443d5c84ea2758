"""Depth becomes surface: sky behind all, edges clean, every pixel rated."""

import math

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.far import far_field
from worldstereo_cli.geometry.surface import (
    FILLED_CONFIDENCE,
    SKY_CONFIDENCE,
    Surface,
    cloud_from_surface,
    prepare_surface,
    surface_normals,
)

CAMERA = scenes.camera(192, 128)


def shifted(mask: torch.Tensor, rows: int) -> torch.Tensor:
    """Move a mask down; rows that come in repeat the border."""
    return mask[(torch.arange(len(mask)) - rows).clamp(0, len(mask) - 1)]


def prepared(
    surfaces: list, sky_shift_px: int = 0, hole: slice | None = None
) -> tuple[Surface, torch.Tensor]:
    """Prepare the exact depth of a scene, with its sky mask shifted or a block of depth unknown."""
    image, depth = scenes.render(surfaces, CAMERA)
    image = torch.where(depth.isfinite(), image, torch.tensor([0.6, 0.8, 1.0])[:, None, None])
    sky = shifted(~depth.isfinite(), sky_shift_px)
    known = depth.isfinite() & ~sky
    if hole is not None:
        known[hole, hole] = False
    depth = torch.where(known, depth, 0.0)
    far = far_field(depth, known, CAMERA, 8.0)
    return prepare_surface(depth, known, sky, image, CAMERA, far), far


def street() -> list[scenes.Plane | scenes.Sphere]:
    """A floor that ends at 30 m, with a ball on it, under open sky."""
    return [
        scenes.Plane((0.0, 1.0, 0.0), 1.5, (0.0, 1.5, 0.0), 30.0, (0.4, 0.4, 0.4)),
        scenes.Sphere((0.5, 0.5, 5.0), 1.0, (1.0, 0.3, 0.2)),
    ]


def test_sky_lies_on_the_shell_behind_everything() -> None:
    surface, far = prepared(street())
    sky_points = CAMERA.unproject(surface.depth_m[None])[0][surface.sky]
    assert torch.allclose(sky_points.norm(dim=-1), torch.full((len(sky_points),), far.shell_m), rtol=1e-4)
    assert surface.depth_m[~surface.sky].max() <= 2 * far.bound_m
    assert surface.depth_m[surface.sky].min() > 2 * far.bound_m
    assert surface.valid[surface.sky].all()


def test_a_sky_mask_that_is_a_little_off_is_pulled_to_the_skyline() -> None:
    truth, _ = prepared(street())
    for shift in (-1, 1):
        surface, _ = prepared(street(), sky_shift_px=shift)
        before = int((shifted(truth.sky, shift) ^ truth.sky).sum())
        assert int((surface.sky ^ truth.sky).sum()) < 0.2 * before


def test_unknown_depth_is_filled_with_low_confidence() -> None:
    exact, _ = prepared(scenes.room())
    surface, _ = prepared(scenes.room(), hole=slice(40, 60))
    block = (slice(40, 60), slice(40, 60))
    assert surface.valid[block].all()
    assert surface.confidence[block].max() <= FILLED_CONFIDENCE
    assert (surface.depth_m[block] / exact.depth_m[block] - 1).abs().mean() < 0.1


def test_confidence_falls_at_breaks_and_at_grazing_angles_and_is_half_for_sky() -> None:
    surface, _ = prepared(scenes.two_planes())
    row = surface.confidence[64]
    assert row[10] == 1
    assert row.min() < 0.5
    assert ((surface.confidence > 0) & (surface.confidence <= 1)).all()
    outdoors, _ = prepared(street())
    assert (outdoors.confidence[outdoors.sky] == SKY_CONFIDENCE).all()
    near, far = outdoors.confidence[125, 20], outdoors.confidence[75, 20]
    assert near > far


def test_a_cloud_has_one_point_for_each_valid_pixel_with_all_that_belongs_to_it() -> None:
    surface, _ = prepared(street())
    image, _ = scenes.render(street(), CAMERA)
    surface.valid[3, 4] = False
    cloud = cloud_from_surface(surface, image, CAMERA, round_index=2)
    assert len(cloud) == int(surface.valid.sum()) > 0.998 * 128 * 192
    assert (cloud.round_index == 2).all()
    assert int(cloud.sky.sum()) == int(surface.sky[surface.valid].sum())
    pixel, depth = CAMERA.project(cloud.points)
    # The point after the missing pixel in row-major order.
    index = 3 * 192 + 4
    assert pixel[0, index].tolist() == pytest.approx([5.5, 3.5], abs=1e-3)
    assert depth[0, index] == pytest.approx(float(surface.depth_m[3, 5]), rel=1e-5)
    focal = float(CAMERA.intrinsics[0, 0, 0])
    assert cloud.spacing_m[index] == pytest.approx(float(surface.depth_m[3, 5]) / focal, rel=1e-5)
    assert torch.equal(cloud.colors[index], image[:, 3, 5])


def test_normals_face_the_camera() -> None:
    _, depth = scenes.render(scenes.wall(), CAMERA)
    normal = surface_normals(CAMERA.unproject(depth[None])[0])
    assert torch.allclose(normal, torch.tensor([0.0, 0.0, -1.0]).expand_as(normal), atol=1e-5)
    floor = [scenes.Plane((0.0, 1.0, 0.0), 1.0)]
    tilted = CAMERA.unproject(scenes.render(floor, CAMERA)[1].nan_to_num(posinf=math.nan)[None])[0]
    assert torch.allclose(surface_normals(tilted)[-2, 50], torch.tensor([0.0, -1.0, 0.0]), atol=1e-4)

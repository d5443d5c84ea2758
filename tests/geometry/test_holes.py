"""Promises of surface continuation."""

from dataclasses import replace

import pytest
import torch
from scipy import ndimage

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.holes import continue_surfaces
from worldstereo_cli.geometry.lifting import lift_pixels
from worldstereo_cli.geometry.point_render import SurfaceStyle, render_surface
from worldstereo_cli.geometry.seen import SeenViews

NEAR_M, FAR_M = 2.0, 5.0


def unseeing(camera: Cameras) -> SeenViews:
    """A view that is evidence of nothing."""
    return SeenViews(camera, torch.zeros(1, camera.height_px, camera.width_px))


def shifted(camera: Cameras, x: float) -> Cameras:
    pose = camera.world_from_camera.clone()
    pose[:, 0, 3] += x
    return replace(camera, world_from_camera=pose)


# The second hole reaches a corner towards which the plane comes nearer: nothing is continued to
# beyond the farthest thing known.
TOP_RIGHT, BOTTOM_LEFT = (slice(0, 18), slice(80, 96)), (slice(46, 64), slice(0, 16))


@pytest.mark.parametrize(
    ("normal", "corner"),
    [((0.0, 0.0, 1.0), TOP_RIGHT), ((0.3, -0.5, 1.0), TOP_RIGHT), ((-0.6, 0.2, 1.0), BOTTOM_LEFT)],
)
def test_a_hole_in_a_plane_becomes_the_plane(normal, corner):
    camera = scenes.camera()
    _, truth = scenes.render([scenes.Plane(normal, 4.0)], camera)
    depth = truth.clone()
    depth[20:45, 30:60] = 0
    depth[corner] = 0
    hole = depth == 0
    filled = continue_surfaces(depth, torch.rand(3, *depth.shape), camera, unseeing(camera))
    assert torch.equal(filled.depth_m[~hole], truth[~hole])
    # Float32 slopes over 30 pixels.
    assert ((filled.depth_m - truth).abs() / truth)[hole].max() < 2e-3
    assert filled.possible.all()


@pytest.mark.parametrize("x", [-0.4, 0.4])
def test_only_the_background_continues_behind_the_foreground(x):
    surfaces, photo = scenes.two_planes(NEAR_M, FAR_M), scenes.camera(144, 96)
    view = scenes.view_of(surfaces, photo)
    beside = shifted(photo, x)
    drawn = render_surface(scenes.cloud_of(view), beside, SurfaceStyle())
    seen = SeenViews(photo, view.depth_m[None])
    filled = continue_surfaces(drawn.depth_m[0], drawn.rgb[0], beside, seen)
    hole = drawn.hole[0]
    assert hole.float().mean() > 0.05
    assert (filled.depth_m[hole] - FAR_M).abs().max() < 0.02
    assert filled.possible.all()
    # The wall is bluish and the board reddish; none of the board's colour reaches the hole.
    red, blue = filled.rgb[0][hole], filled.rgb[2][hole]
    assert (red < 0.6 * blue).all()


def test_without_evidence_the_foreground_may_grow():
    """The counterpart: it is what was seen, not a threshold, that holds the foreground back."""
    surfaces, photo = scenes.two_planes(NEAR_M, FAR_M), scenes.camera(144, 96)
    drawn = render_surface(
        scenes.cloud_of(scenes.view_of(surfaces, photo)), shifted(photo, 0.4), SurfaceStyle()
    )
    filled = continue_surfaces(drawn.depth_m[0], drawn.rgb[0], shifted(photo, 0.4), unseeing(photo))
    assert (filled.depth_m[drawn.hole[0]] < 0.6 * FAR_M).any()


def test_known_pixels_stay_and_nothing_lies_beyond_the_farthest_thing_known():
    camera = scenes.camera()
    view = scenes.view_of(scenes.room(), camera)
    depth = view.depth_m.clone()
    depth[:, 70:] = 0
    filled = continue_surfaces(depth, view.image, camera, unseeing(camera))
    assert torch.equal(filled.depth_m[:, :70], view.depth_m[:, :70])
    assert torch.equal(filled.rgb[:, :, :70], view.image[:, :, :70])
    assert filled.depth_m.max() <= depth.max() * (1 + 1e-6)
    assert filled.depth_m.min() > 0


def test_a_view_without_any_depth_is_refused():
    camera = scenes.camera()
    with pytest.raises(ValueError, match="at least one known pixel"):
        continue_surfaces(torch.zeros(64, 96), torch.zeros(3, 64, 96), camera, unseeing(camera))


def test_chosen_pixels_lift_to_where_the_whole_map_does():
    camera = shifted(scenes.camera(), 0.3)
    depth = scenes.view_of(scenes.room(), scenes.camera()).depth_m
    chosen = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    whole = camera.unproject(depth[None])[0][chosen]
    assert torch.allclose(lift_pixels(depth, camera, chosen), whole, atol=1e-5)


def test_a_border_of_two_surfaces_continues_as_few_pieces():
    """Seen on a mountain ridge: each pixel by itself chose rock or sky in rays like those of a star."""
    camera = scenes.camera(160, 120)
    depth = torch.full((120, 160), FAR_M)
    generator = torch.Generator().manual_seed(1)
    rough = torch.rand(30, 1, generator=generator).repeat_interleave(4, 0) < 0.5
    depth[:, 40:80] = torch.where(rough, NEAR_M, FAR_M)
    depth[:, 80:] = 0
    filled = continue_surfaces(depth, torch.rand(3, 120, 160), camera, unseeing(camera))
    near = (filled.depth_m[:, 80:] < 0.7 * FAR_M).numpy()
    assert near.any() and not near.all()
    pieces = ndimage.label(near)[1] + ndimage.label(~near)[1]
    # Of the border's own stripes there are more.
    assert pieces < (rough[1:] != rough[:-1]).sum()
    far_away = near[:, 40:]
    assert (far_away[1:] != far_away[:-1]).sum(0).mean() < 2


def test_sky_is_not_continued_below_the_horizontal():
    camera, shell_m = scenes.camera(), 50.0
    _, ground = scenes.render([scenes.Plane((0.0, 1.0, 0.0), 1.5)], camera)
    rays = camera.rays()[0]
    sky = rays[..., 1] < 0
    depth = torch.where(sky, shell_m / rays.norm(dim=-1), ground)
    far_ground = ~sky & (depth > 0.5 * shell_m)
    depth[:, 48:] = 0
    depth[far_ground] = 0
    hole = depth == 0
    filled = continue_surfaces(depth, torch.rand(3, 64, 96), camera, unseeing(camera), shell_m)
    distance = (rays * filled.depth_m[..., None]).norm(dim=-1)
    assert (distance[hole & ~sky & (ground < 0.5 * shell_m)] < 0.9 * shell_m).all()
    assert (distance[hole & (rays[..., 1] < -0.1)] > 0.9 * shell_m).all()


@pytest.mark.parametrize("roofed", [True, False])
def test_sky_stays_out_of_holes_that_have_something_above_them(roofed):
    """A rough facade to the left, sky to the right, and between them a hole, under eaves or under sky."""
    camera, shell_m = scenes.camera(), 50.0
    generator = torch.Generator().manual_seed(3)
    depth = shell_m / camera.rays()[0].norm(dim=-1)
    # Relief of 15 % to either side: few continuations of the facade agree, and all sky does.
    depth[:, :50] = 8.0 * torch.exp(0.15 * torch.randn(64, 50, generator=generator))
    if roofed:
        depth[:10] = 8.0
    depth[10:40, 46:66] = 0
    hole = depth == 0
    filled = continue_surfaces(depth, torch.zeros(3, *depth.shape), camera, unseeing(camera), shell_m)
    sky = (filled.depth_m > 40)[hole].float().mean()
    # Half of it would be sky if all continuations counted alike.
    assert sky < 0.25 if roofed else sky > 0.5

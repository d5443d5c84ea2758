"""Promises of the backend without a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.point_render import SurfaceStyle, render_surface
from worldstereo_cli.geometry.seen import SeenViews
from worldstereo_cli.models.video.patches import Layered, complete_texture
from worldstereo_cli.models.video.protocol import ClipRequest
from worldstereo_cli.models.video.warp import WarpBackend

FAR_M = 5.0
PHOTO = scenes.camera(144, 96)


def request(shifts: list[float]) -> ClipRequest:
    """A sideways path past a board in front of a wall."""
    view = scenes.view_of(scenes.two_planes(2.0, FAR_M), PHOTO)
    pose = PHOTO.world_from_camera.repeat(len(shifts), 1, 1)
    pose[:, 0, 3] = torch.tensor(shifts)
    cameras = Cameras(pose, PHOTO.intrinsics.repeat(len(shifts), 1, 1), 144, 96)
    drawn = render_surface(scenes.cloud_of(view), cameras, SurfaceStyle())
    seen = SeenViews(PHOTO, view.depth_m[None])
    return ClipRequest(cameras, drawn.rgb, drawn.depth_m, drawn.hole, view.image, seen)


@pytest.fixture(scope="module")
def flown():
    asked = request([0.0, 0.15, 0.3, 0.45])
    return asked, WarpBackend(4).generate(asked)


def test_what_the_cloud_shows_is_kept(flown):
    asked, clip = flown
    known = ~asked.hole
    assert torch.equal(clip.depth_m[known], asked.control_depth_m[known])
    for channel in range(3):
        assert torch.equal(clip.frames[:, channel][known], asked.control[:, channel][known])


def test_every_invented_pixel_lies_on_the_wall(flown):
    asked, clip = flown
    invented = clip.depth_m[asked.hole]
    assert len(invented) > 1000
    assert (invented - FAR_M).abs().max() < 0.02


def test_invented_texture_is_the_wall_s(flown):
    asked, clip = flown
    red, blue = clip.frames[:, 0][asked.hole], clip.frames[:, 2][asked.hole]
    # The wall's tint has half as much red as blue, the board's more than twice.
    assert (red < 0.7 * blue).all()


def test_frames_agree_on_what_they_invent(flown):
    """The same wall point has the same colour in every frame that shows it as invented."""
    asked, clip = flown
    last, before = 3, 2
    points = asked.cameras[last].unproject(clip.depth_m[last, None])[0][asked.hole[last]]
    colours = clip.frames[last][:, asked.hole[last]]
    pixel, _ = asked.cameras[before].project(points)
    column, row = pixel[0].floor().long().unbind(-1)
    inside = (column >= 0) & (column < 144) & (row >= 0) & (row < 96)
    column, row, colours = column[inside], row[inside], colours[:, inside]
    shared = asked.hole[before][row, column]
    assert int(shared.sum()) > 300
    difference = (clip.frames[before][:, row, column] - colours)[:, shared].abs().amax(0)
    # Positions differ by up to half a pixel of a texture that changes by a hundredth in that.
    assert difference.median() < 0.01
    assert torch.quantile(difference, 0.95) < 0.05


def test_the_same_seed_gives_the_same_frames():
    first, second = (WarpBackend(2).generate(request([0.0, 0.4])) for _ in range(2))
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.depth_m, second.depth_m)


def test_frames_are_made_at_the_photo_s_size():
    size = WarpBackend(8).clip_size(768, 512)
    assert (size.num_frames, size.width_px, size.height_px) == (8, 768, 512)


def striped(height: int = 96, width: int = 128) -> np.ndarray:
    column = np.arange(width)
    stripes = np.where((column // 6) % 2 == 0, 0.2, 0.8).astype(np.float32)
    return np.broadcast_to(stripes[None, :, None], (height, width, 3)).copy()


def test_a_regular_texture_is_continued():
    truth = striped()
    hole = np.zeros(truth.shape[:2], bool)
    hole[30:66, 40:90] = True
    guess = truth.copy()
    guess[hole] = 0.5
    flat = Layered(guess, np.ones(hole.shape, np.float32), hole, np.zeros_like(hole))
    made = complete_texture(flat, seed=0)
    assert np.array_equal(made[~hole], truth[~hole])
    # The guess is off by 0.3 everywhere.
    assert np.abs(made - truth)[hole].mean() < 0.05


def test_texture_of_a_nearer_surface_is_not_used():
    """The left half of the picture is near and black; a hole in the far half stays striped."""
    truth = striped()
    truth[:, :56] = 0
    hole = np.zeros(truth.shape[:2], bool)
    hole[20:76, 56:80] = True
    inverse = np.where(np.arange(128) < 56, 1.0, 0.25)[None].repeat(96, 0).astype(np.float32)
    ended = np.zeros_like(hole)
    ended[20:76, 55] = True
    guess = truth.copy()
    guess[hole] = 0.5
    made = complete_texture(Layered(guess, inverse, hole, ended), seed=0)
    assert made[hole].min() > 0.15


def test_a_picture_without_a_whole_patch_keeps_the_guess():
    rgb = np.full((12, 12, 3), 0.5, np.float32)
    hole = np.ones((12, 12), bool)
    hole[::5, ::5] = False
    layered = Layered(rgb, np.ones((12, 12), np.float32), hole, np.zeros_like(hole))
    assert np.array_equal(complete_texture(layered, seed=0), rgb)


def test_a_frame_that_shows_little_waits_for_its_neighbours():
    """Far beside the photo nine tenths are unknown; the wall still continues over all of it."""
    asked = request([0.0, 1.2, 2.4, 3.6, 5.0])
    assert asked.hole[4].float().mean() > 0.8
    clip = WarpBackend(5).generate(replace(asked))
    assert (clip.depth_m[asked.hole] - FAR_M).abs().max() < 0.25


def test_a_frame_that_sees_nothing_stays_a_hole():
    """A full turn looks away from everything that the photo shows."""
    asked = request([0.0, 0.3])
    pose = asked.cameras.world_from_camera.clone()
    pose[1, :3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    cameras = replace(asked.cameras, world_from_camera=pose)
    view = scenes.view_of(scenes.two_planes(2.0, FAR_M), PHOTO)
    drawn = render_surface(scenes.cloud_of(view), cameras, SurfaceStyle())
    assert bool(drawn.hole[1].all())
    turned = replace(
        asked, cameras=cameras, control=drawn.rgb, control_depth_m=drawn.depth_m, hole=drawn.hole
    )
    clip = WarpBackend(2).generate(turned)
    assert clip.depth_m is not None
    assert bool((clip.depth_m[1] == 0).all())
    assert torch.equal(clip.frames[1], drawn.rgb[1])


def test_a_sliver_of_known_picture_is_enough_to_keep_the_size():
    """At half the size no patch is wholly known; the full size begins from its own guess."""
    rng = np.random.default_rng(0)
    hole = np.ones((96, 128), bool)
    hole[40:48, 60:68] = False
    picture = Layered(
        rng.random((96, 128, 3), np.float32), np.ones((96, 128), np.float32), hole, np.zeros_like(hole)
    )
    filled = complete_texture(picture, 0)
    assert filled.shape == picture.rgb.shape
    assert np.array_equal(filled[~hole], picture.rgb[~hole])

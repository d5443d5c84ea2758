"""Promises of the depth of a clip: who may say that there is nothing, and who may not."""

import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.point_render import SurfaceStyle, render_surface
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.stages.frame_depth import ClipPictures, FrameDepth, estimated_depth, given_depth

SURFACES = scenes.two_planes(2.0, 5.0)
PHOTO = scenes.camera(144, 96)


class Erring:
    """A depth model that is right up to a scale, but for the upper rows of its pictures."""

    name = "erring"

    def __init__(self, cameras: Cameras, rows: int):
        self.cameras, self.rows, self.calls = cameras, rows, 0

    def estimate(self, image, focal_px) -> DepthEstimate:
        depth = 0.7 * scenes.render(SURFACES, self.cameras[self.calls])[1]
        depth[: self.rows] *= 1.25
        self.calls += 1
        everywhere = torch.ones_like(depth, dtype=torch.bool)
        return DepthEstimate(depth, everywhere, ~everywhere, None, False)


def clip() -> ClipPictures:
    """Three frames beside the photo, whose cloud is what is known."""
    pose = PHOTO.world_from_camera.repeat(3, 1, 1)
    pose[:, 0, 3] = torch.tensor([0.1, 0.2, 0.3])
    cameras = Cameras(pose, PHOTO.intrinsics.repeat(3, 1, 1), 144, 96)
    frames = torch.stack([scenes.render(SURFACES, cameras[i])[0] for i in range(3)])
    control = render_surface(scenes.cloud_of(scenes.view_of(SURFACES, PHOTO)), cameras, SurfaceStyle())
    return ClipPictures(cameras, frames, torch.ones(96, 144, dtype=torch.bool), control, None)


def estimated(rows: int) -> FrameDepth:
    pictures = clip()
    model = Erring(pictures.cameras, rows)
    return estimated_depth(pictures, lambda: model, [False] * 3)


def test_frames_that_see_what_the_cloud_shows_are_witnesses():
    depth = estimated(rows=4)
    assert depth.dropped == []
    assert len(depth.witness_cameras) == len(depth.witness_m) == 3
    truth = torch.stack([scenes.render(SURFACES, depth.witness_cameras[i])[1] for i in range(3)])
    assert ((depth.witness_m - truth).abs() < 0.02 * truth)[:, 8:].float().mean() > 0.95


def test_frames_that_misjudge_much_of_the_cloud_add_to_it_but_are_no_witnesses():
    depth = estimated(rows=24)
    assert depth.dropped == []
    assert len(depth.witness_cameras) == len(depth.witness_m) == 0
    hole = clip().control.hole
    assert (depth.depth_m[hole] > 0).float().mean() > 0.9


def test_depth_that_a_backend_has_from_the_cloud_is_no_witness_of_it():
    pictures = clip()
    whole = torch.stack([scenes.render(SURFACES, pictures.cameras[i])[1] for i in range(3)])
    depth = given_depth(pictures, whole)
    assert depth.dropped == []
    assert torch.equal(depth.depth_m[pictures.control.hole], whole[pictures.control.hole])
    assert len(depth.witness_cameras) == len(depth.witness_m) == 0


def test_a_picture_that_the_other_frames_deny_is_dropped_though_the_cloud_shows_too_little_to_tell():
    pictures = clip()
    pictures.frames[2] = pictures.frames[2].roll(36, 2)
    # All that the cloud shows of it is a strip that is too narrow to compare.
    pictures.control.hole[2, :, 10:] = True
    pictures.control.depth_m[2, :, 10:] = 0
    depth = estimated_depth(pictures, lambda: Erring(pictures.cameras, 0), [False] * 3)
    assert depth.dropped == [2]
    assert "what the other frames show" in next(e["problem"] for e in depth.report if e["frame"] == 2)
    assert len(depth.witness_cameras) == 2
    assert (depth.depth_m[2][pictures.control.hole[2]] == 0).all()

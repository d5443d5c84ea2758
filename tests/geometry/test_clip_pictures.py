"""Promises of pictures of one clip that are held against each other."""

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.clip_pictures import odd_pictures

SURFACES = scenes.two_planes(2.0, 5.0)
SHIFTS = (0.0, 0.1, 0.2, 0.3, 0.4)
COUNT = len(SHIFTS)


def clip() -> tuple[Cameras, torch.Tensor, torch.Tensor]:
    """Cameras beside each other, with exact pictures and depth."""
    camera = scenes.camera(160, 120)
    pose = camera.world_from_camera.repeat(COUNT, 1, 1)
    pose[:, 0, 3] = torch.tensor(SHIFTS)
    cameras = Cameras(pose, camera.intrinsics.repeat(COUNT, 1, 1), 160, 120)
    made = [scenes.render(SURFACES, cameras[i]) for i in range(COUNT)]
    return cameras, torch.stack([m[0] for m in made]), torch.stack([m[1] for m in made])


def odd(frames: torch.Tensor, depth: torch.Tensor, known: tuple[int, ...] = ()) -> list[int]:
    holes = [0.1 * i for i in range(COUNT)]
    return odd_pictures(clip()[0], frames, depth, holes, [i in known for i in range(COUNT)])


def test_frames_of_one_scene_are_all_alike_whatever_their_exposure():
    _, frames, depth = clip()
    assert odd(frames, depth) == []
    exposure = torch.linspace(0.6, 1.0, COUNT)[:, None, None, None]
    assert odd(exposure * frames, depth) == []
    # Nor does a poor estimate of depth make a picture wrong.
    assert odd(frames, depth * torch.linspace(0.92, 1.08, 160)) == []


@pytest.mark.parametrize("wrong", range(COUNT))
def test_a_frame_of_another_direction_is_odd_wherever_it_stands(wrong):
    _, frames, depth = clip()
    frames[wrong], depth[wrong] = frames[wrong].roll(40, 2), depth[wrong].roll(40, 1)
    assert odd(frames, depth) == [wrong]


def test_two_frames_that_are_wrong_in_their_own_ways_are_both_found():
    _, frames, depth = clip()
    frames[4], depth[4] = frames[4].roll(40, 2), depth[4].roll(40, 1)
    frames[2] = torch.rand(frames[2].shape, generator=torch.Generator().manual_seed(2))
    assert odd(frames, depth) == [2, 4]


def test_what_is_known_is_never_odd_and_outweighs_nobody():
    _, frames, depth = clip()
    frames[0] = torch.rand(frames[0].shape, generator=torch.Generator().manual_seed(2))
    assert odd(frames, depth, known=(0,)) == []


def test_of_two_frames_that_differ_the_one_that_continues_less_is_odd():
    cameras, frames, depth = clip()
    frames[1] = torch.rand(frames[1].shape, generator=torch.Generator().manual_seed(2))
    for holes, expected in (([0.1, 0.5], [1]), ([0.5, 0.1], [0])):
        assert odd_pictures(cameras[:2], frames[:2], depth[:2], holes, [False, False]) == expected


def test_frames_without_anything_in_common_are_left_alone():
    cameras, frames, depth = clip()
    away = cameras.world_from_camera.clone()
    away[:, 0, 3] = 100.0 * torch.arange(COUNT)
    apart = Cameras(away, cameras.intrinsics, 160, 120)
    assert odd_pictures(apart, frames, depth, [0.0] * COUNT, [False] * COUNT) == []

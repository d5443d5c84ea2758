"""Promises of the comparison of a made picture with what the cloud shows."""

import torch

from tests import scenes
from worldstereo_cli.geometry.pictures import continues_picture

PICTURE, _ = scenes.render(scenes.room(), scenes.camera(144, 96))
EVERYWHERE = torch.ones(96, 144, dtype=torch.bool)


def test_exposure_and_texture_may_differ():
    generator = torch.Generator().manual_seed(1)
    other = (0.7 * PICTURE + 0.1 + 0.05 * torch.randn(PICTURE.shape, generator=generator)).clamp(0, 1)
    assert continues_picture(other, PICTURE, EVERYWHERE)


def test_noise_and_another_place_are_told():
    noise = torch.rand(PICTURE.shape, generator=torch.Generator().manual_seed(2))
    assert not continues_picture(noise, PICTURE, EVERYWHERE)
    assert not continues_picture(PICTURE.flip(1).roll(40, 2), PICTURE, EVERYWHERE)


def test_only_what_is_common_counts():
    mixed = PICTURE.clone()
    mixed[:, :, 72:] = torch.rand(3, 96, 72, generator=torch.Generator().manual_seed(3))
    left = EVERYWHERE.clone()
    left[:, 72:] = False
    assert continues_picture(mixed, PICTURE, left)
    assert not continues_picture(mixed, PICTURE, ~left)
    assert continues_picture(mixed, PICTURE, EVERYWHERE & False)


def test_a_bare_wall_is_alike_without_correlation():
    wall = torch.full((3, 96, 144), 0.6)
    noisy = wall + 0.01 * torch.randn(wall.shape, generator=torch.Generator().manual_seed(4))
    assert continues_picture(noisy, wall, EVERYWHERE)

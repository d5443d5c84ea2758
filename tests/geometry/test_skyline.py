import torch

from worldstereo_cli.geometry.skyline import without_low_patches


def mask(*boxes):
    sky = torch.zeros(100, 80, dtype=torch.bool)
    for top, bottom, left, right in boxes:
        sky[top:bottom, left:right] = True
    return sky


def test_a_snow_field_below_the_skyline_is_not_sky():
    kept = without_low_patches(mask((0, 30, 0, 80), (60, 70, 50, 80)))
    assert torch.equal(kept, mask((0, 30, 0, 80)))


def test_a_gap_in_a_crown_above_the_lowest_sky_stays():
    sky = mask((0, 50, 0, 20), (20, 25, 40, 45))
    assert torch.equal(without_low_patches(sky), sky)


def test_sky_through_a_window_stays():
    sky = mask((30, 60, 20, 50), (70, 80, 10, 15))
    assert torch.equal(without_low_patches(sky), sky)


def test_no_sky_stays_none():
    assert not without_low_patches(mask()).any()

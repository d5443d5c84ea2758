"""Promises of depth alignment."""

import pytest
import torch

from worldstereo_cli.geometry.align import align_inverse_depth


def example(slope: float, offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    """An estimate, and the depth that a line in inverse depth makes of it."""
    generator = torch.Generator().manual_seed(3)
    estimate = 1 + 4 * torch.rand(60, 80, generator=generator)
    return estimate, 1 / (slope / estimate + offset)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (2.5, 0.1), (0.4, -0.02)])
def test_the_exact_line_is_found_under_outliers(slope, offset):
    estimate, reference = example(slope, offset)
    generator = torch.Generator().manual_seed(4)
    wrong = torch.rand(60, 80, generator=generator) < 0.4
    spoiled = torch.where(wrong, 0.5 + 9 * torch.rand(60, 80, generator=generator), reference)
    line = align_inverse_depth(estimate, spoiled, torch.ones_like(wrong))
    assert line.holds
    # Outliers that happen to lie within 5 % of the line pull it by less than this.
    assert line.slope == pytest.approx(slope, rel=0.02)
    aligned = line.applied(estimate)
    assert ((aligned - reference).abs() / reference).max() < 0.02


def test_one_depth_everywhere_fixes_the_scale():
    line = align_inverse_depth(
        torch.full((40, 40), 2.0), torch.full((40, 40), 3.0), torch.ones(40, 40, dtype=torch.bool)
    )
    assert line.holds
    assert line.applied(torch.tensor([2.0, 4.0])).tolist() == pytest.approx([3.0, 6.0])


def test_an_estimate_that_exchanges_near_and_far_is_refused():
    estimate, _ = example(1.0, 0.0)
    line = align_inverse_depth(estimate, 1 / (1.2 - 1 / estimate), torch.ones(60, 80, dtype=torch.bool))
    assert not line.holds


def test_noise_and_small_overlap_are_refused():
    estimate, reference = example(1.0, 0.0)
    generator = torch.Generator().manual_seed(5)
    everywhere = torch.ones(60, 80, dtype=torch.bool)
    noise = 0.3 + 20 * torch.rand(60, 80, generator=generator) ** 3
    assert not align_inverse_depth(estimate, noise, everywhere).holds
    few = everywhere.clone()
    few[1:] = False
    refused = align_inverse_depth(estimate, reference, few)
    assert not refused.holds
    assert refused.num_samples == 80


def test_depth_that_the_line_cannot_place_is_dropped():
    estimate, reference = example(2.0, -0.3)
    usable = reference > 0
    line = align_inverse_depth(estimate, reference.clamp_min(0), usable & (reference < 50))
    assert line.applied(torch.tensor([1e4, 0.0])).tolist() == [0.0, 0.0]

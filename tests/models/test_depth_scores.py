"""Scores of depth maps, where the answer is known."""

import math

import pytest
import torch

from worldstereo_cli.models.depth import scores


def _truth() -> torch.Tensor:
    truth = torch.full((8, 10), 4.0)
    truth[2:6, 3:7] = 2.0
    truth[0, 0] = math.nan
    return truth


def test_a_scaled_truth_is_perfect_after_scaling() -> None:
    truth = _truth()
    found = scores.errors(scores.scaled_to(7 * truth.nan_to_num(1.0), truth), truth)
    assert found.abs_rel < 1e-7
    assert found.delta1 == 1.0


def test_a_shifted_disparity_is_perfect_only_with_a_shift() -> None:
    truth = _truth()
    shifted = 1 / (3 / truth.nan_to_num(1.0) + 0.5)
    assert scores.errors(scores.affine_to(shifted, truth), truth).abs_rel < 1e-6
    assert scores.errors(scores.scaled_to(shifted, truth), truth).abs_rel > 0.02


def test_a_constant_map_gets_the_mean_disparity() -> None:
    truth = _truth()
    fitted = scores.affine_to(scores.constant_depth(truth), truth)
    expected = 1 / (1 / truth[scores.known(truth)]).mean()
    assert torch.allclose(fitted, torch.full_like(fitted, float(expected)), rtol=1e-5)


def test_unknown_pixels_do_not_count() -> None:
    truth = _truth()
    wild = truth.clone()
    wild[0, 0] = 1e6
    assert scores.errors(wild, truth).abs_rel == 0.0


def test_no_truth_at_all_is_refused() -> None:
    empty = torch.full((4, 4), math.nan)
    with pytest.raises(ValueError, match="at least one pixel"):
        scores.errors(torch.ones(4, 4), empty)


def test_edges_must_be_in_the_very_pixel_and_direction() -> None:
    truth = _truth()
    assert scores.boundary_f1(5 * truth.nan_to_num(4.0), truth) == pytest.approx(1.0)
    assert scores.boundary_f1(truth.nan_to_num(4.0).roll(1, dims=1), truth) < 0.6
    assert scores.boundary_f1(scores.constant_depth(truth), truth) == 0.0
    # Where the truth steps down the prediction steps up: no direction matches.
    assert scores.boundary_f1(1 / truth.nan_to_num(4.0), truth) == 0.0

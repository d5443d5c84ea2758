"""Promises of the growing memory, on walks with truth."""

import pytest
import torch

from worldstereo_cli.evaluation.bench_memory import bench_retrieval
from worldstereo_cli.evaluation.memory import f_score, score_memory, score_wrong_frames
from worldstereo_cli.evaluation.memory_cases import exact_room, read_seven_scenes
from worldstereo_cli.evaluation.recorded import Disturbance, DisturbedTruth

UNDISTURBED = Disturbance(0.0, 0.0, 0.0, 0.0)


def test_f_score_of_shifted_planes_has_a_closed_form():
    grid = torch.stack(torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij"), -1).reshape(-1, 2)
    plane = torch.cat([0.02 * grid, torch.zeros(1600, 1)], 1)
    assert f_score(plane, plane) == (1.0, 1.0, 1.0)
    assert f_score(plane + torch.tensor([0.0, 0.0, 0.04]), plane)[2] == 1.0
    assert f_score(plane + torch.tensor([0.0, 0.0, 0.06]), plane)[2] == 0.0
    half = plane[:800]
    precision, recall, f = f_score(half, plane)
    assert precision == 1.0
    assert recall == pytest.approx(0.5, abs=0.08)
    assert f == pytest.approx(2 * recall / (1 + recall))


def test_the_room_is_closed_and_walked_through_without_touching():
    room = exact_room(num_rounds=2, frames_per_round=4, width_px=64)
    assert room.rounds == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert torch.isfinite(room.depth_m).all()
    assert room.depth_m.min() > 0.3
    assert (room.truth.abs() <= torch.tensor([2.52, 1.32, 3.02])).all()


def test_an_estimator_leaves_scale_and_shift_open_and_nothing_else():
    room = exact_room(num_rounds=1, frames_per_round=2, width_px=64)
    estimate = DisturbedTruth(room, Disturbance(noise=0.0, waves=0.0)).estimate(room.images[2], None)
    x, y = 1 / estimate.depth_m.double().flatten(), 1 / room.depth_m[2].double().flatten()
    line = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None]).solution
    assert (line[0] * x + line[1] - y).abs().max() < 1e-4
    assert abs(float(line[1])) > 0.002


def test_growing_by_rounds_is_as_true_as_fusing_with_true_depth():
    room = exact_room(width_px=112).shortened(2)
    # After each round, against all frames so far with their true depth.
    exact = score_memory(room, DisturbedTruth(room, UNDISTURBED))
    assert min(r.f_score for r in exact.rounds) > 0.99
    score = score_memory(room, DisturbedTruth(room, Disturbance()))
    assert min(r.f_score for r in score.rounds) > 0.97
    assert score.rerender_loss_db < 0.5
    assert [r.num_dropped for r in score.rounds] == [0, 0]


def test_a_wrong_frame_leaves_the_cloud_unharmed():
    for wrong in score_wrong_frames(exact_room(width_px=112), num_rounds=2):
        assert wrong.f_score > wrong.f_score_without - 0.01, wrong
        # A wrong scale is undone; the last frame shows so little of the cloud that depth alone may fit it.
        if wrong.kind in ("noise", "picture", "moved") or wrong.place == "middle":
            assert wrong.was_dropped == (wrong.kind != "scaled"), wrong


def test_eight_rounds_stay_true_and_errors_do_not_add_up():
    room = exact_room(width_px=128)
    score = score_memory(room, DisturbedTruth(room, Disturbance()))
    assert len(score.rounds) == 8
    assert score.fused_f_score - score.f_score < 0.03
    assert score.worst_rerender_loss_db < 0.5
    errors = [r.added_error_m for r in score.rounds]
    assert max(errors) < 0.04
    assert errors[-1] < 0.02


def test_estimates_that_err_much_do_not_vote_away_what_is_right():
    # With every frame as a witness the views of the first round lost 1.9 dB in the mean.
    room = exact_room(width_px=112).shortened(3)
    score = score_memory(room, DisturbedTruth(room, Disturbance(waves=0.2)))
    assert score.worst_rerender_loss_db < 0.5


@pytest.mark.slow
def test_the_whole_walk_round_the_room_stays_true():
    room = exact_room()
    score = score_memory(room, DisturbedTruth(room, Disturbance()))
    assert score.fused_f_score - score.f_score < 0.03
    # Errors do not add up: where the walk turns fastest new points are 3 cm off, at its end less than half.
    errors = [r.added_error_m for r in score.rounds]
    assert max(errors) < 0.04
    assert errors[-1] < 0.02


@pytest.mark.slow
def test_a_recorded_walk_stays_true(eval_dir):
    walk = read_seven_scenes(eval_dir)
    score = score_memory(walk, DisturbedTruth(walk, Disturbance()))
    assert score.fused_f_score - score.f_score < 0.03
    assert score.rerender_loss_db < 0.5
    for wrong in score_wrong_frames(walk):
        assert wrong.f_score > wrong.f_score_without - 0.01, wrong


def test_the_bench_of_retrieval_runs():
    assert bench_retrieval(num_targets=4, num_views=6, width_px=96, height_px=64) > 0

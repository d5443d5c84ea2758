"""Promises of the joint alignment of a clip."""

from dataclasses import replace

import pytest
import torch

from worldstereo_cli.evaluation.memory_cases import exact_room
from worldstereo_cli.geometry.agreed_depth import agreed_depth
from worldstereo_cli.geometry.align_clip import ClipEstimates, align_clip

ROOM = exact_room(num_rounds=8, frames_per_round=6, width_px=96)
FRAMES = [1, 2, 3, 4, 5]
SLOPES = torch.tensor([1.0, 0.7, 1.4, 0.9, 1.2])
OFFSETS = torch.tensor([0.0, 0.03, -0.02, 0.02, -0.03])


def clip_with(known: list[bool], noise: float = 0.0) -> ClipEstimates:
    """Frames of an estimator that leaves scale and shift open; the cloud shows only some of them."""
    truth = ROOM.depth_m[FRAMES]
    generator = torch.Generator().manual_seed(5)
    estimated = SLOPES[:, None, None] / (1 / truth - OFFSETS[:, None, None])
    estimated = estimated * (1 + noise * torch.randn(truth.shape, generator=generator))
    shown = torch.tensor(known)[:, None, None].expand_as(truth)
    return ClipEstimates(ROOM.cameras[FRAMES], estimated, torch.where(shown, truth, 0.0), shown)


def worst(clip: ClipEstimates, lines) -> float:
    aligned = torch.stack([line.applied(e) for line, e in zip(lines, clip.estimated_m, strict=True)])
    return float(
        ((aligned - ROOM.depth_m[FRAMES]).abs() / ROOM.depth_m[FRAMES]).flatten(1).median(1).values.max()
    )


def test_frames_that_show_nothing_of_the_cloud_hang_on_those_that_do():
    clip = clip_with([True, False, False, False, False])
    lines = align_clip(clip)
    assert all(line.holds for line in lines)
    # Places are compared by whole pixels, of which one is a degree here.
    assert worst(clip, lines) < 0.01


def test_noise_does_not_flatten_lines_from_frame_to_frame():
    clip = clip_with([True, True, False, False, False], noise=0.02)
    lines = align_clip(clip)
    assert [line.problem for line in lines] == [""] * 5
    for line, slope in zip(lines, SLOPES.tolist(), strict=True):
        assert line.slope == pytest.approx(slope, rel=0.04)


def test_a_frame_of_another_place_does_not_pull_the_others():
    clip = clip_with([True, True, True, True, True])
    wrong = clip.estimated_m.clone()
    wrong[2] = wrong[2].flip(1) ** 1.5
    lines = align_clip(replace(clip, estimated_m=wrong))
    assert lines[2].problem
    good = [0, 1, 3, 4]
    assert all(lines[i].holds for i in good)
    for i in good:
        assert lines[i].slope == pytest.approx(float(SLOPES[i]), rel=0.02)


def test_a_frame_that_nothing_can_be_compared_with_keeps_its_line():
    """Of a trusted strip so thin that no node of the grid lies in it."""
    clip = clip_with([True] * 5)
    thin = torch.zeros_like(clip.trusted)
    thin[:, 0::4] = True
    alone = ClipEstimates(clip.cameras[1], clip.estimated_m[1:2], clip.reference_m[1:2], thin[1:2])
    (line,) = align_clip(alone)
    assert line.holds
    # The reference is averaged over the strip alone, the estimate over all around it.
    assert line.slope == pytest.approx(0.7, rel=0.05)


def test_frames_without_anything_in_common_are_aligned_each_by_itself():
    """A frame beside others of which nothing agrees with it, which left its equations empty."""
    clip = clip_with([True] * 5)
    estimated, thin = clip.estimated_m.clone(), clip.trusted.clone()
    estimated[3] = 50 * estimated[3]
    thin[3] = False
    thin[3, 0::4] = True
    lines = align_clip(replace(clip, estimated_m=estimated, trusted=thin))
    assert all(lines[i].holds for i in (0, 1, 2, 4))


def test_without_a_cloud_nothing_holds():
    assert not any(line.holds for line in align_clip(clip_with([False] * 5)))


def test_views_together_know_depth_better_than_each_alone():
    truth = ROOM.depth_m[FRAMES]
    noisy = truth * (1 + 0.02 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(6)))
    noisy[:, :, :4] = 0
    agreed = agreed_depth(ROOM.cameras[FRAMES], noisy)
    assert (agreed[:, :, :4] == 0).all()
    error, before = ((d / truth - 1)[:, :, 4:].abs().median() for d in (agreed, noisy))
    assert error < 0.65 * before

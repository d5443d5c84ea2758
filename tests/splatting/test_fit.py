"""Fitting finds what is missing, keeps what is right, and believes pixels as it is told."""

import math
from dataclasses import replace

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.progress import silent
from worldstereo_cli.splatting.fit import FitSettings, fit, sharpen_colors
from worldstereo_cli.splatting.initialize import Picture, SplatStyle, splats_from_picture
from worldstereo_cli.splatting.losses import psnr_db
from worldstereo_cli.splatting.parameters import (
    LearningRates,
    PacedAdam,
    PacedSplats,
    SplatParameters,
    update_plain,
)
from worldstereo_cli.splatting.rasterize.cpu import CpuRasterizer
from worldstereo_cli.splatting.targets import Beliefs, frame_target, photo_target, spread_out

STYLE = SplatStyle()
CPU = CpuRasterizer()


def room() -> Picture:
    view = scenes.view_of(scenes.room(), scenes.camera())
    return Picture(view.image, view.depth_m, view.valid, view.sky, view.camera)


def start_of(picture: Picture, pace: float = 1.0) -> PacedSplats:
    return PacedSplats.of(splats_from_picture(picture, STYLE), STYLE.sigma_spacings, pace)


def test_a_fit_repairs_wrong_colours_depths_and_sizes() -> None:
    picture = room()
    good = start_of(picture)
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(len(good.gaussians), 3, generator=g)
    bad = replace(
        good.gaussians,
        means=good.gaussians.means * (1 + 0.02 * noise[:, :1]),
        log_scales=good.gaussians.log_scales - 0.5,
        sh=torch.zeros_like(good.gaussians.sh),
    )
    target = photo_target(picture, Beliefs())
    rates = LearningRates(sh=0.1)
    done = fit(
        replace(good, gaussians=bad), [target], FitSettings(40, rates=rates), CPU, seed=0, progress=silent
    )
    before, after = CPU.render(bad, picture.camera), CPU.render(done.splats.gaussians, picture.camera)
    assert psnr_db(before.rgb, picture.image) < 16 < 27 < psnr_db(after.rgb, picture.image)
    error = [((d.depth_m - picture.depth_m).abs() / picture.depth_m).mean() for d in (before, after)]
    assert error[1] < 0.8 * error[0]
    assert len(done.losses) == 40 and done.losses[-1] < 0.5 * done.losses[0]


def test_pixels_without_weight_are_not_fitted_and_slow_splats_stay() -> None:
    picture = room()
    start = start_of(picture)
    target = photo_target(picture, Beliefs())
    nothing = torch.zeros_like(target.weight)
    wrong = replace(target, image=1 - target.image)
    ignored = replace(wrong, weight=nothing, depth_weight=nothing)
    done = fit(start, [ignored] * 9, FitSettings(3), CPU, seed=0, progress=silent)
    torch.testing.assert_close(done.splats.gaussians.sh, start.gaussians.sh)
    torch.testing.assert_close(done.splats.gaussians.means, start.gaussians.means)

    half = torch.arange(len(start.pace)) % 2
    mixed = replace(start, pace=half.float())
    done = fit(mixed, [wrong], FitSettings(3), CPU, seed=0, progress=silent)
    moved = (done.splats.gaussians.sh - start.gaussians.sh).abs()
    assert moved[half == 0].max() == 0 < moved[half == 1].median()


def test_faint_and_unseen_splats_are_dropped_once_every_target_was_drawn() -> None:
    picture = room()
    start = start_of(picture)
    g = start.gaussians
    logits = g.opacity_logits.clone()
    logits[:100] = math.log(0.01 / 0.99)
    means = g.means.clone()
    means[100:200] = torch.tensor([0.0, 0.0, -5.0])
    start = replace(start, gaussians=replace(g, means=means, opacity_logits=logits))
    target = photo_target(picture, Beliefs())
    done = fit(start, [target], FitSettings(2), CPU, seed=0, progress=silent)
    assert done.num_pruned == 200 == len(g) - len(done.splats.gaussians)
    unfinished = fit(start, [target] * 9, FitSettings(2), CPU, seed=0, progress=silent)
    assert unfinished.num_pruned == 0
    fixed = replace(start, pace=torch.zeros_like(start.pace))
    assert fit(fixed, [target], FitSettings(2), CPU, seed=0, progress=silent).num_pruned == 0
    with pytest.raises(ValueError, match="target"):
        fit(start, [], FitSettings(2), CPU, seed=0, progress=silent)


def test_every_target_gets_its_turn_and_the_photo_comes_last() -> None:
    picture = room()
    start = start_of(picture)
    base = photo_target(picture, Beliefs())
    drawn: list[float] = []

    class Watching:
        name = "watching"

        def render(self, gaussians: Gaussians, camera: object) -> object:
            drawn.append(float(camera.intrinsics[0, 0, 0]))  # type: ignore[attr-defined]
            return CPU.render(gaussians, camera)  # type: ignore[arg-type]

        median_depth = CPU.median_depth

    targets = []
    for i in range(4):
        intrinsics = base.camera.intrinsics.clone()
        intrinsics[0, 0, 0] += i
        targets.append(replace(base, camera=replace(base.camera, intrinsics=intrinsics)))
    fit(start, targets, FitSettings(10), Watching(), seed=1, progress=silent)  # type: ignore[arg-type]
    turns = [round(value - drawn[0]) for value in drawn]
    assert turns[0] == 0 == turns[-1] and {turns.count(i) for i in (1, 2, 3)} <= {2, 3}


def test_sharpening_brings_out_the_picture_and_leaves_other_splats_alone() -> None:
    picture = room()
    g = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.avg_pool2d(torch.rand(3, 65, 97, generator=g), 2, 1)
    picture = replace(picture, image=0.25 + 0.5 * noise)
    made = splats_from_picture(picture, STYLE)
    chosen = torch.arange(len(made)) % 7 != 0
    target = photo_target(picture, Beliefs())
    sharp = sharpen_colors(made, torch.ones_like(chosen), target, CPU, sweeps=3)
    values = [psnr_db(CPU.render(m, picture.camera).rgb, picture.image) for m in (made, sharp)]
    assert values[1] > values[0] + 1
    beside = torch.zeros(64, 96, dtype=torch.bool)
    row = picture.depth_m[40]
    step = int((row[1:] < 0.9 * row[:-1]).nonzero()[0, 0])
    beside[40, step - 1 : step + 1] = True  # What lies to the left of the ball.
    assert torch.equal(sharp.sh[beside.reshape(-1)], made.sh[beside.reshape(-1)])
    some = sharpen_colors(made, chosen, target, CPU, sweeps=1)
    assert torch.equal(some.sh[~chosen], made.sh[~chosen]) and not torch.equal(some.sh, made.sh)


def test_adam_in_one_pass_is_adam_in_torch_and_both_are_the_libraries() -> None:
    g = torch.Generator().manual_seed(0)
    pace = torch.tensor([1.0, 1.0, 0.5, 0.0, 2.0])
    fast = torch.nn.Parameter(torch.randn(5, 1, 3, generator=g))
    library = torch.nn.Parameter(fast.detach().clone())
    plain, state = (
        fast.detach().clone(),
        {"exp_avg": torch.zeros(5, 1, 3), "exp_avg_sq": torch.zeros(5, 1, 3)},
    )
    ours = PacedAdam(fast, 0.01, lambda: pace)
    theirs = torch.optim.Adam([library], 0.01, betas=(0.9, 0.99), eps=1e-15)
    first = fast.detach().clone()
    for step in range(1, 8):
        gradient = torch.randn(5, 1, 3, generator=g) * 1e-6
        fast.grad, library.grad = gradient.clone(), gradient.clone()
        ours.step()
        theirs.step()
        update_plain(plain, gradient, state, pace, 0.01 * (1 - 0.99**step) ** 0.5 / (1 - 0.9**step))
    torch.testing.assert_close(fast.detach(), plain, rtol=1e-5, atol=1e-7)
    moved, expected = fast.detach() - first, library.detach() - first
    torch.testing.assert_close(moved, pace[:, None, None] * expected, rtol=1e-4, atol=1e-7)


def test_large_splats_and_needles_are_pulled_back_and_discs_are_not() -> None:
    sizes = torch.tensor([[1.0, 0.9, 0.01], [1.0, 0.1, 0.1], [4.0, 4.0, 4.0]])
    given = Gaussians(
        torch.zeros(3, 3),
        torch.tensor([[1.0, 0, 0, 0]] * 3),
        sizes.log(),
        torch.zeros(3),
        torch.zeros(3, 1, 3),
    )
    parameters = SplatParameters(PacedSplats(given, torch.ones(3), torch.ones(3)), LearningRates())
    parameters.restrain_shapes(max_extents=2.0, max_ratio=5.0, strength=1.0)
    expected = torch.tensor([[1.0, 0.9, 0.01], [0.5, 0.1, 0.1], [2.0, 2.0, 2.0]])
    torch.testing.assert_close(parameters.gaussians().scales_m.detach(), expected)


def test_dropping_splats_keeps_the_optimisers_memory_of_the_others() -> None:
    picture = room()
    both = [SplatParameters(start_of(picture), LearningRates()) for _ in range(2)]
    keep = torch.arange(len(both[0])) % 3 != 0
    for parameters in both:
        CPU.render(parameters.gaussians(), picture.camera).rgb.square().sum().backward()
        parameters.step(1.0)
    both[1].keep(keep)
    gradient = torch.ones_like(both[0].values["sh"])
    for parameters, chosen in ((both[0], slice(None)), (both[1], keep)):
        for value in parameters.values.values():
            value.grad = torch.ones_like(value)
        parameters.values["sh"].grad = gradient[chosen].clone()
        parameters.step(1.0)
    assert torch.equal(both[0].values["sh"][keep], both[1].values["sh"])
    assert torch.equal(both[0].touched[keep], both[1].touched)


def test_frames_are_believed_as_far_as_they_deserve() -> None:
    view = scenes.view_of(scenes.two_planes(), scenes.camera())
    hole = torch.zeros_like(view.valid)
    hole[:, 80:] = True
    depth = view.depth_m.clone()
    depth[:5] = 0
    b, invented = Beliefs(), 0.4
    made = frame_target(view.image, depth, invented * hole, view.camera, b)
    assert made.weight[60, 4] == pytest.approx(b.seen_before)
    assert made.weight[60, 90] == pytest.approx(invented)
    assert made.weight[2, 90] == pytest.approx(invented * b.without_depth)
    assert not made.depth_weight[:5].any() and made.depth_weight[60, 90] == pytest.approx(invented)
    edge = (view.depth_m[32, 1:] - view.depth_m[32, :-1]).abs().argmax()
    assert made.depth_weight[32, edge] == 0
    assert made.weight[32, edge] == pytest.approx(b.seen_before * b.at_a_break)
    photo = photo_target(Picture(view.image, view.depth_m, view.valid, view.sky, view.camera), b)
    assert photo.weight.min() == 1 and photo.depth_weight[32, edge] == 0 < photo.depth_weight.mean()


def test_frames_are_chosen_at_even_distances_without_the_first() -> None:
    assert spread_out(21, 4) == [5, 10, 15, 20]
    assert spread_out(4, 6) == [1, 2, 3]
    assert spread_out(1, 6) == []

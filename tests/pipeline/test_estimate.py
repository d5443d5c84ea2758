from dataclasses import replace

import pytest

from worldstereo_cli.pipeline.estimate import LIBRARIES_MB, ClipCost, Workload, estimate, setting_that_fits
from worldstereo_cli.pipeline.reuse import STAGES, VIEW
from worldstereo_cli.recipe import load_recipe, override_recipe

STEPS = (*STAGES, VIEW)


def work(*overrides: str, size=(1600, 1200)) -> Workload:
    return Workload.of(load_recipe("default", list(overrides)), size)


def test_the_photo_is_taken_as_it_will_be_lifted():
    assert (work().width_px, work().height_px) == (768, 576)
    assert (work(size=(300, 200)).width_px, work(size=(300, 200)).height_px) == (300, 200)


@pytest.mark.parametrize("step", STEPS)
def test_more_pixels_cost_no_less(step):
    small, large = (estimate(step, work(f"lift.long_side_px={side}")) for side in (256, 1024))
    assert small.seconds <= large.seconds
    assert small.memory_mb <= large.memory_mb
    assert small.disk_mb <= large.disk_mb


def test_rounds_that_are_kept_cost_nothing():
    base = work('plan.trajectories=["eloop", "up", "right", "left"]')
    new = estimate("generate", replace(base, rounds_kept=3))
    assert new.seconds - 0.5 == pytest.approx((estimate("generate", base).seconds - 0.5) / 4)


def test_a_model_makes_as_many_frames_as_it_makes_whatever_the_recipe_says():
    clip = ClipCost(num_frames=21, seconds=22.0, memory_mb=4000.0)
    told = [work(f"generate.num_frames={n}").by_model(clip) for n in (8, 21)]
    assert estimate("generate", told[0]) == estimate("generate", told[1])
    assert estimate("generate", told[0]).disk_mb > 2 * estimate("generate", work()).disk_mb
    smaller = told[0].with_recipe(load_recipe("default", ["lift.long_side_px=256"]))
    assert smaller.num_frames == 21


def test_what_auto_may_choose_is_counted():
    few, many = (work(f"plan.max_paths={n}") for n in (1, 5))
    assert many.num_paths - few.num_paths == 4


@pytest.mark.parametrize(
    ("step", "override"),
    [
        ("generate", "generate.num_frames=16"),
        ("reconstruct", "reconstruct.iterations=120"),
        ("view", "view.flythrough_seconds=16"),
    ],
)
def test_more_work_takes_longer(step, override):
    assert estimate(step, work(override)).seconds > 1.5 * estimate(step, work()).seconds


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("memory_mb", [700, 900, 1200])
def test_a_named_setting_is_expected_to_fit(step, memory_mb):
    named = setting_that_fits(step, work("lift.long_side_px=2048", size=(4000, 3000)), memory_mb)
    assert named is not None
    overrides = [flag for flag in named.split("  (")[0].split() if flag != "--set"]
    recipe = override_recipe(load_recipe("default"), overrides)
    peaks = [estimate(s, Workload.of(recipe, (4000, 3000))).memory_mb for s in STEPS]
    assert max(peaks) <= memory_mb


def test_reconstruct_proposes_its_own_settings_first_since_they_keep_the_rounds():
    peak = estimate("reconstruct", work()).memory_mb
    assert "reconstruct.max_splats" in str(setting_that_fits("reconstruct", work(), 0.9 * peak))


def test_nothing_fits_into_less_than_the_libraries():
    assert setting_that_fits("generate", work(), LIBRARIES_MB / 2) is None

"""Variants side by side: one machine, equal conditions, results that outlive a killed process."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from planes import render_planes, write_cases

from worldstereo_cli.errors import BackendError, RecipeError
from worldstereo_cli.models.depth.embedded import EmbeddedDepth
from worldstereo_cli.models.depth.resampling import interval, resampled_means
from worldstereo_cli.training.depth.ablate import Ablation, Bench, deal_out, run_variants
from worldstereo_cli.training.depth.augment import AugmentSettings
from worldstereo_cli.training.depth.command import main
from worldstereo_cli.training.depth.development import DevelopmentSet, pack_development
from worldstereo_cli.training.depth.loop import Trainer
from worldstereo_cli.training.depth.losses import DepthLosses, LossWeights
from worldstereo_cli.training.depth.machine import Compiling, Machine
from worldstereo_cli.training.depth.plan import digest_of_files, read_plan, read_results
from worldstereo_cli.training.depth.recipe import read_recipe, with_overrides
from worldstereo_cli.training.depth.workers import Workers

RECIPES = Path(__file__).parents[2] / "recipes/training"
ALONE = Workers(0, 1, torch.device("cpu"))
PLAN = f"""
recipe = "{RECIPES / "toy.toml"}"
set = ["schedule.max_steps=6", "batches.sizes=[[48, 64]]", "batches.shares=[1.0]"]
[variants]
reference = []
"no gradient loss" = ["losses.gradient=0"]
"no augmentation" = ["augment.strength=0", "augment.wild_share=0"]
"""


@pytest.fixture
def development(tmp_path: Path) -> DevelopmentSet:
    write_cases(tmp_path)
    pack_development(tmp_path, tmp_path / "packed.npz", longest_px=64)
    return DevelopmentSet.read(tmp_path / "packed.npz")


def _ablation(folder: Path, development: DevelopmentSet, plan: str = PLAN) -> Ablation:
    folder.mkdir(exist_ok=True)
    (folder / "plan.toml").write_text(plan)
    return Ablation(read_plan(folder / "plan.toml"), folder, development)


def _run(ablation: Ablation, names: list[str] | None = None, *, process_s: float = 300.0) -> list[str]:
    """Run variants on a machine of their own; return those that were finished."""
    records: list[dict[str, object]] = []
    machine = Machine(ablation.variants[0].recipe.network, ALONE.device)
    bench = Bench(machine, lambda recipe: render_planes, ALONE)
    names = names or [variant.name for variant in ablation.variants]
    run_variants(ablation, names, bench, records.append, process_s=process_s, started=time.monotonic())
    return [str(record["variant"]) for record in records if record["event"] == "finished"]


def test_a_variant_does_not_depend_on_what_ran_before_it(tmp_path: Path, development: DevelopmentSet) -> None:
    together, alone = (_ablation(tmp_path / name, development) for name in ("together", "alone"))
    _run(together)
    _run(alone, ["no augmentation"])
    name = "no augmentation"
    assert together.finished()[name].cases == alone.finished()[name].cases
    assert len({result.cases for result in together.finished().values()}) == 3


def test_the_same_command_goes_on_where_it_was_killed(tmp_path: Path, development: DevelopmentSet) -> None:
    ablation = _ablation(tmp_path / "out", development)
    assert _run(ablation, ["reference", "no gradient loss"]) == ["reference", "no gradient loss"]
    results = ablation.out / "results.jsonl"
    first, second = results.read_text().splitlines()
    results.write_text(f"{first}\n{second[:100]}")  # killed while it wrote
    assert list(ablation.finished()) == ["reference"]
    results.write_text(f"{first}\n{second}\n")
    assert _run(ablation) == ["no augmentation"]
    table = json.loads((ablation.out / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == [variant.name for variant in ablation.variants]
    assert _run(ablation) == []


def test_other_settings_are_another_result(tmp_path: Path, development: DevelopmentSet) -> None:
    ablation = _ablation(tmp_path / "out", development)
    _run(ablation, ["reference"])
    longer = _ablation(tmp_path / "out", development, PLAN.replace("max_steps=6", "max_steps=7"))
    assert longer.finished() == {}
    assert len(read_results(longer.out)) == 1
    elsewhere = Ablation(ablation.variants, ablation.out, development, conditions="other first weights")
    assert elsewhere.finished() == {}


def test_files_and_folders_of_weights_have_digests(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/model.safetensors").write_bytes(b"one")
    first = digest_of_files(None, tmp_path / "w")
    (tmp_path / "w/model.safetensors").write_bytes(b"two")
    assert digest_of_files(None, tmp_path / "w") != first


def test_the_table_compares_case_by_case(tmp_path: Path, development: DevelopmentSet) -> None:
    ablation = _ablation(tmp_path / "out", development)
    _run(ablation)
    table = json.loads((ablation.out / "table.json").read_text())
    reference, other = table["rows"][:2]
    assert reference["differences"] == {}
    expected = other["score"]["scale_abs_rel"] - reference["score"]["scale_abs_rel"]
    got, low, high = other["differences"]["scale_abs_rel"]
    assert got == pytest.approx(expected)
    assert low <= got <= high
    # Paired, so that what all find hard drops out.
    assert high - low < np.ptp(other["intervals"]["scale_abs_rel"]) + 1e-9
    text = (ablation.out / "table.md").read_text()
    assert all(f"| {variant.name} |" in text for variant in ablation.variants)


def test_a_variant_that_cannot_end_is_no_result(tmp_path: Path, development: DevelopmentSet) -> None:
    ablation = _ablation(tmp_path / "out", development, PLAN.replace("max_steps=6", "max_steps=99999"))
    assert _run(ablation, process_s=0.0) == [], "none is begun"
    with pytest.raises(BackendError, match="was cut off after"):
        _run(ablation, process_s=1.0)
    assert ablation.finished() == {}


@pytest.mark.slow
def test_variants_compile_nothing_anew(tmp_path: Path, development: DevelopmentSet) -> None:
    ablation = _ablation(tmp_path / "out", development)
    torch._dynamo.reset()
    stats = torch._dynamo.utils.counters["stats"]
    # The graphs are captured as on a GPU; what would be generated for them is left out.
    machine = Machine(ablation.variants[0].recipe.network, ALONE.device, Compiling("blocks", "aot_eager"))
    before, counts = stats["unique_graphs"], []
    for variant in ablation.variants:
        Trainer(variant.recipe, render_planes, ALONE, machine=machine).prepare(lambda record: None)
        counts.append(stats["unique_graphs"] - before)
    assert 0 < counts[0] < 20
    assert counts == [counts[0]] * 3


@pytest.mark.slow
def test_compiled_blocks_learn_what_plain_ones_do() -> None:
    torch._dynamo.reset()
    recipe = read_recipe(RECIPES / "toy.toml")
    batch = render_planes([1, 2], (48, 64))
    losses = []
    for compiling in (None, Compiling("blocks", "aot_eager"), Compiling("whole", "aot_eager")):
        machine = Machine(recipe.network, ALONE.device, compiling)
        machine.restart(1, recipe.losses)
        loss, terms = machine.objective(batch.rgb_linear.clamp(0, 1), batch.depth_m, batch.intrinsics)
        loss.backward()
        gradient = torch.cat([weight.grad.flatten() for weight in machine.network.parameters()])
        losses.append((loss.detach(), terms, gradient))
    for other in losses[1:]:
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(losses[0], other, strict=True))


@pytest.mark.parametrize("name", DepthLosses._fields)
def test_every_term_of_the_loss_can_be_left_out(name: str) -> None:
    recipe = read_recipe(RECIPES / "toy.toml", [f"losses.{name}=0"])
    batch = render_planes([1, 2], (48, 64))
    machine = Machine(recipe.network, ALONE.device)
    machine.restart(1, recipe.losses)
    loss, terms = machine.objective(batch.rgb_linear.clamp(0, 1), batch.depth_m, batch.intrinsics)
    left_out = DepthLosses._fields.index(name)
    assert float(terms[left_out]) > 0
    weights = LossWeights().vector()
    weights[left_out] = 0
    assert float(loss.detach()) == pytest.approx(float((terms * weights).sum()), rel=1e-5)


def test_the_strength_of_the_augmentation_tells() -> None:
    batch = render_planes(list(range(8)), (48, 64))
    machine = Machine(read_recipe(RECIPES / "toy.toml").network, ALONE.device)
    spreads = []
    for strength in (0.0, 0.35, 0.7, 1.0):
        torch.manual_seed(0)
        settings = AugmentSettings(strength, 0.0)
        taken = [machine.photograph(batch.rgb_linear, batch.depth_m, settings) for _ in range(6)]
        spreads.append(float(torch.stack(taken).std(dim=0).mean()))
    assert spreads == sorted(spreads)
    assert spreads[-1] > 2 * spreads[0]


def test_every_shipped_variant_is_its_own() -> None:
    variants = read_plan(RECIPES / "ablations.toml")
    assert len({variant.digest for variant in variants}) == len(variants) > 20
    assert {variant.recipe.schedule.max_steps for variant in variants} == {240}
    shapes = {(v.recipe.batches.sizes, v.recipe.batches.images_per_worker) for v in variants}
    assert len(shapes) == 1, "other shapes would compile anew"


def test_the_fourth_run_rises_stays_and_falls_to_a_floor() -> None:
    recipe = read_recipe(RECIPES / "fourth.toml")
    schedule = recipe.schedule
    rates = [schedule.rate(step / 4650, step) for step in range(4651)]
    peak = max(rates) * recipe.optimizer.learning_rate
    assert 2e-4 <= peak <= 3e-4
    rising = schedule.warmup_steps
    assert rates[:rising] == sorted(rates[:rising])
    assert rates[rising:] == sorted(rates[rising:], reverse=True)
    assert min(rates[rising:]) == rates[-1] == pytest.approx(schedule.last_rate)
    assert 0.1 <= schedule.last_rate <= 0.2
    # The average of the run's last third remembers no more than that third.
    assert 1000 <= schedule.average_steps <= 1550
    assert recipe.batches.later[-1].first_step < 4650
    weight = 1.0
    for step in range(3000):
        weight *= schedule.average_decay(step)
    assert weight < 1e-6, "first weights leave the average"


def test_a_run_may_start_from_the_weights_that_ship() -> None:
    shipped = Path(__file__).parents[2] / "worldstereo_cli/weights/depth-small"
    recipe = read_recipe(RECIPES / "fourth.toml")
    trainer = Trainer(recipe, render_planes, ALONE)
    random = {name: value.clone() for name, value in trainer.average.items()}
    trainer.start_from(shipped)
    ships = EmbeddedDepth.load_folder(shipped, torch.device("cpu"))
    image = render_planes([5], (96, 128)).rgb_linear.clamp(0, 1)
    with torch.no_grad():
        expected = ships._network(image)
        assert all(torch.equal(a, b) for a, b in zip(trainer.machine.network(image), expected, strict=True))
    assert all(bool(torch.isfinite(value).all()) for value in trainer.average.values())
    changed = [name for name, value in trainer.average.items() if not torch.equal(value, random[name])]
    assert len(changed) == len(random)


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("losses.edges=1", "no losses.edges"),
        ("losses.gradient=yes", "not section.key=value"),
        ('losses.gradient="much"', "not of the kind"),
        ("schedule.max_steps=1.5", "not of the kind"),
        ("batches.sizes=[[288]]", "not of the kind"),
        ("learning_rate=1", "not section.key=value"),
        ("scenes.room=-1", "Expected shares >= 0"),
        ("augment.strength=true", "not of the kind"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(override: str, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        with_overrides(read_recipe(None), [override])


def test_a_plan_without_variants_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("variant = { reference = [] }\n")
    with pytest.raises(RecipeError, match="no plan: it has variant"):
        read_plan(tmp_path / "plan.toml")


def test_resampling_counts_sources_alike_and_sequences_whole() -> None:
    values = np.array([1.0, 1.0, 1.0, 4.0, np.nan])
    draws = resampled_means(values, ["a", "a", "a", "b", "b"], ["x", "x", "x", "y", "y"])
    # Two sequences: half of the rounds draw both (mean 2.5), a quarter each one alone.
    assert {round(float(value), 6) for value in draws} == {1.0, 2.5, 4.0}
    assert np.isclose((draws == 2.5).mean(), 0.5, atol=0.05)
    assert interval(draws) == (1.0, 4.0)


def test_the_command_runs_a_plan_and_exports_a_run(tmp_path: Path) -> None:
    write_cases(tmp_path)
    main(["pack", str(tmp_path), str(tmp_path / "dev.npz"), "--longest-px", "64"])
    (tmp_path / "plan.toml").write_text(PLAN)
    shared = ["--device", "cpu", "--process-s", "300", "--set", "schedule.max_steps=2"]
    out = tmp_path / "ablations"
    development = ["--development", str(tmp_path / "dev.npz")]
    assert main(["ablate", str(tmp_path / "plan.toml"), "--out", str(out), *development, *shared]) == 0
    assert len(json.loads((out / "table.json").read_text())["rows"]) == 3
    run = tmp_path / "run"
    toy = ["--recipe", str(RECIPES / "toy.toml"), "--out", str(run), *development]
    assert main(["train", *toy, *shared]) == 0
    assert main(["export", str(run), str(tmp_path / "weights"), "--longest-px", "64"]) == 0
    assert (tmp_path / "weights/model.safetensors").exists()


@pytest.mark.slow
def test_variants_are_dealt_out_over_processes(tmp_path: Path) -> None:
    write_cases(tmp_path)
    pack_development(tmp_path, tmp_path / "dev.npz", longest_px=64)
    (tmp_path / "plan.toml").write_text(PLAN)
    out = tmp_path / "out"
    out.mkdir()
    arguments = ["ablate", str(tmp_path / "plan.toml"), "--out", str(out), "--device", "cpu"]
    arguments += ["--process-s", "300", "--development", str(tmp_path / "dev.npz")]
    names = [variant.name for variant in read_plan(tmp_path / "plan.toml")]
    assert deal_out(arguments, names, 2) == 0
    assert {result.name for result in read_results(out).values()} == set(names)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    # Each process prepares once.
    assert sum(record["event"] == "prepared" for record in log) == 2
    assert deal_out([*arguments, "--set", "nothing.at_all=1"], names, 2) == 3

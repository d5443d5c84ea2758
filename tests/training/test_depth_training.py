"""Training of the depth network, at toy size."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planes import render_planes, write_cases
from safetensors.torch import load_file

from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.models.depth.eight_bit import from_eight_bit
from worldstereo_cli.models.depth.embedded import EmbeddedDepth, EmbeddedDepthConfig
from worldstereo_cli.models.depth.network import DepthNetwork, RawDepth
from worldstereo_cli.training.depth.augment import AugmentSettings, photograph
from worldstereo_cli.training.depth.batches import BatchPhase, BatchPlan, RenderedBatch
from worldstereo_cli.training.depth.checkpoint import read_shards, read_state, write_shards
from worldstereo_cli.training.depth.development import DevelopmentSet, pack_development
from worldstereo_cli.training.depth.export import CAMERA_BIAS, Recentring, export_weights
from worldstereo_cli.training.depth.feed import PictureFeed
from worldstereo_cli.training.depth.loop import Limits, Trainer, gradient_agreement
from worldstereo_cli.training.depth.losses import LossWeights, depth_losses
from worldstereo_cli.training.depth.optimizer import Optimizer, OptimizerSettings, orthogonalised
from worldstereo_cli.training.depth.recentre import log_scale_bias
from worldstereo_cli.training.depth.recipe import TrainingRecipe, read_recipe, with_overrides
from worldstereo_cli.training.depth.workers import Workers, join_workers

ALONE = Workers(0, 1, torch.device("cpu"))
SIZE = (48, 64)


TOY = read_recipe(Path(__file__).parents[2] / "recipes/training/toy.toml")
LIMITS = Limits(300.0, report_s=0.0)
"""Every step is reported, however fast the machine."""


def _recipe(*overrides: str) -> TrainingRecipe:
    return with_overrides(TOY, overrides)


def _train(out: Path, recipe: TrainingRecipe) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    started = time.monotonic()
    trainer = Trainer(recipe, render_planes, ALONE, out=out)
    trainer.prepare(records.append)
    trainer.run(records.append, LIMITS, process_started=started)
    return records


def test_a_short_run_learns(tmp_path: Path) -> None:
    records = _train(tmp_path, _recipe("schedule.max_steps=90"))
    records = [record for record in records if record["event"] == "step"]
    assert records[-1]["num_skipped"] == 0
    # The sky is the first thing seen; guessing alone gives log 2 = 0.69. One step's batch says little.
    sky = [float(str(record["sky"])) for record in records]
    assert np.mean(sky[-20:]) < 0.6 < np.mean(sky[:5])


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    _train(tmp_path / "a", _recipe("schedule.max_steps=12"))
    before = read_state(tmp_path / "a")
    weights = read_shards(tmp_path / "a", "weights")[0]
    recipe = _recipe("schedule.max_steps=20")
    trainer = Trainer(recipe, render_planes, ALONE, out=tmp_path / "b")
    trainer.resume(tmp_path / "a")
    resumed = dict(trainer._optimizer.masters())
    assert all(torch.equal(resumed[name].half(), weights[name]) for name in resumed)
    trainer.run(lambda record: None, LIMITS, process_started=time.monotonic())
    after = read_state(tmp_path / "b")
    assert (before.step, after.step) == (12, 20)
    assert after.trained_s > before.trained_s


def test_a_network_of_other_sizes_does_not_resume(tmp_path: Path) -> None:
    _train(tmp_path, _recipe("schedule.max_steps=2"))
    trainer = Trainer(_recipe("network.num_layers=3"), render_planes, ALONE, out=tmp_path)
    with pytest.raises(ArtifactError, match="other sizes"):
        trainer.resume(tmp_path)


def test_a_run_may_start_from_exported_weights(tmp_path: Path) -> None:
    _train(tmp_path / "a", _recipe("schedule.max_steps=6"))
    export_weights(tmp_path / "a", tmp_path / "weights", EmbeddedDepthConfig(64, False), last_share=1.0)
    average = from_eight_bit(read_shards(tmp_path / "a", "average")[0])
    trainer = Trainer(_recipe(), render_planes, ALONE, out=tmp_path / "b")
    trainer.start_from(tmp_path / "weights")
    assert all(torch.equal(weight, average[name]) for name, weight in trainer._optimizer.masters())
    trainer = Trainer(_recipe("network.num_layers=3"), render_planes, ALONE, out=tmp_path / "b")
    with pytest.raises(ArtifactError, match="other sizes"):
        trainer.start_from(tmp_path / "weights")
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="no whole weights"):
        trainer.start_from(tmp_path / "weights")


def test_sizes_and_numbers_of_images_change_at_their_step() -> None:
    later = (BatchPhase(4, ((64, 48), SIZE), (0.5, 0.5), 6), BatchPhase(8, ((96, 128),), (1.0,), 2))
    plan = BatchPlan((SIZE,), (1.0,), 4, later=later)
    assert {plan.size(step, 1) for step in range(4)} == {SIZE}
    assert {plan.size(step, 1) for step in range(4, 8)} <= {SIZE, (64, 48)}
    assert {plan.size(step, 1) for step in range(8, 12)} == {(96, 128)}
    shares = [plan.scene_numbers(step, 1, rank, 2) for step in range(12) for rank in range(2)]
    assert [len(numbers) for numbers in shares] == 8 * [4] + 8 * [6] + 8 * [2]
    seen = [number for numbers in shares for number in numbers]
    assert len(set(seen)) == len(seen)


def test_only_a_share_of_second_looks_comes_closer() -> None:
    for share in (0.0, 1.0):
        plan = BatchPlan((SIZE,), (1.0,), 8, views=2, zoomed_share=share, delay=1)
        feed = PictureFeed(render_planes, plan, AugmentSettings(), ALONE, run_seed=1)
        first, second = feed.make(0, SIZE), feed.make(1, SIZE)
        closer = second.intrinsics[4:, 0, 0] > first.intrinsics[:4, 0, 0] * 1.001
        assert bool(closer.all()) if share else not bool(closer.any())


def test_shards_are_small_and_know_their_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldstereo_cli.training.depth.checkpoint.MAX_SHARD_BYTES", 140_000)
    tensors = {str(index): torch.randn(40, 100) for index in range(5)}
    paths = write_shards(tmp_path, "weights", tensors, step=7)
    assert len(paths) == 3
    assert all(path.stat().st_size <= 140_000 for path in paths)
    back, step = read_shards(tmp_path, "weights")
    assert step == 7
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    write_shards(tmp_path, "other", tensors, step=8)
    (tmp_path / "other-1.safetensors").replace(tmp_path / "weights-1.safetensors")
    with pytest.raises(ArtifactError, match=r"mixes weights of steps \[7, 8\]"):
        read_shards(tmp_path, "weights")
    (tmp_path / "weights-2.safetensors").unlink()
    with pytest.raises(ArtifactError, match="no whole weights"):
        read_shards(tmp_path, "weights")


_TWO_WORKERS = """
import sys, torch
from worldstereo_cli.training.depth.workers import join_workers
torch.set_num_threads(1)
with join_workers("cpu") as workers:
    weights = torch.full((3,), float(workers.rank))
    workers.share(weights)
    assert not weights.any()
    mean = workers.mean(torch.full((4,), 1.0 + workers.rank))
    rows = workers.gather(torch.full((1 + workers.rank, 2), float(workers.rank)))
    assert workers.count == 2
    assert torch.equal(mean, torch.full((4,), 1.5)), mean
    assert rows.shape == (3, 2) and rows.sum() == 4, rows
"""


def test_two_processes_share_gradients_and_scores(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(_TWO_WORKERS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*command, str(script)], check=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def test_the_truth_has_no_loss_whatever_its_scale() -> None:
    batch = render_planes([1, 2], SIZE)
    sky = torch.isinf(batch.depth_m)
    log_focal = (batch.intrinsics[:, 0, 0] / 64).log()
    offset = torch.tensor([0.7, -2.0])
    log_depth = torch.where(sky, 0.0, batch.depth_m.log()) + offset[:, None, None]
    logit = torch.where(sky, 30.0, -30.0)
    exact = RawDepth(log_depth, logit, log_focal, -offset - log_focal)
    terms = depth_losses(exact, batch.depth_m, batch.intrinsics)
    assert all(float(term) < 2e-3 for term in terms), terms
    bent = exact._replace(log_depth=log_depth + 0.3 * torch.linspace(0, 1, 64))
    worse = depth_losses(bent, batch.depth_m, batch.intrinsics)
    assert all(
        float(getattr(worse, name)) > float(getattr(terms, name)) + 1e-3
        for name in ("shape", "local", "gradient", "normal")
    )


def test_gradients_of_the_losses_are_finite_everywhere() -> None:
    batch = render_planes([3, 4], SIZE)
    for depth_m in (batch.depth_m, torch.full_like(batch.depth_m, float("inf"))):
        leaves = [
            torch.zeros(2, *SIZE, requires_grad=True), torch.zeros(2, *SIZE, requires_grad=True),
            torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True),
        ]  # fmt: skip
        terms = torch.stack(list(depth_losses(RawDepth(*leaves), depth_m, batch.intrinsics)))
        (terms * LossWeights().vector()).sum().backward()
        assert all(leaf.grad is not None and bool(torch.isfinite(leaf.grad).all()) for leaf in leaves)


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
def test_pictures_are_eight_bit_images(strength: float) -> None:
    torch.manual_seed(0)
    batch = render_planes(list(range(24)), (64, 80))
    pictures = photograph(batch.rgb_linear, batch.depth_m, AugmentSettings(strength=strength))
    assert pictures.shape == batch.rgb_linear.shape
    assert bool(torch.isfinite(pictures).all())
    assert torch.allclose(pictures * 255, (pictures * 255).round(), atol=1e-3)
    # Hardly any is black or burnt out.
    assert float((pictures.mean(dim=(1, 2, 3)) - 0.5).abs().median()) < 0.3


def test_muon_steps_are_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 40), (3, 40, 16)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert bool((values > 0.6).all()) and bool((values < 1.3).all())


@pytest.mark.parametrize("use_muon", [True, False])
def test_the_optimizer_lowers_a_loss(use_muon: bool) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    optimizer = Optimizer(network, OptimizerSettings(use_muon=use_muon))
    inputs = torch.randn(64, 8)
    target = inputs[:, :1] * inputs[:, 1:2]

    def loss() -> torch.Tensor:
        return (network(inputs) - target).square().mean()

    first = float(loss().detach())
    for _ in range(150):
        network.zero_grad()
        loss().backward()
        optimizer.step(optimizer.gradient(), 1e-2)
    assert float(loss().detach()) < 0.3 * first


def test_disagreeing_gradients_are_found() -> None:
    true = torch.randn(10)
    assert gradient_agreement(1.01 * true, true)["cosine"] > 0.999
    assert gradient_agreement(-true, true)["cosine"] < -0.999
    assert not gradient_agreement(true * float("nan"), true)["cosine"] > 0.9


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
    optimizer = Optimizer(network, OptimizerSettings(weight_decay=0.0))
    before = optimizer.master_vector.clone()
    norm = optimizer.step(torch.full_like(before, float("inf")), 1e-2)
    assert not bool(torch.isfinite(norm))
    assert torch.equal(optimizer.master_vector, before)
    optimizer.step(torch.ones_like(before), 1e-2)
    assert bool(torch.isfinite(optimizer.master_vector).all())


def test_a_huge_gradient_is_shortened() -> None:
    network = torch.nn.Linear(8, 8)
    optimizer = Optimizer(network, OptimizerSettings(use_muon=False))
    usual = torch.randn_like(optimizer.master_vector)
    optimizer.step(usual, 0.0)
    before = optimizer.vector_of(dict(optimizer.momenta())).norm()
    optimizer.step(1000 * usual, 0.0)
    after = optimizer.vector_of(dict(optimizer.momenta())).norm()
    # Two means of 0.1 of a gradient: the second one counts three times at most.
    assert float(after / before) == pytest.approx(0.9 + 3.0, rel=0.01)


def test_scenes_come_back_mirrored_and_later() -> None:
    seen: list[int] = []

    def source(numbers: list[int], size: tuple[int, int]) -> RenderedBatch:
        seen.extend(numbers)
        return render_planes(numbers, size)

    plan = BatchPlan((SIZE,), (1.0,), images_per_worker=4, views=2, delay=3)
    faithful = AugmentSettings(strength=0.0, wild_share=0.0)
    feed = PictureFeed(source, plan, faithful, ALONE, run_seed=1)
    batches = []
    for step in range(6):
        feed.begin(step)
        batches.append(feed.take())
    assert len(seen) == len(set(seen)) == 3 * 4 + 3 * 2
    for late, early in ((3, 0), (4, 1), (5, 2)):
        for index in range(2):
            new, old = batches[late], batches[early]
            zoom = float(new.intrinsics[2 + index, 0, 0] / old.intrinsics[index, 0, 0])
            assert 1.0 <= zoom <= 2.0
            # The middle stays; column x of the zoomed view shows 32 + (x - 32) / zoom, mirrored.
            columns = 63 - (32 + (torch.arange(64) + 0.5 - 32) / zoom).long().clamp(0, 63)
            rows = (24 + (torch.arange(48) + 0.5 - 24) / zoom).long().clamp(0, 47)
            expected = old.depth_m[index][rows][:, columns]
            # Nearest may fall either way where a pixel centre meets a border.
            same = torch.isclose(new.depth_m[2 + index], expected) | (new.depth_m[2 + index] == expected)
            assert float(same.float().mean()) > 0.9


def test_steps_without_a_finite_gradient_are_left_out(tmp_path: Path) -> None:
    calls = []

    def sometimes_broken(numbers: list[int], size: tuple[int, int]):
        calls.append(numbers)
        batch = render_planes(numbers, size)
        is_broken = len(calls) == 5
        return batch._replace(rgb_linear=batch.rgb_linear * float("nan")) if is_broken else batch

    trainer = Trainer(_recipe("schedule.max_steps=12"), sometimes_broken, ALONE, out=tmp_path)
    state = trainer.run(lambda record: None, LIMITS, process_started=time.monotonic())
    assert state.num_skipped == 1
    assert all(bool(torch.isfinite(weight).all()) for _, weight in trainer._optimizer.masters())


def test_the_best_average_is_kept_and_shipped(tmp_path: Path) -> None:
    write_cases(tmp_path)
    assert pack_development(tmp_path, tmp_path / "packed.npz", longest_px=64) == 3
    development = DevelopmentSet.read(tmp_path / "packed.npz")
    run = tmp_path / "run"
    records: list[dict[str, object]] = []
    recipe = _recipe("schedule.max_steps=30")
    trainer = Trainer(recipe, render_planes, ALONE, out=run, development=development)
    trainer.run(records.append, Limits(300.0, save_s=0.1), process_started=time.monotonic())
    scores = [record for record in records if record["event"] == "score"]
    assert len(scores) >= 2
    errors = ("scale_abs_rel", "affine_abs_rel")
    right = ("scale_delta1", "affine_delta1")
    totals = [
        sum(float(str(record[name])) for name in errors)
        + sum((1 - float(str(record[name]))) / 2 for name in right)
        for record in scores
    ]
    assert read_state(run).best_score == pytest.approx(min(totals))
    best_step = [record["step"] for record in scores if record["is_best"]][-1]
    export_weights(run, tmp_path / "weights", EmbeddedDepthConfig(64, False), last_share=0.0)
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["step"] == best_step
    backend = EmbeddedDepth.load_folder(tmp_path / "weights", torch.device("cpu"))
    assert backend.estimate(torch.rand(3, 48, 64), None).depth_m.shape == (48, 64)
    # A quarter of the way from the best to the last.
    export_weights(run, tmp_path / "between", EmbeddedDepthConfig(64, False), last_share=0.25)
    between = from_eight_bit(load_file(tmp_path / "between" / "model.safetensors"))
    best, last = (from_eight_bit(read_shards(run, name)[0]) for name in ("best", "average"))
    for name, value in between.items():
        step = 1.01 * float(value.abs().max()) / 127
        assert torch.allclose(value, best[name].lerp(last[name], 0.25), atol=step)


def test_export_takes_the_bias_out_of_the_scale(tmp_path: Path) -> None:
    _train(tmp_path / "run", _recipe("schedule.max_steps=20"))
    average, step = read_shards(tmp_path / "run", "average")
    average[CAMERA_BIAS][1] += 1.0
    write_shards(tmp_path / "run", "average", average, step)
    scenes = Recentring(render_planes, 24, SIZE)
    biases = []
    for name, recentring in (("plain", None), ("centred", scenes)):
        config = EmbeddedDepthConfig(64, False)
        export_weights(tmp_path / "run", tmp_path / name, config, last_share=1.0, recentring=recentring)
        network = DepthNetwork(TOY.network).eval()
        network.load_state_dict(from_eight_bit(load_file(tmp_path / name / "model.safetensors")))
        biases.append(log_scale_bias(network, render_planes, 24, SIZE))
    assert biases[0] > 0.7
    # The same scenes, photographed anew.
    assert abs(biases[1]) < 0.05


def test_joining_alone_needs_no_launcher() -> None:
    with join_workers("cpu") as workers:
        assert workers.is_first and workers.count == 1


def test_preparing_compiles_every_size_that_comes() -> None:
    later = (BatchPhase(5, (SIZE, (64, 64)), (0.5, 0.5), 4), BatchPhase(9, (SIZE,), (1.0,), 2))
    recipe = replace(_recipe(), batches=BatchPlan((SIZE,), (1.0,), 4, later=later))
    records: list[dict[str, object]] = []
    Trainer(recipe, render_planes, ALONE).prepare(records.append)
    assert [(record["size"], record["images"]) for record in records] == [(list(SIZE), 4)]
    records.clear()
    Trainer(recipe, render_planes, ALONE).prepare(records.append, every_phase=True)
    prepared = [(record["size"], record["images"]) for record in records]
    assert sorted(prepared) == [(list(SIZE), 2), (list(SIZE), 4), ([64, 64], 4)]
    assert "cosine" in records[0], "gradients are checked once, at the start"
    assert not any("cosine" in record for record in records[1:])

"""Short runs one after another in one process for each GPU, on one machine compiled once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worldstereo_cli.errors import BackendError, RecipeError
from worldstereo_cli.models.depth.network import DepthNetwork
from worldstereo_cli.training.depth.batches import BatchSource
from worldstereo_cli.training.depth.checkpoint import RunState
from worldstereo_cli.training.depth.development import DevelopmentSet
from worldstereo_cli.training.depth.loop import Limits, Log, Trainer
from worldstereo_cli.training.depth.machine import Machine
from worldstereo_cli.training.depth.plan import (
    Variant,
    VariantResult,
    append_result,
    read_results,
    write_table,
)
from worldstereo_cli.training.depth.recipe import TrainingRecipe
from worldstereo_cli.training.depth.workers import Workers

SPARE = 1.1
"""A variant is begun if so many times what the longest one took is left."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """A plan, and what all its variants share."""

    variants: Sequence[Variant]
    out: Path
    development: DevelopmentSet
    start_from: Path | None = None
    """Folder of weights or of a run; None starts from random weights."""
    conditions: str = ""
    """Digest of the development set and the first weights: results under others do not count."""

    def digest(self, variant: Variant) -> str:
        """Digest of a variant and its conditions."""
        return f"{variant.digest}-{self.conditions}"

    def finished(self) -> dict[str, VariantResult]:
        """Return what is done, by name, in the order of the plan."""
        results = read_results(self.out)
        named = ((variant.name, results.get(self.digest(variant))) for variant in self.variants)
        return {name: replace(result, name=name) for name, result in named if result is not None}

    def unfinished(self) -> list[Variant]:
        """Return what is left to do, in the order of the plan."""
        done = self.finished()
        return [variant for variant in self.variants if variant.name not in done]

    def write_table(self) -> None:
        """Write the table of what is done."""
        finished = self.finished()
        if finished:
            write_table(self.out, finished, self.development)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the variants of one process run on."""

    machine: Machine
    source: Callable[[TrainingRecipe], BatchSource]
    workers: Workers
    on_prepared: Callable[[], None] = lambda: None
    """Called when everything is compiled."""


def run_variants(
    ablation: Ablation, names: Sequence[str], bench: Bench, log: Log, *, process_s: float, started: float
) -> None:
    """Run unfinished variants of some names in order, as far as time goes; the table grows with each.

    Args:
        ablation: The plan.
        names: Of the variants of this process.
        bench: What they run on.
        log: Called with one record at a time.
        process_s: Seconds that this process may take.
        started: `time.monotonic()` when it began.

    Raises:
        RecipeError: A variant has a network of other sizes than the first.
        BackendError: A variant was cut off by the time of the process.
    """
    longest_s = 0.0
    for index, variant in enumerate(v for v in ablation.unfinished() if v.name in names):
        if variant.recipe.network != bench.machine.shape:
            raise RecipeError(
                f"{variant.name} changes the network's sizes.", remedy="Give it a plan of its own."
            )
        left_s = process_s - (time.monotonic() - started)
        if left_s < SPARE * longest_s:
            log({"event": "no time left", "next": variant.name})
            return
        began = time.monotonic()
        trainer = Trainer(variant.recipe, bench.source(variant.recipe), bench.workers, machine=bench.machine)
        if ablation.start_from is not None:
            trainer.start_from(ablation.start_from)
        if index == 0:
            trainer.prepare(log)
            bench.on_prepared()
            began = time.monotonic()
        state = trainer.run(_named(log, variant), Limits(process_s), process_started=started)
        result = _scored(ablation, variant, trainer, state, bench)
        log({"event": "finished", "variant": variant.name, "step": state.step, "trained_s": state.trained_s})
        append_result(ablation.out, result)
        ablation.write_table()
        longest_s = max(longest_s, time.monotonic() - began)


def _named(log: Log, variant: Variant) -> Log:
    return lambda record: log({"variant": variant.name} | record)


def _scored(
    ablation: Ablation, variant: Variant, trainer: Trainer, state: RunState, bench: Bench
) -> VariantResult:
    """Score the average of a run that came to its end."""
    steps, seconds = variant.recipe.schedule.max_steps, variant.recipe.schedule.total_s
    if not (steps and state.step >= steps) and not (seconds and state.trained_s >= seconds):
        raise BackendError(
            f"{variant.name} was cut off after {state.step} steps.",
            remedy="Give variants schedule.max_steps or total_s, and the process more time.",
        )
    network = DepthNetwork(variant.recipe.network).to(bench.workers.device).eval()
    network.load_state_dict(trainer.average)
    cases = tuple(ablation.development.score_cases(network, bench.workers))
    digest = ablation.digest(variant)
    return VariantResult(variant.name, digest, state.step, state.num_images, state.trained_s, cases)


def deal_out(arguments: Sequence[str], names: Sequence[str], num_gpus: int) -> int:
    """Run this command again in one process for each GPU, with a share of the variants.

    Each process takes the GPU of its local rank and knows nothing of the others.

    Args:
        arguments: Of the command, all but the names.
        names: Of the variants to run.
        num_gpus: Number of processes.

    Returns:
        The exit code: that of the first process that failed, or 0.
    """
    processes = []
    for gpu in range(num_gpus):
        share = names[gpu::num_gpus]
        if share:
            command = [sys.executable, "-m", "worldstereo_cli.training", "depth", *arguments]
            environment = os.environ | {"LOCAL_RANK": str(gpu)}
            processes.append(subprocess.Popen([*command, "--only", json.dumps(share)], env=environment))
    codes = [process.wait() for process in processes]
    return next((code for code in codes if code), 0)

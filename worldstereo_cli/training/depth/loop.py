"""The training loop.

A step takes a batch of pictures, runs the network both ways and updates it, while the next batch is
made. The host never waits for the step that it has just queued: norms and clocks are read two steps
late, when they have long arrived.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from worldstereo_cli.errors import BackendError
from worldstereo_cli.models.depth.network import DepthNetwork
from worldstereo_cli.training.depth import checkpoint
from worldstereo_cli.training.depth.batches import BatchSource
from worldstereo_cli.training.depth.checkpoint import RunState
from worldstereo_cli.training.depth.development import DevelopmentSet
from worldstereo_cli.training.depth.feed import PictureFeed, TrainingBatch
from worldstereo_cli.training.depth.losses import DepthLosses
from worldstereo_cli.training.depth.machine import Machine, Objective
from worldstereo_cli.training.depth.optimizer import Optimizer
from worldstereo_cli.training.depth.recipe import TrainingRecipe
from worldstereo_cli.training.depth.workers import Workers

MAX_SKIPPED_SHARE = 0.05
"""More steps without a finite gradient than this, and the run is not worth its time."""

LATENESS = 2
"""Steps between queueing a step and reading its norm and clock."""

Log = Callable[[dict[str, object]], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one process may take, and how often it reports and saves."""

    process_s: float
    """From its start to its last checkpoint."""
    report_s: float = 10.0
    save_s: float = 60.0
    """Pause between checkpoints, each with an evaluation where there are development cases."""


class Trainer:
    """One run in one process."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        source: BatchSource,
        workers: Workers,
        *,
        machine: Machine | None = None,
        out: Path | None = None,
        development: DevelopmentSet | None = None,
    ) -> None:
        """Begin a run at random weights.

        Args:
            recipe: What to learn, and how.
            source: Scenes.
            workers: This process among its siblings.
            machine: Another run's, to compile nothing anew; what ran on it is over.
            out: Folder of checkpoints; None keeps nothing.
            development: Cases to choose the checkpoint by.
        """
        self._recipe, self._workers = recipe, workers
        self._out, self._development = out, development
        self.machine = machine or Machine(recipe.network, workers.device)
        first = self.machine.restart(recipe.schedule.seed, recipe.losses)
        self._optimizer = Optimizer(self.machine.network, recipe.optimizer)
        self._optimizer.begin(first)
        self._average = self._optimizer.master_vector.clone()
        self._feed = PictureFeed(
            source,
            recipe.batches,
            recipe.augment,
            workers,
            run_seed=recipe.schedule.seed,
            camera=self.machine.photograph,
        )
        self._state = RunState(0, 0, 0.0, inf, 0, recipe.network)
        self._unread: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._norm = inf
        # Scenes go by number; what a camera makes of them goes by this generator.
        torch.manual_seed(recipe.schedule.seed * 1000 + workers.rank)

    @property
    def average(self) -> dict[str, Tensor]:
        """The moving average of the weights, float32, by name."""
        return dict(self._optimizer.named(self._average))

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ArtifactError: It is damaged, or of a network of other sizes.
        """
        saved = checkpoint.read_checkpoint(folder, self._recipe.network)
        self._optimizer.restore(saved.weights, saved.momentum)
        self._average = self._optimizer.vector_of(saved.average)
        self._state = saved.state

    def start_from(self, folder: Path) -> None:
        """Take exported weights, or the best average of an earlier run, as the first weights of this one.

        Raises:
            ArtifactError: There is none, or it is of a network of other sizes.
        """
        self._optimizer.begin(checkpoint.read_start(folder, self._recipe.network))
        self._average = self._optimizer.master_vector.clone()

    def prepare(self, log: Log, *, every_phase: bool = False) -> None:
        """Check gradients, and run each size of batch once, so that compiling is not training time.

        Args:
            log: Called with one record for each size.
            every_phase: Also the sizes that come later. They need not be compiled before a run begins;
                a process beside others may do it, whose kernels then lie in torch's cache on the disk.

        Raises:
            BackendError: The gradients are not those of the same network in float32.
        """
        batches, now = self._recipe.batches, self._state.step
        steps = [now, *(phase.first_step for phase in batches.later if every_phase)]
        first_steps: dict[tuple[tuple[int, int], int], int] = {}
        for step in steps:
            for size in batches.phase(step).sizes:
                first_steps.setdefault((size, batches.phase(step).images_per_worker), step)
        for (size, _), step in first_steps.items():
            started = time.monotonic()
            batch = self._feed.make(step, size)
            loss, _ = self.machine.objective(batch.images, batch.depth_m, batch.intrinsics)
            loss.backward()  # type: ignore[no-untyped-call]
            record: dict[str, object] = {"event": "prepared", "size": list(size), "images": len(batch.images)}
            if step == now and size == batches.phase(now).sizes[0]:
                record |= self._compare_gradients(batch)
            self.machine.network.zero_grad(set_to_none=True)
            if self._workers.is_first:
                log(record | {"seconds": round(time.monotonic() - started, 1)})

    def _compare_gradients(self, batch: TrainingBatch) -> dict[str, float]:
        """Compare the gradients at hand with float32 ones, computed without compiling."""
        exact = DepthNetwork(self._recipe.network).to(self._workers.device)
        exact.load_state_dict(dict(self._optimizer.masters()))
        objective = Objective(exact).to(self._workers.device)
        objective.weights.copy_(self._recipe.losses.vector())
        loss, _ = objective(batch.images, batch.depth_m, batch.intrinsics)
        loss.backward()
        got, true = self._optimizer.gradient(), self._optimizer.vector_of(_gradients(exact))
        result = gradient_agreement(got, true)
        if not (result["cosine"] > 0.9 and 0.8 < result["norm_ratio"] < 1.25):
            raise BackendError(
                f"Gradients disagree with float32 ones: {result}.",
                remedy="Train with --compile none, and look for the layer that disagrees.",
            )
        return result

    def run(self, log: Log, limits: Limits, *, process_started: float) -> RunState:
        """Train until the time of this process or of the run is over.

        Args:
            log: Called in the first process with one record at a time.
            limits: Time of this process.
            process_started: `time.monotonic()` when the process began.

        Returns:
            Where the run stands; a checkpoint of it is on disk, if there is a folder for it.

        Raises:
            BackendError: Too many gradients were not finite.
        """
        with _first_in_line(self._workers.device):
            return self._run(log, limits, process_started)

    def _run(self, log: Log, limits: Limits, process_started: float) -> RunState:
        schedule = self._recipe.schedule
        began = time.monotonic()
        before_s = self._state.trained_s
        # Processes start at different times but must stop at the same step: one budget for all.
        start_s = torch.tensor([began - process_started], dtype=torch.float64, device=self._workers.device)
        left_s = limits.process_s - float(self._workers.mean(start_s))
        end_s = before_s + left_s
        # A run whose steps are counted may be cut off by its time, but does not slow down for it.
        total_s = schedule.total_s or (inf if schedule.max_steps else end_s)
        end_s = min(total_s, end_s)
        sums = torch.zeros(len(DepthLosses._fields), device=self._workers.device)
        steps_here = reported_step = 0
        reported_s = saved_s = before_s
        first_image = self._state.num_images
        self._feed.begin(self._state.step)
        max_steps = schedule.max_steps or sys.maxsize
        while self._state.trained_s < end_s and self._state.step < max_steps:
            progress = max(self._state.trained_s / total_s, self._state.step / max_steps)
            rate = self._recipe.optimizer.learning_rate * schedule.rate(progress, steps_here)
            sums += self._step(rate, before_s + time.monotonic() - began)
            steps_here += 1
            if self._state.trained_s - reported_s > limits.report_s:
                speed = (self._state.num_images - first_image) / (self._state.trained_s - before_s)
                self._report(log, sums / (steps_here - reported_step), speed, rate)
                reported_s, reported_step = self._state.trained_s, steps_here
                sums.zero_()
            if self._state.trained_s - saved_s > limits.save_s:
                self._save(log)
                saved_s = self._state.trained_s
        self._save(log)
        return self._state

    def _step(self, rate: float, clock_s: float) -> Tensor:
        """Learn from one batch; return the terms of its loss."""
        batch = self._feed.take()
        loss, terms = self.machine.objective(batch.images, batch.depth_m, batch.intrinsics)
        loss.backward()  # type: ignore[no-untyped-call]
        self._feed.begin(self._state.step + 1)
        norm = self._optimizer.step(self._workers.mean(self._optimizer.gradient()), rate)
        self.machine.network.zero_grad(set_to_none=True)
        decay = self._recipe.schedule.average_decay(self._state.step)
        self._average.lerp_(self._optimizer.master_vector, 1 - decay)
        self._state = replace(
            self._state,
            step=self._state.step + 1,
            num_images=self._state.num_images + len(batch.images) * self._workers.count,
        )
        clock = torch.full_like(norm, clock_s, dtype=torch.float64)
        self._send(self._workers.mean(torch.stack([norm.double(), clock])))
        self._read()
        return terms.nan_to_num(0.0)

    def _send(self, numbers: Tensor) -> None:
        """Queue numbers to be read on the host later."""
        if not numbers.is_cuda:
            self._unread.append((numbers, None))
            return
        on_host = torch.empty_like(numbers, device="cpu", pin_memory=True)
        on_host.copy_(numbers, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._unread.append((on_host, arrived))

    def _read(self) -> None:
        """Read norm and clock of an earlier step: the same in all processes, so all decide alike."""
        if len(self._unread) <= LATENESS:
            return
        numbers, arrived = self._unread.popleft()
        if arrived is not None:
            arrived.synchronize()
        norm, clock_s = numbers.tolist()
        self._norm = norm
        skipped = self._state.num_skipped + (not isfinite(norm))
        self._state = replace(self._state, trained_s=max(clock_s, self._state.trained_s), num_skipped=skipped)
        if skipped > 20 + MAX_SKIPPED_SHARE * self._state.step:
            raise BackendError(
                f"{skipped} of {self._state.step} gradients were not finite.",
                remedy="Resume from an earlier checkpoint with a lower learning rate.",
            )

    def _report(self, log: Log, terms: Tensor, images_per_s: float, rate: float) -> None:
        if self._workers.is_first:
            named = zip(DepthLosses._fields, terms.tolist(), strict=True)
            log(
                {"event": "step"}
                | {key: value for key, value in asdict(self._state).items() if key != "shape"}
                | {"images_per_s": round(images_per_s), "rate": rate, "norm": self._norm}
                | {name: round(value, 4) for name, value in named}
            )

    def _save(self, log: Log) -> None:
        """Write a checkpoint; score the average and keep it if none scored better."""
        if self._out is None:
            return
        is_best = False
        # The processes take the same steps; should rounding ever part them, it ends here.
        self._workers.share(self._optimizer.master_vector)
        self._workers.share(self._average)
        average = self.average
        if self._development is not None:
            network = DepthNetwork(self._recipe.network).to(self._workers.device).eval()
            network.load_state_dict(average)
            score = self._development.score(network, self._workers)
            is_best = score.total < self._state.best_score
            self._state = replace(self._state, best_score=min(score.total, self._state.best_score))
            if self._workers.is_first:
                log({"event": "score", "step": self._state.step, "is_best": is_best} | asdict(score))
        if self._workers.is_first:
            if is_best:
                checkpoint.write_best(self._out, average.items(), self._state.step)
            checkpoint.write_checkpoint(
                self._out,
                self._state,
                weights=self._optimizer.masters(),
                average=average.items(),
                momentum=self._optimizer.momenta(),
            )


@contextmanager
def _first_in_line(device: torch.device) -> Iterator[None]:
    """Queue work ahead of that of other streams of a GPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream(priority=-1)):  # type: ignore[no-untyped-call]
        yield
        torch.cuda.synchronize()


def _gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}


def gradient_agreement(got: Tensor, true: Tensor) -> dict[str, float]:
    """Compare two gradients.

    Returns:
        "cosine" of the angle between them and "norm_ratio"; not finite where a gradient is not.
    """
    one, other = got.double(), true.double()
    return {
        "cosine": float(one @ other / (one.norm() * other.norm())),
        "norm_ratio": float(one.norm() / other.norm()),
    }

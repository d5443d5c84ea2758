"""The training loop.

A step renders scenes, takes pictures of them, runs the network both ways and updates it. Whether the
update happens depends on a number that the host must wait for; so the next batch is queued before it
is read, and the GPU renders while the host decides.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from math import cos, inf, isfinite, pi
from pathlib import Path

import torch
from torch import Tensor, nn

from worldstereo_cli.errors import ArtifactError, BackendError
from worldstereo_cli.models.depth.network import DepthNetwork, DepthNetworkShape
from worldstereo_cli.training.depth import checkpoint
from worldstereo_cli.training.depth.augment import AugmentSettings, photograph
from worldstereo_cli.training.depth.batches import BatchPlan, BatchSource
from worldstereo_cli.training.depth.checkpoint import RunState
from worldstereo_cli.training.depth.development import DevelopmentSet
from worldstereo_cli.training.depth.losses import DepthLosses, LossWeights, depth_losses
from worldstereo_cli.training.depth.optimizer import Optimizer, OptimizerSettings
from worldstereo_cli.training.depth.workers import Workers

MAX_SKIPPED_SHARE = 0.05
"""More steps without a finite gradient than this, and the run is not worth its time."""

MAX_NORM_RATIO = 3.0
"""A gradient longer than so many usual ones is shortened to that: one odd scene must not own the mean."""

Log = Callable[[dict[str, object]], None]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """A run, but for where it reads and writes."""

    process_s: float
    """How long this process may take, from its start to its last checkpoint."""
    total_s: float | None = None
    """Training time of the whole run, over which the learning rate falls. None: this process ends it."""
    report_s: float = 10.0
    save_s: float = 60.0
    """Pause between checkpoints, each with an evaluation where there are development cases."""
    run_seed: int = 1
    compiled: bool = True
    """Compile network, losses and camera. Off on a CPU, where it costs more than it saves."""
    warmup_steps: int = 150
    flat_share: float = 0.35
    """Share of the run at the full learning rate, before it falls along a cosine."""
    average_decay: float = 0.999
    shape: DepthNetworkShape = field(default_factory=DepthNetworkShape)
    plan: BatchPlan = field(default_factory=BatchPlan)
    losses: LossWeights = field(default_factory=LossWeights)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def learning_rate(self, progress: float, steps_here: int) -> float:
        """Return the rate at a share of the run: warm after every start, then flat, then falling."""
        fall = max(0.0, min(1.0, progress) - self.flat_share) / (1 - self.flat_share)
        warm = min(1.0, (steps_here + 1) / self.warmup_steps)
        return self.optimizer.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + cos(pi * fall)))


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Pictures as a camera would take them, and their truth."""

    images: Tensor
    depth_m: Tensor
    intrinsics: Tensor


class Objective(nn.Module):
    """Network and losses in one, so that they are compiled as one."""

    def __init__(self, network: DepthNetwork, weights: LossWeights) -> None:
        super().__init__()
        self.network = network
        self.weights = weights

    def forward(self, images: Tensor, depth_m: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss and its terms."""
        terms = depth_losses(self.network(images), depth_m, intrinsics)
        return terms.total(self.weights), torch.stack(list(terms)).detach()


class Trainer:
    """One run in one process."""

    def __init__(
        self,
        settings: TrainingSettings,
        source: BatchSource,
        workers: Workers,
        *,
        out: Path,
        development: DevelopmentSet | None,
    ) -> None:
        self._settings, self._source, self._workers = settings, source, workers
        self._out, self._development = out, development
        torch.manual_seed(settings.run_seed)
        self._network = DepthNetwork(settings.shape).to(workers.device)
        self._average = DepthNetwork(settings.shape).to(workers.device).eval().requires_grad_(False)
        self._average.load_state_dict(self._network.state_dict())
        self._optimizer = Optimizer(self._network, settings.optimizer)
        if workers.device.type == "cuda":
            self._network.to(dtype=torch.bfloat16)
            _lay_out_channels_last(self._network)
        self._objective: Callable[..., tuple[Tensor, Tensor]] = Objective(self._network, settings.losses)
        self._photograph: Callable[..., Tensor] = photograph
        if settings.compiled:
            self._objective = torch.compile(self._objective, dynamic=False)
            self._photograph = torch.compile(photograph, dynamic=False)
        self._state = RunState(0, 0, 0.0, inf, 0, settings.shape)
        self._usual_norm = inf
        # Scenes go by number; what a camera makes of them goes by this generator.
        torch.manual_seed(settings.run_seed * 1000 + workers.rank)

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ArtifactError: It is damaged, or of a network of other sizes.
        """
        saved = checkpoint.read_checkpoint(folder)
        if saved.state.shape != self._settings.shape:
            raise ArtifactError(
                f"{folder} holds a network of other sizes: {saved.state.shape}.",
                remedy="Resume with the --shape that the run was started with.",
            )
        device = self._workers.device
        self._optimizer.restore(
            {name: value.to(device) for name, value in saved.weights.items()},
            {name: value.to(device) for name, value in saved.momentum.items()},
        )
        self._average.load_state_dict(saved.average)
        self._state = saved.state

    def prepare(self, log: Log) -> None:
        """Check gradients, and run each size of batch once, so that compiling is not training time.

        Raises:
            BackendError: The gradients are not those of the same network in float32.
        """
        for size in self._settings.plan.sizes:
            started = time.monotonic()
            batch = self._batch(self._state.step, size)
            loss, _ = self._objective(batch.images, batch.depth_m, batch.intrinsics)
            loss.backward()  # type: ignore[no-untyped-call]
            record: dict[str, object] = {"event": "prepared", "size": list(size)}
            if size == self._settings.plan.sizes[0]:
                record |= self._compare_gradients(batch)
            self._network.zero_grad(set_to_none=True)
            if self._workers.is_first:
                log(record | {"seconds": round(time.monotonic() - started, 1)})

    def _compare_gradients(self, batch: TrainingBatch) -> dict[str, float]:
        """Compare the gradients at hand with float32 ones, computed without compiling."""
        exact = DepthNetwork(self._settings.shape).to(self._workers.device)
        exact.load_state_dict(dict(self._optimizer.masters()))
        loss, _ = Objective(exact, self._settings.losses)(batch.images, batch.depth_m, batch.intrinsics)
        loss.backward()
        got = {name: _gradient(weight) for name, weight in self._network.named_parameters()}
        true = {name: _gradient(weight) for name, weight in exact.named_parameters()}
        result, worst = gradient_agreement(got, true)
        if not (result["cosine"] > 0.9 and 0.8 < result["norm_ratio"] < 1.25):
            raise BackendError(
                f"Gradients disagree with float32 ones: {result}, worst in {worst}.",
                remedy="Train with --eager, and look for the layer that disagrees.",
            )
        return result

    def run(self, log: Log, *, process_started: float) -> RunState:
        """Train until the time of this process or of the run is over.

        Args:
            log: Called in the first process with one record at a time.
            process_started: `time.monotonic()` when the process began.

        Returns:
            Where the run stands; a checkpoint of it is on disk.

        Raises:
            BackendError: Too many gradients were not finite.
        """
        settings = self._settings
        began = time.monotonic()
        before_s = self._state.trained_s
        total_s = settings.total_s or before_s + settings.process_s - (began - process_started)
        end_s = min(total_s, before_s + settings.process_s - (began - process_started))
        sums = torch.zeros(len(DepthLosses._fields), device=self._workers.device)
        steps_here = reported_step = 0
        reported_s = saved_s = before_s
        first_image = self._state.num_images
        batch = self._batch(self._state.step)
        while self._state.trained_s < end_s:
            rate = settings.learning_rate(self._state.trained_s / total_s, steps_here)
            batch, terms = self._step(batch, rate, before_s + time.monotonic() - began)
            sums += terms
            steps_here += 1
            if self._state.trained_s - reported_s > settings.report_s:
                speed = (self._state.num_images - first_image) / (self._state.trained_s - before_s)
                self._report(log, sums / (steps_here - reported_step), speed, rate)
                reported_s, reported_step = self._state.trained_s, steps_here
                sums.zero_()
            if self._state.trained_s - saved_s > settings.save_s:
                self._save(log)
                saved_s = self._state.trained_s
        self._save(log)
        return self._state

    def _batch(self, step: int, size: tuple[int, int] | None = None) -> TrainingBatch:
        """Render scenes and photograph them."""
        plan, workers = self._settings.plan, self._workers
        numbers = plan.scene_numbers(step, self._settings.run_seed, workers.rank, workers.count)
        rendered = self._source(numbers, size or plan.size(step, self._settings.run_seed))
        with torch.no_grad():
            images = self._photograph(rendered.rgb_linear, rendered.depth_m, self._settings.augment)
        return TrainingBatch(images, rendered.depth_m, rendered.intrinsics)

    def _step(self, batch: TrainingBatch, rate: float, clock_s: float) -> tuple[TrainingBatch, Tensor]:
        """Learn from a batch; return the next one, and the terms of the loss."""
        loss, terms = self._objective(batch.images, batch.depth_m, batch.intrinsics)
        loss.backward()  # type: ignore[no-untyped-call]
        self._workers.average_gradients(self._network)
        gradients = [_gradient(weight) for weight in self._network.parameters()]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).double())
        verdict = self._workers.mean(torch.stack([norm, norm.new_tensor(clock_s)]))
        on_host = torch.empty(2, dtype=torch.float64, pin_memory=verdict.is_cuda)
        on_host.copy_(verdict, non_blocking=True)
        arrived = torch.cuda.Event() if verdict.is_cuda else None  # type: ignore[no-untyped-call]
        if arrived is not None:
            arrived.record()
        following = self._batch(self._state.step + 1)
        if arrived is not None:
            arrived.synchronize()
        is_good = self._update(gradients, float(on_host[0]), rate)
        self._network.zero_grad(set_to_none=True)
        self._state = replace(
            self._state,
            step=self._state.step + 1,
            num_images=self._state.num_images + len(batch.images) * self._workers.count,
            trained_s=float(on_host[1]),
            num_skipped=self._state.num_skipped + (not is_good),
        )
        if self._state.num_skipped > 20 + MAX_SKIPPED_SHARE * self._state.step:
            raise BackendError(
                f"{self._state.num_skipped} of {self._state.step} gradients were not finite.",
                remedy="Resume from an earlier checkpoint with a lower learning rate.",
            )
        return following, terms if is_good else torch.zeros_like(terms)

    def _update(self, gradients: list[Tensor], norm: float, rate: float) -> bool:
        """Take a step unless the gradient is not finite; return whether it was taken."""
        if not isfinite(norm):
            return False
        limit = MAX_NORM_RATIO * self._usual_norm
        if norm > limit:
            torch._foreach_mul_(gradients, limit / norm)
        shortened = min(norm, limit)
        self._usual_norm = norm if self._usual_norm == inf else 0.98 * self._usual_norm + 0.02 * shortened
        self._optimizer.step(rate)
        # A young average must forget its random start: its memory grows with the run.
        decay = min(self._settings.average_decay, (1 + self._state.step) / (10 + self._state.step))
        with torch.no_grad():
            masters = [master for _, master in self._optimizer.masters()]
            torch._foreach_lerp_(list(self._average.parameters()), masters, 1 - decay)
        return True

    def _report(self, log: Log, terms: Tensor, images_per_s: float, rate: float) -> None:
        if self._workers.is_first:
            named = zip(DepthLosses._fields, terms.tolist(), strict=True)
            log(
                {"event": "step"}
                | {key: value for key, value in asdict(self._state).items() if key != "shape"}
                | {"images_per_s": round(images_per_s), "rate": rate, "norm": self._usual_norm}
                | {name: round(value, 4) for name, value in named}
            )

    def _save(self, log: Log) -> None:
        """Write a checkpoint; score the average and keep it if none scored better."""
        is_best = False
        if self._development is not None:
            score = self._development.score(self._average, self._workers)
            is_best = score.total < self._state.best_score
            self._state = replace(self._state, best_score=min(score.total, self._state.best_score))
            if self._workers.is_first:
                log({"event": "score", "step": self._state.step, "is_best": is_best} | asdict(score))
        if self._workers.is_first:
            average = list(self._average.named_parameters())
            if is_best:
                checkpoint.write_best(self._out, average, self._state.step)
            checkpoint.write_checkpoint(
                self._out,
                self._state,
                weights=self._optimizer.masters(),
                average=average,
                momentum=self._optimizer.momenta(),
            )


def _lay_out_channels_last(network: nn.Module) -> None:
    """Store kernels the way in which bfloat16 convolutions are fastest."""
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def _gradient(weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise ValueError("Expected every weight to have a gradient.")
    return weight.grad


def gradient_agreement(
    got: dict[str, Tensor], true: dict[str, Tensor]
) -> tuple[dict[str, float], str]:
    """Compare two sets of gradients of one network.

    Returns:
        "cosine" and "norm_ratio" of all gradients together and "worst_cosine" of one tensor among
        those of at least a thousandth of the whole norm; and the name of that tensor. Not finite
        where a gradient is not.
    """
    pairs = {name: (got[name].double().flatten(), true[name].double().flatten()) for name in true}
    whole_got = torch.cat([pair[0] for pair in pairs.values()])
    whole_true = torch.cat([pair[1] for pair in pairs.values()])
    length = whole_true.norm()
    cosines = {
        name: float(a @ b / (a.norm() * b.norm() + 1e-300))
        for name, (a, b) in pairs.items()
        if bool(b.norm() > 1e-3 * length)
    }
    worst = min(cosines, key=lambda name: cosines[name], default="none")
    agreement = {
        "cosine": float(whole_got @ whole_true / (whole_got.norm() * length)),
        "norm_ratio": float(whole_got.norm() / length),
        "worst_cosine": cosines.get(worst, 1.0),
    }
    return agreement, worst

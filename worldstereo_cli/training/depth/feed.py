"""The next batch of pictures, made while the network learns from this one.

Tracing rays and multiplying matrices use different parts of a GPU: queued on two streams, with the
network's first in line, they share it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldstereo_cli.training.depth.augment import AugmentSettings, photograph
from worldstereo_cli.training.depth.batches import BatchPlan, BatchSource, RenderedBatch
from worldstereo_cli.training.depth.workers import Workers

Camera = Callable[[Tensor, Tensor, AugmentSettings], Tensor]
"""What `augment.photograph` does: radiance, depth and settings to a picture."""

LONGEST_ZOOM = 0.5
"""Share of the width that the longest zoom keeps; the pixels then are twice as coarse."""


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Pictures as a camera would take them, and their truth."""

    images: Tensor
    """(b 3 h w), sRGB in [0, 1]."""
    depth_m: Tensor
    """(b h w), infinite in the sky."""
    intrinsics: Tensor
    """(b 3 3), pixels."""


class PictureFeed:
    """Batches by step, for one process of a run."""

    def __init__(
        self,
        source: BatchSource,
        plan: BatchPlan,
        augment: AugmentSettings,
        workers: Workers,
        *,
        run_seed: int,
        camera: Camera = photograph,
    ) -> None:
        self._source, self._plan, self._augment = source, plan, augment
        self._workers, self._run_seed, self._camera = workers, run_seed, camera
        self._earlier: dict[tuple[int, int], deque[RenderedBatch]] = {}
        is_cuda = workers.device.type == "cuda"
        self._stream = torch.cuda.Stream() if is_cuda else None  # type: ignore[no-untyped-call]
        self._begun: tuple[TrainingBatch, torch.cuda.Event | None] | None = None

    def make(self, step: int, size: tuple[int, int]) -> TrainingBatch:
        """Render scenes, and photograph them, and mirror images of earlier ones.

        Every scene is seen `plan.views` times: again after `plan.delay` batches, mirrored, some of
        them closer, and through another camera. Rendering costs as much as learning, and a picture is
        not yet used up after one look.
        """
        plan = self._plan
        numbers = plan.scene_numbers(step, self._run_seed, self._workers.rank, self._workers.count)
        queue = self._earlier.setdefault(size, deque())
        num_fresh = len(numbers) // plan.views
        if len(queue) < plan.delay or num_fresh == len(numbers):
            rendered = self._source(numbers, size)
        else:
            fresh = self._source(numbers[:num_fresh], size)
            old = [queue[index * plan.delay // plan.views] for index in range(plan.views - 1)]
            rendered = _joined([fresh, *[_closer(_mirrored(batch), plan.zoomed_share) for batch in old]])
        if plan.views > 1:
            queue.append(RenderedBatch(*(part[:num_fresh] for part in rendered)))
            if len(queue) > plan.delay:
                queue.popleft()
        with torch.no_grad():
            images = self._camera(rendered.rgb_linear, rendered.depth_m, self._augment)
        return TrainingBatch(images, rendered.depth_m, rendered.intrinsics)

    def begin(self, step: int) -> None:
        """Queue the batch of a step."""
        size = self._plan.size(step, self._run_seed)
        if self._stream is None:
            self._begun = self.make(step, size), None
            return
        with torch.cuda.stream(self._stream):
            batch = self.make(step, size)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
        self._begun = batch, done

    def take(self) -> TrainingBatch:
        """Return the batch begun last; later work on this stream waits until it is made.

        Raises:
            ValueError: None was begun.
        """
        if self._begun is None:
            raise ValueError("Expected a batch to have been begun.")
        batch, done = self._begun
        self._begun = None
        if done is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(done)
            for part in (batch.images, batch.depth_m, batch.intrinsics):
                part.record_stream(stream)
        return batch


def _mirrored(batch: RenderedBatch) -> RenderedBatch:
    """Swap left and right; the principal point is in the middle and stays."""
    return RenderedBatch(batch.rgb_linear.flip(-1), batch.depth_m.flip(-1), batch.intrinsics)


def _closer(batch: RenderedBatch, share: float) -> RenderedBatch:
    """Zoom into the middle of some of the pictures: a longer lens than the scene was set up for."""
    count, device = len(batch.depth_m), batch.depth_m.device
    part = torch.rand(count, device=device) * (1 - LONGEST_ZOOM) + LONGEST_ZOOM
    part = torch.where(torch.rand(count, device=device) < share, part, 1.0)
    view = torch.zeros(count, 2, 3, device=device)
    view[:, 0, 0] = view[:, 1, 1] = part
    grid = functional.affine_grid(view, [count, 1, *batch.depth_m.shape[1:]], align_corners=False)
    rgb = functional.grid_sample(batch.rgb_linear, grid, padding_mode="border", align_corners=False)
    # Nearest for depth, whose averages over an edge are the depth of nothing. Sky is not finite.
    depth = functional.grid_sample(
        batch.depth_m[:, None], grid, mode="nearest", padding_mode="border", align_corners=False
    )
    intrinsics = batch.intrinsics.clone()
    intrinsics[:, 0, 0] /= part
    intrinsics[:, 1, 1] /= part
    return RenderedBatch(rgb, depth[:, 0], intrinsics)


def _joined(batches: list[RenderedBatch]) -> RenderedBatch:
    return RenderedBatch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))

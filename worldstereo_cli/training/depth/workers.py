"""One process for each GPU: who we are, and the few things that we tell each other.

Gradients are averaged as one vector after the backward pass. The network is small (they take half a
millisecond between GPUs of one machine), so overlapping the two, as DistributedDataParallel does,
would buy nothing and cost its hooks inside compiled graphs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among its siblings."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes, the same in each; overwrites `values`."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values / self.count

    def share(self, values: Tensor) -> None:
        """Overwrite a tensor with that of the first process."""
        if self.count > 1:
            distributed.broadcast(values, 0)

    def gather(self, rows: Tensor) -> Tensor:
        """Stack the rows of all processes, in any order; every process may hold another number.

        Args:
            rows: Float64 (n c) on the CPU.
        """
        if self.count == 1:
            return rows
        collected: list[Tensor | None] = [None] * self.count
        distributed.all_gather_object(collected, rows)
        return torch.cat([part for part in collected if part is not None])


@contextmanager
def join_workers(device: str) -> Iterator[Workers]:
    """Join the processes that torchrun or accelerate started, if any.

    Args:
        device: "cuda" or "cpu"; each process takes the GPU of its local rank.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cpu")
    if device == "cuda":
        # A launcher may show each process its own GPU only, which then is number 0 to all of them.
        place = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(place)
        # What is left to the CPU, scores of single photographs, is small: two processes that each spread
        # it over all cores waited for each other, and took 75 s for what one thread does in 3.
        torch.set_num_threads(1)
    if count == 1:
        yield Workers(0, 1, place)
        return
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Workers(rank, count, place)
    finally:
        distributed.destroy_process_group()

"""Muon for matrices and kernels, Adam for the rest, in float32 beside the weights that compute.

The momentum of a matrix is replaced by the nearest orthogonal matrix, so that rare directions learn
as fast as frequent ones; what is not a matrix inside the network (norms, biases, the first and the
last layers, depthwise kernels) keeps Adam. Matrices of one size are orthogonalised as one batch: the
network has sixty of them and a GPU would otherwise wait for launches.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the scale that
lets both kinds share a learning rate is that of Liu et al. 2025, "Muon is Scalable for LLM Training",
section 2.2.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan et al.: pushes singular values of a normalised matrix towards one in five rounds."""

_ADAM_PARTS = ("stem.", "place.", "registers", "values.", "weigh.", "camera.", "neighbours.")
"""Parts of names whose tensors keep Adam although they are matrices: first and last layers, positions
and kernels of one channel."""


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """Rates of learning and forgetting."""

    learning_rate: float = 1.0e-3
    weight_decay: float = 0.05
    momentum: float = 0.95
    adam_betas: tuple[float, float] = (0.9, 0.98)
    use_muon: bool = True
    """Off: Adam for everything, at the same learning rate."""


@dataclass(slots=True)
class _Slot:
    """One tensor: the weights that compute, their float32 master and its running means."""

    name: str
    weight: nn.Parameter
    master: Tensor
    mean: Tensor
    square: Tensor | None
    """None for Muon."""
    decays: bool


def orthogonalised(matrices: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """Replace each matrix by nearly the nearest one with singular values of one.

    Five rounds of a quintic in bfloat16 (float32 on a CPU) leave singular values between 0.7 and 1.2.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    work = matrices.transpose(1, 2) if tall else matrices
    work = work.bfloat16() if work.is_cuda else work.float()
    work = work / (work.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(5):
        gram = work @ work.transpose(1, 2)
        work = a * work + (b * gram + c * gram @ gram) @ work
    result: Tensor = work.transpose(1, 2) if tall else work
    return result.to(matrices.dtype)


class Optimizer:
    """Updates a network in place, and the float32 masters of its weights."""

    def __init__(self, network: nn.Module, settings: OptimizerSettings) -> None:
        self._settings = settings
        self._step = 0
        self._slots: list[_Slot] = []
        for name, weight in network.named_parameters():
            is_matrix = weight.ndim >= 2 and not any(part in name for part in _ADAM_PARTS)
            master = weight.detach().float().clone()
            square = None if is_matrix and settings.use_muon else torch.zeros_like(master)
            self._slots.append(
                _Slot(name, weight, master, torch.zeros_like(master), square, decays=weight.ndim >= 2)
            )

    def masters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield names and float32 weights."""
        for slot in self._slots:
            yield slot.name, slot.master

    def momenta(self) -> Iterator[tuple[str, Tensor]]:
        """Yield names and running means of the gradients."""
        for slot in self._slots:
            yield slot.name, slot.mean

    def restore(self, masters: dict[str, Tensor], momenta: dict[str, Tensor]) -> None:
        """Take over weights and running means of an earlier run.

        The squares of Adam are not kept on disk: their memory is fifty steps long, and they are
        started from the squared means, whose size is right to a factor.
        """
        with torch.no_grad():
            for slot in self._slots:
                slot.master.copy_(masters[slot.name])
                slot.weight.copy_(slot.master)
                slot.mean.copy_(momenta[slot.name])
                if slot.square is not None:
                    # A mean over twenty gradients hides most of their size: 10 x is on the safe side.
                    slot.square.copy_(10 * slot.mean.square() + slot.mean.square().mean())
        self._step = 1000

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move all weights along their gradients."""
        self._step += 1
        muon = [slot for slot in self._slots if slot.square is None]
        adam = [slot for slot in self._slots if slot.square is not None]
        if muon:
            self._muon(muon, learning_rate)
        if adam:
            self._adam(adam, learning_rate)
        torch._foreach_copy_([slot.weight for slot in self._slots], [slot.master for slot in self._slots])

    def _muon(self, slots: list[_Slot], learning_rate: float) -> None:
        momentum = self._settings.momentum
        means = [slot.mean for slot in slots]
        gradients = [_gradient(slot) for slot in slots]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        # Nesterov: look one step ahead along the mean.
        ahead = torch._foreach_lerp(gradients, means, momentum)
        by_size: dict[tuple[int, int], list[tuple[_Slot, Tensor]]] = {}
        for slot, update in zip(slots, ahead, strict=True):
            for matrix in _matrices(slot.name, update):
                by_size.setdefault((matrix.shape[0], matrix.shape[1]), []).append((slot, matrix))
        masters = [slot.master for slot in slots]
        torch._foreach_mul_(masters, 1 - learning_rate * self._settings.weight_decay)
        parts: dict[str, list[Tensor]] = {}
        for (rows, columns), group in by_size.items():
            scale = -learning_rate * 0.2 * max(rows, columns) ** 0.5
            whole = orthogonalised(torch.stack([matrix for _, matrix in group])) * scale
            for (slot, _), part in zip(group, whole, strict=True):
                parts.setdefault(slot.name, []).append(part)
        updates = [torch.cat(parts[slot.name]).view_as(slot.master) for slot in slots]
        torch._foreach_add_(masters, updates)

    def _adam(self, slots: list[_Slot], learning_rate: float) -> None:
        first, second = self._settings.adam_betas
        means, masters = [slot.mean for slot in slots], [slot.master for slot in slots]
        squares = [slot.square for slot in slots if slot.square is not None]
        gradients = [_gradient(slot) for slot in slots]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        decaying = [slot.master for slot in slots if slot.decays]
        if decaying:
            torch._foreach_mul_(decaying, 1 - learning_rate * self._settings.weight_decay)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - second**self._step) ** 0.5)
        torch._foreach_add_(roots, 1e-8)
        torch._foreach_addcdiv_(masters, means, roots, -learning_rate / (1 - first**self._step))


def _gradient(slot: _Slot) -> Tensor:
    if slot.weight.grad is None:
        raise ValueError(f"Expected a gradient of {slot.name}, got none.")
    return slot.weight.grad.float()


def _matrices(name: str, update: Tensor) -> list[Tensor]:
    """Cut a tensor into the matrices that act by themselves: queries, keys and values are three."""
    flat = update.flatten(1)
    return list(flat.chunk(3)) if ".qkv." in name else [flat]

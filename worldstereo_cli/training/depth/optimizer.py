"""Muon for matrices and kernels, Adam for the rest, in float32 beside the weights that compute.

The momentum of a matrix is replaced by the nearest orthogonal matrix, so that rare directions learn
as fast as frequent ones; what is not a matrix inside the network (norms, biases, the first and the
last layers) keeps Adam.

All weights lie in one vector, sorted so that matrices of one size are neighbours: orthogonalising
them is then a few batched products, and everything else one operation for the whole network. With one
operation for each of its 150 tensors, a GPU waits for the host.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the scale that
lets both kinds share a learning rate is that of Liu et al. 2025, "Muon is Scalable for LLM Training",
section 2.2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan et al.: pushes singular values of a normalised matrix towards one in five rounds."""

_ADAM_PARTS = ("stem.", "place.", "registers", "values.", "weigh.", "camera.")
"""Parts of names whose tensors keep Adam although they are matrices: first and last layers, positions."""

MAX_NORM_RATIO = 3.0
"""A gradient longer than so many usual ones is shortened to that: one odd scene must not own the mean."""


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """Rates of learning and forgetting."""

    learning_rate: float = 1.0e-3
    weight_decay: float = 0.05
    momentum: float = 0.95
    adam_betas: tuple[float, float] = (0.9, 0.98)
    use_muon: bool = True
    """Off: Adam for everything, at the same learning rate."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies in the vector, and the matrix that acts (None: Adam)."""

    name: str
    weight: nn.Parameter
    matrix: tuple[int, int] | None

    @property
    def decays(self) -> bool:
        return self.weight.ndim >= 2

    def order(self) -> tuple[bool, tuple[int, int], bool]:
        return self.matrix is None, self.matrix or (0, 0), not self.decays


@dataclass(frozen=True, slots=True)
class _Group:
    """Matrices of one size, neighbours in the vector."""

    span: slice
    rows: int
    columns: int


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
        work = torch.baddbmm(work, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), work, beta=a)
    result: Tensor = work.transpose(1, 2) if tall else work
    return result.to(matrices.dtype)


class Optimizer:
    """Updates a network in place, and the float32 masters of its weights."""

    def __init__(self, network: nn.Module, settings: OptimizerSettings) -> None:
        self._settings = settings
        self._step = 0
        self._places = sorted(
            (_place(name, weight, settings) for name, weight in network.named_parameters()),
            key=_Place.order,
        )
        self._lengths = [place.weight.numel() for place in self._places]
        self._groups = self._grouped()
        self._muon = slice(0, sum(n for p, n in zip(self._places, self._lengths, strict=True) if p.matrix))
        self._decaying = slice(
            0, sum(n for p, n in zip(self._places, self._lengths, strict=True) if p.matrix or p.decays)
        )
        self._master = torch.cat([place.weight.detach().float().flatten() for place in self._places])
        self._mean = torch.zeros_like(self._master)
        self._square = torch.zeros_like(self._master[self._muon.stop :])
        self._usual_norm = self._master.new_tensor(inf)

    def _grouped(self) -> list[_Group]:
        groups: list[_Group] = []
        start = 0
        for place, length in zip(self._places, self._lengths, strict=True):
            if place.matrix:
                rows, columns = place.matrix
                same = bool(groups) and (groups[-1].rows, groups[-1].columns) == place.matrix
                first = groups.pop().span.start if same else start
                groups.append(_Group(slice(first, start + length), rows, columns))
            start += length
        return groups

    def named(self, vector: Float[Tensor, "p"]) -> Iterator[tuple[str, Tensor]]:
        """Yield names and their parts of a vector in the order of the masters."""
        for place, part in zip(self._places, torch.split(vector, self._lengths), strict=True):
            yield place.name, part.view(place.weight.shape)

    def masters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield names and float32 weights."""
        return self.named(self._master)

    def momenta(self) -> Iterator[tuple[str, Tensor]]:
        """Yield names and running means of the gradients."""
        return self.named(self._mean)

    def vector_of(self, tensors: Mapping[str, Tensor]) -> Float[Tensor, "p"]:
        """Put named tensors into one float32 vector, in the order of the masters."""
        parts = [tensors[place.name].to(self._master.device).float().flatten() for place in self._places]
        return torch.cat(parts)

    @property
    def master_vector(self) -> Float[Tensor, "p"]:
        """All float32 weights; changes in place with every step."""
        return self._master

    def begin(self, masters: Mapping[str, Tensor]) -> None:
        """Take over weights, with no memory of gradients."""
        self._master.copy_(self.vector_of(masters))
        self._write_back()

    def restore(self, masters: Mapping[str, Tensor], momenta: Mapping[str, Tensor]) -> None:
        """Take over weights and running means of an earlier run.

        Adam's squares are not kept on disk: their memory is fifty steps long. They start from the
        squared means; since a mean over ten gradients hides most of their size, from ten times that.
        """
        self._master.copy_(self.vector_of(masters))
        self._mean.copy_(self.vector_of(momenta))
        mean = self._mean[self._muon.stop :]
        self._square.copy_(10 * mean.square() + mean.square().mean())
        self._step = 1000  # long past the correction for means that start at zero
        self._write_back()

    def gradient(self) -> Float[Tensor, "p"]:
        """Put all gradients into one vector.

        Raises:
            ValueError: A weight has none.
        """
        gradients = [place.weight.grad for place in self._places]
        present = [gradient.reshape(-1) for gradient in gradients if gradient is not None]
        if len(present) < len(gradients):
            raise ValueError("Expected every weight to have a gradient.")
        return torch.cat(present)

    @torch.no_grad()
    def step(self, gradient: Float[Tensor, "p"], learning_rate: float) -> Float[Tensor, ""]:
        """Move all weights along a gradient; one that is not finite counts as zero.

        Nothing here waits for the device: the host reads the norm later.

        Returns:
            The norm of the gradient.
        """
        self._step += 1
        gradient = gradient.float()
        norm: Tensor = torch.linalg.vector_norm(gradient)
        usable, limit = torch.isfinite(norm), MAX_NORM_RATIO * self._usual_norm
        gradient = torch.where(usable, gradient * (limit / norm).clamp(max=1.0), 0.0)
        moved = torch.lerp(self._usual_norm, torch.minimum(norm, limit), 0.02)
        usual = torch.where(torch.isinf(self._usual_norm), norm, moved)
        self._usual_norm = torch.where(usable, usual, self._usual_norm)
        self._master[self._decaying] *= 1 - learning_rate * self._settings.weight_decay
        self._move_matrices(gradient[self._muon], learning_rate)
        self._move_others(gradient[self._muon.stop :], learning_rate)
        self._write_back()
        return norm

    def _move_matrices(self, gradient: Tensor, learning_rate: float) -> None:
        momentum = self._settings.momentum
        mean = self._mean[self._muon].lerp_(gradient, 1 - momentum)
        # Nesterov: look one step ahead along the mean.
        ahead = torch.lerp(gradient, mean, momentum)
        for group in self._groups:
            matrices = ahead[group.span].view(-1, group.rows, group.columns)
            scale = learning_rate * 0.2 * max(group.rows, group.columns) ** 0.5
            self._master[group.span].sub_(orthogonalised(matrices).reshape(-1), alpha=scale)

    def _move_others(self, gradient: Tensor, learning_rate: float) -> None:
        first, second = self._settings.adam_betas
        mean = self._mean[self._muon.stop :].lerp_(gradient, 1 - first)
        square = self._square.lerp_(gradient.square(), 1 - second)
        root = (square / (1 - second**self._step)).sqrt_().add_(1e-8)
        scale = learning_rate / (1 - first**self._step)
        self._master[self._muon.stop :].addcdiv_(mean, root, value=-scale)

    def _write_back(self) -> None:
        with torch.no_grad():
            weights: list[Tensor] = [place.weight for place in self._places]
            torch._foreach_copy_(weights, [part for _, part in self.masters()])


def _place(name: str, weight: nn.Parameter, settings: OptimizerSettings) -> _Place:
    if weight.ndim < 2 or not settings.use_muon or any(part in name for part in _ADAM_PARTS):
        return _Place(name, weight, None)
    rows, columns = weight.shape[0], prod(weight.shape[1:])
    # Queries, keys and values come out of one product but act by themselves.
    return _Place(name, weight, (rows // 3 if ".qkv." in name else rows, columns))

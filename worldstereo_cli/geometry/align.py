"""Estimated depth brought to the scale of what is already there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_MIN_SAMPLES = 100
_MAX_SAMPLES = 20_000
"""More pixels than this are neighbours of each other and tell nothing new."""
_PAIRS = 256
_AGREEMENT = 0.05
"""A pixel supports a line that meets its inverse depth within this part."""
_MIN_SUPPORT = 0.3
_FAR_MEDIANS = 8.0


@dataclass(frozen=True, slots=True)
class Alignment:
    """A line in inverse depth, `1 / aligned = slope / estimated + offset`, and how well it holds."""

    slope: float
    """Positive for an alignment that holds."""
    offset: float
    """Inverse metres."""
    num_samples: int
    support_frac: float
    """Share of the samples that the line explains to 5 %."""
    problem: str = ""
    """Why it does not hold; empty when it does."""

    @property
    def holds(self) -> bool:
        """Whether depth may be aligned with it."""
        return not self.problem

    def applied(self, estimated_m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Align depth; 0 where there is none, or where the line gives none that is positive."""
        inverse = self.slope / estimated_m.clamp_min(1e-6) + self.offset
        usable = (estimated_m > 0) & (inverse > 1e-6)
        return torch.where(usable, 1 / inverse.clamp_min(1e-6), torch.zeros_like(estimated_m))


def align_inverse_depth(
    estimated_m: Float[Tensor, "h w"], reference_m: Float[Tensor, "h w"], trusted: Bool[Tensor, "h w"]
) -> Alignment:
    """Fit the line in inverse depth that carries an estimate to a reference.

    Affine in inverse depth, because that is what monocular estimates leave open. Lines through
    pairs of samples are compared by support, and the best is refined by reweighted least squares
    (Tukey). Everything is deterministic.

    Args:
        estimated_m: Depth of a picture, any scale; 0 where unknown.
        reference_m: Depth that is already known, metres; 0 where unknown.
        trusted: Where both show the same surface.

    Returns:
        The line; `holds` is False with fewer than 100 samples, little support or a negative slope.

    Source: pipeline specification of WorldStereo 2.0, depth alignment (which also takes only
    depths up to 8 medians).
    """
    usable = trusted & (estimated_m > 0) & (reference_m > 0)
    if int(usable.sum()) < _MIN_SAMPLES:
        return Alignment(0.0, 0.0, int(usable.sum()), 0.0, "too few pixels overlap")
    usable &= reference_m <= _FAR_MEDIANS * reference_m[usable].median()
    x, y = 1 / estimated_m[usable].double(), 1 / reference_m[usable].double()
    stride = -(-len(x) // _MAX_SAMPLES)
    x, y = x[::stride], y[::stride]
    if len(x) < _MIN_SAMPLES:
        return Alignment(0.0, 0.0, len(x), 0.0, "too few pixels overlap")
    slope, offset = _refined(x, y, *_best_of_pairs(x, y))
    support = float(_agrees(x, y, slope, offset).double().mean())
    problem = ""
    if slope <= 0:
        problem = "near and far are exchanged"
    elif support < _MIN_SUPPORT:
        problem = "the estimate does not fit the cloud"
    return Alignment(slope, offset, len(x), support, problem)


def _agrees(x: Tensor, y: Tensor, slope: float | Tensor, offset: float | Tensor) -> Tensor:
    return (slope * x + offset - y).abs() <= _AGREEMENT * y


def _best_of_pairs(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the line through two samples that most samples agree with; a mere scale also competes."""
    # Steps of the golden ratio visit the samples evenly in every order, without chance.
    steps = torch.arange(1, _PAIRS + 1, dtype=torch.float64, device=x.device)
    order = x.argsort()
    first = order[((steps * 0.6180339887498949) % 1 * len(x)).long()]
    second = order[((steps * 0.7548776662466927 + 0.5) % 1 * len(x)).long()]
    run = x[second] - x[first]
    apart = run.abs() > 1e-3 * x.median()
    slope = torch.where(apart, (y[second] - y[first]) / torch.where(apart, run, 1.0), y[first] / x[first])
    offset = y[first] - slope * x[first]
    slope = torch.cat([slope, (y / x).median()[None]])
    offset = torch.cat([offset, torch.zeros_like(offset[:1])])
    support = torch.stack([_agrees(x, y, s, o).sum() for s, o in zip(slope, offset, strict=True)])
    support[slope <= 0] = -1
    best = int(support.argmax())
    return float(slope[best]), float(offset[best])


def _refined(x: Tensor, y: Tensor, slope: float, offset: float) -> tuple[float, float]:
    """Refine a line by least squares over the samples near it, relative to their inverse depth."""
    for _ in range(10):
        residual = (slope * x + offset - y) / (3 * _AGREEMENT * y)
        weight = (1 - residual**2).clamp_min(0) ** 2 / y**2
        total = weight.sum()
        if float(total) == 0:
            return slope, offset
        mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
        variance = (weight * (x - mean_x) ** 2).sum()
        if float(variance) <= 1e-12 * float(total * mean_x**2):
            # One depth everywhere: only the scale can be told.
            return float(mean_y / mean_x), 0.0
        slope = float((weight * (x - mean_x) * (y - mean_y)).sum() / variance)
        offset = float(mean_y - slope * mean_x)
    return slope, offset

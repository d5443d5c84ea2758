"""How wrong a depth map is: alignments, errors and edges, on tensors alone.

Truth is a depth map with NaN where nothing is known. A disparity of unknown baseline is inverted
first: it then is a depth in unknown units, which every alignment here removes.

Source: AbsRel and delta as in Eigen et al. 2014, "Depth Map Prediction from a Single Image", section
3.2; scale and shift in disparity as in Ranftl et al. 2020, "Towards Robust Monocular Depth
Estimation", section 5; edges as in Bochkovskii et al. 2024, "Depth Pro", section 4.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DELTA_LIMIT = 1.25
"""A pixel counts for delta1 if predicted / true depth and its inverse stay under this."""

EDGE_RATIOS = torch.linspace(1.05, 1.25, 10, dtype=torch.float64)
"""Steps between neighbours that count as an occluding edge; the score weights them by their size."""


@dataclass(frozen=True, slots=True)
class DepthScore:
    """Errors of one aligned depth map, or their mean over several."""

    abs_rel: float
    """Mean of |predicted - true| / true."""
    delta1: float
    """Share of pixels within a factor 1.25 of the truth."""


def known(truth: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Say where the truth is a positive finite depth."""
    return torch.isfinite(truth) & (truth > 0)


def scaled_to(predicted: Float[Tensor, "h w"], truth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Multiply a depth map so that the median of true / predicted depth is one.

    Args:
        predicted: Positive depth, any unit.
        truth: Depth, NaN where unknown.

    Returns:
        The predicted depth in units of the truth.
    """
    mask = known(truth)
    ratio = truth[mask].double() / predicted[mask].double()
    return predicted.double() * torch.quantile(ratio, 0.5)


def affine_to(predicted: Float[Tensor, "h w"], truth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Fit scale and shift in disparity by least squares.

    The fitted disparity is floored at half the smallest true disparity, so that its inverse stays
    a depth.

    Args:
        predicted: Positive depth, any unit.
        truth: Depth, NaN where unknown.

    Returns:
        The predicted depth in units of the truth.
    """
    mask = known(truth)
    wanted = 1.0 / truth[mask].double()
    disparity = 1.0 / predicted.double()
    given = disparity[mask]
    spread = given - given.mean()
    variance = (spread * spread).mean()
    # A constant map has no shape to scale: the shift alone is the least-squares answer.
    flat = variance <= 1e-16 * given.square().mean()
    slope = torch.zeros_like(variance) if flat else (spread * wanted).mean() / variance
    fitted = wanted.mean() + slope * (disparity - given.mean())
    return 1.0 / fitted.clamp(min=0.5 * float(wanted.min()))


def errors(aligned: Float[Tensor, "h w"], truth: Float[Tensor, "h w"]) -> DepthScore:
    """Measure an aligned depth map over the known pixels.

    Raises:
        ValueError: The truth has no known pixel, or the sizes differ.
    """
    if aligned.shape != truth.shape:
        raise ValueError(f"Expected a depth map of {tuple(truth.shape)}, got {tuple(aligned.shape)}.")
    mask = known(truth)
    if not bool(mask.any()):
        raise ValueError("Expected at least one pixel with truth, got none.")
    got, true = aligned[mask].double(), truth[mask].double()
    ratio = torch.maximum(got / true, true / got)
    return DepthScore(
        abs_rel=float(((got - true).abs() / true).mean()),
        delta1=float((ratio < DELTA_LIMIT).double().mean()),
    )


def _edges(depth: Float[Tensor, "h w"], ratio: float) -> list[Bool[Tensor, "..."]]:
    """Mark occluding edges between neighbours, one map for each of the four directions."""
    right, left = depth[:, 1:] / depth[:, :-1], depth[:, :-1] / depth[:, 1:]
    down, up = depth[1:] / depth[:-1], depth[:-1] / depth[1:]
    return [step > ratio for step in (right, left, down, up)]


def boundary_f1(predicted: Float[Tensor, "h w"], truth: Float[Tensor, "h w"]) -> float:
    """Score how exactly occluding edges are placed; 1 is perfect.

    Invariant to scale, not to a shift. Pairs of neighbours without truth on both sides are left out.
    There is no tolerance of even one pixel, so soft edges score near zero.

    Args:
        predicted: Depth of the size of the truth.
        truth: Dense and sharp depth (stereo with a pattern, or rendered), NaN where unknown.
    """
    mask = known(truth)
    pairs = [mask[:, 1:] & mask[:, :-1]] * 2 + [mask[1:] & mask[:-1]] * 2
    filled = torch.where(mask, truth, torch.ones_like(truth)).double()
    total = 0.0
    for ratio in EDGE_RATIOS.tolist():
        recall = precision = 0.0
        for got, true, pair in zip(
            _edges(predicted.double(), ratio), _edges(filled, ratio), pairs, strict=True
        ):
            got, true = got & pair, true & pair
            both = float((got & true).sum())
            recall += 0.25 * both / max(float(true.sum()), 1.0)
            precision += 0.25 * both / max(float(got.sum()), 1.0)
        if recall + precision > 0:
            total += ratio * 2 * recall * precision / (recall + precision)
    return total / float(EDGE_RATIOS.sum())


def constant_depth(truth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Predict the same depth everywhere: what knowing nothing scores."""
    return torch.ones_like(truth, dtype=torch.float64)


def ramp_depth(truth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Predict disparity 0.3 + y, y from 0 in the top row to 1 in the bottom row.

    Nearer towards the bottom: what knowing only that photographs have a floor scores.
    """
    height, width = truth.shape
    disparity = 0.3 + torch.linspace(0.0, 1.0, height, dtype=torch.float64)
    return (1.0 / disparity)[:, None].expand(height, width)

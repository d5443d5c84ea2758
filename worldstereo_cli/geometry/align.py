"""Estimated depth brought to the scale of what is already there, frame by frame and across a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MIN_SAMPLES = 100
_MAX_SAMPLES = 20_000
"""More pixels than this are neighbours of each other and tell nothing new."""
_PAIRS = 256
_AGREEMENT = 0.05
"""A pixel supports a line that meets its inverse depth within this part."""
MIN_SUPPORT = 0.3
_FAR_MEDIANS = 8.0

_MIN_GUIDANCE_FRAC = 0.15
"""A frame that shows less of the cloud hangs on too little of it."""
_MIN_TRUSTED_FRAC = 0.05
_EDGE = 0.05
"""Neighbours that differ by more stand on both sides of an edge, where the two maps never agree."""
_RANK_DIFFERENCE = 0.2
"""Where one map ranks a pixel among the near and the other among the far, they show different surfaces."""

_NUM_ANCHORS = 9
_CLIP_SPREAD = 3.0
_BEYOND_DOUBT = 0.9
_USUAL_SUPPORT = 0.6
_CLIP_TOLERANCE = 0.15
"""Lines of one clip differ by so much even if all are right: every frame is estimated by itself."""


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
    borrowed_from: int | None = None
    """The frame of the same clip whose line this is; None for a frame's own."""

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
    if bool(usable.any()):
        usable &= reference_m <= _FAR_MEDIANS * reference_m[usable].median()
    return best_line(1 / estimated_m[usable].double(), 1 / reference_m[usable].double())


def best_line(x: Float[Tensor, p], y: Float[Tensor, p]) -> Alignment:
    """Fit `y = slope x + offset` to inverse depths, as `align_inverse_depth` says.

    Args:
        x: One over estimated depth.
        y: One over known depth, inverse metres.
    """
    if len(x) < MIN_SAMPLES:
        return Alignment(0.0, 0.0, len(x), 0.0, "too few pixels overlap")
    stride = -(-len(x) // _MAX_SAMPLES)
    x, y = x[::stride], y[::stride]
    slope, offset = _refined(x, y, *_best_of_pairs(x, y))
    support = float(agrees(x, y, slope, offset).double().mean())
    problem = ""
    if slope <= 0:
        problem = "near and far are exchanged"
    elif support < MIN_SUPPORT:
        problem = "the estimate does not fit the cloud"
    return Alignment(slope, offset, len(x), support, problem)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Where an estimate and the cloud show the same surface."""

    trusted: Bool[Tensor, "h w"]
    problem: str = ""
    """Why that is too little to align by; empty when it suffices."""
    contradicts: bool = False
    """Whether the two show much together, and hardly any of it alike."""


def trusted_overlap(
    estimated_m: Float[Tensor, "h w"], reference_m: Float[Tensor, "h w"], both: Bool[Tensor, "h w"]
) -> Overlap:
    """Choose the pixels in which an estimate and the cloud show the same surface.

    Left out are edges of either map, and pixels whose rank among all depths differs by more than
    20 percentiles between the two.

    Args:
        estimated_m: Depth of a picture, any scale; 0 where unknown.
        reference_m: Depth that is already known, metres; 0 where unknown.
        both: Where both claim to know a surface, sky excluded.

    Source: pipeline specification of WorldStereo 2.0, depth alignment.
    """
    both = both & (estimated_m > 0) & (reference_m > 0)
    if float(both.float().mean()) < _MIN_GUIDANCE_FRAC:
        return Overlap(both, "the frame shows too little of the cloud")
    smooth = both & ~near_edge(estimated_m, both) & ~near_edge(reference_m, both)
    rank = (_ranks(estimated_m[smooth]) - _ranks(reference_m[smooth])).abs()
    trusted = smooth.clone()
    trusted[smooth] = rank <= _RANK_DIFFERENCE
    if float(trusted.float().mean()) < _MIN_TRUSTED_FRAC:
        return Overlap(trusted, "the estimate orders the cloud's surfaces differently", True)
    return Overlap(trusted)


def checked_across(
    lines: Sequence[Alignment],
    estimated_m: Float[Tensor, "n h w"],
    reference_m: Float[Tensor, "n h w"],
    trusted: Bool[Tensor, "n h w"],
) -> list[Alignment]:
    """Hold the lines of a clip against each other.

    A line is an outlier when it explains much less of what it was compared with than is usual in
    the clip, or when it carries depths elsewhere than the others do without explaining nine tenths:
    where it moves one of nine anchor depths, the quantiles of all estimates, by more than three
    times what is usual. Outliers and frames without a line of their own take that of the nearest
    frame that has a good one, if it explains what they see of the cloud, and drop out otherwise.

    Args:
        lines: Of every frame, as `align_inverse_depth` found them.
        estimated_m: As it was given for each frame.
        reference_m: Likewise.
        trusted: Likewise.

    Returns:
        The lines to use; one that does not hold says why.

    Source: pipeline specification of WorldStereo 2.0, depth alignment. There the largest tenth of
    the deviations is always an outlier, here only what leaves the clip's own spread.
    """
    good = _alike(lines, estimated_m)
    if not good:
        return list(lines)
    checked = list(lines)
    for i in range(len(lines)):
        if i in good:
            continue
        reason = lines[i].problem or "its line is unlike those of the other frames"
        checked[i] = replace(lines[i], problem=reason)
        nearest = min((abs(j - i), j) for j in good)[1]
        borrowed = replace(lines[nearest], borrowed_from=nearest)
        if _explains(borrowed, estimated_m[i], reference_m[i], trusted[i]):
            checked[i] = borrowed
    return checked


def _alike(lines: Sequence[Alignment], estimated_m: Float[Tensor, "n h w"]) -> list[int]:
    """Return the frames whose lines are no outliers."""
    own = [i for i, line in enumerate(lines) if line.holds]
    if not own:
        return []
    deviation = _deviations([lines[i] for i in own], _anchors(estimated_m))
    limit = max(_CLIP_TOLERANCE, _CLIP_SPREAD * float(deviation.quantile(0.5)))
    usual = sorted(lines[i].support_frac for i in own)[len(own) // 2]
    return [
        i
        for i, d in zip(own, deviation.tolist(), strict=True)
        if lines[i].support_frac >= (_USUAL_SUPPORT * usual if d <= limit else _BEYOND_DOUBT)
    ]


def near_edge(depth_m: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Mark pixels that differ from a known pixel beside them by more than an edge's step."""
    edge = torch.zeros_like(known)
    for dim in (0, 1):
        a, b = (depth_m.narrow(dim, start, depth_m.shape[dim] - 1) for start in (0, 1))
        pair = known.narrow(dim, 0, known.shape[dim] - 1) & known.narrow(dim, 1, known.shape[dim] - 1)
        step = pair & ((a - b).abs() > _EDGE * torch.minimum(a, b))
        edge.narrow(dim, 0, step.shape[dim]).logical_or_(step)
        edge.narrow(dim, 1, step.shape[dim]).logical_or_(step)
    return edge


def _ranks(values: Float[Tensor, p]) -> Float[Tensor, p]:
    """Return the rank of every value as a share of all; equal values share the middle of theirs."""
    ordered = values.sort().values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto).double() / (2 * max(1, len(values)))


def _anchors(estimated_m: Float[Tensor, "n h w"]) -> Float[Tensor, a]:
    """Return depths between which most of what was estimated lies."""
    known = estimated_m[estimated_m > 0].double()
    known = known[:: -(-len(known) // _MAX_SAMPLES)]
    return known.quantile(torch.linspace(0.1, 0.9, _NUM_ANCHORS, dtype=torch.float64, device=known.device))


def _deviations(lines: Sequence[Alignment], anchors: Float[Tensor, a]) -> Float[Tensor, n]:
    """Return how far each line carries some anchor from where the middle line carries it."""
    mapped = torch.stack([line.slope / anchors + line.offset for line in lines])
    middle = mapped.quantile(0.5, dim=0)
    # Of inverse depth, so that an anchor carried beyond infinity is a large deviation as well.
    return ((mapped - middle) / middle).abs().amax(1)


def _explains(
    line: Alignment,
    estimated_m: Float[Tensor, "h w"],
    reference_m: Float[Tensor, "h w"],
    trusted: Bool[Tensor, "h w"],
) -> bool:
    """Tell whether a line fits what a frame sees of the cloud; with too little to tell, it does."""
    if int(trusted.sum()) < MIN_SAMPLES:
        return True
    x, y = 1 / estimated_m[trusted].double(), 1 / reference_m[trusted].double()
    return float(agrees(x, y, line.slope, line.offset).double().mean()) >= MIN_SUPPORT


def agrees(
    x: Float[Tensor, p], y: Float[Tensor, p], slope: float | Tensor, offset: float | Tensor
) -> Bool[Tensor, p]:
    """Tell which inverse depths a line meets within 5 %."""
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
    support = torch.stack([agrees(x, y, s, o).sum() for s, o in zip(slope, offset, strict=True)])
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

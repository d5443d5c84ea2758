"""Depth of all frames of a clip brought to the cloud's scale together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldstereo_cli.geometry.align import (
    MIN_SUPPORT,
    Alignment,
    agrees,
    align_inverse_depth,
    best_line,
    checked_across,
)
from worldstereo_cli.geometry.cameras import Cameras

_NODES = 1600
"""Pixels of each frame that are compared: neighbours of these tell nothing new."""
_SWEEPS = 8
_DAMPING = 1e-6
_LEAST_LOSS = 0.02
"""A refinement that explains less of the cloud has found frames that agree on something untrue: estimates
that err much agree best on a flat picture."""
_SMOOTHING_PX = 3
_REACH = 0.15
"""Residual, as a share of inverse depth, beyond which a comparison counts nothing (Tukey): then two pixels
show different surfaces, or one that hides the other."""
_MOST_DILUTED = 0.5
"""Where noise is more than this part of the variance of a frame's depths, it cannot be told from it."""
_OFFSET_DEVIATION = 0.1
_NOISE = 0.02
_NODES_PER_SAMPLE = 40
"""Errors of estimates are alike over a sixth of the picture: so many nodes count as one measurement against
the expectation that offsets are small, 0 +- 10 % of the usual inverse depth."""


@dataclass(frozen=True, slots=True)
class ClipEstimates:
    """Estimated depth of frames with known cameras, and what the cloud shows there."""

    cameras: Cameras
    estimated_m: Float[Tensor, "n h w"]
    """Any scale, another for every frame; 0 where unknown, in the sky and at edges."""
    reference_m: Float[Tensor, "n h w"]
    """Of the cloud, metres."""
    trusted: Bool[Tensor, "n h w"]
    """Where both show the same surface; nowhere in frames that show too little of it."""


@dataclass(frozen=True, slots=True)
class _Comparisons:
    """Equations `k_j x - alpha (k_i u + b_i) + b_j = beta`, one for each row, in inverse depth.

    Rows without an `i` compare frame j with the cloud: alpha is 0 and beta the cloud's inverse depth.
    """

    j: Int[Tensor, m]
    x: Float[Tensor, m]
    i: Int[Tensor, m]
    u: Float[Tensor, m]
    alpha: Float[Tensor, m]
    beta: Float[Tensor, m]


def align_clip(clip: ClipEstimates) -> list[Alignment]:
    """Fit a line in inverse depth for every frame, to the cloud and to the other frames at once.

    Frames that show enough of the cloud are fitted to it one by one; the others, the one with most
    in common first, to the frames that are already fitted. Then all lines are refined together by
    reweighted least squares over both kinds of comparison, so that what one frame of a clip
    adds goes on where the cloud and the other frames end. At last lines are held against each other.

    Returns:
        For every frame its line; one that does not hold says why.

    Source: pipeline specification of WorldStereo 2.0, depth alignment, for the lines and checks; the
    joint refinement is the linear part of a bundle adjustment with fixed cameras.
    """
    clip = replace(clip, trusted=clip.trusted & (clip.estimated_m > 0) & (clip.reference_m > 0))
    nodes, given = _nodes(clip), clip
    clip = replace(
        clip,
        estimated_m=_smoothed(clip.estimated_m),
        reference_m=_smoothed(torch.where(clip.trusted, clip.reference_m, 0.0)),
    )
    lines = [
        align_inverse_depth(*frame)
        for frame in zip(clip.estimated_m, clip.reference_m, clip.trusted, strict=True)
    ]
    lines = _spread(clip, nodes, lines)
    refined = _refined(clip, nodes, lines)
    if _explained(clip, refined) >= _explained(clip, lines) - _LEAST_LOSS:
        lines = refined
    return checked_across(lines, given.estimated_m, given.reference_m, given.trusted)


def _nodes(clip: ClipEstimates) -> Int[Tensor, "k 2"]:
    """Return rows and columns of a regular grid."""
    height, width = clip.estimated_m.shape[1:]
    step = max(1, round((height * width / _NODES) ** 0.5))
    row, column = torch.arange(step // 2, height, step), torch.arange(step // 2, width, step)
    return torch.stack(torch.meshgrid(row, column, indexing="ij"), -1).reshape(-1, 2)


def _explained(clip: ClipEstimates, lines: Sequence[Alignment]) -> float:
    """Return the share of all that frames show of the cloud which their lines explain."""
    shares = [
        agrees(1 / e[t].double(), 1 / r[t].double(), line.slope, line.offset)
        for line, e, r, t in zip(lines, clip.estimated_m, clip.reference_m, clip.trusted, strict=True)
        if line.holds
    ]
    every = torch.cat([torch.zeros(0, dtype=torch.bool), *shares])
    return float(every.double().mean()) if len(every) else 0.0


def _smoothed(depth_m: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Average inverse depth around every known pixel, over its known neighbours.

    Noise of single pixels would bend lines towards a slope of zero, as noise in the variable of a
    regression does.
    """
    known = (depth_m > 0).float()
    inverse = torch.where(depth_m > 0, 1 / depth_m.clamp_min(1e-6), 0.0)
    size = 2 * _SMOOTHING_PX + 1
    total, count = (
        torch.nn.functional.avg_pool2d(m[:, None], size, 1, _SMOOTHING_PX)[:, 0] for m in (inverse, known)
    )
    return torch.where(depth_m > 0, count / total.clamp_min(1e-9), 0.0)


def _between(
    clip: ClipEstimates, nodes: Int[Tensor, "k 2"], lines: Sequence[Alignment], i: int, j: int
) -> _Comparisons:
    """Compare what frame i shows with frame j, where its line carries its nodes to."""
    row, column = nodes.unbind(-1)
    estimate = clip.estimated_m[i][row, column].double()
    s = lines[i].slope / estimate.clamp_min(1e-6) + lines[i].offset
    usable = (estimate > 0) & (s > 1e-6)
    row, column, estimate, s = row[usable], column[usable], estimate[usable], s[usable]
    pixel = torch.stack([column + 0.5, row + 0.5, torch.ones_like(s)], -1)
    ray = pixel @ torch.linalg.inv(clip.cameras.intrinsics[i].double()).T
    move = clip.cameras.camera_from_world[j].double() @ clip.cameras.world_from_camera[i].double()
    # In units of the depth in i: the point is (R ray + t s) / s, so inverse depth in j is s / z.
    point = ray @ move[:3, :3].T + s[:, None] * move[:3, 3]
    z = point[:, 2]
    place = point @ clip.cameras.intrinsics[j].double().T
    u, v = (place[:, 0] / z).floor().long(), (place[:, 1] / z).floor().long()
    height, width = clip.estimated_m.shape[1:]
    inside = (z > 1e-3) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    seen = torch.where(
        inside, clip.estimated_m[j][v.clamp(0, height - 1), u.clamp(0, width - 1)].double(), 0.0
    )
    inside &= seen > 0
    s, z, seen = s[inside], z[inside], seen[inside]
    # d (s / z) / d s, with z linear in s.
    alpha = (z - s * move[2, 3]) / (z * z)
    rows = torch.ones_like(seen, dtype=torch.long)
    return _Comparisons(j * rows, 1 / seen, i * rows, 1 / estimate[inside], alpha, s / z - alpha * s)


def _spread(clip: ClipEstimates, nodes: Int[Tensor, "k 2"], lines: list[Alignment]) -> list[Alignment]:
    """Fit frames that show too little of the cloud to frames that have a line."""
    lines, tried = list(lines), set()
    while True:
        good = [i for i, line in enumerate(lines) if line.holds]
        open_frames = [i for i, line in enumerate(lines) if not line.holds and i not in tried]
        if not good or not open_frames:
            return lines
        found = {
            j: [c for i in good if len((c := _between(clip, nodes, lines, i, j)).x)] for j in open_frames
        }
        j = max(open_frames, key=lambda j: sum(len(c.x) for c in found[j]))
        tried.add(j)
        x = torch.cat([torch.zeros(0, dtype=torch.float64), *(c.x for c in found[j])])
        y = torch.cat([torch.zeros(0, dtype=torch.float64), *(_expected(c, lines) for c in found[j])])
        line = best_line(x, y)
        if line.holds:
            lines[j] = line


def _expected(rows: _Comparisons, lines: Sequence[Alignment]) -> Float[Tensor, m]:
    """Return the inverse depth that the frames i, or the cloud, expect in the frames j."""
    slope, offset = (torch.tensor([getattr(line, n) for line in lines], dtype=torch.float64) for n in _LINE)
    return rows.alpha * (slope[rows.i] * rows.u + offset[rows.i]) + rows.beta


_LINE = ("slope", "offset")


def _refined(clip: ClipEstimates, nodes: Int[Tensor, "k 2"], lines: list[Alignment]) -> list[Alignment]:
    """Refine all lines that hold together."""
    good = [i for i, line in enumerate(lines) if line.holds]
    if not good:
        return lines
    cloud = [_with_cloud(clip, nodes, i) for i in good]
    pairs = [_between(clip, nodes, lines, i, j) for i in good for j in good if i != j]
    if not sum(len(part.x) for part in (*cloud, *pairs)):
        return lines
    lines = list(lines)
    for _ in range(_SWEEPS):
        pairs = [_between(clip, nodes, lines, i, j) for i in good for j in good if i != j]
        rows = _joined([*cloud, *pairs])
        for i, (slope, offset) in zip(good, _solved(rows, lines, good), strict=True):
            lines[i] = replace(lines[i], slope=slope, offset=offset)
    rows = _joined([*cloud, *(_between(clip, nodes, lines, i, j) for i in good for j in good if i != j)])
    expected = _expected(rows, lines)
    for i in good:
        mine = rows.j == i
        if not bool(mine.any()):
            continue
        support = agrees(rows.x[mine], expected[mine], lines[i].slope, lines[i].offset).double().mean()
        problem = (
            "" if lines[i].slope > 0 and float(support) >= MIN_SUPPORT else "it fits neither cloud nor frames"
        )
        lines[i] = replace(
            lines[i], num_samples=int(mine.sum()), support_frac=float(support), problem=problem
        )
    return lines


def _with_cloud(clip: ClipEstimates, nodes: Int[Tensor, "k 2"], j: int) -> _Comparisons:
    row, column = nodes.unbind(-1)
    chosen = clip.trusted[j][row, column]
    row, column = row[chosen], column[chosen]
    x, y = 1 / clip.estimated_m[j][row, column].double(), 1 / clip.reference_m[j][row, column].double()
    none = torch.zeros_like(x)
    rows = torch.ones_like(x, dtype=torch.long) * j
    return _Comparisons(rows, x, rows, none, none, y)


def _joined(parts: Sequence[_Comparisons]) -> _Comparisons:
    return _Comparisons(*(torch.cat([getattr(p, n) for p in parts]) for n in _Comparisons.__slots__))


def _solved(rows: _Comparisons, lines: Sequence[Alignment], good: Sequence[int]) -> list[tuple[float, float]]:
    """Take one step of reweighted least squares for all lines."""
    slope, offset = (torch.tensor([getattr(line, n) for line in lines], dtype=torch.float64) for n in _LINE)
    expected = _expected(rows, lines)
    possible = expected > 1e-6
    expected = torch.where(possible, expected, 1.0)
    residual = (slope[rows.j] * rows.x + offset[rows.j] - expected) / expected
    weight = possible * (1 - (residual / _REACH) ** 2).clamp_min(0) / expected
    place = torch.full((len(lines),), -1, dtype=torch.long)
    place[list(good)] = torch.arange(len(good))
    size = 2 * len(good)
    matrix = torch.zeros(len(rows.x), size, dtype=torch.float64)
    every = torch.arange(len(rows.x))
    matrix[every, 2 * place[rows.j]] += weight * rows.x
    matrix[every, 2 * place[rows.j] + 1] += weight
    matrix[every, 2 * place[rows.i]] -= weight * rows.alpha * rows.u
    matrix[every, 2 * place[rows.i] + 1] -= weight * rows.alpha
    normal, right = matrix.T @ matrix, matrix.T @ (weight * rows.beta)
    _undilute(normal, rows, weight, residual, place)
    usual = float(expected.median())
    prior = _NODES_PER_SAMPLE * (_NOISE / _OFFSET_DEVIATION) ** 2 / usual**2
    normal[1::2, 1::2] += prior * torch.eye(len(good), dtype=torch.float64)
    # A frame that nothing can be compared with keeps its line.
    damping = _DAMPING * max(float(normal.diagonal().abs().mean()), 1e-12)
    normal += damping * torch.eye(size, dtype=torch.float64)
    right += damping * torch.stack([slope, offset], 1)[list(good)].reshape(-1)
    found = torch.linalg.solve(normal, right).reshape(-1, 2)
    return [(float(k), float(b)) for k, b in found]


def _undilute(
    normal: Float[Tensor, "s s"],
    rows: _Comparisons,
    weight: Float[Tensor, m],
    residual: Float[Tensor, m],
    place: Int[Tensor, n],
) -> None:
    """Take from the normal equations what noise in the estimates has added to them.

    Source: Fuller, Measurement Error Models, 1987, section 1.2; of the residual's variance each of the
    two depths that are compared has half.
    """
    share = weight * weight
    for frame, value in ((rows.j, rows.x), (rows.i, rows.alpha * rows.u)):
        for p in range(len(normal) // 2):
            mine = place[frame] == p
            w, v = share[mine], value[mine]
            total = w.sum()
            if float(total) == 0:
                continue
            mean = (w * v).sum() / total
            variance = (w * (v - mean) ** 2).sum() / total
            square = (w * v * v).sum() / total
            noise = 0.5 * square * (w * residual[mine] ** 2).sum() / total
            normal[2 * p, 2 * p] -= total * torch.minimum(noise, _MOST_DILUTED * variance)

"""The cloud that grows: new surface from finished frames, and thinning that spares the photo."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.lifting import lift_pixels
from worldstereo_cli.geometry.point_render import SurfaceStyle, render_surface
from worldstereo_cli.geometry.seen import SeenViews
from worldstereo_cli.geometry.surface import FILLED_CONFIDENCE
from worldstereo_cli.geometry.votes import seen_through

MAX_INVENTED = 2_000_000
"""With more invented points they are thinned further: a round must not cost more the more there were."""

INVENTED_CONFIDENCE = 0.5
"""Of invented surface right beside seen surface; it falls from there."""
_LEAST_CONFIDENCE = 0.05
_FALLOFF_FRAC = 0.15
"""Distance from the nearest seen pixel, in parts of the shorter image side, over which confidence
falls to 37 %: half an image away nothing is more than a guess."""

_SAME_DEPTH = 0.05
"""Neighbouring pixels of one surface differ by less, unless it is seen at a very grazing angle."""


@dataclass(frozen=True, slots=True)
class FinishedFrames:
    """Completed frames with depth, at the scene's own size."""

    cameras: Cameras
    rgb: Float[Tensor, "n 3 h w"]
    depth_m: Float[Tensor, "n h w"]
    """Metres; 0 where no depth is trusted."""
    hole: Bool[Tensor, "n h w"]
    """True where the cloud showed nothing."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What a round changes in the cloud."""

    added: Cloud
    removed: Int[Tensor, r]
    """Ascending indices into the cloud before the round."""
    counts: list[int]
    """Points that each frame gave."""


def grow(
    cloud: Cloud, frames: FinishedFrames, seen: SeenViews, witnesses: SeenViews, *, round_index: int,
    shell_m: float | None,
) -> Growth:  # fmt: skip
    """Find what a round adds to a cloud and what it shows not to be there.

    Args:
        cloud: What was known before.
        frames: The frames of the round.
        seen: The photo and the frames of earlier rounds: nothing new may hide what they see.
        witnesses: What frames of the round saw by themselves, whatever the cloud showed there.
        round_index: Number of the round, at least 1.
        shell_m: Radius, about the world's origin, beyond which there is sky; None without sky.
    """
    added, counts = new_surface(frames, seen, witnesses, round_index=round_index, shell_m=shell_m)
    open_to_doubt = (~supported_by_photo(cloud) & ~cloud.sky).nonzero()[:, 0]
    removed = open_to_doubt[seen_through(cloud.points[open_to_doubt], witnesses)]
    return Growth(added, removed, counts)


def supported_by_photo(cloud: Cloud) -> Bool[Tensor, p]:
    """Mark the photo's own points, except those whose depth the photo itself did not tell."""
    return (cloud.round_index == 0) & (cloud.confidence > FILLED_CONFIDENCE)


def changed(cloud: Cloud, added: Cloud, removed: Int[Tensor, r]) -> Cloud:
    """Return a cloud after a round: without what floats, with what is new, thinned."""
    if not len(added) and not len(removed):
        return cloud
    kept = torch.ones(len(cloud), dtype=torch.bool)
    kept[removed] = False
    return thinned(Cloud.joined([cloud[kept], added]))


def new_surface(
    frames: FinishedFrames,
    seen: SeenViews,
    witnesses: SeenViews,
    *,
    round_index: int,
    shell_m: float | None,
) -> tuple[Cloud, list[int]]:
    """Collect the surface that frames show and the cloud lacks, each surface once.

    The frame that shows most of it gives first; from every other frame only pixels are taken that
    are still empty then. Points that would hide something seen are left out, and those that other
    frames of the round see through.

    Args:
        frames: The frames of one round.
        seen: The photo and the frames of earlier rounds.
        witnesses: What frames of the round saw by themselves.
        round_index: Number of the round, at least 1.
        shell_m: Radius, about the world's origin, beyond which there is sky; None without sky.

    Returns:
        The new points, and how many each frame gave.
    """
    counts = [0] * len(frames.cameras)
    clouds: list[Cloud] = []
    order = sorted(range(len(frames.cameras)), key=lambda i: -int(frames.hole[i].sum()))
    for i in order:
        wanted = _coherent(frames.depth_m[i], frames.hole[i])
        if clouds and bool(wanted.any()):
            drawn = render_surface(Cloud.joined(clouds), frames.cameras[i], SurfaceStyle())
            wanted &= drawn.hole[0]
        points = _points(frames, i, wanted, round_index, shell_m)
        points = points[~seen.hidden_by(points.points)]
        points = points[points.sky | ~seen_through(points.points, witnesses)]
        counts[i] = len(points)
        if len(points):
            clouds.append(points)
    return Cloud.joined([Cloud.empty(), *clouds]), counts


def thinned(cloud: Cloud, most: int = MAX_INVENTED) -> Cloud:
    """Keep one point for each cell of the size of its spacing; never drop a point of the photo.

    A cell that holds a point of the photo holds no other; otherwise the earliest round, the
    highest confidence and the lowest index win, in this order. The order of points is kept.

    Args:
        cloud: Any cloud.
        most: With more invented points than this, they are thinned to cells of twice, four times, ...
            the size, and each then stands for as much surface. At least some thousand.
    """
    kept = _one_for_each_cell(cloud)
    while int((kept.round_index > 0).sum()) > most:
        spacing = torch.where(kept.round_index > 0, 2 * kept.spacing_m, kept.spacing_m)
        kept = _one_for_each_cell(replace(kept, spacing_m=spacing))
    return kept


def _one_for_each_cell(cloud: Cloud) -> Cloud:
    # Cells double in size with the spacing, so that near and far surface are thinned alike.
    level = torch.log2(cloud.spacing_m.double().clamp_min(1e-9)).floor()
    cell = torch.floor(cloud.points.double() / torch.exp2(level)[:, None]).long()
    # One integer of 18 bits for each axis and 8 for the level: cells lie within some ten thousand
    # of the origin, because spacing is a pixel's share of the distance.
    cell = (cell + (1 << 17)).clamp(0, (1 << 18) - 1)
    key = ((level.long() + 128) << 54) | (cell[:, 0] << 36) | (cell[:, 1] << 18) | cell[:, 2]
    _, group = torch.unique(key, return_inverse=True)
    rank = torch.argsort(-cloud.confidence.double(), stable=True)
    rank = rank[torch.argsort(cloud.round_index[rank], stable=True)]
    position = torch.empty_like(rank)
    position[rank] = torch.arange(len(rank), device=rank.device)
    best = torch.full((int(group.max()) + 1,), len(rank), dtype=torch.long, device=rank.device)
    best = best.scatter_reduce(0, group, position, "amin")
    return cloud[(best[group] == position) | (cloud.round_index == 0)]


def _points(
    frames: FinishedFrames, i: int, wanted: Bool[Tensor, "h w"], round_index: int, shell_m: float | None
) -> Cloud:
    """Lift the wanted pixels of one frame."""
    points = lift_pixels(frames.depth_m[i], frames.cameras[i], wanted)
    count, device = len(points), points.device
    far = torch.zeros(count, dtype=torch.bool, device=device)
    if shell_m is not None:
        # Contracted depth ends 5 % before the shell.
        far = points.norm(dim=-1) > 0.975 * shell_m
    return Cloud(
        points,
        frames.rgb[i][:, wanted].T.contiguous(),
        invented_confidence(frames.hole[i])[wanted],
        torch.full((count,), round_index, dtype=torch.int32, device=device),
        frames.depth_m[i][wanted] / frames.cameras.intrinsics[i, 0, 0],
        far,
    )


def _coherent(depth_m: Float[Tensor, "h w"], hole: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Choose the hole pixels that have three neighbours at nearly their own depth; single ones are noise."""
    row, column = (hole & (depth_m > 0)).nonzero(as_tuple=True)
    padded = torch.nn.functional.pad(depth_m, (1, 1, 1, 1))
    depth = depth_m[row, column]
    # Each pixel agrees with itself, too.
    agreeing = torch.zeros_like(row)
    for down in range(3):
        for right in range(3):
            agreeing += (padded[row + down, column + right] - depth).abs() < _SAME_DEPTH * depth
    chosen = torch.zeros_like(hole)
    chosen[row, column] = agreeing >= 4
    return chosen


def invented_confidence(hole: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Rate invented pixels: `INVENTED_CONFIDENCE` beside seen ones, falling with the distance from them."""
    from scipy.ndimage import distance_transform_edt

    distance = torch.from_numpy(distance_transform_edt(hole.cpu().numpy())).float().to(hole.device)
    reach = _FALLOFF_FRAC * min(hole.shape)
    return (INVENTED_CONFIDENCE * torch.exp(-distance / reach)).clamp_min(_LEAST_CONFIDENCE)

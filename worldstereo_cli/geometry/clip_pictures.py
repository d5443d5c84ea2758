"""Whether the pictures of a clip show one and the same scene from where their cameras stand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.images import crop_resize
from worldstereo_cli.geometry.pictures import picture_correlation

_LONG_SIDE_PX = 160
"""Pictures are compared this large: blocks of them are coarser than what depth misplaces."""
_SAME_SURFACE = 0.1
"""Share of the depth by which two frames may differ where they show the same surface: estimates do."""
_SPREAD = 3.0
_LEAST, _ENOUGH = 0.5, 0.88
"""Two pictures are alike whose correlation lacks no more than three times what frames of the clip lack to
those that they are most alike, always with 0.88 and never below 0.5. Recorded frames have 0.94 to 1 with each
other, 0.88 where their depth comes from a small network; one that shows all 1.3 times as large has 0.67 to
0.88, one moved by a quarter of the picture 0.34 at most."""


def odd_pictures(
    cameras: Cameras,
    frames: Float[Tensor, "n 3 h w"],
    depth_m: Float[Tensor, "n h w"],
    hole_frac: Sequence[float],
    known: Sequence[bool],
) -> list[int]:
    """Find frames that show something else than the others do, where they see the same surface.

    Every frame is carried into every other by its depth. The one that is unlike most others beyond those
    that it is like is taken out first, and so on until no frame is unlike more than it is like.

    Args:
        cameras: Of the frames.
        frames: sRGB in [0, 1].
        depth_m: Metres along the optical axis; 0 where unknown.
        hole_frac: How much of each was not known before; of two that differ, the one with more is odd.
        known: Frames that are right in any case.
    """
    scale = min(1.0, _LONG_SIDE_PX / max(cameras.width_px, cameras.height_px))
    width, height = max(1, round(scale * cameras.width_px)), max(1, round(scale * cameras.height_px))
    small = cameras.cropped_to(width, height)
    pictures = crop_resize(frames, width, height)
    depth = crop_resize(depth_m[:, None], width, height, nearest=True)[:, 0]
    # Of two ways to compare, the kinder: where one frame's depth is wrong, its picture may be right.
    one_way = _likeness(small, pictures, depth)
    likeness = torch.fmax(one_way, one_way.T)
    best = likeness.nan_to_num(-torch.inf).amax(1)
    usual = float(best[best.isfinite()].median()) if bool(best.isfinite().any()) else 1.0
    alike = likeness >= min(_ENOUGH, max(_LEAST, 1 - _SPREAD * (1 - usual)))
    vote = torch.where(likeness.isnan(), 0, torch.where(alike, -1, 1))
    odd: list[int] = []
    while True:
        balance = vote.sum(1).tolist()
        open_to_doubt = [i for i in range(len(known)) if not known[i] and i not in odd]
        worst = max(open_to_doubt, key=lambda i: (balance[i], hole_frac[i]), default=-1)
        if worst < 0 or balance[worst] <= 0:
            return sorted(odd)
        odd.append(worst)
        vote[:, worst] = 0


def _likeness(
    cameras: Cameras, pictures: Float[Tensor, "n 3 h w"], depth_m: Float[Tensor, "n h w"]
) -> Float[Tensor, "n n"]:
    """Return the correlation of every picture with each other one; NaN where too little is common."""
    count = len(cameras)
    found = torch.full((count, count), torch.nan)
    for i in range(count):
        points = cameras[i].unproject(depth_m[i, None])[0].reshape(-1, 3)
        pixels, depth = cameras.project(points)
        for j in range(count):
            if j == i:
                continue
            seen, common = _seen_in(pixels[j], depth[j], pictures[j], depth_m[j])
            value = picture_correlation(pictures[i], seen, common & (depth_m[i] > 0))
            if value is not None:
                found[i, j] = value
    return found


def _seen_in(
    pixels: Float[Tensor, "p 2"],
    depth_m: Float[Tensor, p],
    picture: Float[Tensor, "3 h w"],
    picture_depth_m: Float[Tensor, "h w"],
) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "h w"]]:
    """Return what a picture shows at the points of another, and where it shows their very surface."""
    height, width = picture_depth_m.shape
    ahead = depth_m > 1e-3
    u, v = torch.where(ahead[:, None], pixels, -1.0).floor().long().unbind(-1)
    inside = ahead & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    u, v = u.clamp(0, width - 1), v.clamp(0, height - 1)
    there = picture_depth_m[v, u]
    common = inside & (there > 0) & ((depth_m - there).abs() <= _SAME_SURFACE * there)
    return picture[:, v, u].reshape(3, height, width), common.reshape(height, width)

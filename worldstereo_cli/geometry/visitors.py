"""What people who look at a scene would miss: the holes that their likely views show.

Whoever opens a scene sways about what the photo shows, before going anywhere. Where such a view
looks past everything known, a patch of surface is put, as far away as what lies around the hole at
the back. A patch is worth the share of all likely pictures that it would fill. Unlike the surface
that `unseen` guesses behind edges, these patches account for every hole of those views, whatever
opened it; they know nothing of what lies farther.

Source: gain as the expected share of unknown pixels in a view: Vasquez-Gomez et al., View planning
for 3D object reconstruction, 2014; holes filled from their farther side: Fehn, Depth-image-based
rendering, 2004.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import prange
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.coverage import CoarseSurface
from worldstereo_cli.geometry.jit import parallel_kernel
from worldstereo_cli.geometry.paths import Anchor, arc_towards
from worldstereo_cli.geometry.unseen import CoarseView, Unseen, grid_cells

Array = np.ndarray[Any, Any]

ACROSS_DEG = 10.0
"""Standard deviation of views to the sides, about the point at median depth: that far a hand that drags
the picture turns it, and scenes are judged there and at half as far again. A guess about people."""
ALONG_DEG = 5.0
"""The same up and down: people look along the horizon."""
_RINGS_DEG = (5.0, 10.0, 15.0)
"""Views are taken on these circles about the photo; beyond the last, nobody is expected."""
_HEADINGS = 12
HOLES_SHARE = 0.5
"""Of a plan's whole worth, what visitors would miss makes up this much, and surface guessed behind edges
and beyond the frame the rest. On generated scenes 0.3 uncovers a little more, and leaves twice as much to
be missed from 10 degrees aside; 1 shows less behind things."""
_CELL_PX = 3.0
"""Side of a cell in which patches are put together, in coarse pixels: a patch is uncovered or it is not,
and nobody misses less than this."""


def likely_views(anchor: Anchor) -> tuple[Cameras, Float[Tensor, n]]:
    """Return the views about the photo that people are likely to take, and how likely each is.

    They look at the pivot, from circles about the photo; the odds are those of a normal distribution,
    and sum to 1.
    """
    here = torch.ones(1, dtype=torch.float64)
    poses, odds = [], []
    for ring in _RINGS_DEG:
        for heading in (2 * math.pi * i / _HEADINGS for i in range(_HEADINGS)):
            poses.append(arc_towards(anchor, heading, math.radians(ring), here).world_from_camera)
            across, along = ring * math.cos(heading) / ACROSS_DEG, ring * math.sin(heading) / ALONG_DEG
            # A wider circle stands for more of the plane.
            odds.append(ring * math.exp(-0.5 * (across**2 + along**2)))
    camera = anchor.camera
    lens = camera.intrinsics.expand(len(poses), 3, 3).clone()
    views = Cameras(torch.cat(poses), lens, camera.width_px, camera.height_px)
    return views, torch.tensor(odds) / sum(odds)


def missed_in_views(
    view: CoarseView, surface: CoarseSurface, looks: Cameras, odds: Float[Tensor, n]
) -> Unseen:
    """Put a patch of surface wherever views show a hole.

    Args:
        view: What is known.
        surface: The same, to be drawn.
        looks: Views that people take.
        odds: How likely each is.

    Returns:
        Patches on a grid, as `guess_unseen` has it; the weight of each is the share of all pictures
        that it is expected to fill.
    """
    front = surface.front(looks)
    count, height, width = front.shape
    depth = torch.from_numpy(_closed_from_behind(front.numpy()))
    met = depth > 0
    small = looks.cropped_to(width, height)
    points = small.unproject(torch.where(met, depth, 1.0))[met]
    share = odds.double()[:, None, None].expand(count, height, width)[met] / (height * width)
    pose = view.camera.camera_from_world[0].double()
    local = points.double() @ pose[:3, :3].T + pose[:3, 3]
    cells = grid_cells(local.numpy(), _CELL_PX / float(view.camera.intrinsics[0, 0, 0]))
    _, first, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    weight = np.bincount(cell.reshape(-1), weights=share.numpy(), minlength=len(first))
    nowhere = torch.zeros(len(first), dtype=torch.bool)
    return Unseen(
        points[torch.from_numpy(first)].float(), torch.from_numpy(weight).float(), nowhere, ~nowhere
    )


def valued(guessed: Unseen, missed: Unseen) -> Unseen:
    """Put guessed surface and missed pixels on one scale, on which all together are worth 1.

    Where there is none of one kind, the other is worth everything.
    """
    kinds = [(guessed, 1 - HOLES_SHARE), (missed, HOLES_SHARE)]
    present = [(kind, share) for kind, share in kinds if float(kind.weight.sum()) > 0]
    if not present:
        return guessed
    whole = sum(share for _, share in present)
    scaled = [
        replace(kind, weight=kind.weight * (share / whole / float(kind.weight.sum())))
        for kind, share in present
    ]
    return Unseen(
        torch.cat([kind.points for kind in scaled]),
        torch.cat([kind.weight for kind in scaled]),
        torch.cat([kind.behind for kind in scaled]),
        torch.cat([kind.missed for kind in scaled]),
    )


@parallel_kernel
def _closed_from_behind(front: Array) -> Array:
    """Return the depth at which holes are closed, 0 where there is none.

    Of the surfaces that lie around a hole in eight directions, and no more than twice as far off as
    the nearest of them, the farthest goes on in it.
    """
    count, height, width = front.shape
    closed = np.zeros((count, height, width), np.float32)
    for i in prange(count):
        for y in range(height):
            for x in range(width):
                if front[i, y, x] != np.inf:
                    continue
                ways = np.full((3, 3), np.inf)
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        if dy == 0 and dx == 0:
                            continue
                        steps = 1
                        v, u = y + dy, x + dx
                        while 0 <= v < height and 0 <= u < width and front[i, v, u] == np.inf:
                            steps += 1
                            v, u = y + steps * dy, x + steps * dx
                        if 0 <= v < height and 0 <= u < width:
                            ways[dy + 1, dx + 1] = steps * math.sqrt(float(dy * dy + dx * dx))
                least = ways.min()
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        way = ways[dy + 1, dx + 1]
                        if way == np.inf or way > 2 * least:
                            continue
                        steps = round(way / math.sqrt(float(dy * dy + dx * dx)))
                        closed[i, y, x] = max(closed[i, y, x], front[i, y + steps * dy, x + steps * dx])
    return closed

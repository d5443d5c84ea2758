"""What one view does not show, guessed: the surface that other views would uncover.

A pixel that no camera has filled looks into space that was never seen, and what it will meet there
is unknown. Three guesses are made from the view alone, and each is a set of small patches:

- behind a depth edge the farther surface goes on under the nearer one, as its own plane;
- at a depth edge the nearer surface has a side that runs away from the camera, as deep as the
  surface is wide, and no deeper than the step;
- beyond the frame the surface at the border goes on.

Patches are put on a grid whose cells grow with the distance from the camera, so that each stands
for the same share of a picture; a cell that several guesses meet holds one patch. A patch weighs
less the farther it lies from what was seen, as invented surface is trusted less there.

Source: surfaces behind occlusion edges as the gain of a view: Connolly, The determination of next
best views, 1985 (unseen space behind seen surface); Delmerico et al., A comparison of volumetric
information gain metrics for active 3D object reconstruction, 2018 (unseen cells beside seen
surface count, those far from it hardly); the continued background layer: Shih et al., 3D
photography using context-aware layered depth inpainting, 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.jit import kernel

Array = np.ndarray[Any, Any]

FALLOFF_FRAC = 0.15
"""Distance from what was seen, in parts of the shorter image side, over which the weight of a guess
falls to 37 %; the memory's confidence in invented surface falls alike."""

BEYOND_WEIGHT = 0.5
"""What lies beyond the frame counts half: people look at what the photo shows, and around it."""

_STEP = 0.08
"""Disparities of two neighbours that differ by this part, and by twice their slopes, are a break."""
_PLANE_PX = 3
"""Half the window that a slope is taken from."""
_BENT = 3.0
"""A continued plane may come nearer or go farther by this factor; beyond, it is no guess at all."""
_MOST_SIDE = 0.5
"""No object is guessed to be deeper than this part of its distance."""
_BEYOND_FRAC = 0.3
"""The border is continued this far, in parts of the shorter side: by then its weight is an eighth."""
_CELL_PX = 1.5
"""Side of a cell in pixels of the grid that guesses are made on; below one, neighbours leave gaps."""


@dataclass(frozen=True, slots=True)
class CoarseView:
    """One view, sampled coarsely: enough for planning, and a hundred times as fast."""

    depth_m: Float[Tensor, "h w"]
    """Metres along the optical axis, positive."""
    sky: Bool[Tensor, "h w"]
    camera: Cameras

    @staticmethod
    def sampled(
        depth_m: Float[Tensor, "h w"], sky: Bool[Tensor, "h w"], camera: Cameras, long_side_px: int
    ) -> CoarseView:
        """Take every n-th pixel, so that the longer side has at most about `long_side_px`.

        Args:
            depth_m: Metres along the optical axis, positive.
            sky: Where the depth is a convention.
            camera: A path of one, of the map's size.
            long_side_px: At least 16.
        """
        step = max(1, -(-max(depth_m.shape) // long_side_px))
        first = step // 2
        small, small_sky = depth_m[first::step, first::step], sky[first::step, first::step]
        intrinsics = camera.intrinsics.clone()
        intrinsics[:, :2] /= step
        # The centre of the sampled pixel is that of the coarse one.
        intrinsics[:, :2, 2] += 0.5 - (first + 0.5) / step
        height, width = small.shape
        coarse = Cameras(camera.world_from_camera, intrinsics, width, height)
        return CoarseView(small.contiguous(), small_sky.contiguous(), coarse)


@dataclass(frozen=True, slots=True)
class Unseen:
    """Guessed patches of surface."""

    points: Float[Tensor, "m 3"]
    """World frame, metres."""
    weight: Float[Tensor, m]
    """Positive: how much one patch counts beside the others."""
    behind: Bool[Tensor, m]
    """True behind or beside a depth edge; False beyond the frame, and where that is not known."""
    missed: Bool[Tensor, m]
    """True where a hole in a likely view put it (see `visitors`), False where the photo lets guess it."""

    def share(self, part: Bool[Tensor, m], whole: Bool[Tensor, m]) -> float:
        """Return how much of the weight of some patches others among them have; 0 if there are none."""
        total = float(self.weight[whole].sum())
        return float(self.weight[part & whole].sum()) / total if total > 0 else 0.0


def guess_unseen(view: CoarseView) -> Unseen:
    """Guess the surface that a view does not show.

    Args:
        view: Coarse, so that a patch is worth a look; 200 px on the longer side are plenty.
    """
    depth = view.depth_m.double().cpu().numpy()
    sky = view.sky.cpu().numpy()
    disparity = 1 / depth
    slopes = _slopes(disparity, sky)
    reach = FALLOFF_FRAC * min(depth.shape)
    focal = float(view.camera.intrinsics[0, 0, 0])
    farthest = float(depth[~sky].max()) if (~sky).any() else 0.0
    hidden, far_px = _continued_behind(disparity, sky, slopes, math.ceil(3 * reach))
    sides = _sides(disparity, sky, slopes, focal)
    beyond = _continued_beyond(disparity, sky, slopes, round(_BEYOND_FRAC * min(depth.shape)))
    rows, columns = np.nonzero(hidden)
    behind = np.stack([columns, rows, hidden[rows, columns], far_px[rows, columns]], -1)
    patches = np.concatenate([behind, sides, beyond])
    is_behind = np.arange(len(patches)) < len(behind) + len(sides)
    # Nothing is guessed farther than what was seen: out there lies no evidence.
    kept = (patches[:, 2] > 0) & (patches[:, 2] * farthest >= 1)
    patches, is_behind = patches[kept], is_behind[kept]
    camera_points = _lifted(patches, view.camera)
    weight = np.exp(-patches[:, 3] / reach) * np.where(is_behind, 1.0, BEYOND_WEIGHT)
    chosen = _one_for_each_cell(camera_points, weight, _CELL_PX / focal)
    pose = view.camera.world_from_camera[0].double().cpu()
    points = torch.from_numpy(camera_points[chosen]) @ pose[:3, :3].T + pose[:3, 3]
    behind_edge = torch.from_numpy(is_behind[chosen])
    weights = torch.from_numpy(weight[chosen]).float()
    return Unseen(points.float(), weights, behind_edge, torch.zeros_like(behind_edge))


def grid_cells(points: Array, cell_frac: float) -> Array:
    """Return the cell (level and three indices) of camera-frame points.

    Cells are cubes with sides of `cell_frac` times the distance, rounded to a power of two.
    """
    level = np.floor(np.log2(np.linalg.norm(points, axis=1).clip(1e-9) * cell_frac))
    return np.column_stack([level, np.floor(points / np.exp2(level)[:, None])]).astype(np.int64)


def _lifted(patches: Array, camera: Cameras) -> Array:
    """Return camera-frame points of rows (column, row, disparity, ...); pixels may lie off the image."""
    inverse = torch.linalg.inv(camera.intrinsics[0].double().cpu()).numpy()
    pixels = np.stack([patches[:, 0] + 0.5, patches[:, 1] + 0.5, np.ones(len(patches))], -1)
    return np.asarray(pixels @ inverse.T / patches[:, 2:3])


def _one_for_each_cell(points: Array, weight: Array, cell_frac: float) -> Array:
    """Return the index of the heaviest point of every cell, in the order of the points."""
    order = np.argsort(-weight, kind="stable")
    _, first = np.unique(grid_cells(points, cell_frac)[order], axis=0, return_index=True)
    return np.sort(order[first])


@kernel
def _slopes(disparity: Array, sky: Array) -> Array:
    """Return the slopes of disparity along x and y (h w 2), each from its own surface alone."""
    height, width = disparity.shape
    slopes = np.zeros((height, width, 2))
    for y in range(height):
        for x in range(width):
            if sky[y, x]:
                continue
            here, xx, yy, xy, xd, yd = disparity[y, x], 0.0, 0.0, 0.0, 0.0, 0.0
            for v in range(max(0, y - _PLANE_PX), min(height, y + _PLANE_PX + 1)):
                for u in range(max(0, x - _PLANE_PX), min(width, x + _PLANE_PX + 1)):
                    dx, dy = float(u - x), float(v - y)
                    change = disparity[v, u] - here
                    # A slope of one break in two pixels is as steep as a surface gets.
                    if sky[v, u] or abs(change) > 0.5 * _STEP * here * max(abs(dx), abs(dy)):
                        continue
                    xx += dx * dx
                    yy += dy * dy
                    xy += dx * dy
                    xd += dx * change
                    yd += dy * change
            # A little resistance, so that few pixels in a line give no wild slope across it.
            xx, yy = xx + 1, yy + 1
            determinant = xx * yy - xy * xy
            slopes[y, x, 0] = (yy * xd - xy * yd) / determinant
            slopes[y, x, 1] = (xx * yd - xy * xd) / determinant
    return slopes


@kernel
def _plane_at(disparity: Array, slopes: Array, seed: tuple[int, int], y: int, x: int) -> float:
    """Continue the plane of a pixel to another; 0 where it would bend out of all proportion."""
    row, column = seed
    here = disparity[row, column]
    value = here + slopes[row, column, 0] * (x - column) + slopes[row, column, 1] * (y - row)
    if value < here / _BENT or value > here * _BENT:
        return 0.0
    return float(value)


@kernel
def _breaks(disparity: Array, slopes: Array, near: tuple[int, int], far: tuple[int, int]) -> bool:
    """Tell whether the first pixel stands in front of its neighbour, which another surface shows."""
    ny, nx = near
    fy, fx = far
    gap = disparity[ny, nx] - disparity[fy, fx]
    if gap < _STEP * disparity[fy, fx]:
        return False
    dy, dx = fy - ny, fx - nx
    explained = max(
        abs(slopes[ny, nx, 0] * dx + slopes[ny, nx, 1] * dy),
        abs(slopes[fy, fx, 0] * dx + slopes[fy, fx, 1] * dy),
    )
    return bool(gap > 2 * explained)


@kernel
def _continued_behind(disparity: Array, sky: Array, slopes: Array, most_px: int) -> tuple[Array, Array]:
    """Continue the farther surface of every edge under the nearer one.

    Returns:
        Disparity of what lies hidden at each pixel (0 where nothing is guessed), and the distance in
        pixels from where that surface was last seen.
    """
    height, width = disparity.shape
    hidden, far_px = np.zeros((height, width)), np.zeros((height, width))
    seed = np.full((height, width, 2), -1, np.int64)
    for steps in range(most_px):
        before = seed.copy()
        for y in range(height):
            for x in range(width):
                if before[y, x, 0] >= 0 or sky[y, x]:
                    continue
                best = np.inf
                for v in range(max(0, y - 1), min(height, y + 2)):
                    for u in range(max(0, x - 1), min(width, x + 2)):
                        if steps == 0:
                            row, column = v, u
                            if sky[v, u] or not _breaks(disparity, slopes, (y, x), (v, u)):
                                continue
                        else:
                            row, column = before[v, u, 0], before[v, u, 1]
                            if row < 0:
                                continue
                        value = _plane_at(disparity, slopes, (row, column), y, x)
                        way = math.sqrt(float((row - y) ** 2 + (column - x) ** 2))
                        # Where the nearer surface is no longer nearer, the hidden one has come out again.
                        if value <= 0 or value * (1 + 0.5 * _STEP) > disparity[y, x] or way >= best:
                            continue
                        best = way
                        seed[y, x, 0], seed[y, x, 1] = row, column
                        hidden[y, x], far_px[y, x] = value, way
    return hidden, far_px


@kernel
def _run(disparity: Array, slopes: Array, start: tuple[int, int], step: tuple[int, int], most: int) -> int:
    """Count the pixels from `start` along `step` that lie on one surface."""
    height, width = disparity.shape
    y, x = start
    for count in range(1, most):
        v, u = y + step[0], x + step[1]
        if v < 0 or u < 0 or v >= height or u >= width:
            return most
        if _breaks(disparity, slopes, (y, x), (v, u)) or _breaks(disparity, slopes, (v, u), (y, x)):
            return count
        y, x = v, u
    return most


@kernel
def _sides(disparity: Array, sky: Array, slopes: Array, focal: float) -> Array:
    """Let nearer surfaces run away from the camera at their edges.

    Returns:
        Rows of column, row, disparity and distance in pixels from what was seen.
    """
    height, width = disparity.shape
    most = max(4, min(height, width) // 4)
    found = []
    for y in range(height):
        for x in range(width):
            if sky[y, x]:
                continue
            for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                v, u = y + dy, x + dx
                if v < 0 or u < 0 or v >= height or u >= width:
                    continue
                if not (sky[v, u] or _breaks(disparity, slopes, (y, x), (v, u))):
                    continue
                depth = 1 / disparity[y, x]
                run = _run(disparity, slopes, (y, x), (-dy, -dx), most)
                thick = min(run * depth / focal, _MOST_SIDE * depth)
                if not sky[v, u]:
                    thick = min(thick, 1 / disparity[v, u] - depth)
                for k in range(1, int(thick * focal / depth) + 1):
                    found.append((float(x), float(y), 1 / (depth + k * depth / focal), float(k)))
    out = np.empty((len(found), 4))
    for i in range(len(found)):
        for c in range(4):
            out[i, c] = found[i][c]
    return out


@kernel
def _continued_beyond(disparity: Array, sky: Array, slopes: Array, margin: int) -> Array:
    """Continue the surfaces at the border of the image beyond it; rows as `_sides` returns them."""
    height, width = disparity.shape
    out = np.zeros(((height + 2 * margin) * (width + 2 * margin), 4))
    count = 0
    for y in range(-margin, height + margin):
        for x in range(-margin, width + margin):
            row, column = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            way = math.sqrt(float((row - y) ** 2 + (column - x) ** 2))
            if way == 0 or way > margin or sky[row, column]:
                continue
            value = _plane_at(disparity, slopes, (row, column), y, x)
            if value > 0:
                out[count, 0], out[count, 1], out[count, 2], out[count, 3] = x, y, value, way
                count += 1
    return out[:count]

"""Where a camera may fly, as far as one view can tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.clearance import SurfaceDistance, subdivided
from worldstereo_cli.geometry.unseen import CoarseView

Array = np.ndarray[Any, Any]

TRUSTED_SHARE = 0.45
"""Space beside the view, which nobody saw, is taken for free this far from what was seen, as a share of
the distance at which the border on that side shows a surface: what stands there may well go on
towards the camera. The larger, the more a path can uncover, and the more often it meets something that
nobody saw; `worldstereo eval plan` tells both."""
TRUSTED_BELOW = 0.15
"""The same for how far a place lies below the view: things stand on the ground. A place that is level with
the photo's camera is not nearer to them, however near the ground beside the view is."""
_SAMPLES = 64
"""Places along the border that tell what lies beyond it."""
_SECTOR = math.cos(math.radians(60))
"""A border place speaks for what lies within 60 degrees of it, seen along the optical axis."""
_BELOW = 0.5
"""Sine of the angle under the horizontal from which a direction counts as downwards."""
_FLAT = 0.02
"""A window whose disparities deviate from a plane by less than this part shows a wall or a floor; that goes
on as far as nothing strays from it by more."""
_SURELY = 1 / 9
"""A wall of which so many metres were seen goes on for `_SURELY` times as many more with odds of nine to one:
who comes by at no special place sees any part of it alike. Gott, Implications of the Copernican principle for
our future prospects, 1993, of durations."""
_OVERHEAD = 0.5
"""A photo whose upper border shows sky for more than this part was taken in the open. Of eight photos that
were looked at, the six taken outdoors show 0.76 and more, the other two none."""
_WINDOW_PX = 5


class OpenSpace:
    """Tells places that are free from those that are not, or that nobody can vouch for.

    A place is open when it keeps clear of the cloud, and

    - inside the view, when the view sees past it: nothing behind a surface is open;
    - outside, when it is no farther from the view towards any side than `TRUSTED_SHARE` allows, and
      no lower than `TRUSTED_BELOW` does;
    - and before every wall or floor that leaves the view on its side, each continued as a plane
      where it is no longer seen.

    `lookout` asks for less.
    """

    def __init__(self, view: CoarseView, surface: SurfaceDistance, required_m: float) -> None:
        """Look along the border of a view.

        Args:
            view: The photo.
            surface: The lifted cloud.
            required_m: Distance that a camera keeps from every surface.
        """
        self._surface = surface
        self._required_m = required_m
        self._camera = view.camera
        depth = view.depth_m.double().cpu().numpy()
        # An object that is one sample wide is as much in the way as its neighbours are not.
        self._depth = ndimage.minimum_filter(depth, 3)
        self._border = _Border.found(depth, view.sky.cpu().numpy(), view.camera)

    def along(self, centres: Float[Tensor, "n 3"]) -> bool:
        """Tell whether a path, straight from centre to centre, stays in the open.

        Args:
            centres: At least two, world frame, metres.
        """
        return bool(self.open(subdivided(centres.detach().cpu().double(), self.step_m(centres))).all())

    def step_m(self, centres: Float[Tensor, "n 3"]) -> float:
        """Return how far apart places along a path may lie for nothing that matters to fit between."""
        way_m = float((centres[1:] - centres[:-1]).norm(dim=-1).sum())
        return max(0.5 * self._required_m, way_m / 5000, 1e-6)

    def open(self, places: Float[Tensor, "n 3"]) -> Bool[Tensor, n]:
        """Tell which places (world frame, metres) are open."""
        local = self._local(places)
        vouched = self._before(local, np.full(_SAMPLES, math.inf)) & self._near(local)
        return self.in_sight(places) & torch.from_numpy(vouched)

    def lookout(self, places: Float[Tensor, "n 3"]) -> Bool[Tensor, n]:
        """Tell which places (world frame, metres) are in sight, and before every wall that surely goes on.

        Walls of a room do: they meet. A facade, a hedge or a row of trees in the open ends somewhere, and
        is believed in only a short way beyond what was seen of it. How far places are from the view does
        not matter; nobody knows what else stands there.
        """
        border = self._border
        surely_m = _SURELY * border.seen_m if border.in_the_open else np.full(_SAMPLES, math.inf)
        return self.in_sight(places) & torch.from_numpy(self._before(self._local(places), surely_m))

    def in_sight(self, places: Float[Tensor, "n 3"]) -> Bool[Tensor, n]:
        """Tell which places (world frame, metres) keep clear of the cloud and are not behind it.

        Nobody vouches for those beside the view: people may look from there, paths must not go there.
        """
        local = self._local(places)
        inside, column, row = self._pixels(local)
        seen_past = np.where(inside, local[:, 2] < self._depth[row, column], True)
        return self._surface.clear(places, self._required_m) & torch.from_numpy(seen_past)

    def _local(self, places: Float[Tensor, "n 3"]) -> Array:
        pose = self._camera.camera_from_world[0].double().cpu()
        return np.asarray((places.detach().cpu().double() @ pose[:3, :3].T + pose[:3, 3]).numpy())

    def _pixels(self, local: Array) -> tuple[Array, Array, Array]:
        """Tell which places (camera frame) the view has a pixel for; return its column and row."""
        k = self._camera.intrinsics[0].double().cpu().numpy()
        depth = np.maximum(local[..., 2], 1e-9)
        u = k[0, 0] * local[..., 0] / depth + k[0, 2]
        v = k[1, 1] * local[..., 1] / depth + k[1, 2]
        width, height = self._camera.width_px, self._camera.height_px
        inside = (local[..., 2] > 0) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
        column, row = np.clip(u, 0, width - 1).astype(np.int64), np.clip(v, 0, height - 1).astype(np.int64)
        return inside, column, row

    def _before(self, local: Array, continued_m: Array) -> Array:
        """Tell which places lie before the walls and floors that leave the view, continued.

        Args:
            local: Places, camera frame.
            continued_m: How far beyond the border each of them goes on.
        """
        border = self._border
        inside = self._pixels(local)[0]
        # The camera stands on the positive side of every plane.
        height = local @ border.normals.T - (border.points * border.normals).sum(-1)
        foot = local[:, None] - height[..., None] * border.normals
        # Where the plane is in view, and so is the place, the cloud tells what there is.
        known = inside[:, None] & self._pixels(foot)[0]
        silent = _bearing(local, border.direction) <= _SECTOR
        beyond = np.linalg.norm(foot - border.points, axis=-1) > continued_m
        free = (height >= self._required_m) | ~border.wall | silent | known | beyond
        return np.asarray(free.all(axis=1))

    def _near(self, local: Array) -> Array:
        """Tell which places are near enough to what was seen."""
        border = self._border
        inside = self._pixels(local)[0]
        distance = np.linalg.norm(border.points, axis=-1)
        outside = _outside(local, border.points)[:, None]
        bearing = _bearing(local, border.direction)
        trusted = outside * bearing <= TRUSTED_SHARE * distance
        lower = outside * _bearing(local, np.array([[0.0, 1.0]])).clip(0)
        trusted &= (lower <= TRUSTED_BELOW * distance) | (border.direction[:, 1] <= _BELOW)
        return np.asarray((trusted | border.sky | (bearing <= _SECTOR) | inside[:, None]).all(axis=1))


def _bearing(local: Array, direction: Array) -> Array:
    """Return how much places lie in directions of the image plane: cosines, (places, directions)."""
    aside = np.linalg.norm(local[:, :2], axis=1, keepdims=True)
    cosine = local[:, :2] / np.maximum(aside, 1e-9) @ direction.T
    # Straight behind the camera no side is nearer than another: all of them speak.
    return np.asarray(np.where(aside < 0.2 * np.abs(local[:, 2:]), 1.0, cosine))


def _outside(local: Array, border: Array) -> Array:
    """Return how far places are from what was seen: from the nearest of the sight lines to the border."""
    ray = border / np.linalg.norm(border, axis=1, keepdims=True)
    along = np.clip(local @ ray.T, 0, np.linalg.norm(border, axis=1))
    squared = (local**2).sum(1)[:, None] - 2 * along * (local @ ray.T) + along**2
    return np.asarray(np.sqrt(squared.clip(0).min(axis=1)))


@dataclass(frozen=True, slots=True)
class _Border:
    """What leaves the view, at `_SAMPLES` places along its border; camera frame, metres."""

    points: Array
    normals: Array
    """Of the plane at each place, towards the camera."""
    wall: Array
    """Whether the surface there is a plane."""
    sky: Array
    direction: Array
    """From the centre of the image, (places, 2)."""
    seen_m: Array
    """How far a plane was seen, from its place towards the centre of the image."""

    @property
    def in_the_open(self) -> bool:
        """Whether the photo shows sky rather than a ceiling, where its border shows either."""
        return float(self.sky[self.direction[:, 1] < -_BELOW].mean()) > _OVERHEAD

    @staticmethod
    def found(depth: Array, sky: Array, camera: Cameras) -> _Border:
        """Fit a plane to the surface at each place."""
        height, width = depth.shape
        inverse = np.linalg.inv(camera.intrinsics[0].double().cpu().numpy())
        turn = np.linspace(0, 2 * math.pi, _SAMPLES, endpoint=False)
        centre = np.array([0.5 * width, 0.5 * height])
        # From the centre of the image outwards until a side is met.
        step = np.stack([np.cos(turn) * width, np.sin(turn) * height], -1)
        step *= 0.5 / np.maximum(np.abs(np.cos(turn)), np.abs(np.sin(turn)))[:, None]
        pixel = np.clip(step + centre, 0, [width - 1, height - 1]).astype(int)
        points, normals, seen_m = np.zeros((_SAMPLES, 3)), np.zeros((_SAMPLES, 3)), np.zeros(_SAMPLES)
        wall = np.zeros(_SAMPLES, bool)
        for i, (x, y) in enumerate(pixel):
            normals[i], wall[i] = _plane(1 / depth, sky, inverse, (x, y))
            inwards = np.linspace(pixel[i] + 0.5, centre, max(width, height), endpoint=False)
            column, row = inwards.astype(int).T
            rays = np.column_stack([column + 0.5, row + 0.5, np.ones(len(row))]) @ inverse.T
            met = rays * depth[row, column][:, None]
            points[i] = met[0]
            way_m = np.linalg.norm(met - met[0], axis=1)
            strays_m = np.abs((met - met[0]) @ normals[i])
            on_plane = strays_m <= _FLAT * (np.linalg.norm(met[0]) + way_m)
            on_plane &= ~sky[row, column]
            seen_m[i] = way_m[max(int(on_plane.cumprod().sum()) - 1, 0)]
        rays = np.column_stack([pixel + 0.5, np.ones(_SAMPLES)]) @ inverse.T
        direction = rays[:, :2] / np.linalg.norm(rays[:, :2], axis=1, keepdims=True)
        is_sky = sky[pixel[:, 1], pixel[:, 0]]
        return _Border(points, normals, wall & ~is_sky, is_sky, direction, seen_m)


def _plane(disparity: Array, sky: Array, inverse_k: Array, at: tuple[int, int]) -> tuple[Array, bool]:
    """Fit the plane of a border pixel's window; disparity is linear on a plane."""
    height, width = disparity.shape
    x, y = at
    rows = slice(max(0, y - _WINDOW_PX), min(height, y + _WINDOW_PX + 1))
    columns = slice(max(0, x - _WINDOW_PX), min(width, x + _WINDOW_PX + 1))
    v, u = np.mgrid[rows, columns]
    known = ~sky[rows, columns]
    if known.sum() < 0.7 * known.size:
        return np.array([0.0, 0.0, -1.0]), False
    pixels = np.stack([u[known] + 0.5, v[known] + 0.5, np.ones(int(known.sum()))], -1)
    rays = pixels @ inverse_k.T
    values = disparity[rows, columns][known]
    # Points x on the plane g . x = 1 have disparity g . ray.
    g, *_ = np.linalg.lstsq(rays, values, rcond=None)
    error = np.abs(rays @ g - values)
    is_flat = bool(np.median(error) < _FLAT * np.median(values)) and bool(np.linalg.norm(g) > 0)
    return -g / max(float(np.linalg.norm(g)), 1e-12), is_flat

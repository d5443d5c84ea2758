"""Which way is down: the ground that one depth map shows, and the rotation that levels the world."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.surface import surface_normals

MAX_TILT_RAD = math.radians(35.0)
"""People hold a camera upright within this; a plane tilted more is no floor."""

_ROLL_RAD, _PITCH_RAD = math.radians(10.0), math.radians(25.0)
"""How far cameras lean, one standard deviation; sideways less than up and down."""

_GRID_PX = 128
"""The plane is sought on a grid this long: pixel noise averages out, and it takes milliseconds."""

_NUM_CANDIDATES = 200
_THICKNESS = 0.03
"""A point is on the plane within this share of its depth: depth errors grow with depth."""
_MAX_TURN = math.cos(math.radians(25.0))
"""A point on the plane also faces the way the plane does, within this."""
_MIN_SUPPORT = 0.04
_SURE_SUPPORT = 0.2
"""Share of the known pixels that makes a ground at all, and one without doubt."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A level plane under the camera, or the lack of one."""

    down: Float[Tensor, 3]
    """Unit vector of gravity in camera coordinates; (0, 1, 0) if no ground was found."""
    camera_height_m: float | None
    """Height of the camera above the ground; None if no ground was found."""
    confidence: float
    """0 if no ground was found, 1 if a fifth of the picture is on it and it lies as floors do."""


def find_ground(points: Float[Tensor, "h w 3"], known: Bool[Tensor, "h w"]) -> Ground:
    """Find the ground plane of one view.

    Every few pixels propose the plane through them along their own normal. A plane scores by the
    points on it that face its way, less the points under it (a table has a floor below), and by how
    likely a camera leans so. The best is fitted to its points.

    Args:
        points: Camera coordinates, metres (or any unit), one for each pixel.
        known: Where the point is a measurement of a surface; sky is not.

    Source: consensus as in Fischler & Bolles, RANSAC, 1981; candidates are taken in order, so the
    result is deterministic.
    """
    step = max(1, max(known.shape) // _GRID_PX)
    points = points[step // 2 :: step, step // 2 :: step].double()
    known = known[step // 2 :: step, step // 2 :: step]
    none = Ground(torch.tensor([0.0, 1.0, 0.0]), None, 0.0)
    if min(known.shape) < 3:
        return none
    # Normals face the camera, so a floor's points up: gravity is its opposite.
    falls = -surface_normals(points)
    usable = known & (falls.norm(dim=-1) > 0.5)
    points, falls = points[usable], falls[usable]
    candidates = falls[:, 1] > math.cos(MAX_TILT_RAD)
    if int(candidates.sum()) < 3:
        return none
    proposed = torch.nonzero(candidates)[:, 0]
    proposed = proposed[:: max(1, len(proposed) // _NUM_CANDIDATES)]
    down, height = _best(points, falls, falls[proposed], (points[proposed] * falls[proposed]).sum(-1))
    for _ in range(3):
        on_it = _on_plane(points, falls, down[None], height[None])[0]
        if int(on_it.sum()) < 3:
            return none
        down, height = _fitted(points[on_it])
    support = float(_on_plane(points, falls, down[None], height[None])[0].double().mean())
    if support < _MIN_SUPPORT or float(down[1]) < math.cos(MAX_TILT_RAD) or float(height) <= 0:
        return none
    confidence = min(1.0, support / _SURE_SUPPORT) * float(_leaning(down[None])[0])
    return Ground(down.float(), float(height), confidence)


def level_rotation(down: Float[Tensor, 3]) -> Float[Tensor, "3 3"]:
    """Return the rotation from camera to a world whose +y is gravity and that keeps the heading.

    Roll and pitch are taken out; the camera still looks along +z as seen from above.

    Args:
        down: Unit vector of gravity in camera coordinates; not along the optical axis.
    """
    ahead = torch.tensor([0.0, 0.0, 1.0], dtype=down.dtype, device=down.device)
    forward = torch.nn.functional.normalize(ahead - (ahead @ down) * down, dim=0)
    right = torch.linalg.cross(down, forward)
    return torch.stack([right, down, forward])


def _best(
    points: Float[Tensor, "p 3"],
    falls: Float[Tensor, "p 3"],
    downs: Float[Tensor, "c 3"],
    heights: Float[Tensor, c],
) -> tuple[Float[Tensor, 3], Float[Tensor, ""]]:
    """Choose among candidate planes."""
    on_it = _on_plane(points, falls, downs, heights).double().mean(1)
    under = (downs @ points.T - heights[:, None] > 3 * _THICKNESS * points[:, 2]).double().mean(1)
    score = (on_it - under) * _leaning(downs)
    best = int(torch.where(heights > 0, score, -torch.inf).argmax())
    return downs[best], heights[best]


def _on_plane(
    points: Float[Tensor, "p 3"],
    falls: Float[Tensor, "p 3"],
    downs: Float[Tensor, "c 3"],
    heights: Float[Tensor, c],
) -> Bool[Tensor, "c p"]:
    near = (downs @ points.T - heights[:, None]).abs() < _THICKNESS * points[:, 2]
    return near & (downs @ falls.T > _MAX_TURN)


def _fitted(points: Float[Tensor, "p 3"]) -> tuple[Float[Tensor, 3], Float[Tensor, ""]]:
    """Fit a plane to points, each weighted as surely as it is known (one over depth)."""
    weight = 1.0 / points[:, 2:]
    middle = (weight * points).sum(0) / weight.sum()
    spread = weight * (points - middle)
    normal = torch.linalg.eigh(spread.T @ spread)[1][:, 0]
    normal = normal if float(normal[1]) > 0 else -normal
    return normal, normal @ middle


def _leaning(downs: Float[Tensor, "c 3"]) -> Float[Tensor, c]:
    """Rate how likely a camera is held so that gravity points there."""
    roll = torch.atan2(downs[:, 0], downs[:, 1])
    pitch = torch.atan2(downs[:, 2], downs[:, 1])
    return torch.exp(-0.5 * ((roll / _ROLL_RAD) ** 2 + (pitch / _PITCH_RAD) ** 2))

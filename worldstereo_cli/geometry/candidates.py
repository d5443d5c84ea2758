"""Camera paths that a planner may choose from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.paths import (
    Anchor,
    arc_towards,
    looking_at_pivot,
    orbit_both,
    preset_path,
    waypoint_tour,
)

AMOUNTS_DEG = (4.0, 6.0, 10.0, 15.0, 21.0, 28.0, 36.0)
"""How far a path swings around what is near, each step about 1.4 times the one before."""
_HEADINGS_DEG = tuple(range(0, 360, 30))
_NAMES = {0: "right", 90: "up", 180: "left", 270: "down"}
_LOOKS_DEG = (8.0, 14.0)
"""Turns of the head; these stay where the photo was taken, and are possible in the narrowest place."""
_AHEAD = (0.0, 0.15, 0.3, 0.45)
"""Steps of free moves ahead, in near depths; farther ahead the photo's pixels grow too coarse."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One path that could be flown."""

    name: str
    family: str
    cameras: Cameras


def mean_parallax_depth(depth_m: Float[Tensor, "h w"], surface: Tensor) -> float:
    """Return the depth at which a surface moves in the image as much as the picture does on average.

    It is the harmonic mean: what is near counts most, as it does when the camera moves sideways. A
    path scaled by it moves the picture alike whether a room or a valley is in front of the camera.

    Args:
        depth_m: Metres along the optical axis, positive.
        surface: True where that is measured.

    Raises:
        ValueError: There is no surface.
    """
    usable = surface.bool() & torch.isfinite(depth_m) & (depth_m > 0)
    if not bool(usable.any()):
        raise ValueError(f"Expected some surface, got none among {depth_m.numel()} pixels.")
    return float(1 / (1 / depth_m[usable].double()).mean())


def preset_candidates(anchor: Anchor, near_m: float, num_poses: int) -> list[Candidate]:
    """Build presets over headings and amounts.

    Args:
        anchor: The photo; orbits turn about its pivot.
        near_m: The depth that amounts are measured at: a path of 20 degrees moves the camera as far
            aside as an orbit of 20 degrees about a point so near.
        num_poses: Of each path.
    """
    ratio = min(1.0, near_m / anchor.median_depth_m)
    progress = torch.linspace(0, 1, num_poses, dtype=torch.float64)
    made = []
    for amount in AMOUNTS_DEG:
        aside_frac = ratio * math.tan(math.radians(amount))
        arc_rad = 2 * math.atan(0.5 * aside_frac)
        for heading in _HEADINGS_DEG:
            name = _NAMES.get(heading, f"arc{heading}")
            cameras = arc_towards(anchor, math.radians(heading), arc_rad, progress)
            made.append(_made(anchor, f"{name}:{amount:g}", "arc", cameras))
        made.append(_made(anchor, f"orbit:{amount:g}", "orbit", orbit_both(anchor, arc_rad, progress)))
        for name in ("lemniscate", "spiral", "eloop"):
            cameras = preset_path(name, anchor, aside_frac, num_poses)
            made.append(Candidate(f"{name}:{aside_frac:.3g}", name, cameras))
    for amount in _LOOKS_DEG:
        cameras = preset_path("look-around", anchor, amount, num_poses)
        made.append(Candidate(f"look-around:{amount:g}", "look-around", cameras))
    return made


def waypoints(near_m: float) -> Float[Tensor, "w 3"]:
    """Return places for free moves in the photo's camera frame: to all sides, at several depths ahead."""
    found = []
    for ahead in _AHEAD:
        if ahead > 0:
            found.append((0.0, 0.0, ahead * near_m))
        for amount in AMOUNTS_DEG:
            aside = near_m * math.tan(math.radians(amount))
            for heading in _HEADINGS_DEG:
                angle = math.radians(heading)
                found.append((aside * math.cos(angle), -aside * math.sin(angle), ahead * near_m))
    return torch.tensor(found, dtype=torch.float64)


def at_waypoints(anchor: Anchor, places: Float[Tensor, "w 3"]) -> Cameras:
    """Return a camera at every waypoint, looking at the pivot."""
    return looking_at_pivot(anchor, places)


def tour(
    anchor: Anchor, places: Float[Tensor, "w 3"], name: str, num_poses: int, *, closed: bool
) -> Candidate:
    """Fly from the photo through waypoints."""
    progress = torch.linspace(0, 1, num_poses, dtype=torch.float64)
    return _made(anchor, name, "tour", waypoint_tour(anchor, places, progress, closed=closed))


def _made(anchor: Anchor, name: str, family: str, cameras: Cameras) -> Candidate:
    # The first pose is the photo's camera to the last bit.
    cameras.world_from_camera[0] = anchor.camera.world_from_camera[0]
    return Candidate(name, family, cameras)

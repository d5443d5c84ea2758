"""One path of `plan`, as it was asked for: a preset by name and amount, or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldstereo_cli.artifacts.trajectory import TrajectoryRequest, read_trajectory
from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.clearance import SurfaceDistance
from worldstereo_cli.geometry.paths import PRESETS, Anchor, preset_path, rebased, scaled_translations
from worldstereo_cli.recipe import PlanRecipe

SHRINK = 2 / 3
MOST_SHRINKS = 5
"""After five times two thirds, a path is an eighth of what was asked: not worth a round."""

MOST_WAY_M = 1e6
"""Farther away, single precision is more than six centimetres: no place to look at a photo from."""


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What became of one requested trajectory."""

    name: str
    requested: str
    kept: float
    """Share of the requested amount that was kept; 0 when the path is left out."""
    clearance_m: float
    """Distance of the closest place of the path to the cloud."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Flight:
    """What the paths of one scene share."""

    anchor: Anchor
    near_m: float
    """The depth whose parallax is the picture's mean."""
    surface: SurfaceDistance
    required_m: float
    """Distance that cameras keep from the cloud."""
    recipe: PlanRecipe


def requested_path(request: TrajectoryRequest, flight: Flight) -> tuple[Cameras, PathFacts]:
    """Build a preset, shrunk until it keeps clear, or a path from a file as it is.

    Raises:
        InputError: An amount beyond all reason, or a file that cannot be read.
    """
    if request.file is not None:
        return _path_from_file(request.file, request, flight)
    kind = PRESETS[request.preset]
    usual = default_amount(request.preset, flight.recipe)
    amount = request.amount if request.amount is not None else usual
    if abs(amount) > kind.largest or (kind.unit == "factor" and amount <= 0):
        raise InputError(
            f"{request.text} asks for {amount:g} {kind.unit}; the largest is {kind.largest:g}.",
            remedy=f"For example {request.preset}:{usual:g}",
        )
    if request.amount is None and kind.moves:
        amount *= min(1.0, flight.near_m / flight.anchor.median_depth_m)
    kept, closest = 1.0, 0.0
    for _ in range(MOST_SHRINKS + 1):
        cameras = preset_path(
            request.preset, flight.anchor, kept * amount if kind.moves else amount, flight.recipe.num_poses
        )
        closest = closest_m(cameras, flight)
        if not kind.moves or closest >= flight.required_m:
            note = "" if kept == 1.0 else f"{request.text} was shrunk to {kept:.0%} to keep clear"
            return cameras, PathFacts(request.preset, request.text, kept, closest, note)
        kept *= SHRINK
    note = f"{request.text} comes within {closest:.2g} m of the scene even at {kept / SHRINK:.0%}"
    return cameras, PathFacts(request.preset, request.text, 0.0, closest, note)


def _path_from_file(file: Path, request: TrajectoryRequest, flight: Flight) -> tuple[Cameras, PathFacts]:
    """Carry a path from a file into this scene: same start, same size by cropping, own intrinsics."""
    photo = flight.anchor.camera
    trajectory = read_trajectory(file, photo)
    scaled = scaled_translations(trajectory.cameras, flight.recipe.scale)
    cameras = rebased(scaled, photo.world_from_camera[0]).cropped_to(photo.width_px, photo.height_px)
    farthest_m = float((cameras.centres - cameras.centres[0]).double().norm(dim=-1).max())
    if not farthest_m <= MOST_WAY_M:
        raise InputError(
            f"{file} leads {farthest_m:.2g} m away from the photo.",
            remedy="Say what its unit is: --set plan.scale=0.001 for millimetres, for example.",
        )
    closest = closest_m(cameras, flight)
    note = f"read as {trajectory.convention}"
    if closest < flight.required_m:
        note += f"; it comes within {closest:.2g} m of the scene, and is flown as it is"
    return cameras, PathFacts(request.preset, request.text, 1.0, closest, note)


def closest_m(cameras: Cameras, flight: Flight) -> float:
    """Return the distance to the cloud of the closest place on a path, metres."""
    # Half the required distance between places: no surface that matters fits in between unseen. The
    # floor keeps the count of places bounded when hardly any clearance is required.
    way_m = float((cameras.centres[1:] - cameras.centres[:-1]).norm(dim=-1).sum())
    return flight.surface.along(cameras.centres, max(0.5 * flight.required_m, way_m / 5000, 1e-6))


def default_amount(preset: str, recipe: PlanRecipe) -> float:
    """Return how far a preset goes when its amount is not given, in the preset's unit.

    Raises:
        ValueError: No preset has this name.
    """
    amounts = {
        "left": recipe.arc_deg,
        "right": recipe.arc_deg,
        "orbit": recipe.arc_deg,
        "up": recipe.up_deg,
        "eloop": recipe.loop_frac,
        "spiral": recipe.spiral_frac,
        "lemniscate": recipe.eight_frac,
        "forward": recipe.travel_frac,
        "backward": recipe.travel_frac,
        "strafe": recipe.side_frac,
        "rise": recipe.side_frac,
        "dolly-zoom": recipe.dolly_frac,
        "pan": recipe.pan_deg,
        "tilt": recipe.tilt_deg,
        "roll": recipe.roll_deg,
        "look-around": recipe.look_deg,
        "zoom": recipe.zoom_factor,
    }
    if preset not in amounts:
        raise ValueError(f"Expected a preset, got {preset!r}.")
    return amounts[preset]

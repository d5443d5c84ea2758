"""Camera paths around one photograph: where to go, in what frame, and how far.

Every path starts with the photo's camera, exactly. Orbits turn about the direction of gravity
(+y of the levelled world) or about a horizontal axis, through the pivot: the point at the scene's
median depth on the optical axis. Lengths are fractions of that median depth, so that a doll's
house and a valley are flown alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.rigid import invert_rigid, look_at, rotation_about

LOOP_ASPECT = 0.75
"""Width over height of the elliptic loop, as in the reconstruction examples that WorldStereo ships."""

_NEARLY_VERTICAL = math.cos(math.radians(30))
"""Cosine to gravity beyond which a view counts as one straight down or up. Its own axes are used
then: about gravity, such a camera would spin in place instead of orbiting."""

_LENGTH_STEPS = 1001
"""Pieces whose lengths make up that of a curve: a thousandth of the way is less than a pixel."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """What every path of a scene hangs on: the photo's camera and the scene's median depth."""

    camera: Cameras
    """The photo's camera, a path of one."""
    median_depth_m: float
    """Along the optical axis."""

    def __post_init__(self) -> None:
        if len(self.camera) != 1:
            raise ValueError(f"Expected one camera, got {len(self.camera)}.")
        if not (math.isfinite(self.median_depth_m) and self.median_depth_m > 0):
            raise ValueError(f"Expected a positive median depth, got {self.median_depth_m}.")

    @property
    def pose(self) -> Float[Tensor, "4 4"]:
        """`world_from_camera` of the photo, in float64 so that long paths stay rigid."""
        return self.camera.world_from_camera[0].double()

    @property
    def pivot(self) -> Float[Tensor, "3"]:
        """The point at median depth on the optical axis, metres, world frame."""
        return self.pose[:3, 3] + self.median_depth_m * self.pose[:3, 2]

    @property
    def level_axes(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"], Float[Tensor, "3"]]:
        """Right, down and forward, with `down` along gravity and the others horizontal.

        A camera that looks nearly straight down or up keeps its own axes.
        """
        right, down, forward = self.pose[:3, :3].unbind(-1)
        gravity = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64, device=right.device)
        if abs(float(forward @ gravity)) > _NEARLY_VERTICAL:
            return right, down, forward
        level_right = torch.nn.functional.normalize(torch.linalg.cross(gravity, forward), dim=0)
        return level_right, gravity, torch.linalg.cross(level_right, gravity)


def scene_median_depth(
    depth_m: Float[Tensor, "h w"], surface: Float[Tensor, "h w"] | Tensor, min_frac: float = 0.01
) -> float:
    """Return the median depth of the surface near the view centre.

    The central half of the width and height counts; where it shows hardly any surface (a sky
    between houses), the whole view does.

    Args:
        depth_m: Metres along the optical axis.
        surface: True where the depth is a measured surface, not sky and not an edge.
        min_frac: Share of the central window that must be surface for the window to count.

    Returns:
        Metres.

    Raises:
        ValueError: There is no surface with a positive, finite depth at all.
    """
    usable = surface.bool() & torch.isfinite(depth_m) & (depth_m > 0)
    height, width = depth_m.shape
    window = torch.zeros_like(usable)
    window[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    central = usable & window
    chosen = central if int(central.sum()) >= min_frac * int(window.sum()) else usable
    if not bool(chosen.any()):
        raise ValueError(f"Expected some surface, got none among {depth_m.numel()} pixels.")
    return float(depth_m[chosen].median())


Preset = Callable[[Anchor, float, Float[Tensor, "n"]], Cameras]
"""A path: from the anchor, an amount and progress values in [0, 1] to cameras."""


def arc_towards(anchor: Anchor, heading_rad: float, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Orbit about the pivot to any side: 0 is to the right, a quarter turn is upwards.

    The axis lies in the photo's level image plane, so that to the right this is `orbit_right`, and
    upwards `orbit_up`.
    """
    right, down, _ = anchor.level_axes
    axis = math.cos(heading_rad) * down + math.sin(heading_rad) * right
    return _turned(anchor, axis, -arc_rad * progress.double(), anchor.pivot)


def orbit_right(anchor: Anchor, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Orbit to the right about the vertical axis through the pivot; a negative arc goes left."""
    # Right-handed about `down`, a positive angle carries the camera to the left.
    return _turned(anchor, anchor.level_axes[1], -arc_rad * progress.double(), anchor.pivot)


def orbit_left(anchor: Anchor, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Orbit to the left about the vertical axis through the pivot."""
    return orbit_right(anchor, -arc_rad, progress)


def orbit_up(anchor: Anchor, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Rise on an arc about the horizontal axis through the pivot, and look down at it."""
    return _turned(anchor, anchor.level_axes[0], -arc_rad * progress.double(), anchor.pivot)


def orbit_both(anchor: Anchor, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Swing to the right, through the photo to the left, and back: `arc_rad` to either side."""
    angle = -arc_rad * torch.sin(2 * math.pi * progress.double())
    return _turned(anchor, anchor.level_axes[1], angle, anchor.pivot)


def elliptic_loop(anchor: Anchor, height_frac: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Fly an upright ellipse in the photo's image plane, looking at the pivot; end where it began.

    The photo's camera is the lowest point; the loop is `height_frac` median depths high.
    """
    angle = 2 * math.pi * progress.double()
    radius_y = 0.5 * height_frac * anchor.median_depth_m
    x = LOOP_ASPECT * radius_y * torch.sin(angle)
    y = radius_y * (torch.cos(angle) - 1)
    return looking_at_pivot(anchor, torch.stack([x, y, torch.zeros_like(x)], -1))


def spiral(anchor: Anchor, radius_frac: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Wind out and back in, two turns about the optical axis, looking at the pivot."""
    progress = progress.double()
    radius = radius_frac * anchor.median_depth_m * torch.sin(math.pi * progress)
    angle = 4 * math.pi * progress
    x, y = radius * torch.sin(angle), -radius * torch.cos(angle)
    return looking_at_pivot(anchor, torch.stack([x, y, torch.zeros_like(x)], -1))


def walk_forward(anchor: Anchor, length_frac: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Walk ahead, level, looking as the photo does; a negative length walks back."""
    return _shifted(anchor, anchor.level_axes[2], length_frac, progress)


def walk_backward(anchor: Anchor, length_frac: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Walk back, level, looking as the photo does."""
    return walk_forward(anchor, -length_frac, progress)


def strafe(anchor: Anchor, length_frac: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Step to the right, looking as the photo does; a negative length steps to the left."""
    return _shifted(anchor, anchor.level_axes[0], length_frac, progress)


def rise(anchor: Anchor, length_frac: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Go straight up, looking as the photo does; a negative length sinks."""
    return _shifted(anchor, -anchor.level_axes[1], length_frac, progress)


def pan(anchor: Anchor, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Stay and turn the head to the right; a negative arc turns left."""
    return _turned(anchor, anchor.level_axes[1], arc_rad * progress.double(), anchor.pose[:3, 3])


def tilt(anchor: Anchor, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Stay and look up; a negative arc looks down."""
    return _turned(anchor, anchor.level_axes[0], arc_rad * progress.double(), anchor.pose[:3, 3])


def zoom(anchor: Anchor, factor: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Stay and lengthen the focal length by `factor`, evenly to the eye; below 1 widens the view.

    Raises:
        ValueError: The factor is not positive.
    """
    if factor <= 0:
        raise ValueError(f"Expected a positive zoom factor, got {factor}.")
    cameras = _path(anchor, anchor.pose.expand(len(progress), 4, 4))
    cameras.intrinsics[:, [0, 1], [0, 1]] *= (factor ** progress.double())[:, None].to(
        cameras.intrinsics.dtype
    )
    return cameras


def lemniscate(anchor: Anchor, half_width_frac: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Fly an eight that lies on its side, looking at the pivot; its crossing is the photo's camera.

    Source: the lemniscate of Gerono, half as high as it is wide.
    """
    angle = 2 * math.pi * progress.double()
    radius = half_width_frac * anchor.median_depth_m
    x, y = radius * torch.sin(angle), -0.5 * radius * torch.sin(2 * angle)
    return looking_at_pivot(anchor, torch.stack([x, y, torch.zeros_like(x)], -1))


def roll(anchor: Anchor, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Stay and turn about the optical axis, clockwise as the picture is seen from the camera."""
    return _turned(anchor, anchor.pose[:3, 2], arc_rad * progress.double(), anchor.pose[:3, 3])


def look_around(anchor: Anchor, arc_rad: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Stay and look to the right, to the left, and home again, a little upwards on both sides."""
    progress = progress.double()
    across, _, _ = anchor.level_axes
    yaw = arc_rad * torch.sin(2 * math.pi * progress)
    # A third of the way up: people look along the horizon.
    pitch = arc_rad / 3 * torch.sin(2 * math.pi * progress) ** 2
    turned = rotation_about(anchor.level_axes[1], yaw) @ rotation_about(across, pitch)
    poses = anchor.pose.repeat(len(progress), 1, 1)
    poses[:, :3, :3] = turned @ anchor.pose[:3, :3]
    return _path(anchor, poses)


def dolly_zoom(anchor: Anchor, length_frac: float, progress: Float[Tensor, "n"]) -> Cameras:
    """Go ahead along the optical axis and widen the lens so that the pivot keeps its size.

    A negative length goes back and lengthens the focal length. Each pose has its own intrinsics.

    Raises:
        ValueError: The way reaches the pivot.
    """
    if length_frac >= 1:
        raise ValueError(f"Expected a way shorter than to the pivot, got {length_frac} of it.")
    cameras = _shifted(anchor, anchor.pose[:3, 2], length_frac, progress)
    left = 1 - length_frac * progress.double()
    cameras.intrinsics[:, [0, 1], [0, 1]] *= left[:, None].to(cameras.intrinsics.dtype)
    return cameras


def waypoint_tour(
    anchor: Anchor, waypoints: Float[Tensor, "w 3"], progress: Float[Tensor, "n"], *, closed: bool = False
) -> Cameras:
    """Fly from the photo through waypoints on a smooth curve, looking at the pivot.

    Args:
        anchor: Where the tour starts.
        waypoints: At least one, in the photo's camera frame, metres; none of them at the pivot.
        progress: In [0, 1]; equal steps are equal ways.
        closed: Come back to the photo, in the direction of the start.

    Raises:
        ValueError: Two places that follow each other are one.
    """
    start = torch.zeros(1, 3, dtype=torch.float64)
    places = torch.cat([start, waypoints.double().cpu(), *([start] if closed else [])]).numpy()
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])
    if (np.diff(way) <= 0).any():
        raise ValueError("Expected places apart from each other.")
    curve = CubicSpline(way / way[-1], places, bc_type="periodic" if closed else "natural")
    # The spline hurries where places are far apart; its own length tells where equal ways end.
    fine = np.linspace(0, 1, _LENGTH_STEPS)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve(fine), axis=0), axis=1))])
    even = np.interp(progress.double().cpu().numpy() * length[-1], length, fine)
    return looking_at_pivot(anchor, torch.from_numpy(curve(even)))


@dataclass(frozen=True, slots=True)
class PresetKind:
    """A named path and what its amount means."""

    build: Preset
    unit: str
    """`deg`, `depths` (of the scene's median) or `factor`."""
    largest: float
    """Beyond this magnitude the amount is a slip of the pen."""
    moves: bool = True
    """False where the camera stays at the photo's place, so that nothing can be bumped into."""


PRESETS: dict[str, PresetKind] = {
    "eloop": PresetKind(elliptic_loop, "depths", 2.0),
    "up": PresetKind(orbit_up, "deg", 90.0),
    "right": PresetKind(orbit_right, "deg", 360.0),
    "left": PresetKind(orbit_left, "deg", 360.0),
    "orbit": PresetKind(orbit_both, "deg", 180.0),
    "spiral": PresetKind(spiral, "depths", 2.0),
    "forward": PresetKind(walk_forward, "depths", 10.0),
    "backward": PresetKind(walk_backward, "depths", 10.0),
    "strafe": PresetKind(strafe, "depths", 10.0),
    "rise": PresetKind(rise, "depths", 10.0),
    "pan": PresetKind(pan, "deg", 360.0, moves=False),
    "tilt": PresetKind(tilt, "deg", 90.0, moves=False),
    "lemniscate": PresetKind(lemniscate, "depths", 2.0),
    "dolly-zoom": PresetKind(dolly_zoom, "depths", 0.9),
    "roll": PresetKind(roll, "deg", 360.0, moves=False),
    "look-around": PresetKind(look_around, "deg", 90.0, moves=False),
    "zoom": PresetKind(zoom, "factor", 10.0, moves=False),
}
"""Every path that has a name."""


def preset_path(name: str, anchor: Anchor, amount: float, num_poses: int) -> Cameras:
    """Build a named path of evenly spaced poses; the first is the photo's camera to the last bit.

    Args:
        name: A key of `PRESETS`.
        anchor: The photo's camera and the scene's median depth.
        amount: In the unit of the preset: degrees, median depths or a factor.
        num_poses: At least 2.

    Raises:
        ValueError: Fewer than two poses.
        KeyError: No preset has this name.
    """
    if num_poses < 2:
        raise ValueError(f"Expected at least 2 poses, got {num_poses}.")
    kind = PRESETS[name]
    progress = torch.linspace(0, 1, num_poses, dtype=torch.float64, device=anchor.camera.intrinsics.device)
    cameras = kind.build(anchor, math.radians(amount) if kind.unit == "deg" else amount, progress)
    cameras.world_from_camera[0] = anchor.camera.world_from_camera[0]
    return cameras


def scaled_translations(cameras: Cameras, factor: float) -> Cameras:
    """Return the path in another unit: positions times `factor`, directions as they are."""
    poses = cameras.world_from_camera.clone()
    poses[:, :3, 3] *= factor
    return Cameras(poses, cameras.intrinsics, cameras.width_px, cameras.height_px)


def rebased(cameras: Cameras, first: Float[Tensor, "4 4"]) -> Cameras:
    """Move a path rigidly so that its first pose is `first` (`world_from_camera`)."""
    poses = cameras.world_from_camera.double()
    moved = (first.double() @ invert_rigid(poses[0]) @ poses).to(first.dtype)
    moved[0] = first
    return Cameras(moved, cameras.intrinsics, cameras.width_px, cameras.height_px)


def _path(anchor: Anchor, poses: Float[Tensor, "n 4 4"]) -> Cameras:
    camera = anchor.camera
    return Cameras(
        poses.to(camera.world_from_camera.dtype).clone(),
        camera.intrinsics.expand(len(poses), 3, 3).clone(),
        camera.width_px,
        camera.height_px,
    )


def _turned(
    anchor: Anchor, axis: Float[Tensor, "3"], angle_rad: Float[Tensor, "n"], about: Float[Tensor, "3"]
) -> Cameras:
    """Turn the photo's camera rigidly about an axis through a point."""
    rotation = rotation_about(axis, angle_rad)
    poses = torch.zeros(len(angle_rad), 4, 4, dtype=torch.float64, device=axis.device)
    poses[:, :3, :3] = rotation @ anchor.pose[:3, :3]
    poses[:, :3, 3] = (rotation @ (anchor.pose[:3, 3] - about)) + about
    poses[:, 3, 3] = 1.0
    return _path(anchor, poses)


def _shifted(
    anchor: Anchor, direction: Float[Tensor, "3"], length_frac: float, progress: Float[Tensor, "n"]
) -> Cameras:
    """Move the photo's camera along a straight line without turning it."""
    poses = anchor.pose.repeat(len(progress), 1, 1)
    poses[:, :3, 3] += (length_frac * anchor.median_depth_m * progress.double())[:, None] * direction
    return _path(anchor, poses)


def looking_at_pivot(anchor: Anchor, centres_camera: Float[Tensor, "n 3"]) -> Cameras:
    """Place cameras in the photo's camera frame, all looking at the pivot, upright in that frame."""
    down = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64, device=centres_camera.device)
    pivot = torch.zeros_like(centres_camera)
    pivot[:, 2] = anchor.median_depth_m
    return _path(anchor, anchor.pose @ look_at(centres_camera, pivot, down))

"""Camera paths from other programs: what their files say, checked, in our convention.

A file has to say which way its matrices map. `w2c`, `c2w`, our own `world_from_camera`, the
`transform_matrix` of a nerfstudio transforms.json and the `extrinsic` of a WorldStereo
camera.json do; a bare `poses` does not, and guessing wrong turns a path inside out, so it is
refused.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.paths import PRESETS

Array = NDArray[np.float64]

_WORLD_TO_CAMERA = ("w2c", "w2cs", "camera_from_world", "world_to_camera", "extrinsic")
"""Keys that state world-to-camera; WorldStereo's camera.json documents `extrinsic` as such."""
_CAMERA_TO_WORLD = ("c2w", "c2ws", "world_from_camera", "camera_to_world", "cam_c2w")
_INTRINSICS = ("intrinsics", "intrinsic", "K", "Ks")
_AMBIGUOUS = ("poses", "pose", "extrinsics", "matrices", "cameras", "transforms", "RT")
_RIGID_TOLERANCE = 1e-3
"""Files carry rotations rounded to four digits; anything farther off is scaled or sheared."""
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_FORMATS = (
    "Pass a WorldStereo camera.json (extrinsic, intrinsic), a nerfstudio transforms.json, or .npz / .json"
    " with w2c or c2w (n 4 4, OpenCV axes) and, if it has its own, intrinsics (n 3 3, pixels), width, height."
)


AUTO = "auto"
"""Asks the planner to choose."""


@dataclass(frozen=True, slots=True)
class TrajectoryRequest:
    """What a user asked for: a preset, perhaps with an amount, or a file."""

    text: str
    """As written."""
    preset: str
    """The preset, or for a file the name that its path gets."""
    amount: float | None = None
    file: Path | None = None


def parse_trajectory(text: str) -> TrajectoryRequest:
    """Understand `auto`, `orbit`, `orbit:40` or the path of a trajectory file.

    Raises:
        InputError: It is neither, or the amount is not a finite number.
    """
    if text == AUTO:
        return TrajectoryRequest(text, AUTO)
    preset, separator, amount = text.partition(":")
    if preset in PRESETS:
        try:
            value = float(amount) if separator else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            raise InputError(
                f"{text}: {amount!r} is not an amount.", remedy=f"Write {preset}, or {preset}:10 for example."
            )
        return TrajectoryRequest(text, preset, value)
    file = Path(text)
    if not file.is_file():
        close = get_close_matches(preset, PRESETS, 1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise InputError(
            f"{text!r} is neither a preset nor a file.",
            remedy=f"{meant}Use {AUTO}, a preset: {', '.join(PRESETS)}; or the path of a trajectory file.",
        )
    # A camera.json is named for its directory: several of them tell nothing apart otherwise.
    generic = file.stem in ("camera", "cameras", "transforms", "trajectory") and file.resolve().parent.name
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", str(generic or file.stem)).strip("_")
    return TrajectoryRequest(text, name or "file", None, file)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A path as its file tells it: own world, own unit, own image size."""

    cameras: Cameras
    convention: str
    """How the matrices were understood, for people."""


def read_trajectory(path: Path, photo: Cameras) -> Trajectory:
    """Read a camera path that another program wrote.

    Args:
        path: A WorldStereo camera.json, a nerfstudio transforms.json, or a .json / .npz that names
            its matrices `w2c` or `c2w`.
        photo: The photo's camera, whose intrinsics and size stand in where the file has none.

    Returns:
        The cameras with exactly orthonormal rotations, in the file's own world and image size; poses in
        double precision.

    Raises:
        InputError: The file cannot be read, does not state its convention, or holds no path: fewer
            than two poses, values that are not finite, matrices that are not rigid, intrinsics
            that are not pixels, no image size.
    """
    data = _load(path)
    if "frames" in data:
        return _from_transforms(path, data)
    return _from_named_matrices(path, data, photo)


def _load(path: Path) -> Mapping[str, Any]:
    """Read the file as a mapping of names to values."""
    try:
        if path.suffix == ".npz":
            # numpy takes whatever is no archive for a pickle, and advises to open it as one.
            if path.is_file() and not zipfile.is_zipfile(path):
                raise zipfile.BadZipFile("it is no .npz archive.")
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix != ".json":
            raise InputError(f"{path} is not a trajectory file that can be read.", remedy=_FORMATS)
        # Editors of Windows begin a text with a mark of its encoding.
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, EOFError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a trajectory: {error}", remedy=_FORMATS) from error
    if not isinstance(data, dict):
        raise InputError(
            f"{path} holds a bare {type(data).__name__}, which does not say whether its matrices map the"
            " world to the camera or back.",
            remedy='Wrap it as {"w2c": ...} or {"c2w": ...}; add its intrinsics, width, height if any.',
        )
    return data


def _from_named_matrices(path: Path, data: Mapping[str, Any], photo: Cameras) -> Trajectory:
    """Read matrices whose key states the direction; axes are OpenCV's."""
    forward = [name for name in _WORLD_TO_CAMERA if name in data]
    backward = [name for name in _CAMERA_TO_WORLD if name in data]
    if len(forward) + len(backward) != 1:
        found = [name for name in _AMBIGUOUS if name in data]
        if forward or backward:
            problem = f"{path} names its matrices more than once: {', '.join(forward + backward)}."
        elif found:
            problem = f"{path} calls its matrices {found[0]!r}, which does not say which way they map."
        else:
            problem = f"{path} holds no camera matrices; its keys are {', '.join(list(data)[:8]) or 'none'}."
        raise InputError(
            problem, remedy="Name them w2c (world to camera) or c2w (camera to world). " + _FORMATS
        )
    key = (forward + backward)[0]
    matrices = _rigid(path, key, _array(path, key, data[key]))
    poses = _inverted(matrices) if forward else matrices
    convention = f"{key}: {'world to camera' if forward else 'camera to world'}, OpenCV axes"
    name = next((n for n in _INTRINSICS if n in data), None)
    if name is None:
        intrinsics = photo.intrinsics[:1].expand(len(poses), 3, 3).double().cpu().numpy()
        convention += "; no intrinsics, so the photo's"
        return _trajectory(poses, intrinsics, photo.width_px, photo.height_px, convention)
    intrinsics = _intrinsics(path, name, data[name], len(poses))
    width, height = _image_size(path, data, intrinsics)
    return _trajectory(poses, intrinsics, width, height, convention)


def _from_transforms(path: Path, data: Mapping[str, Any]) -> Trajectory:
    """Read nerfstudio's transforms.json: camera to world, OpenGL axes, intrinsics per file or frame."""
    frames = data["frames"]
    if not isinstance(frames, list) or not all(
        isinstance(f, dict) and "transform_matrix" in f for f in frames
    ):
        raise InputError(f"{path} has frames without a transform_matrix.", remedy=_FORMATS)
    if str(data.get("camera_model", "OPENCV")) not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE"):
        raise InputError(
            f"{path} uses the camera model {data['camera_model']}.", remedy="Undistort to PINHOLE first."
        )
    for name in ("k1", "k2", "k3", "k4", "p1", "p2"):
        if any(place.get(name, 0) != 0 for place in (data, *frames)):
            raise InputError(
                f"{path} has lens distortion ({name}); our cameras are pinholes.",
                remedy="Undistort the images and their transforms.json first.",
            )
    matrices = _array(path, "transform_matrix", [f["transform_matrix"] for f in frames])
    poses = _rigid(path, "transform_matrix", matrices) @ _OPENCV_FROM_OPENGL
    views = [_transforms_view(path, {**data, **frame}) for frame in frames]
    sizes = {(width, height) for _, width, height in views}
    if len(sizes) != 1:
        raise InputError(
            f"{path} mixes image sizes: {sorted(sizes)}.", remedy="Keep the frames of one size in the file."
        )
    width, height = sizes.pop()
    return _trajectory(
        poses, np.stack([k for k, _, _ in views]), width, height, "camera to world, OpenGL axes"
    )


def _transforms_view(path: Path, values: Mapping[str, Any]) -> tuple[Array, int, int]:
    """Read one frame's intrinsics and size; the frame's own values go before the file's."""
    try:
        width, height = int(values["w"]), int(values["h"])
        if "fl_x" in values:
            focal_x = float(values["fl_x"])
        else:
            focal_x = 0.5 * width / float(np.tan(0.5 * float(values["camera_angle_x"])))
        focal_y = float(values.get("fl_y", focal_x))
        centre = float(values.get("cx", width / 2)), float(values.get("cy", height / 2))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{path} lacks intrinsics or image size: {error}.",
            remedy="Add w, h and fl_x (or camera_angle_x) to it.",
        ) from error
    if min(width, height) < 1:
        raise InputError(
            f"{path} has an image size of {width}x{height}.", remedy="Give w and h in pixels, positive."
        )
    matrix = np.array([[focal_x, 0, centre[0]], [0, focal_y, centre[1]], [0, 0, 1]], dtype=np.float64)
    _check_pixels(path, matrix[None])
    return matrix, width, height


def _array(path: Path, name: str, value: object) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {name} is not a block of numbers: {error}", remedy=_FORMATS) from error
    if not np.isfinite(array).all():
        raise InputError(
            f"{path}: {name} holds {int((~np.isfinite(array)).sum())} values that are not finite.",
            remedy="Write the trajectory again, without NaN or infinity.",
        )
    return array


def _rigid(path: Path, name: str, matrices: Array) -> Array:
    """Check a stack of rigid matrices and return it (n 4 4) with rotations made exactly orthonormal."""
    if matrices.ndim != 3 or matrices.shape[1:] not in ((3, 4), (4, 4)):
        raise InputError(
            f"{path}: {name} has shape {matrices.shape}, but (n 4 4) or (n 3 4) was expected.",
            remedy=_FORMATS,
        )
    if len(matrices) < 2:
        raise InputError(
            f"{path} holds {len(matrices)} poses, but a path has two or more.", remedy="Add poses to it."
        )
    rotation = matrices[:, :3, :3]
    left, _, right = np.linalg.svd(rotation)
    nearest = left @ right
    skewed = np.abs(rotation - nearest).max(axis=(1, 2)) > _RIGID_TOLERANCE
    mirrored = np.linalg.det(nearest) < 0
    last_row = np.abs(matrices[:, 3:] - np.array([0.0, 0.0, 0.0, 1.0])).max(axis=(1, 2), initial=0.0) > 1e-6
    for bad, what in (
        (last_row, "has a last row that is not (0, 0, 0, 1)"),
        (skewed, "scales or shears"),
        (mirrored, "mirrors"),
    ):
        if bad.any():
            raise InputError(
                f"{path}: {name} {int(bad.argmax())} of {len(matrices)} {what}, so it is no rigid motion.",
                remedy="Each matrix must be a rotation and a translation; a row-vector matrix is transposed.",
            )
    result = np.tile(np.eye(4), (len(matrices), 1, 1))
    result[:, :3, :3] = nearest
    result[:, :3, 3] = matrices[:, :3, 3]
    return result


def _inverted(matrices: Array) -> Array:
    rotation = matrices[:, :3, :3].transpose(0, 2, 1)
    inverse = np.tile(np.eye(4), (len(matrices), 1, 1))
    inverse[:, :3, :3] = rotation
    inverse[:, :3, 3] = -(rotation @ matrices[:, :3, 3:])[..., 0]
    return inverse


def _intrinsics(path: Path, name: str, value: object, count: int) -> Array:
    matrix = _array(path, name, value)
    if matrix.shape == (3, 3):
        matrix = np.tile(matrix, (count, 1, 1))
    if matrix.shape != (count, 3, 3):
        raise InputError(
            f"{path}: {name} has shape {matrix.shape} for {count} poses.", remedy="Expected (n 3 3) or (3 3)."
        )
    _check_pixels(path, matrix)
    return matrix


def _check_pixels(path: Path, intrinsics: Array) -> None:
    focal = intrinsics[:, [0, 1], [0, 1]]
    if not np.isfinite(intrinsics).all():
        raise InputError(
            f"{path} has intrinsics that are not finite.", remedy="Give focal length and centre in pixels."
        )
    if (focal <= 0).any():
        raise InputError(
            f"{path} has a focal length of {focal.min():g}.", remedy="Give it in pixels, positive."
        )
    if (focal < 10).any():
        raise InputError(
            f"{path} has a focal length of {focal.min():g}, which looks like a share of the image size.",
            remedy="Multiply the first row of the intrinsics by the width and the second by the height.",
        )
    off = np.abs(intrinsics - intrinsics * np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]])).max()
    if off > 1e-6 or np.abs(intrinsics[:, 2, 2] - 1).max() > 1e-6:
        raise InputError(
            f"{path} has intrinsics that are not (fx 0 cx; 0 fy cy; 0 0 1).", remedy="Skew is not supported."
        )


def _image_size(path: Path, data: Mapping[str, Any], intrinsics: Array) -> tuple[int, int]:
    """Read the image size, or twice the principal point where the file gives that alone.

    WorldStereo's camera.json may leave the size out; its principal point is the middle of the
    image, which is a size when it comes out in whole pixels.
    """
    sizes = []
    for axis, names in enumerate(
        (("width", "image_width", "width_px"), ("height", "image_height", "height_px"))
    ):
        name = next((n for n in names if n in data), None)
        if name is not None:
            values = np.unique(_array(path, name, data[name]))
        else:
            values = np.unique(2 * intrinsics[:, axis, 2])
        if len(values) != 1 or values[0] < 1 or values[0] != round(values[0]):
            raise InputError(
                f"{path} does not state one image size in pixels.", remedy="Add width and height to it."
            )
        sizes.append(int(values[0]))
    return sizes[0], sizes[1]


def _trajectory(poses: Array, intrinsics: Array, width: int, height: int, convention: str) -> Trajectory:
    # Positions stay double until the path is rebased: in the millions of metres of a map's grid, single
    # precision is half a metre.
    cameras = Cameras(torch.from_numpy(poses), torch.from_numpy(intrinsics).float(), width, height)
    return Trajectory(cameras, convention)

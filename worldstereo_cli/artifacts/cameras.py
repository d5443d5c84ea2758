"""Cameras as JSON: `world_from_camera`, intrinsics in pixels, image size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from worldstereo_cli.artifacts.manifest import write_json
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cameras import Cameras


def cameras_to_json(cameras: Cameras) -> dict[str, Any]:
    """Describe cameras with the convention spelled out in the keys."""
    return {
        "convention": "OpenCV: +x right, +y down, +z forward; metres; pixel centres at +0.5",
        "width_px": cameras.width_px,
        "height_px": cameras.height_px,
        "world_from_camera": cameras.world_from_camera.tolist(),
        "intrinsics": cameras.intrinsics.tolist(),
    }


def cameras_from_json(data: dict[str, Any], path: Path) -> Cameras:
    """Read what `cameras_to_json` wrote.

    Args:
        data: The parsed object.
        path: Where it came from, for the message.

    Raises:
        ArtifactError: A key is missing or a shape is wrong.
    """
    try:
        return Cameras(
            torch.tensor(data["world_from_camera"], dtype=torch.float32).reshape(-1, 4, 4),
            torch.tensor(data["intrinsics"], dtype=torch.float32).reshape(-1, 3, 3),
            int(data["width_px"]),
            int(data["height_px"]),
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{path} does not hold cameras: {error}", remedy="Run the stage that wrote it again with --force."
        ) from error


def write_cameras(path: Path, cameras: Cameras) -> None:
    """Write cameras as a JSON file."""
    write_json(path, cameras_to_json(cameras))


def read_cameras(path: Path) -> Cameras:
    """Read cameras from a JSON file.

    Raises:
        ArtifactError: It is missing, damaged or holds something else.
    """
    return cameras_from_json(read_json(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that a stage wrote.

    Raises:
        ArtifactError: It is missing, damaged or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"{path} cannot be read: {error}", remedy="Run the stage that wrote it again with --force."
        ) from error
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} does not hold an object.", remedy="Run the stage that wrote it again.")
    return data

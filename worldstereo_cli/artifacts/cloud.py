"""Clouds as PLY files that common viewers open, and what a round removes from one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cloud import Cloud

_VERTEX = np.dtype(
    [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"),
        ("confidence", "<f4"), ("spacing", "<f4"), ("round", "<i4"), ("sky", "u1"),
    ]
)  # fmt: skip
_REMEDY = "Run the stage that wrote it again with --force."
_PLY_NAMES = {"f4": "float", "u1": "uchar", "i4": "int"}


def write_cloud(path: Path, cloud: Cloud) -> None:
    """Write a cloud as binary PLY: position, colour, and per point confidence, spacing, round, sky."""
    vertices = np.empty(len(cloud), _VERTEX)
    points = cloud.points.detach().cpu().numpy()
    colours = (cloud.colors.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    for column, name in enumerate(("x", "y", "z")):
        vertices[name] = points[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertices[name] = colours[:, column]
    vertices["confidence"] = cloud.confidence.detach().cpu().numpy()
    vertices["spacing"] = cloud.spacing_m.detach().cpu().numpy()
    vertices["round"] = cloud.round_index.detach().cpu().numpy()
    vertices["sky"] = cloud.sky.detach().cpu().numpy()
    with path.open("wb") as stream:
        stream.write(_header(len(cloud)))
        stream.write(vertices.tobytes())


def read_cloud(path: Path) -> Cloud:
    """Read a cloud that `write_cloud` wrote.

    Raises:
        ArtifactError: The file is missing, truncated, or not such a cloud.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}", remedy=_REMEDY) from error
    end = data.find(b"end_header\n") + len(b"end_header\n")
    count_line = next((line for line in data[:end].split(b"\n") if line.startswith(b"element vertex ")), b"")
    count = int(count_line.split()[-1]) if count_line else -1
    if count < 0 or data[:end] != _header(count) or len(data) != end + count * _VERTEX.itemsize:
        raise ArtifactError(f"{path} is not a whole cloud of this version.", remedy=_REMEDY)
    v = np.frombuffer(data, _VERTEX, count, end)
    return Cloud(
        torch.from_numpy(np.stack([v["x"], v["y"], v["z"]], 1)),
        torch.from_numpy(np.stack([v["red"], v["green"], v["blue"]], 1)).float() / 255,
        torch.from_numpy(v["confidence"].copy()),
        torch.from_numpy(v["round"].copy()),
        torch.from_numpy(v["spacing"].copy()),
        torch.from_numpy(v["sky"].copy()).bool(),
    )


def write_removed(path: Path, removed: Int[Tensor, " r"]) -> None:
    """Write indices of points that a round removes from the cloud before it, as .npy of int64."""
    np.save(path, removed.cpu().numpy().astype(np.int64), allow_pickle=False)


def read_removed(path: Path) -> Int[Tensor, " r"]:
    """Read what `write_removed` wrote.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    try:
        indices = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", remedy=_REMEDY) from error
    if indices.dtype != np.int64 or indices.ndim != 1:
        raise ArtifactError(f"{path} holds no list of points.", remedy=_REMEDY)
    return torch.from_numpy(indices)


def _header(count: int) -> bytes:
    properties = "".join(f"property {_PLY_NAMES[_VERTEX[n].str[1:]]} {n}\n" for n in _VERTEX.names or ())
    return (
        "ply\nformat binary_little_endian 1.0\n"
        "comment worldstereo cloud, metres, +x right +y down +z forward\n"
        f"element vertex {count}\n{properties}end_header\n"
    ).encode()

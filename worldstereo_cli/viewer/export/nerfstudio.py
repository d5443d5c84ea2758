"""A scene as a nerfstudio dataset: transforms.json, images and a sparse point cloud."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldstereo_cli.artifacts.manifest import write_json
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.viewer.export.frames import PosedFrame, posed_frames, sparse_cloud

_Z_UP_FROM_WORLD = torch.tensor(
    [[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64
)
"""nerfstudio's worlds have +z up: x stays, forward becomes +y, down becomes -z."""
_OPENCV_FROM_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))

_VERTEX = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])


def write_nerfstudio(scene_dir: Path, root: Path) -> None:
    """Write `transforms.json`, `images/` and `sparse_pc.ply`.

    Matrices are camera to world with OpenGL axes, metres, in a world with +z up; `applied_transform`
    says how that world came from ours.

    Args:
        scene_dir: A finished scene.
        root: The directory to make.

    Raises:
        ArtifactError: The scene is not finished.
    """
    frames = posed_frames(scene_dir)
    (root / "images").mkdir(parents=True)
    for frame in frames:
        shutil.copyfile(frame.image, root / "images" / frame.name)
    transforms = {
        "camera_model": "OPENCV",
        "applied_transform": _Z_UP_FROM_WORLD[:3].tolist(),
        "ply_file_path": "sparse_pc.ply",
        "frames": [_frame(frame) for frame in frames],
    }
    write_json(root / "transforms.json", transforms)
    (root / "sparse_pc.ply").write_bytes(_point_cloud(sparse_cloud(scene_dir)))


def _frame(frame: PosedFrame) -> dict[str, Any]:
    k = frame.camera.intrinsics[0].double()
    matrix = _Z_UP_FROM_WORLD @ frame.camera.world_from_camera[0].double() @ _OPENCV_FROM_OPENGL
    return {
        "file_path": f"images/{frame.name}",
        "w": frame.camera.width_px,
        "h": frame.camera.height_px,
        "fl_x": float(k[0, 0]),
        "fl_y": float(k[1, 1]),
        "cx": float(k[0, 2]),
        "cy": float(k[1, 2]),
        "transform_matrix": matrix.tolist(),
    }


def _point_cloud(cloud: Cloud) -> bytes:
    vertices = np.empty(len(cloud), _VERTEX)
    points = (cloud.points.double() @ _Z_UP_FROM_WORLD[:3, :3].T).numpy()
    colours = (cloud.colors.clamp(0, 1) * 255).round().byte().numpy()
    for column in range(3):
        vertices["xyz"[column]] = points[:, column]
        vertices[("red", "green", "blue")[column]] = colours[:, column]
    kinds = {"<f4": "float", "|u1": "uchar"}
    properties = "".join(f"property {kinds[_VERTEX[n].str]} {n}\n" for n in _VERTEX.names or ())
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(cloud)}\n{properties}end_header\n"
    return header.encode() + vertices.tobytes()

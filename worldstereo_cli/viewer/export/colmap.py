"""A scene as a COLMAP model: cameras, images, points, in the three-file form that every reader knows."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.rigid import quaternion_from_rotation
from worldstereo_cli.viewer.export.frames import PosedFrame, posed_frames, sparse_cloud

_PINHOLE = 1
"""COLMAP's number of the camera model with fx, fy, cx, cy. Its pixel centres are at 0.5, as ours."""

_POINT = np.dtype(
    [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track_length", "<u8")]
)


def write_colmap(scene_dir: Path, root: Path) -> None:
    """Write `images/` and `sparse/0/{cameras,images,points3D}.bin`.

    Poses are world to camera, OpenCV axes, metres: our world as it is. Points carry no tracks,
    since nothing was matched.

    Args:
        scene_dir: A finished scene.
        root: The directory to make.

    Raises:
        ArtifactError: The scene is not finished.

    Source: colmap.github.io/format.html, the binary format.
    """
    frames = posed_frames(scene_dir)
    model = root / "sparse" / "0"
    model.mkdir(parents=True)
    (root / "images").mkdir()
    for frame in frames:
        shutil.copyfile(frame.image, root / "images" / frame.name)
    lenses = [_lens(frame.camera) for frame in frames]
    distinct = sorted(set(lenses))
    (model / "cameras.bin").write_bytes(_cameras_file(distinct))
    (model / "images.bin").write_bytes(_images_file(frames, [distinct.index(lens) + 1 for lens in lenses]))
    (model / "points3D.bin").write_bytes(_points_file(sparse_cloud(scene_dir)))


Lens = tuple[int, int, float, float, float, float]
"""Width and height, then fx, fy, cx, cy, all in pixels."""


def _lens(camera: Cameras) -> Lens:
    k = camera.intrinsics[0].double()
    return (
        camera.width_px, camera.height_px, float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])
    )  # fmt: skip


def _cameras_file(lenses: list[Lens]) -> bytes:
    records = [struct.pack("<IiQQ4d", i, _PINHOLE, *lens) for i, lens in enumerate(lenses, 1)]
    return struct.pack("<Q", len(records)) + b"".join(records)


def _images_file(frames: list[PosedFrame], lens_ids: list[int]) -> bytes:
    records = []
    for number, (frame, lens_id) in enumerate(zip(frames, lens_ids, strict=True), 1):
        world_to_camera = frame.camera.camera_from_world[0].double()
        quaternion = quaternion_from_rotation(world_to_camera[:3, :3]).tolist()
        pose = (*quaternion, *world_to_camera[:3, 3].tolist())
        no_points = struct.pack("<Q", 0)
        records.append(struct.pack("<I7dI", number, *pose, lens_id) + frame.name.encode() + b"\0" + no_points)
    return struct.pack("<Q", len(records)) + b"".join(records)


def _points_file(cloud: Cloud) -> bytes:
    points = np.zeros(len(cloud), _POINT)
    points["id"] = np.arange(1, len(cloud) + 1)
    points["xyz"] = cloud.points.numpy()
    points["rgb"] = (cloud.colors.clamp(0, 1) * 255).round().byte().numpy()
    return struct.pack("<Q", len(cloud)) + points.tobytes()

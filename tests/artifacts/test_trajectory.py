"""Trajectory files of other programs: read exactly, or refused with what to do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import scenes
from worldstereo_cli.artifacts.trajectory import parse_trajectory, read_trajectory
from worldstereo_cli.errors import InputError

PHOTO = scenes.camera()
K = [[120.0, 0.0, 70.0], [0.0, 125.0, 45.0], [0.0, 0.0, 1.0]]


def poses(count: int = 3) -> np.ndarray[Any, Any]:
    """Camera-to-world, OpenCV: each a quarter-turn-ish yaw farther and a metre to the right."""
    result = np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        c, s = math.cos(0.3 * i), math.sin(0.3 * i)
        result[i, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        result[i, :3, 3] = [i, 0.5, -2.0]
    return result


def write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_every_convention_gives_the_same_path(tmp_path: Path) -> None:
    expected = torch.from_numpy(poses())
    inverse = np.linalg.inv(poses())
    opengl = poses() @ np.diag([1, -1, -1, 1])
    size = {"width": 140, "height": 90}
    np.savez(tmp_path / "lyra.npz", w2c=inverse, intrinsics=[K] * 3, image_height=90, image_width=140)
    np.savez(tmp_path / "short.npz", c2w=poses()[:, :3], K=K, **size)
    transforms = {
        "fl_x": 120.0, "fl_y": 125.0, "cx": 70.0, "cy": 45.0, "w": 140, "h": 90, "k1": 0.0,
        "frames": [{"file_path": "x.png", "transform_matrix": m.tolist()} for m in opengl],
    }  # fmt: skip
    files = [
        tmp_path / "lyra.npz",
        tmp_path / "short.npz",
        write(tmp_path / "camera.json", {"extrinsic": inverse.tolist(), "intrinsic": [K] * 3, **size}),
        write(tmp_path / "transforms.json", transforms),
        write(tmp_path / "ours.json", {
            "world_from_camera": poses().tolist(), "intrinsics": [K] * 3, "width_px": 140, "height_px": 90,
        }),
    ]  # fmt: skip
    for file in files:
        cameras = read_trajectory(file, PHOTO).cameras
        assert torch.allclose(cameras.world_from_camera, expected, atol=1e-6), file.name
        assert torch.equal(cameras.intrinsics, torch.tensor([K] * 3)), file.name
        assert (cameras.width_px, cameras.height_px) == (140, 90), file.name


def test_field_of_view_and_frame_values_of_nerfstudio_are_understood(tmp_path: Path) -> None:
    frames = [{"transform_matrix": m.tolist()} for m in poses()]
    frames[1] = {**frames[1], "fl_x": 300.0}
    data = {"camera_angle_x": math.radians(90), "w": 200, "h": 100, "frames": frames}
    cameras = read_trajectory(write(tmp_path / "transforms.json", data), PHOTO).cameras
    assert cameras.intrinsics[:, 0, 0].tolist() == pytest.approx([100, 300, 100])
    assert torch.allclose(cameras.intrinsics[0], torch.tensor([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]]))


def test_without_intrinsics_the_photo_lends_its_own(tmp_path: Path) -> None:
    read = read_trajectory(write(tmp_path / "a.json", {"c2w": poses().tolist()}), PHOTO)
    assert torch.equal(read.cameras.intrinsics, PHOTO.intrinsics.expand(3, 3, 3))
    assert (read.cameras.width_px, read.cameras.height_px) == (PHOTO.width_px, PHOTO.height_px)
    assert "the photo's" in read.convention


def test_rotations_rounded_on_paper_become_exact(tmp_path: Path) -> None:
    rounded = np.round(poses(), 4)
    cameras = read_trajectory(write(tmp_path / "a.json", {"c2w": rounded.tolist()}), PHOTO).cameras
    rotation = cameras.world_from_camera[:, :3, :3]
    assert torch.allclose(
        rotation @ rotation.transpose(1, 2), torch.eye(3).double().expand(3, 3, 3), atol=3e-7
    )
    assert torch.allclose(cameras.world_from_camera, torch.from_numpy(poses()), atol=1e-4)


def changed(index: tuple[int, ...], value: float) -> list[Any]:
    matrices = poses()
    matrices[index] = value
    return matrices.tolist()


FRAMES = [{"transform_matrix": m} for m in poses().tolist()]
REFUSALS: dict[str, tuple[object, str]] = {
    "bare list": (poses().tolist(), "bare list"),
    "poses": ({"poses": poses().tolist()}, "'poses', which does not say"),
    "extrinsics": ({"extrinsics": poses().tolist()}, "'extrinsics', which does not say"),
    "both": ({"w2c": poses().tolist(), "c2w": poses().tolist()}, "more than once: w2c, c2w"),
    "something else": ({"focus": 3}, "no camera matrices; its keys are focus"),
    "empty": ({"w2c": []}, "shape"),
    "one pose": ({"w2c": poses(1).tolist()}, "holds 1 poses"),
    "NaN": ({"w2c": changed((1, 0, 3), math.nan)}, "1 values that are not finite"),
    "scaled": ({"w2c": (2 * poses()).tolist()}, "last row"),
    "sheared": ({"w2c": changed((1, 0, 1), 0.2)}, "w2c 1 of 3 scales or shears"),
    "mirrored": ({"w2c": (poses() @ np.diag([1, 1, -1, 1])).tolist()}, "mirrors"),
    "transposed": ({"w2c": poses().transpose(0, 2, 1).tolist()}, "last row"),
    "ragged": ({"w2c": [[1, 2], [3]]}, "not a block of numbers"),
    "normalised lens": (
        {"w2c": poses().tolist(), "K": [[0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]], "width": 9, "height": 9},
        "share of the image size",
    ),
    "no size": ({"w2c": poses().tolist(), "K": [[90, 0, 50.2], [0, 90, 30], [0, 0, 1]]}, "one image size"),
    "negative focal length": (
        {"w2c": poses().tolist(), "K": [[-90, 0, 50], [0, 90, 30], [0, 0, 1]]}, "focal length of -90",
    ),
    "skew": ({"w2c": poses().tolist(), "K": [[90, 3, 50], [0, 90, 30], [0, 0, 1]]}, "fx 0 cx"),
    "wrong count": ({"w2c": poses().tolist(), "K": [K] * 2}, "for 3 poses"),
    "frames without matrices": ({"frames": [{"file_path": "a"}]}, "without a transform_matrix"),
    "no lens": ({"w": 9, "h": 9, "frames": FRAMES}, "lacks intrinsics"),
    "distorted": (
        {"w": 90, "h": 90, "fl_x": 90, "k2": 0.1, "frames": FRAMES},
        r"distortion \(k2\)",
    ),
    "no picture": ({"w": 0, "h": 9, "fl_x": 90, "frames": FRAMES}, "image size of 0x9"),
    "lens of no angle": ({"w": 9, "h": 9, "camera_angle_x": 0, "frames": FRAMES}, "division by zero"),
    "centre of NaN": ({"w": 9, "h": 9, "fl_x": 90, "cx": math.nan, "frames": FRAMES}, "not finite"),
    "fisheye": (
        {"camera_model": "OPENCV_FISHEYE", "frames": FRAMES},
        "OPENCV_FISHEYE",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_ambiguous_or_broken_is_refused_with_a_remedy(name: str, tmp_path: Path) -> None:
    data, problem = REFUSALS[name]
    with pytest.raises(InputError, match=problem) as caught:
        read_trajectory(write(tmp_path / "a.json", data), PHOTO)
    assert str(tmp_path / "a.json") in caught.value.problem
    assert len(caught.value.remedy) > 15


def test_files_that_are_no_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 half of it")
    (tmp_path / "text.npz").write_text("0 0 0")
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "deep.json").write_text(200_000 * "[")
    (tmp_path / "a.txt").write_text("0 0 0")
    for name in ("cut.npz", "text.npz", "a.json", "deep.json", "a.txt", "missing.json", "missing.npz"):
        with pytest.raises(InputError, match=name) as caught:
            read_trajectory(tmp_path / name, PHOTO)
        assert "pickle" not in caught.value.problem, "advice to run what a stranger wrote"


def test_a_text_may_begin_with_the_mark_of_its_encoding(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"c2w": poses().tolist()}), encoding="utf-8-sig")
    assert len(read_trajectory(file, PHOTO).cameras) == 3


def test_requests_tell_presets_from_files(tmp_path: Path) -> None:
    assert parse_trajectory("orbit").amount is None
    assert parse_trajectory("orbit:0.5").amount == 0.5
    (tmp_path / "traj up").mkdir()
    file = write(tmp_path / "traj up" / "camera.json", {})
    assert parse_trajectory(str(file)).preset == "traj_up"
    assert parse_trajectory(str(file)).file == file


def test_files_of_peers_are_read_or_refused_as_they_deserve(eval_dir: Path) -> None:
    data = eval_dir / "data"
    kitchen = read_trajectory(data / "ws_recon_kitchen/renders/traj_right/camera.json", PHOTO).cameras
    assert (len(kitchen), kitchen.width_px, kitchen.height_px) == (21, 768, 512)
    assert float(kitchen.centres[10, 0]) > 0.8, "right goes to the right"
    dining = read_trajectory(data / "ws_image_indoor_dining_spaces_030/camera.json", PHOTO).cameras
    assert (len(dining), dining.width_px, dining.height_px) == (81, 1080, 720), (
        "size from the principal point"
    )
    refused = {
        "matrix3d/test_cam_right.json": "bare list",
        "motionctrl/basic/test_camera_L.json": "bare list",
        "photoconsistent_nvs/orbit.json": "'poses'",
        "recammaster/camera_extrinsics.json": "no camera matrices",
        "viewcrafter/loop1.txt": "not a trajectory file",
        "tanks_and_temples/test.log": "not a trajectory file",
    }
    for name, problem in refused.items():
        with pytest.raises(InputError, match=problem):
            read_trajectory(data / "traj_peers" / name, PHOTO)


def test_a_bare_list_of_a_peer_is_read_once_it_is_named(eval_dir: Path, tmp_path: Path) -> None:
    matrices = json.loads((eval_dir / "data/traj_peers/matrix3d/test_cam_right.json").read_text())
    cameras = read_trajectory(write(tmp_path / "a.json", {"w2c": matrices}), PHOTO).cameras
    assert len(cameras) == 81
    assert cameras.centres[80].tolist() == pytest.approx([1000, 0, 0])

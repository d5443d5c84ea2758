"""Every export is read back by someone else and says the same as the scene."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from tests import scenes
from worldstereo_cli.artifacts.splats import read_splats, write_splats
from worldstereo_cli.artifacts.trajectory import read_trajectory
from worldstereo_cli.errors import ArtifactError, InputError
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.viewer.export import TARGETS, export_scene
from worldstereo_cli.viewer.export.spz import right_up_back
from worldstereo_cli.viewer.open3d_import import import_open3d


def test_ply_is_the_standard_layout_to_another_reader(scene_dir: Path, tmp_path: Path) -> None:
    (path,) = export_scene(scene_dir, ["ply"], tmp_path)
    cloud = import_open3d().t.io.read_point_cloud(str(path))
    splats = read_splats(scene_dir / "reconstruct/splats.ply")
    assert np.array_equal(cloud.point.positions.numpy(), splats.means.numpy())
    # Open3D gathers these columns only from what it takes for Gaussian splats, and knows logarithmic scales.
    assert np.array_equal(cloud.point["f_dc"].numpy(), splats.sh[:, 0].numpy())
    assert np.array_equal(cloud.point["opacity"].numpy()[:, 0], splats.opacity_logits.numpy())
    assert np.allclose(cloud.point["scale"].numpy(), splats.scales_m.numpy(), rtol=1e-5)
    assert np.allclose(cloud.point["rot"].numpy(), splats.quaternions.numpy())


def turned_splats() -> Gaussians:
    """A few splats, each different in everything, with harmonics of degree 3."""
    generator = torch.Generator().manual_seed(5)
    quaternions = torch.nn.functional.normalize(torch.randn(40, 4, generator=generator), dim=-1)
    return Gaussians(
        4 * torch.randn(40, 3, generator=generator),
        quaternions,
        torch.randn(40, 3, generator=generator) - 3,
        torch.randn(40, generator=generator),
        0.3 * torch.randn(40, 16, 3, generator=generator),
    )


def test_spz_says_the_same_in_its_own_axes(scene_dir: Path, tmp_path: Path) -> None:
    splats = turned_splats()
    scene = tmp_path / "scene"
    for name in ("lift", "plan", "generate", "reconstruct"):
        (scene / name).mkdir(parents=True)
        shutil.copy(scene_dir / name / "artifact.json", scene / name)
    write_splats(scene / "reconstruct/splats.ply", splats)
    (path,) = export_scene(scene, ["spz"], tmp_path)
    data = gzip.decompress(path.read_bytes())
    magic, version, count, degree, bits, flags = struct.unpack("<IIIBBBx", data[:16])
    assert (magic, version, count, degree, flags) == (0x5053474E, 3, 40, 3, 0)
    sections = np.split(np.frombuffer(data[16:], np.uint8), np.cumsum(40 * np.array([9, 1, 3, 3, 4])))
    fixed = sections[0].reshape(40, 3, 3).astype(np.int32) @ np.array([1, 1 << 8, 1 << 16])
    positions = np.where(fixed >= 1 << 23, fixed - (1 << 24), fixed) / 2.0**bits
    flip = np.array([1, -1, -1])
    assert np.allclose(positions, splats.means.numpy() * flip, atol=2.0**-bits)
    assert np.allclose(sections[1] / 255, splats.opacities.numpy(), atol=1 / 255)
    colours = (sections[2].reshape(40, 3) / 255 - 0.5) / 0.15
    assert np.allclose(colours, splats.sh[:, 0].numpy(), atol=0.015)
    assert np.allclose(sections[3].reshape(40, 3) / 16 - 10, splats.log_scales.numpy(), atol=1 / 32 + 1e-4)
    # Covariances do not care about the sign of a quaternion.
    packed = sections[4].reshape(40, 4).copy().view("<u4")[:, 0]
    rotations = np.stack([smallest_three(int(word)) for word in packed])
    expected = np.diag(flip) @ rotation(splats.quaternions.numpy())
    for theirs, wanted, scales in zip(rotations, expected, splats.scales_m.numpy(), strict=True):
        spread, reference = theirs * scales, wanted * scales
        error = np.abs(spread @ spread.T - reference @ reference.T).max()
        assert error < 0.02 * (scales**2).max()


def smallest_three(word: int) -> np.ndarray:
    """Decode a quaternion of SPZ 3 (three of xyzw with 9 bits and sign) to a rotation matrix."""
    largest = word >> 30
    values = np.zeros(4)
    for axis in reversed([a for a in range(4) if a != largest]):
        magnitude = (word & 511) / 511 / np.sqrt(2)
        values[axis] = -magnitude if word >> 9 & 1 else magnitude
        word >>= 10
    values[largest] = np.sqrt(1 - (values**2).sum())
    x, y, z, w = values
    return rotation(np.array([[w, x, y, z]]))[0]


def rotation(quaternions: np.ndarray) -> np.ndarray:
    w, x, y, z = quaternions.T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def test_turned_harmonics_give_the_same_colour_along_the_turned_direction() -> None:
    harmonics = pytest.importorskip("worldstereo_cli.splatting.rasterize.harmonics")
    splats = turned_splats()
    directions = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    turned = directions * torch.tensor([1.0, -1.0, -1.0])
    before = harmonics.rgb_from_sh(splats.sh, directions)
    after = harmonics.rgb_from_sh(right_up_back(splats).sh, turned)
    assert torch.allclose(before, after, atol=1e-5)


def assert_on_their_pixels(
    scene_dir: Path, name: str, pixels: np.ndarray, depth_m: np.ndarray, colours: np.ndarray
) -> None:
    """Points that a frame sees must have the colours of the pixels on which they fall."""
    if name == "photo.png":
        view = scene_dir / "lift/views/000"
        image, truth = view / "image.png", np.load(view / "depth.npy")
    else:
        folder, number = name.removesuffix(".png").rsplit("_", 1)
        view = scene_dir / "generate/rounds" / folder
        image, truth = view / f"frames/{number}.png", np.load(view / f"depth/{number}.npy")
    picture = np.array(Image.open(image)).astype(int)
    inside = ((pixels > 1) & (pixels < np.array(picture.shape[1::-1]) - 1)).all(-1) & (depth_m > 0)
    u, v = np.floor(pixels[inside]).astype(int).T
    # Points behind the ball fall on it, too.
    seen = np.abs(depth_m[inside] - truth[v, u]) < 0.1
    assert seen.sum() > 2000
    error = np.abs(picture[v, u] - colours[inside])[seen].max(-1)
    # Half a pixel of a smooth pattern; a flipped axis or a swapped pose is tens of levels off.
    assert np.median(error) <= 2
    assert np.quantile(error, 0.95) <= 12


def test_colmap_model_is_read_by_colmap_and_its_points_fall_on_their_pixels(
    scene_dir: Path, tmp_path: Path
) -> None:
    (root,) = export_scene(scene_dir, ["colmap"], tmp_path)
    assert sorted(p.name for p in (root / "sparse/0").iterdir()) == [
        "cameras.bin",
        "images.bin",
        "points3D.bin",
    ]
    model = pycolmap.Reconstruction(str(root / "sparse/0"))
    images = sorted(model.images.values(), key=lambda image: image.image_id)
    assert [i.name for i in images[:3]] == ["photo.png", "00-right_0001.png", "00-right_0002.png"]
    assert len(model.cameras) == 1, "frames of one lens share a camera"
    assert all((root / "images" / i.name).is_file() for i in images)
    points = np.array([p.xyz for p in model.points3D.values()])
    colours = np.array([p.color for p in model.points3D.values()]).astype(int)
    assert len(points) == 96 * 64
    for image in images:
        camera = model.cameras[image.camera_id]
        assert (camera.model.name, camera.width, camera.height) == ("PINHOLE", 96, 64)
        in_camera = image.cam_from_world() * points
        ahead = in_camera[:, 2] > 0.1
        pixels = np.asarray(camera.img_from_cam(in_camera[ahead]))
        assert_on_their_pixels(scene_dir, image.name, pixels, in_camera[ahead, 2], colours[ahead])


def test_nerfstudio_dataset_is_read_back_and_its_points_fall_on_their_pixels(
    scene_dir: Path, tmp_path: Path
) -> None:
    (root,) = export_scene(scene_dir, ["nerfstudio"], tmp_path)
    data = json.loads((root / "transforms.json").read_text())
    cloud = import_open3d().io.read_point_cloud(str(root / data["ply_file_path"]))
    points, colours = np.asarray(cloud.points), (np.asarray(cloud.colors) * 255).round().astype(int)
    for frame in data["frames"]:
        view = np.linalg.inv(np.array(frame["transform_matrix"]))
        in_camera = points @ view[:3, :3].T + view[:3, 3]
        ahead = in_camera[:, 2] < -0.1  # OpenGL looks along -z.
        x, y, z = in_camera[ahead].T
        pixels = np.stack([frame["cx"] - frame["fl_x"] * x / z, frame["cy"] + frame["fl_y"] * y / z], -1)
        assert (root / frame["file_path"]).is_file()
        assert_on_their_pixels(scene_dir, Path(frame["file_path"]).name, pixels, -z, colours[ahead])
    # +z is up there: the ball's middle is 0.2 m below the camera, and 3 m ahead along +y.
    world = np.array(data["applied_transform"]) @ np.array([0.3, 0.2, 3.0, 1.0])
    assert world.tolist() == pytest.approx([0.3, 3.0, -0.2])
    flown = read_trajectory(root / "transforms.json", scenes.camera()).cameras
    assert len(flown) == len(data["frames"])


def test_mesh_lies_on_the_surfaces_in_their_colours(scene_dir: Path, tmp_path: Path) -> None:
    (path,) = export_scene(scene_dir, ["glb"], tmp_path)
    data = path.read_bytes()
    magic, version, length, json_length, kind = struct.unpack("<4sIIII", data[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), 0x4E4F534A)
    document = json.loads(data[20 : 20 + json_length])
    binary = data[20 + json_length + 8 :]

    def accessor(index: int) -> np.ndarray:
        about = document["accessors"][index]
        view = document["bufferViews"][about["bufferView"]]
        kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[about["componentType"]]
        block = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        return np.frombuffer(block, kind).reshape(about["count"], -1)

    primitive = document["meshes"][0]["primitives"][0]
    vertices = accessor(primitive["attributes"]["POSITION"])
    triangles = accessor(primitive["indices"]).reshape(-1, 3)
    linear = accessor(primitive["attributes"]["COLOR_0"])[:, :3] / 65535
    assert triangles.max() < len(vertices)
    assert np.allclose(vertices.max(0), document["accessors"][0]["max"])
    # Back from +y up, +z backwards.
    x, y, z = (vertices * [1, -1, -1]).T
    to_ball = np.abs(np.sqrt((x - 0.3) ** 2 + (y - 0.2) ** 2 + (z - 3) ** 2) - 0.6)
    to_floor, to_wall = np.abs(y - 1), np.abs(z - 6)
    nearest = np.minimum(np.minimum(to_ball, to_floor), to_wall)
    # At 96 px a pixel at the wall is 7 cm wide, and the voxels are 5 cm.
    assert np.median(nearest) < 0.02
    assert np.quantile(nearest, 0.9) < 0.12
    assert (to_ball < 0.05).sum() > 100
    encoded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    on_wall = (to_wall < 0.05) & (np.abs(x) < 2) & (y < 0.5) & (to_ball > 1)
    pattern = scenes.texture(torch.from_numpy(np.stack([x, y, z], -1)))[torch.from_numpy(on_wall)].numpy()
    expected = pattern[:, None] * np.array([0.55, 0.7, 1.0])
    # Splats of 7 cm blur the pattern by 2 %; reading linear light as sRGB would be off by 20 %.
    assert np.median(np.abs(encoded[on_wall] - expected)) < 0.035
    # Faces look at the camera: counter-clockwise seen from there. Some at rims look to the paths' ends only.
    a, b, c = (vertices[triangles[:, i]].astype(float) for i in range(3))
    facing = (np.cross(b - a, c - a) * (0 - a)).sum(-1)
    assert (facing > 0).mean() > 0.8


def test_unknown_formats_are_refused_before_anything_is_written(scene_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no export format 'obj'") as caught:
        export_scene(scene_dir, ["ply", "obj"], tmp_path / "out")
    assert all(name in caught.value.remedy for name in TARGETS)
    with pytest.raises(InputError, match="No export format"):
        export_scene(scene_dir, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unless_told(scene_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "splats.ply").write_text("mine")
    (tmp_path / "colmap").mkdir()
    (tmp_path / "colmap/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="Already there") as caught:
        export_scene(scene_dir, ["nerfstudio", "ply", "colmap"], tmp_path)
    assert "--overwrite" in caught.value.remedy
    assert (tmp_path / "splats.ply").read_text() == "mine"
    assert not (tmp_path / "nerfstudio").exists(), "all or nothing"
    written = export_scene(scene_dir, ["ply", "colmap"], tmp_path, overwrite=True)
    assert written[0].read_bytes() == (scene_dir / "reconstruct/splats.ply").read_bytes()
    assert not (tmp_path / "colmap/mine.txt").exists()
    assert not list(tmp_path.glob(".*")), "no draft stays behind"


def test_a_place_that_cannot_be_made_is_told(scene_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file/inside", Path("/proc/nowhere")):
        with pytest.raises(InputError, match="cannot be a directory") as caught:
            export_scene(scene_dir, ["ply"], place)
        assert str(place) in caught.value.problem
        assert "--out" in caught.value.remedy
    assert (tmp_path / "file").read_text() == "mine"


def test_a_format_that_is_named_twice_is_written_once(scene_dir: Path, tmp_path: Path) -> None:
    assert export_scene(scene_dir, ["ply", "ply"], tmp_path) == [tmp_path / "splats.ply"]


def test_a_page_that_was_never_written_is_missed_in_words(scene_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"flythrough\.mp4 is not there") as caught:
        export_scene(scene_dir, ["mp4"], tmp_path)
    assert "worldstereo reconstruct" in caught.value.remedy
    assert not list(tmp_path.glob("*.mp4"))
    assert not list(tmp_path.glob(".*"))


def test_frames_that_contradict_the_cloud_are_not_handed_on(scene_dir: Path, tmp_path: Path) -> None:
    scene = shutil.copytree(scene_dir, tmp_path / "scene")
    manifest = scene / "generate/rounds/00-right/artifact.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(facts | {"facts": facts["facts"] | {"dropped_frames": [2]}}))
    colmap, nerfstudio = export_scene(scene, ["colmap", "nerfstudio"], tmp_path / "export")
    expected = {"photo.png", "00-right_0001.png", "01-eloop_0001.png", "01-eloop_0002.png"}
    assert {image.name for image in pycolmap.Reconstruction(colmap / "sparse/0").images.values()} == expected
    assert {path.name for path in (colmap / "images").iterdir()} == expected
    frames = json.loads((nerfstudio / "transforms.json").read_text())["frames"]
    assert {Path(frame["file_path"]).name for frame in frames} == expected


def test_an_export_that_is_replaced_is_whole_at_any_moment(
    scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (colmap,) = export_scene(scene_dir, ["colmap"], tmp_path)
    whole = {path.relative_to(colmap) for path in colmap.rglob("*")}
    (tmp_path / ".colmap.draft-17" / "images").mkdir(parents=True)

    def interrupted(path: Path, **_options: object) -> None:
        if any(Path(path).rglob("points3D.bin")):
            next(Path(path).rglob("points3D.bin")).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", interrupted)
        export_scene(scene_dir, ["colmap"], tmp_path, overwrite=True)
    assert {path.relative_to(colmap) for path in colmap.rglob("*")} == whole
    export_scene(scene_dir, ["colmap"], tmp_path, overwrite=True)
    assert {path.relative_to(colmap) for path in colmap.rglob("*")} == whole
    assert [path.name for path in tmp_path.iterdir()] == ["colmap"]

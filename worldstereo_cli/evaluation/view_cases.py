"""Posed real views around one input photo, read from three data sets into one form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras

_SEVEN_SCENES_COLOUR_FOCAL_PX = 535.0
"""What epipolar errors of the colour frames ask for; the depth camera has 585."""
_SEVEN_SCENES_DEPTH_FOCAL_PX = 585.0


@dataclass(frozen=True, slots=True)
class ViewCase:
    """One input photo and real views near it. The world is the input camera's, in the set's own unit."""

    name: str
    source: str
    image: Float[Tensor, "3 h w"]
    camera: Cameras
    """A path of one, principal point in the middle of the image."""
    targets: list[Float[Tensor, "3 h w"]]
    target_names: list[str]
    target_cameras: list[Cameras]
    depth: Float[Tensor, "h w"] | None
    """Sensor depth in the input view in the set's unit, 0 where unknown; None where there is no sensor."""


def read_view_cases(folder: Path) -> Iterator[ViewCase]:
    """Read every case of the folder's `splits.json`, near targets only.

    Raises:
        InputError: The folder does not hold the three data sets.
    """
    try:
        splits = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"{folder} holds no readable splits.json.", remedy="Pass the folder of the views."
        ) from error
    yield _seven_scenes(folder / "data" / "rgbd_7scenes_tsdf", splits["rgbd_7scenes_tsdf"])
    yield _strecha(folder / "data" / "mv_strecha_fountain_p11", splits["mv_strecha_fountain_p11"])
    for clip in splits["re10k_cameractrl"]["dev"]:
        yield _real_estate(folder / "data" / "re10k_cameractrl", clip)


@dataclass(frozen=True, slots=True)
class PosedFrame:
    """One frame of a recorded walk."""

    image: Float[Tensor, "3 h w"]
    depth_m: Float[Tensor, "h w"]
    """The sensor's, at the colour camera's rays; 0 where unknown."""
    world_from_camera: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]


def read_seven_scenes_frame(root: Path, name: str) -> PosedFrame:
    """Read a frame of 7-Scenes by its number, as in `000192`."""
    focal = _SEVEN_SCENES_COLOUR_FOCAL_PX
    raw = np.asarray(Image.open(root / f"frame-{name}.depth.png")).astype(np.float32)
    raw[raw == 65535] = 0
    return PosedFrame(
        _read(root / f"frame-{name}.color.jpg"),
        _depth_seen_by_colour(torch.from_numpy(raw) / 1000),
        torch.from_numpy(np.loadtxt(root / f"frame-{name}.pose.txt")).float(),
        torch.tensor([[focal, 0, 320.0], [0, focal, 240.0], [0, 0, 1]]),
    )


def _seven_scenes(root: Path, split: dict[str, object]) -> ViewCase:
    names = _near_names(split)
    source = read_seven_scenes_frame(root, str(split["single_image_input"]))
    targets = [read_seven_scenes_frame(root, name) for name in names]
    from_source = torch.linalg.inv(source.world_from_camera.double()).float()
    return ViewCase(
        f"7scenes-{split['single_image_input']}",
        "7-Scenes",
        source.image,
        Cameras(torch.eye(4)[None], source.intrinsics[None], 640, 480),
        [target.image for target in targets],
        names,
        [Cameras((from_source @ t.world_from_camera)[None], t.intrinsics[None], 640, 480) for t in targets],
        source.depth_m,
    )


def _depth_seen_by_colour(depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Look the sensor's depth up at the colour camera's rays (same centre, other focal length)."""
    height, width = depth.shape
    ratio = _SEVEN_SCENES_DEPTH_FOCAL_PX / _SEVEN_SCENES_COLOUR_FOCAL_PX
    u = ((torch.arange(width) + 0.5 - width / 2) * ratio + width / 2).floor().long()
    v = ((torch.arange(height) + 0.5 - height / 2) * ratio + height / 2).floor().long()
    inside = ((u >= 0) & (u < width))[None] & ((v >= 0) & (v < height))[:, None]
    seen = depth[v.clamp(0, height - 1)][:, u.clamp(0, width - 1)]
    return torch.where(inside, seen, torch.zeros_like(seen))


def _strecha(root: Path, split: dict[str, object]) -> ViewCase:
    frames = json.loads((root / "cameras_half.json").read_text(encoding="utf-8"))["frames"]

    def view(name: str) -> tuple[Tensor, Tensor, Tensor]:
        entry = frames[name]
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.tensor(entry["R_c2w"], dtype=torch.float64)
        pose[:3, 3] = torch.tensor(entry["C"], dtype=torch.float64)
        image, intrinsics = _centred(_read(root / "images" / name), torch.tensor(entry["K"]))
        return image, intrinsics, pose

    source = str(split["single_image_input"])
    image, intrinsics, source_pose = view(source)
    names = _near_names(split)
    views = [view(name) for name in names]
    from_source = torch.linalg.inv(source_pose)
    return ViewCase(
        f"strecha-{source}",
        "Strecha",
        image,
        _camera(torch.eye(4), intrinsics, image),
        [v[0] for v in views],
        names,
        [_camera((from_source @ pose).float(), k, picture) for picture, k, pose in views],
        None,
    )


def _real_estate(root: Path, clip: str) -> ViewCase:
    import imageio.v3 as imageio

    video = torch.from_numpy(imageio.imread(root / f"{clip}.mp4")).permute(0, 3, 1, 2).float() / 255
    rows = np.loadtxt(root / f"{clip}.txt", skiprows=1)
    height, width = video.shape[-2:]
    fx, fy = rows[0, 1] * width, rows[0, 2] * height
    # The videos were squeezed: square pixels come back by widening to fy / fx.
    wide = round(width * fy / fx)
    video = torch.nn.functional.interpolate(video, (height, wide), mode="bilinear", align_corners=False)
    intrinsics = torch.tensor([[fx * wide / width, 0, wide / 2], [0, fy, height / 2], [0, 0, 1]]).float()
    camera_from_world = np.tile(np.eye(4), (len(rows), 1, 1))
    camera_from_world[:, :3] = rows[:, 7:].reshape(-1, 3, 4)
    poses = torch.from_numpy(camera_from_world[:1] @ np.linalg.inv(camera_from_world)).float()
    count = min(len(video), len(rows))
    return ViewCase(
        f"re10k-{clip}",
        "RE10K",
        video[0],
        _camera(torch.eye(4), intrinsics, video[0]),
        [video[i] for i in range(1, count)],
        [str(i) for i in range(1, count)],
        [_camera(poses[i], intrinsics, video[i]) for i in range(1, count)],
        None,
    )


def _near_names(split: dict[str, object]) -> list[str]:
    targets = split["near_targets"]
    if not isinstance(targets, list):
        raise TypeError(f"Expected a list of targets, got {type(targets).__name__}.")
    return [str(target["name"]) for target in targets]


def _centred(
    image: Float[Tensor, "3 h w"], intrinsics: Float[Tensor, "3 3"]
) -> tuple[Float[Tensor, "3 a b"], Float[Tensor, "3 3"]]:
    """Cut margins so that the principal point lies in the middle, as a user's photo is taken to have it."""
    height, width = image.shape[1:]
    cx, cy = float(intrinsics[0, 2]), float(intrinsics[1, 2])
    half_w, half_h = int(min(cx, width - cx)), int(min(cy, height - cy))
    left, top = round(cx) - half_w, round(cy) - half_h
    left, top = max(left, 0), max(top, 0)
    cut = image[:, top : top + 2 * half_h, left : left + 2 * half_w]
    moved = intrinsics.clone().float()
    moved[0, 2] -= left
    moved[1, 2] -= top
    return cut, moved


def _camera(pose: Tensor, intrinsics: Tensor, image: Tensor) -> Cameras:
    return Cameras(pose[None].float(), intrinsics[None], image.shape[2], image.shape[1])


def _read(path: Path) -> Float[Tensor, "3 h w"]:
    try:
        with Image.open(path) as image:
            array = np.array(image.convert("RGB"))
    except OSError as error:
        raise InputError(f"{path} cannot be read.", remedy="Pass the folder of the views.") from error
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255

"""All pictures of a scene with their cameras: the photo and the frames of every round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from worldstereo_cli.artifacts.cameras import read_cameras
from worldstereo_cli.artifacts.cloud import read_cloud
from worldstereo_cli.artifacts.manifest import Manifest, read_chain
from worldstereo_cli.artifacts.scene import Generation, Round
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud

MAX_POINTS = 200_000
"""Viewers of sparse models crawl with more points."""


@dataclass(frozen=True, slots=True)
class PosedFrame:
    """A picture on disk and the camera that took it."""

    name: str
    """A file name, unique in the scene."""
    image: Path
    camera: Cameras
    """A path of one."""


def posed_frames(scene_dir: Path) -> list[PosedFrame]:
    """List the photo, then the frames of every round in order.

    The first frame of a round is left out: it shows the photo again, smaller. So are frames that contradict
    the cloud: whoever fits a scene to them would fit it to something else.

    Raises:
        ArtifactError: The scene is not finished, or its photo was lifted anew since.
    """
    manifest = read_chain(scene_dir, ("lift", "plan", Generation.kind))[Generation.kind]
    photo_dir = scene_dir / "lift" / "views" / "000"
    frames = [PosedFrame("photo.png", photo_dir / "image.png", read_cameras(photo_dir / "camera.json"))]
    for round_dir in [scene_dir / "generate" / "rounds" / str(name) for name in manifest.facts["rounds"]]:
        cameras = read_cameras(round_dir / "cameras.json")
        dropped = Manifest.read(round_dir, Round.kind).facts.get("dropped_frames", ())
        frames += [
            PosedFrame(f"{round_dir.name}_{i:04d}.png", round_dir / "frames" / f"{i:04d}.png", cameras[i])
            for i in range(1, len(cameras))
            if i not in dropped
        ]
    return frames


def sparse_cloud(scene_dir: Path) -> Cloud:
    """Return at most `MAX_POINTS` surface points of the grown cloud, evenly drawn; sky is left out.

    Raises:
        ArtifactError: The scene is not finished.
    """
    Manifest.read(scene_dir / "generate", Generation.kind)
    cloud = read_cloud(scene_dir / "generate" / "cloud.ply")
    surface = cloud[~cloud.sky]
    if len(surface) <= MAX_POINTS:
        return surface
    order = torch.randperm(len(surface), generator=torch.Generator().manual_seed(0))
    return surface[order[:MAX_POINTS].sort().values]

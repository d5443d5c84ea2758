"""The artifact of every stage, as typed values; a scene is the directory that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.artifacts.cameras import (
    cameras_from_json,
    cameras_to_json,
    read_cameras,
    read_json,
    write_cameras,
)
from worldstereo_cli.artifacts.cloud import read_cloud
from worldstereo_cli.artifacts.images import (
    read_depth,
    read_image,
    read_mask,
    write_depth,
    write_image,
    write_mask,
)
from worldstereo_cli.artifacts.manifest import Manifest
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud


@dataclass(frozen=True, slots=True)
class Lift:
    """The photo (later: several views), its depth, and the cloud of all views together.

    On disk: `views/000/...` (see `View`), `cloud.ply`, `artifact.json`.
    """

    kind: ClassVar[str] = "lift"
    views: list[View]
    cloud: Cloud
    manifest: Manifest

    @staticmethod
    def read(root: Path) -> Lift:
        """Read a finished lift.

        Raises:
            ArtifactError: It is missing, unfinished or damaged.
        """
        manifest = Manifest.read(root, Lift.kind)
        views = [View.read(path) for path in sorted((root / "views").iterdir())]
        return Lift(views, read_cloud(root / "cloud.ply"), manifest)


def scale_source(lift_facts: Mapping[str, Any]) -> str:
    """Say where a lift's metres come from: `given`, `estimated` or `assumed`.

    A depth file gives them. A network that was trained on metres estimates them. Where the backend knows
    depth up to a factor only, one is assumed that puts the camera at the usual height.

    Args:
        lift_facts: Of the lift's manifest.
    """
    if lift_facts["depth_backend"] == "file":
        return "given"
    return "estimated" if lift_facts["is_metric"] else "assumed"


@dataclass(frozen=True, slots=True)
class NamedPath:
    """A dense camera path with the name that its round carries."""

    name: str
    cameras: Cameras


@dataclass(frozen=True, slots=True)
class Plan:
    """The paths to fly, in order.

    On disk: `paths.json` (a list of {name, cameras}), `preview.png`, `artifact.json`.
    """

    kind: ClassVar[str] = "plan"
    paths: list[NamedPath]
    manifest: Manifest

    @staticmethod
    def read(root: Path) -> Plan:
        """Read a finished plan.

        Raises:
            ArtifactError: It is missing, unfinished or damaged.
        """
        manifest = Manifest.read(root, Plan.kind)
        path = root / "paths.json"
        entries = read_json(path).get("paths", [])
        return Plan(
            [NamedPath(str(e["name"]), cameras_from_json(e["cameras"], path)) for e in entries], manifest
        )

    @staticmethod
    def paths_to_json(paths: list[NamedPath]) -> dict[str, object]:
        """Describe paths for `paths.json`."""
        return {"paths": [{"name": p.name, "cameras": cameras_to_json(p.cameras)} for p in paths]}


@dataclass(frozen=True, slots=True)
class Round:
    """One generated path: what the cloud showed, and the frames that complete it.

    On disk, files by frame number:
        control/0000.png  the cloud rendered along the path      frames/0000.png  the completed frames
        hole/0000.png     255 where the cloud shows nothing      depth/0000.npy   depth of the frames, metres
        cameras.json      the sampled cameras                    round.json       what happened, in numbers
    """

    kind: ClassVar[str] = "round"
    name: str
    cameras: Cameras
    control: Float[Tensor, "n 3 h w"]
    hole: Bool[Tensor, "n h w"]
    frames: Float[Tensor, "n 3 h w"]
    depth_m: Float[Tensor, "n h w"]
    """Zero where no depth is trusted; the far shell where there is sky."""
    dropped: tuple[int, ...] = ()
    """Frames that contradict the cloud: neither it nor the splats are made from them. The manifest's
    `dropped_frames`."""

    def write(self, root: Path) -> None:
        """Write all pictures, depths and cameras into a directory (the manifest comes after)."""
        for folder in ("control", "hole", "frames", "depth"):
            (root / folder).mkdir()
        for i in range(len(self.cameras)):
            write_image(root / "control" / f"{i:04d}.png", self.control[i])
            write_mask(root / "hole" / f"{i:04d}.png", self.hole[i])
            write_image(root / "frames" / f"{i:04d}.png", self.frames[i])
            write_depth(root / "depth" / f"{i:04d}.npy", self.depth_m[i])
        write_cameras(root / "cameras.json", self.cameras)

    @staticmethod
    def read(root: Path) -> Round:
        """Read a finished round.

        Raises:
            ArtifactError: It is missing, unfinished or damaged.
        """
        manifest = Manifest.read(root, Round.kind)
        cameras = read_cameras(root / "cameras.json")
        names = [f"{i:04d}" for i in range(len(cameras))]
        return Round(
            str(manifest.facts["path"]),
            cameras,
            torch.stack([read_image(root / "control" / f"{n}.png") for n in names]),
            torch.stack([read_mask(root / "hole" / f"{n}.png") for n in names]),
            torch.stack([read_image(root / "frames" / f"{n}.png") for n in names]),
            torch.stack([read_depth(root / "depth" / f"{n}.npy") for n in names]),
            tuple(manifest.facts.get("dropped_frames", ())),
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """All rounds of a scene and the cloud that they grew.

    On disk: `rounds/NN-<path>/...` (see `Round`), `cloud.ply`, `memory.json`, `preview.mp4`, `artifact.json`.
    """

    kind: ClassVar[str] = "generate"
    round_dirs: list[Path]
    cloud: Cloud
    manifest: Manifest

    @staticmethod
    def read(root: Path) -> Generation:
        """Read a finished generation; rounds are read one at a time with `Round.read`.

        Raises:
            ArtifactError: It is missing, unfinished or damaged.
        """
        manifest = Manifest.read(root, Generation.kind)
        round_dirs = [root / "rounds" / str(name) for name in manifest.facts["rounds"]]
        return Generation(round_dirs, read_cloud(root / "cloud.ply"), manifest)

"""What there is to look at in a scene directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from worldstereo_cli.artifacts.manifest import Manifest, read_chain
from worldstereo_cli.artifacts.scene import Lift, NamedPath, Plan, scale_source
from worldstereo_cli.artifacts.splats import read_splats
from worldstereo_cli.artifacts.trajectory import AUTO
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.geometry.seen import FRONT_TOLERANCE

SPLATS = Path("reconstruct") / "splats.ply"
"""Where a scene keeps its splats."""
_EDGE_PX = 4
"""A splat counts as seen when any pixel so near sees as far: where two surfaces meet, the lift leaves out
pixels about as wide."""


@dataclass(frozen=True, slots=True)
class About:
    """What people should know of a scene before they believe it."""

    depth_by: str
    """The depth backend."""
    frames_by: str
    """The frame backend: what made up what the photo does not show."""
    points_seen: int
    points_invented: int
    """Of the cloud that the splats were fitted to."""
    scale: str
    """Where its metres come from: see `scale_source`."""


@dataclass(frozen=True, slots=True)
class SceneContents:
    """The splats, the photo and the planned paths of one scene."""

    name: str
    gaussians: Gaussians
    photo: View
    median_depth_m: float
    """Of the surface near the view centre: what the scene is measured by."""
    paths: list[NamedPath]
    chosen: frozenset[str]
    """Names of the paths that `auto` chose; all others were asked for."""
    about: About

    @property
    def camera(self) -> Cameras:
        """The photo's own, a path of one."""
        return self.photo.camera

    @staticmethod
    def read(scene_dir: Path) -> SceneContents:
        """Read what the stages left.

        Raises:
            ArtifactError: A stage is missing, unfinished or damaged, or no longer fits the others.
        """
        Manifest.read(scene_dir / "reconstruct", "reconstruct")
        made = read_chain(scene_dir, ("lift", "plan", "generate", "reconstruct"))
        plan = Plan.read(scene_dir / "plan")
        return SceneContents(
            scene_dir.resolve().name,
            read_splats(scene_dir / SPLATS),
            View.read(scene_dir / "lift" / "views" / "000"),
            float(plan.manifest.facts["median_depth_m"]),
            plan.paths,
            frozenset(f["name"] for f in plan.manifest.facts["paths"] if _by_auto(f["requested"])),
            _about(made["lift"].facts, made["generate"].facts),
        )

    def shown_by_photo(self, gaussians: Gaussians) -> Bool[Tensor, n]:
        """Tell which splats are of a surface that the photo shows; the others were invented.

        They lie in its view, and no farther than what it sees there. The photo's edges are known to a few
        pixels, and its depth to a few percent, as those who made the splats took it.
        """
        pixels, depth = self.camera.project(gaussians.means)
        known = torch.where(self.photo.valid, self.photo.depth_m, 0.0)[None]
        observed = torch.nn.functional.max_pool2d(known, 2 * _EDGE_PX + 1, 1, _EDGE_PX)[0]
        column, row = pixels[0].floor().long().unbind(-1)
        height, width = observed.shape
        inside = (depth[0] > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
        bound = observed[row.clamp(0, height - 1), column.clamp(0, width - 1)]
        return inside & (depth[0] <= (1 + FRONT_TOLERANCE) * bound)


def _about(lifted: Mapping[str, Any], generated: Mapping[str, Any]) -> About:
    return About(
        str(lifted["depth_backend"]),
        str(generated["backend"]),
        int(generated["num_seen_points"]),
        int(generated["num_invented_points"]),
        scale_source(lifted),
    )


def _by_auto(requested: str) -> bool:
    return requested.partition(":")[0] == AUTO


def read_lift(scene_dir: Path) -> Lift:
    """Read the lifted photo of a scene.

    Raises:
        ArtifactError: It is missing, unfinished or damaged.
    """
    return Lift.read(scene_dir / "lift")

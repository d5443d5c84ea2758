"""What there is to look at in a scene directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldstereo_cli.artifacts.manifest import Manifest
from worldstereo_cli.artifacts.scene import Lift, NamedPath, Plan
from worldstereo_cli.artifacts.splats import read_splats
from worldstereo_cli.artifacts.trajectory import AUTO
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.gaussians import Gaussians

SPLATS = Path("reconstruct") / "splats.ply"
"""Where a scene keeps its splats."""


@dataclass(frozen=True, slots=True)
class SceneContents:
    """The splats, the photo's camera and the planned paths of one scene."""

    name: str
    gaussians: Gaussians
    camera: Cameras
    """The photo's own, a path of one."""
    median_depth_m: float
    """Of the surface near the view centre: what the scene is measured by."""
    paths: list[NamedPath]
    chosen: frozenset[str]
    """Names of the paths that `auto` chose; all others were asked for."""

    @staticmethod
    def read(scene_dir: Path) -> SceneContents:
        """Read what the stages left.

        Raises:
            ArtifactError: A stage is missing, unfinished or damaged.
        """
        Manifest.read(scene_dir / "reconstruct", "reconstruct")
        plan = Plan.read(scene_dir / "plan")
        view = View.read(scene_dir / "lift" / "views" / "000")
        return SceneContents(
            scene_dir.resolve().name,
            read_splats(scene_dir / SPLATS),
            view.camera,
            float(plan.manifest.facts["median_depth_m"]),
            plan.paths,
            frozenset(f["name"] for f in plan.manifest.facts["paths"] if _by_auto(f["requested"])),
        )


def _by_auto(requested: str) -> bool:
    return requested.partition(":")[0] == AUTO


def read_lift(scene_dir: Path) -> Lift:
    """Read the lifted photo of a scene.

    Raises:
        ArtifactError: It is missing, unfinished or damaged.
    """
    return Lift.read(scene_dir / "lift")

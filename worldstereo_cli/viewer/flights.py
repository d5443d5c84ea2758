"""How far the paths of a scene are flown, in the page and in the video alike.

Paths are planned to uncover much, and far from the photo most of what they show is invented. What
`auto` chose is therefore flown only so far that the photo still fills most of every picture; what
somebody asked for is flown whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from worldstereo_cli.artifacts.scene import NamedPath
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.coverage import CoarseSurface, hole_frac
from worldstereo_cli.geometry.interpolate import scale_motion
from worldstereo_cli.geometry.unseen import CoarseView
from worldstereo_cli.recipe import ViewRecipe
from worldstereo_cli.viewer.contents import SceneContents

_COARSE_PX = 192
_LOOKS = 9
"""Pictures along a path that are looked at for holes."""
_PARTS = tuple(0.05 * step for step in range(19, 0, -1))
"""Parts of a path's motion that are tried, until one will do."""


class UnseenShare:
    """Tells how much of a picture one view has not seen."""

    def __init__(self, view: View) -> None:
        """Sample the view coarsely."""
        coarse = CoarseView.sampled(view.depth_m, view.sky, view.camera, _COARSE_PX)
        self._surface = CoarseSurface(coarse)

    def most(self, path: Cameras) -> float:
        """Return the largest share, in [0, 1], that holes have in any picture along a path."""
        few = path[torch.linspace(0, len(path) - 1, min(len(path), _LOOKS)).round().long()]
        return float(hole_frac(self._surface.front(few)).max())

    def shortened(self, path: Cameras, most: float) -> Cameras:
        """Scale a path's motion down until no picture along it has holes beyond a share.

        Args:
            path: Starts at a camera that the view fills well.
            most: The largest share that is allowed, in [0, 1].
        """
        if self.most(path) <= most:
            return path
        parts = (part for part in _PARTS if self.most(scale_motion(path, part)) <= most)
        return scale_motion(path, next(parts, _PARTS[-1]))


def paths_to_fly(contents: SceneContents, max_unseen: float) -> list[NamedPath]:
    """Return the paths of a scene, those that `auto` chose shortened.

    Args:
        contents: A finished scene.
        max_unseen: The largest share, in [0, 1], that what the photo does not show may have in a picture.
    """
    unseen = UnseenShare(contents.photo)
    return [
        replace(path, cameras=unseen.shortened(path.cameras, max_unseen))
        if path.name in contents.chosen
        else path
        for path in contents.paths
    ]


@dataclass(frozen=True, slots=True)
class Shown:
    """A scene and the flights through it: what page and video have in common, read once for both."""

    contents: SceneContents
    flown: list[NamedPath]

    @staticmethod
    def read(scene_dir: Path, recipe: ViewRecipe) -> Shown:
        """Read a finished scene, and choose how far its paths are flown.

        Raises:
            ArtifactError: The scene is not finished.
        """
        contents = SceneContents.read(scene_dir)
        return Shown(contents, paths_to_fly(contents, recipe.flythrough_max_unseen))


def is_loop(path: Cameras) -> bool:
    """Say whether a path ends where it began, within a hundredth of its extent."""
    gap = (path.world_from_camera[-1] - path.world_from_camera[0]).abs().max()
    extent = (path.world_from_camera - path.world_from_camera[:1]).abs().max()
    lens = (path.intrinsics[-1] / path.intrinsics[0]).nan_to_num(1.0)
    return bool(gap <= 0.01 * extent) and bool((lens - 1).abs().max() < 0.01) and bool(extent > 0)

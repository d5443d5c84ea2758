"""What lies over the picture: how to move, paths to fly along, and what was seen and what was made up."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from worldstereo_cli.artifacts.scene import NamedPath
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.viewer.contents import About, SceneContents
from worldstereo_cli.viewer.flights import is_loop
from worldstereo_cli.viewer.opening import filled_reach

_TEMPLATE = Path(__file__).with_name("overlay.html")
_PLACE = "/*SCENE*/null"
_POSES_PER_PATH = 41
"""Between these the flight is straight; two in three degrees of the usual sweeps."""
_DEPTH_BY = {
    "embedded": "the shipped depth network",
    "prior": "a geometric guess (prior)",
    "file": "a depth file",
}
_FRAMES_BY = {"warp": "warp, which continues visible surfaces and uses no model"}


def overlay(contents: SceneContents, flown: list[NamedPath], unit_m: float) -> str:
    """Return the HTML that a page's head takes.

    Args:
        contents: The scene.
        flown: The paths that the page flies along: see `paths_to_fly`.
        unit_m: Metres in the page's unit of length.
    """
    scene = {
        "name": contents.name,
        "photo": _poses(contents.camera, contents, unit_m)[0],
        "filled": filled_reach(contents),
        "paths": [
            {
                "name": path.name,
                "poses": _poses(_thinned(path.cameras), contents, unit_m),
                "is_loop": is_loop(path.cameras),
            }
            for path in flown
        ],
        "about": [*_about(contents.about), _about_paths(contents, flown)],
        "has_invented": not bool(contents.shown_by_photo(contents.gaussians).all()),
    }
    # A name may hold a tag that would end the script; a directory's name may hold bytes that are no text.
    text = json.dumps(scene, separators=(",", ":")).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace(_PLACE, text)


def _about(about: About) -> list[str]:
    total = about.points_seen + about.points_invented
    invented = round(100 * about.points_invented / max(1, total))
    depth = _DEPTH_BY.get(about.depth_by, about.depth_by)
    frames = _FRAMES_BY.get(about.frames_by, about.frames_by)
    return [
        f"One photograph, made 3D. Depth by {depth}; scale {about.scale}.",
        f"{100 - invented} % of the points come from the photo. {invented} % are invented, where it shows "
        f"nothing: by {frames}.",
    ]


def _about_paths(contents: SceneContents, flown: list[NamedPath]) -> str:
    told = (
        "Coloured lines are the camera paths. The scene is made to be seen from near them; farther off, "
        "gaps and guesses show."
    )
    planned = {path.name: path.cameras for path in contents.paths}
    if all(path.cameras is planned[path.name] for path in flown):
        return told
    return f"{told} Flights go along them as far as the photo still fills most of the picture."


def _thinned(cameras: Cameras) -> Cameras:
    count = min(len(cameras), _POSES_PER_PATH)
    return cameras[torch.linspace(0, len(cameras) - 1, count).round().long()]


def _poses(cameras: Cameras, contents: SceneContents, unit_m: float) -> list[list[float]]:
    """Return a row for each camera: tangents of half its width and height, where it is, looks to, and up."""
    poses = cameras.world_from_camera.double()
    position = poses[:, :3, 3]
    target = position + contents.median_depth_m * poses[:, :3, 2]
    size = torch.tensor([cameras.width_px, cameras.height_px])
    tangents = 0.5 * size / cameras.intrinsics[:, [0, 1], [0, 1]].double()
    rows = torch.cat([tangents, position / unit_m, target / unit_m, -poses[:, :3, 1]], 1)
    return [[round(number, 5) for number in row] for row in rows.tolist()]

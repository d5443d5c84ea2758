"""What tests of the viewer page share: scenes that are out of the ordinary, and how far paths go."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.viewer.contents import SceneContents
from worldstereo_cli.viewer.live import unit_m
from worldstereo_cli.viewer.overlay import overlay
from worldstereo_cli.viewer.page import page_within


def page_of(contents: SceneContents, max_bytes: int = 40_000_000) -> tuple[bytes, int]:
    return page_within(contents, overlay(contents, contents.paths, unit_m(contents)), max_bytes)


def chosen_by_auto(scene_dir: Path, root: Path) -> Path:
    """A copy of a scene whose first path `auto` chose; what was made for it stays."""
    shutil.copytree(scene_dir, root)
    manifest = json.loads((root / "plan" / "artifact.json").read_text())
    manifest["facts"]["paths"][0]["requested"] = "auto: right-40"
    (root / "plan" / "artifact.json").write_text(json.dumps(manifest))
    return root


def reach(path: Cameras) -> torch.Tensor:
    """How far a path goes from its start, metres."""
    return (path.centres - path.centres[:1]).norm(dim=-1).max()


def with_invented(contents: SceneContents) -> SceneContents:
    """The same scene with red splats left of the photo's view, behind the ball, and behind the camera."""
    places = torch.tensor([[-2.6, 0.0, 2.5], [0.3, 0.2, 4.5], [0.0, 0.0, -3.0]])
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-0.25, 0.25, 9)] * 2, indexing="ij"), -1).reshape(
        -1, 2
    )
    means = (places[:, None] + torch.nn.functional.pad(grid, (0, 1))).reshape(-1, 3)
    g, count = contents.gaussians, len(means)
    red = torch.tensor([0.5, -0.5, -0.5]) / 0.28209479
    extra = [
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        torch.full((count, 3), math.log(0.05)),
        torch.full((count,), 4.0),
        red.expand(count, 1, 3),
    ]
    own = [g.means, g.quaternions, g.log_scales, g.opacity_logits, g.sh]
    return replace(contents, gaussians=type(g)(*[torch.cat(pair) for pair in zip(own, extra, strict=True)]))

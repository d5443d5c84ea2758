"""The flythrough: along every path (see `flights`) and back, as a video that any player plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from worldstereo_cli.artifacts.manifest import draft_file
from worldstereo_cli.artifacts.scene import NamedPath
from worldstereo_cli.artifacts.video import write_video
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.images import fit_within
from worldstereo_cli.geometry.interpolate import sample_path
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import ViewRecipe
from worldstereo_cli.viewer.flights import Shown, is_loop

Render = Callable[[Cameras], Float[Tensor, "3 h w"]]
"""Draws what one camera sees, sRGB in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One path of a flythrough: the distinct views, and the order in which they are shown."""

    cameras: Cameras
    order: list[int]

    @staticmethod
    def along(path: Cameras, num_frames: int) -> Leg:
        """Fly a path with an eased start and end; one that does not end where it began, there and back.

        Args:
            path: At least two poses.
            num_frames: At least 3.
        """
        span = torch.linspace(0, 1, num_frames, dtype=torch.float64)
        if is_loop(path):
            return Leg(sample_path(path, _eased(span)), list(range(num_frames)))
        # Frame i and frame n - 1 - i show the same view: the middle is the far end.
        half = (num_frames + 1) // 2
        distinct = sample_path(path, _eased((2 * span[:half]).clamp(max=1)))
        return Leg(distinct, [min(i, num_frames - 1 - i) for i in range(num_frames)])


def write_flythrough(
    shown: Shown, path: Path, recipe: ViewRecipe, *, device: str, progress: Progress
) -> None:
    """Render a scene's splats along its flights into an mp4 video.

    Args:
        shown: A finished scene, and what is flown along.
        path: The video; replaced if it exists.
        recipe: Frame rate, length and size.
        device: Where the splats are drawn: `cpu` or `cuda`.
        progress: Told after every drawn frame.

    Raises:
        BackendError: The rasteriser or the video encoder is missing.
    """
    from worldstereo_cli.splatting.rasterize.factory import rasterizer_for

    gaussians = shown.contents.gaussians.to(device)
    rasterizer = rasterizer_for(device)

    def render(camera: Cameras) -> Tensor:
        with torch.no_grad():
            return rasterizer.render(gaussians, camera.to(device)).rgb

    legs = plan_legs(shown.flown, recipe)
    size = (legs[0].cameras.width_px, legs[0].cameras.height_px)
    with draft_file(path) as draft:
        write_video(draft, film(legs, render, progress), size, recipe.flythrough_fps)


def plan_legs(paths: list[NamedPath], recipe: ViewRecipe) -> list[Leg]:
    """Divide the time evenly among the paths; each eases in and out, and open ones return.

    There and back show the same views, so that a leg that returns draws only half of its frames.

    Args:
        paths: At least one.
        recipe: Frame rate, length and size.
    """
    total = round(recipe.flythrough_fps * recipe.flythrough_seconds)
    frames = max(3, round(total / len(paths)))
    first = paths[0].cameras
    # Video wants even sides.
    size = fit_within(first.width_px, first.height_px, recipe.flythrough_long_side_px, 2)
    return [Leg.along(path.cameras.cropped_to(*size), frames) for path in paths]


def film(legs: list[Leg], render: Render, progress: Progress) -> Iterator[UInt8[Tensor, "3 h w"]]:
    """Yield the frames of a flythrough, 8 bit, drawing each distinct view of a leg once."""
    total = sum(len(leg.cameras) for leg in legs)
    done = 0
    for leg in legs:
        views = []
        for index in range(len(leg.cameras)):
            views.append((render(leg.cameras[index]).clamp(0, 1) * 255).round().to(torch.uint8).cpu())
            done += 1
            progress(done, total, "drawing the flythrough")
        for index in leg.order:
            yield views[index]


def _eased(progress: Float[Tensor, n]) -> Float[Tensor, n]:
    """Start and end at rest: 3 t^2 - 2 t^3."""
    return progress * progress * (3 - 2 * progress)

"""A picture of a plan: cloud, paths and frusta from above and from the side, to one scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from worldstereo_cli.artifacts.scene import NamedPath
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud

Array = NDArray[np.float64]

_PANEL_PX = (760, 760)
_MARGIN_PX = 48
_BACKGROUND = (18, 20, 24)
_TEXT = (232, 234, 238)
# Told apart by people who do not see red and green alike.
# Source: Okabe & Ito, Color Universal Design, 2008.
_COLOURS = [
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167),
]  # fmt: skip
_FRUSTA_PER_PATH = 4
_FRUSTUM_DEPTHS = 0.12
"""Length of a drawn frustum in median depths."""


@dataclass(frozen=True, slots=True)
class _Panel:
    """An orthographic look at the world: two of its axes, and how they map to pixels."""

    title: str
    axes: tuple[int, int]
    """World axes that run to the right and downwards in the panel."""
    signs: tuple[float, float]
    centre: Array
    metres_per_px: float

    def pixels(self, points: Array) -> Array:
        """Map world points (p 3) to panel pixels (p 2)."""
        flat = points[:, self.axes] * np.array(self.signs)
        middle = self.centre[list(self.axes)] * np.array(self.signs)
        offset = (flat - middle) / self.metres_per_px + 0.5 * np.array(_PANEL_PX)
        return np.asarray(offset, dtype=np.float64)


def draw_plan(path: Path, cloud: Cloud, paths: list[NamedPath], median_depth_m: float) -> None:
    """Draw cloud, paths and frusta from above (left) and from the side (right).

    Args:
        path: The PNG to write.
        cloud: Its non-sky points are drawn in their colours.
        paths: Drawn in order, each with frusta at a few of its poses.
        median_depth_m: Sets the size of the frusta and how much of a deep scene is shown.
    """
    surface = cloud[~cloud.sky]
    points = surface.points.detach().cpu().double().numpy()
    colours = surface.colors.detach().cpu().clamp(0, 1).double().numpy() * 255
    canvas = Image.new("RGB", (2 * _PANEL_PX[0], _PANEL_PX[1]), _BACKGROUND)
    for index, panel in enumerate(_panels(points, paths, median_depth_m)):
        picture = _draw_points(panel, points, colours)
        draw = ImageDraw.Draw(picture)
        for number, named in enumerate(paths):
            _draw_path(draw, panel, named.cameras, _COLOURS[number % len(_COLOURS)], median_depth_m)
        _draw_words(draw, panel, [p.name for p in paths] if index == 0 else [])
        canvas.paste(picture, (index * _PANEL_PX[0], 0))
    canvas.save(path)


def _panels(points: Array, paths: list[NamedPath], median_depth_m: float) -> list[_Panel]:
    """Choose one centre and scale that show the paths and the bulk of the cloud."""
    centres = torch.cat([p.cameras.centres for p in paths]).detach().cpu().double().numpy()
    near = points[np.abs(points - centres[0]).max(axis=1) < 4 * median_depth_m]
    # The outermost percent would make the rest small.
    bulk = np.quantile(near, [0.01, 0.99], axis=0) if len(near) else centres
    frusta = _FRUSTUM_DEPTHS * median_depth_m
    low = np.minimum(bulk[0], centres.min(axis=0) - frusta)
    high = np.maximum(bulk[-1], centres.max(axis=0) + frusta)
    scale = float((high - low).max()) / (min(_PANEL_PX) - 2 * _MARGIN_PX)
    centre = 0.5 * (low + high)
    return [
        _Panel("from above", (0, 2), (1.0, -1.0), centre, scale),
        _Panel("from the side", (2, 1), (1.0, 1.0), centre, scale),
    ]


def _draw_points(panel: _Panel, points: Array, colours: Array) -> Image.Image:
    """Draw every point as two by two pixels of the mean colour of those that fall there, half dimmed."""
    width, height = _PANEL_PX[0] // 2, _PANEL_PX[1] // 2
    cell = np.floor(panel.pixels(points) / 2).astype(np.int64)
    inside = (cell >= 0).all(axis=1) & (cell[:, 0] < width) & (cell[:, 1] < height)
    index = cell[inside, 1] * width + cell[inside, 0]
    count = np.bincount(index, minlength=width * height)
    sums = [np.bincount(index, colours[inside, c], width * height) for c in range(3)]
    mean = np.stack(sums, -1) / np.maximum(count, 1)[:, None]
    background = np.array(_BACKGROUND, dtype=np.float64)
    # Paths are what the picture is about: the cloud stays at two thirds of its brightness.
    shown = np.where(count[:, None] > 0, background + 0.66 * (mean - background), background)
    picture = Image.fromarray(shown.reshape(height, width, 3).round().astype(np.uint8), "RGB")
    return picture.resize(_PANEL_PX, Image.Resampling.NEAREST)


def _draw_path(
    draw: ImageDraw.ImageDraw,
    panel: _Panel,
    cameras: Cameras,
    colour: tuple[int, int, int],
    median_depth_m: float,
) -> None:
    centres = panel.pixels(cameras.centres.detach().cpu().double().numpy())
    draw.line([(float(x), float(y)) for x, y in centres], fill=colour, width=3, joint="curve")
    chosen = np.unique(np.linspace(0, len(cameras) - 1, _FRUSTA_PER_PATH).round().astype(int))
    for i in chosen:
        corners = panel.pixels(_frustum_corners(cameras[int(i)], _FRUSTUM_DEPTHS * median_depth_m))
        outline = [(float(x), float(y)) for x, y in corners]
        apex = (float(centres[i, 0]), float(centres[i, 1]))
        draw.polygon(outline, outline=colour)
        for corner in outline:
            draw.line([apex, corner], fill=colour, width=1)


def _frustum_corners(camera: Cameras, length_m: float) -> Array:
    """Return the four corners of the image plane at `length_m`, world frame."""
    w, h = float(camera.width_px), float(camera.height_px)
    pixels = torch.tensor([[0.0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]], dtype=torch.float64)
    rays = pixels @ torch.linalg.inv(camera.intrinsics[0].detach().cpu().double()).T
    pose = camera.world_from_camera[0].detach().cpu().double()
    return np.asarray((length_m * rays @ pose[:3, :3].T + pose[:3, 3]).numpy(), dtype=np.float64)


def _draw_words(draw: ImageDraw.ImageDraw, panel: _Panel, names: list[str]) -> None:
    """Write the title, a scale bar of a round length, and the legend."""
    font = ImageFont.load_default(16)
    draw.text((14, 10), panel.title, fill=_TEXT, font=font)
    span_m = 0.25 * _PANEL_PX[0] * panel.metres_per_px
    step = 10.0 ** np.floor(np.log10(span_m))
    length_m = max(m * step for m in (1, 2, 5) if m * step <= span_m)
    right, bottom = _PANEL_PX[0] - 16, _PANEL_PX[1] - 16
    left = right - length_m / panel.metres_per_px
    draw.line([(left, bottom), (right, bottom)], fill=_TEXT, width=3)
    draw.text((left, bottom - 24), f"{length_m:g} m", fill=_TEXT, font=font)
    for number, name in enumerate(names):
        draw.text((14, 34 + 20 * number), name, fill=_COLOURS[number % len(_COLOURS)], font=font)

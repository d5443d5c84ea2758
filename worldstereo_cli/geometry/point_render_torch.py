"""Point rendering in plain torch: the specification of the compiled kernels, and the CUDA path."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.point_render import PointRender, PointStyle, SurfaceStyle, nothing_rendered


@dataclass(frozen=True, slots=True)
class _Hits:
    """Every (pixel, point) pair where a pixel centre lies inside a disc."""

    pixel: Int[Tensor, k]
    point: Int[Tensor, k]
    depth_m: Float[Tensor, k]
    falloff: Float[Tensor, k]
    """1 - d^2 / r^2, in (0, 1]."""


def render_points_torch(
    points: Float[Tensor, "p 3"], colors: Float[Tensor, "p 3"], cameras: Cameras, style: PointStyle
) -> PointRender:
    """Render soft points of one size; see `point_render.render_points`."""
    if len(points) == 0:
        return nothing_rendered(cameras, style.background, points)
    radius = torch.full_like(points[:, 0], style.radius_px(cameras.width_px, cameras.height_px))
    frames = []
    for i in range(len(cameras)):
        pixels, depth = cameras[i].project(points)
        hits = _hits(pixels[0], depth[0], radius, cameras.width_px, cameras.height_px)
        frames.append(_blend_over(hits, colors, cameras, style))
    return _stacked(frames, cameras)


def render_surface_torch(cloud: Cloud, cameras: Cameras, style: SurfaceStyle) -> PointRender:
    """Render the front surface of a cloud; see `point_render.render_surface`."""
    if len(cloud) == 0:
        return nothing_rendered(cameras, style.background, cloud.points)
    frames = []
    for i in range(len(cameras)):
        camera = cameras[i]
        pixels, depth = camera.project(cloud.points)
        focal = (camera.intrinsics[0, 0, 0] * camera.intrinsics[0, 1, 1]).sqrt()
        radius = style.radius_spacings * cloud.spacing_m * focal / depth[0].clamp_min(1e-9)
        radius = radius.clamp(style.min_radius_px, style.max_radius_px)
        hits = _hits(pixels[0], depth[0], radius, camera.width_px, camera.height_px)
        rgb, front = _average_surface(hits, cloud.colors, camera, style)
        frames.append(_close_gaps(rgb, front, style))
    return _stacked(frames, cameras)


def _hits(
    pixels: Float[Tensor, "p 2"],
    depth_m: Float[Tensor, p],
    radius_px: Float[Tensor, p],
    width: int,
    height: int,
) -> _Hits:
    """List all hits, discs of similar size together, so that each costs its own area."""
    found = []
    largest = int(radius_px.max().ceil())
    for reach in range(1, largest + 1):
        chosen = (radius_px <= reach) & (radius_px > reach - 1) & (depth_m > 0)
        index = chosen.nonzero()[:, 0]
        if len(index) == 0:
            continue
        offsets = torch.arange(-reach, reach + 1, device=pixels.device)
        column = pixels[index, 0].floor().long()[:, None] + offsets
        row = pixels[index, 1].floor().long()[:, None] + offsets
        dx = column + 0.5 - pixels[index, 0, None]
        dy = row + 0.5 - pixels[index, 1, None]
        falloff = 1 - (dx[:, None, :] ** 2 + dy[:, :, None] ** 2) / radius_px[index, None, None] ** 2
        inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None, :]
        where, r, c = ((falloff > 0) & inside).nonzero(as_tuple=True)
        pixel = row[where, r] * width + column[where, c]
        found.append(_Hits(pixel, index[where], depth_m[index[where]], falloff[where, r, c]))
    if not found:
        none = torch.zeros(0, dtype=torch.long, device=pixels.device)
        return _Hits(none, none, none.float(), none.float())
    return _Hits(
        *(torch.cat([getattr(f, n) for f in found]) for n in ("pixel", "point", "depth_m", "falloff"))
    )


def _blend_over(
    hits: _Hits, colors: Float[Tensor, "p 3"], cameras: Cameras, style: PointStyle
) -> tuple[Tensor, Tensor]:
    """Blend the nearest hits of every pixel front to back; equal depths go by point index."""
    num_pixels = cameras.width_px * cameras.height_px
    rgb = torch.full((num_pixels, 3), style.background, dtype=colors.dtype, device=colors.device)
    front = torch.zeros(num_pixels, dtype=colors.dtype, device=colors.device)
    if len(hits.pixel) == 0:
        return rgb, front
    order = torch.argsort(hits.point, stable=True)
    order = order[torch.argsort(hits.depth_m[order], stable=True)]
    order = order[torch.argsort(hits.pixel[order], stable=True)]
    pixel = hits.pixel[order]
    covered, group, counts = torch.unique_consecutive(pixel, return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(pixel), device=pixel.device) - first[group]
    kept = rank < style.points_per_pixel
    opacity = torch.zeros(len(covered), style.points_per_pixel, dtype=colors.dtype, device=colors.device)
    opacity[group[kept], rank[kept]] = hits.falloff[order][kept]
    passed = torch.cumprod(1 - opacity, 1)
    weight = opacity * torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], 1)
    layers = torch.zeros(*opacity.shape, 3, dtype=colors.dtype, device=colors.device)
    layers[group[kept], rank[kept]] = colors[hits.point[order][kept]]
    rgb[covered] = (weight[..., None] * layers).sum(1) + passed[:, -1:] * style.background
    front[covered] = hits.depth_m[order][first]
    return rgb, front


def _average_surface(
    hits: _Hits, colors: Float[Tensor, "p 3"], cameras: Cameras, style: SurfaceStyle
) -> tuple[Tensor, Tensor]:
    """Average colour and inverse depth of the hits that belong to the front surface."""
    num_pixels = cameras.width_px * cameras.height_px
    front = torch.full((num_pixels,), torch.inf, dtype=colors.dtype, device=colors.device)
    front = front.scatter_reduce(0, hits.pixel, hits.depth_m, "amin")
    kept = hits.depth_m <= front[hits.pixel] * (1 + style.depth_tolerance)
    pixel, point = hits.pixel[kept], hits.point[kept]
    # A floor keeps the average defined where a disc only grazes the pixel centre.
    weight = hits.falloff[kept] ** 4 + 1e-6
    values = torch.cat([colors[point], 1 / hits.depth_m[kept, None], torch.ones_like(weight)[:, None]], 1)
    sums = torch.zeros(num_pixels, 5, dtype=colors.dtype, device=colors.device)
    sums.index_add_(0, pixel, weight[:, None] * values)
    seen = sums[:, 4] > 0
    mean = sums[:, :4] / sums[:, 4:].clamp_min(1e-12)
    rgb = torch.where(seen[:, None], mean[:, :3], torch.full_like(mean[:, :3], style.background))
    return rgb.reshape(cameras.height_px, cameras.width_px, 3), torch.where(
        seen, 1 / mean[:, 3].clamp_min(1e-12), torch.zeros_like(front)
    ).reshape(cameras.height_px, cameras.width_px)


_LINES = ((0, 1), (1, 0), (1, 1), (1, -1))


def _close_gaps(rgb: Tensor, front: Tensor, style: SurfaceStyle) -> tuple[Tensor, Tensor]:
    """Give gaps between the samples of one surface the mean of that surface."""
    limit = torch.where(front > 0, front * (1 - style.depth_tolerance), torch.full_like(front, torch.inf))
    pairs = torch.zeros_like(front)
    sums = torch.zeros(*front.shape, 5, dtype=front.dtype, device=front.device)
    for dy, dx in _LINES:
        ends = [_first_nearer(rgb, front, limit, (sign * dy, sign * dx), style.close_px) for sign in (1, -1)]
        inverse = [end[..., 3] / end[..., 4].clamp_min(1e-12) for end in ends]
        both = (ends[0][..., 4] > 0) & (ends[1][..., 4] > 0)
        agree = (inverse[0] - inverse[1]).abs() <= 2 * style.depth_tolerance * torch.maximum(*inverse)
        one_surface = both & agree
        pairs += one_surface
        sums += one_surface[..., None] * (ends[0] + ends[1])
    gap = pairs >= 3
    mean = sums[..., :4] / sums[..., 4:].clamp_min(1e-12)
    depth = torch.where(gap, 1 / mean[..., 3].clamp_min(1e-12), front)
    return torch.where(gap[..., None], mean[..., :3], rgb), depth


def _first_nearer(rgb: Tensor, front: Tensor, limit: Tensor, step: tuple[int, int], reach: int) -> Tensor:
    """Find, along one direction, the first pixel nearer than `limit`.

    Returns:
        (h w 5): colour and inverse depth, both times the weight 1/steps, and that weight; zeros
        where there is none.
    """
    height, width = front.shape
    found = torch.zeros(height, width, 5, dtype=front.dtype, device=front.device)
    padded_front = torch.nn.functional.pad(front, (reach, reach, reach, reach))
    padded_rgb = torch.nn.functional.pad(rgb.permute(2, 0, 1), (reach, reach, reach, reach)).permute(1, 2, 0)
    for steps in range(1, reach + 1):
        top, left = reach + steps * step[0], reach + steps * step[1]
        depth = padded_front[top : top + height, left : left + width]
        colour = padded_rgb[top : top + height, left : left + width]
        new = (found[..., 4] == 0) & (depth > 0) & (depth < limit)
        values = torch.cat(
            [colour, 1 / depth.clamp_min(1e-9)[..., None], torch.ones_like(depth)[..., None]], -1
        )
        found = torch.where(new[..., None], values / steps, found)
    return found


def _stacked(frames: list[tuple[Tensor, Tensor]], cameras: Cameras) -> PointRender:
    size = (len(frames), cameras.height_px, cameras.width_px)
    rgb = torch.stack([f[0] for f in frames]).reshape(*size, 3).permute(0, 3, 1, 2).contiguous()
    depth = torch.stack([f[1] for f in frames]).reshape(size)
    return PointRender(rgb, depth, depth == 0)

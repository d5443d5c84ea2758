"""Splats to start from: one flat splat for each pixel of a picture, and splats for the points of a cloud."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.depth_edges import near_break
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.geometry.images import crop_resize
from worldstereo_cli.geometry.rigid import quaternion_from_rotation
from worldstereo_cli.splatting.rasterize.harmonics import sh_from_rgb

_REACH_PX = 3
"""Pixels at an edge look so far for pixels of their own surface."""
_BACKING_PIXELS = 9
"""Pixels for one splat of the backing layer."""
_BACKING_DEPTH = 1.005
"""The layer is this much farther than the farthest surface that one of its splats covers."""
_BACKING_MARGIN = 3
"""Distance of the layer to steps in depth, in its own spacings: about three standard deviations."""
_SAME_SURFACE = 0.03
"""Share of the depth by which pixels of one surface differ within that reach."""


@dataclass(frozen=True, slots=True)
class SplatStyle:
    """How large and how solid splats begin."""

    sigma_spacings: float = 0.45
    """Standard deviation over the distance between samples. Neighbours overlap; a tenth more costs 2 dB at
    the photo's camera, a tenth less opens gaps as soon as the camera moves."""
    flatness: float = 0.2
    """Thickness over the smaller extent along the surface."""
    max_stretch: float = 5.0
    """A surface seen at a grazing angle is sampled this much more coarsely along its slope at most;
    beyond, splats would be needles that follow the noise of the depth."""
    max_gap: float = 2.5
    """A point whose neighbours are farther away than so many times its spacing is a loose one, and its
    splat grows no further."""
    opacity: float = 0.98


@dataclass(frozen=True, slots=True)
class Picture:
    """What one camera sees, and how far away it is."""

    image: Float[Tensor, "3 h w"]
    """sRGB in [0, 1]."""
    depth_m: Float[Tensor, "h w"]
    """Metres along the optical axis; any value where not valid."""
    valid: Bool[Tensor, "h w"]
    """Where the depth is that of a surface or of the sky's shell; must not be empty."""
    sky: Bool[Tensor, "h w"]
    camera: Cameras
    """A path of one."""

    def to(self, device: torch.device | str) -> Picture:
        """Return the same picture on another device."""
        return Picture(
            self.image.to(device),
            self.depth_m.to(device),
            self.valid.to(device),
            self.sky.to(device),
            self.camera.to(device),
        )


def settled_depth(picture: Picture) -> Float[Tensor, "h w"]:
    """Return the depth with every pixel that is not valid on the surface nearest to it in the image.

    Raises:
        ValueError: No pixel is valid.
    """
    if not bool(picture.valid.any()):
        raise ValueError(f"Expected valid depth, got none among {picture.valid.numel()} pixels.")
    if bool(picture.valid.all()):
        return picture.depth_m
    row, column = distance_transform_edt(
        ~picture.valid.cpu().numpy(), return_distances=False, return_indices=True
    )
    return picture.depth_m[torch.from_numpy(row), torch.from_numpy(column)]


def splats_from_picture(picture: Picture, style: SplatStyle, max_splats: int | None = None) -> Gaussians:
    """Make one splat of every pixel, in row-major order, or fewer if there would be too many.

    Each lies flat on its surface and covers there what the pixel covers on the image, so that
    seen from the picture's camera it is round, and as large as the pixel. To stay within
    `max_splats`, squares of four pixels become one splat where the picture is smoothest.

    Raises:
        ValueError: No pixel is valid.

    Source: Zwicker et al., Surface Splatting, 2001, section 3 (splats as images of pixels).
    """
    num_pixels = picture.depth_m.numel()
    if max_splats is not None and num_pixels > 3 * max_splats:
        return splats_from_picture(_shrunk(picture, 3 * max_splats), style, max_splats)
    depth = settled_depth(picture)
    along_u, along_v = _pixel_steps(depth, picture.sky, picture.camera)
    points = picture.camera.unproject(depth[None])[0]
    colours = unmixed_colors(picture.image, depth).permute(1, 2, 0)
    cells = torch.cat([points, along_u, along_v, colours], -1)
    if max_splats is None or num_pixels <= max_splats:
        cells = cells.reshape(num_pixels, 12)
    else:
        cells = _merged(cells, depth, num_pixels - max_splats)
    axes, extents = _principal_axes(cells[:, 3:6], cells[:, 6:9])
    extents = torch.stack([extents[:, 0].minimum(style.max_stretch * extents[:, 1]), extents[:, 1]], -1)
    return Gaussians(
        cells[:, :3].contiguous(),
        quaternion_from_rotation(axes),
        _log_scales(extents, style),
        torch.full_like(depth, style.opacity).reshape(-1)[: len(cells)].logit(),
        sh_from_rgb(cells[:, 9:]),
    )


def unmixed_colors(image: Float[Tensor, "3 h w"], depth_m: Float[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """Replace the colours of pixels at a step in depth, which mix both surfaces, by those of their own.

    Such a pixel takes the mean of what lies near it on its side of the step. Where there is nothing,
    as on a wire, it keeps its colour. Without this every object leaves its outline on the
    background when the camera moves.
    """
    distance = near_break(depth_m)
    row, column = torch.nonzero(distance < 2, as_tuple=True)
    height, width = depth_m.shape
    total = torch.zeros_like(image[:, row, column])
    weight = torch.zeros_like(depth_m[row, column])
    for dy in range(-_REACH_PX, _REACH_PX + 1):
        for dx in range(-_REACH_PX, _REACH_PX + 1):
            v, u = (row + dy).clamp(0, height - 1), (column + dx).clamp(0, width - 1)
            near = math.exp(-(dx * dx + dy * dy) / _REACH_PX)
            alike = (depth_m[v, u] / depth_m[row, column] - 1).abs() < _SAME_SURFACE
            share = near * (alike & (distance[v, u] >= 2))
            total += share * image[:, v, u]
            weight += share
    clean = image.clone()
    clean[:, row, column] = torch.where(weight > 0, total / weight.clamp_min(1e-6), image[:, row, column])
    return clean


def _shrunk(picture: Picture, num_pixels: int) -> Picture:
    """Return the picture with at most so many pixels."""
    height, width = picture.depth_m.shape
    scale = (num_pixels / (height * width)) ** 0.5
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    maps = torch.stack([settled_depth(picture), picture.sky.to(picture.depth_m)])
    depth, sky = crop_resize(maps[None], *size, nearest=True)[0]
    image = crop_resize(picture.image[None], *size)[0]
    return Picture(image, depth, depth > 0, sky > 0.5, picture.camera.cropped_to(*size))


def _merged(
    cells: Float[Tensor, "h w c"], depth_m: Float[Tensor, "h w"], surplus: int
) -> Float[Tensor, "n c"]:
    """Merge the smoothest squares of 2 x 2 cells: position, steps along u and v, colour."""
    height, width = (s // 2 * 2 for s in depth_m.shape)
    even = cells[:height, :width]

    def squares(grid: Float[Tensor, "h w c"]) -> Float[Tensor, "s 4 c"]:
        return grid.unfold(0, 2, 2).unfold(1, 2, 2).flatten(3).flatten(0, 1).transpose(1, 2)

    groups = squares(even)
    depths = squares(depth_m[:height, :width, None])[..., 0]
    contrast = (groups[..., 9:].amax(1) - groups[..., 9:].amin(1)).amax(-1)
    relief = depths.amax(1) / depths.amin(1) - 1
    # Four pixels over a step of a tenth in depth are as rough as black beside white.
    roughness = contrast + 10 * relief
    chosen = torch.zeros(len(groups), dtype=torch.bool, device=cells.device)
    chosen[roughness.argsort(stable=True)[: min(len(groups), -(-surplus // 3))]] = True
    large = groups[chosen].mean(1)
    large[:, 3:9] *= 2
    rest = [groups[~chosen].flatten(0, 1), cells[height:].flatten(0, 1), cells[:height, width:].flatten(0, 1)]
    return torch.cat([large, *rest])


def backing_splats(picture: Picture, style: SplatStyle) -> Gaussians:
    """Make a coarse layer right behind the surface, for cameras that come closer.

    Splats as small as pixels are sharp from where the picture was taken, but from nearer their grid
    opens, and what lies far behind shines through. One splat for nine pixels closes it. The layer
    ends before steps in depth, so that it never looks out beside an object.

    Args:
        picture: What was seen.
        style: Of the layer; its spacing is three pixels.
    """
    small = _shrunk(picture, max(1, picture.depth_m.numel() // _BACKING_PIXELS))
    farthest = torch.nn.functional.max_pool2d(small.depth_m[None, None], 3, stride=1, padding=1)[0, 0]
    behind = replace(small, depth_m=_BACKING_DEPTH * farthest)
    inner = near_break(small.depth_m) >= _BACKING_MARGIN
    return splats_from_picture(behind, style)[inner.reshape(-1)]


def _log_scales(extents_m: Float[Tensor, "g 2"], style: SplatStyle) -> Float[Tensor, "g 3"]:
    """Return logarithms of the standard deviations for sample distances along two axes of a surface."""
    sigma = style.sigma_spacings * extents_m
    return torch.cat([sigma, style.flatness * sigma[:, 1:]], -1).log()


def _pixel_steps(
    depth_m: Float[Tensor, "h w"], sky: Bool[Tensor, "h w"], camera: Cameras
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]]:
    """Return how far the surface moves, metres in the world's frame, for one pixel along u and v."""
    from worldstereo_cli.splatting.slope_kernels import fit_slopes

    disparity = (1 / depth_m).cpu().contiguous()
    slopes = np.empty((*disparity.shape, 2), np.float32)
    fit_slopes(disparity.float().numpy(), sky.cpu().to(torch.uint8).numpy(), slopes)
    slope = torch.from_numpy(slopes).to(depth_m)[..., None] * depth_m[..., None, None] ** 2
    rays = camera.rays()[0].to(depth_m)
    # With q the inverse depth, the surface is ray / q; the ray moves by 1 / f for one pixel.
    steps = -rays[..., None, :] * slope
    steps[..., 0, 0] += depth_m / camera.intrinsics[0, 0, 0]
    steps[..., 1, 1] += depth_m / camera.intrinsics[0, 1, 1]
    rotation = camera.world_from_camera[0, :3, :3].to(depth_m)
    steps = steps @ rotation.T
    return steps[..., 0, :], steps[..., 1, :]


def _principal_axes(
    along_u: Float[Tensor, "p 3"], along_v: Float[Tensor, "p 3"]
) -> tuple[Float[Tensor, "p 3 3"], Float[Tensor, "p 2"]]:
    """Return the axes of the ellipse that two vectors span, as columns, and its two half lengths.

    The first axis is the longer, the third the normal of the plane.
    """
    uu, vv, uv = (along_u * along_u).sum(-1), (along_v * along_v).sum(-1), (along_u * along_v).sum(-1)
    angle = 0.5 * torch.atan2(2 * uv, uu - vv)
    spread = torch.hypot(0.5 * (uu - vv), uv)
    mean = 0.5 * (uu + vv)
    lengths = torch.stack([mean + spread, (mean - spread).maximum(1e-6 * mean)], -1).sqrt()
    longer = torch.cos(angle)[:, None] * along_u + torch.sin(angle)[:, None] * along_v
    longer = torch.nn.functional.normalize(longer, dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(along_u, along_v), dim=-1)
    return torch.stack([longer, torch.linalg.cross(normal, longer), normal], -1), lengths


def splats_from_cloud(
    cloud: Cloud, viewpoint: Float[Tensor, 3], style: SplatStyle, num_neighbours: int = 8
) -> Gaussians:
    """Make one splat of every point of a cloud.

    A splat lies in the plane of its neighbours. Its size follows from how far they are, but stays
    within `style.max_gap` times the spacing at which the point was sampled, so that a loose
    point does not become a blob. Where neighbours do not say how the surface lies (too few, or all
    on a line), it faces the viewpoint.

    Args:
        cloud: The points.
        viewpoint: Where the scene is looked at from, metres, world frame.
        style: Sizes and opacity.
        num_neighbours: Points around each that are looked at.

    Source: Hoppe et al., Surface reconstruction from unorganized points, 1992, section 3 (tangent
    planes); Kerbl et al. 2023, section 5.1 (sizes from neighbours).
    """
    count = len(cloud)
    offsets = _neighbour_offsets(cloud.points, min(num_neighbours, count - 1))
    spacing = cloud.spacing_m.clamp_min(1e-9)
    # Neighbours of another surface count little.
    nearness = torch.exp(-0.5 * (offsets.norm(dim=-1) / (2 * spacing[:, None])).square())
    scatter = torch.einsum("gk,gki,gkj->gij", nearness, offsets, offsets)
    facing = torch.nn.functional.normalize(cloud.points - viewpoint, dim=-1)
    prior = torch.eye(3, dtype=scatter.dtype) - facing[:, :, None] * facing[:, None, :]
    _, axes = torch.linalg.eigh(scatter + (spacing.square()[:, None, None] * prior))
    axes = axes.flip(-1)
    axes = torch.where(torch.linalg.det(axes)[:, None, None] < 0, -axes, axes)
    if offsets.shape[1] == 0:
        distance = spacing
    else:
        distance = offsets.norm(dim=-1)[:, :4].square().mean(dim=1).sqrt()
    extent = distance.minimum(style.max_gap * spacing).maximum(0.5 * spacing)
    return Gaussians(
        cloud.points,
        quaternion_from_rotation(axes),
        _log_scales(extent[:, None].expand(count, 2), style),
        torch.full((count,), style.opacity).logit(),
        sh_from_rgb(cloud.colors),
    )


def _neighbour_offsets(points: Float[Tensor, "g 3"], count: int) -> Float[Tensor, "g k 3"]:
    """Return the way from every point to its nearest neighbours, nearest first."""
    if count < 1:
        return points.new_zeros(len(points), 0, 3)
    array = points.numpy().astype(np.float64)
    _, index = cKDTree(array).query(array, k=count + 1, workers=-1)
    return points[torch.from_numpy(index[:, 1:])] - points[:, None]


def thinned(cloud: Cloud, max_points: int, generator: torch.Generator) -> Cloud:
    """Return at most so many points, chosen at random, each standing for a larger part of the surface.

    A point is chosen in proportion to its confidence: what is doubtful is shown more coarsely. Raises
    ValueError for a cloud of more than 16 million points, which torch cannot draw from.
    """
    if len(cloud) <= max_points:
        return cloud
    weight = cloud.confidence.double().clamp_min(1e-3)
    chosen = torch.multinomial(weight, max_points, generator=generator).sort().values
    kept = cloud[chosen]
    # So many points share the place of one, up to the share that all would have on average.
    stands_for = weight.sum() / (max_points * weight[chosen])
    return replace(kept, spacing_m=kept.spacing_m * stands_for.clamp_min(1.0).sqrt().to(kept.spacing_m))


def seen_in_picture(points: Float[Tensor, "p 3"], picture: Picture) -> Bool[Tensor, p]:
    """Mark points that the picture would show: it knows better whether and how they are there.

    Those are points before what their pixel shows; points on it, except near edges, where a surface
    may go on just behind; and points that hide behind an edge so narrowly that as splats they would
    look round it, before what the next pixel shows.

    Args:
        points: World frame, metres.
        picture: What was seen.
    """
    seen = settled_depth(picture)
    farthest = torch.nn.functional.max_pool2d(seen[None, None], 3, stride=1, padding=1)[0, 0]
    inner = torch.where(near_break(seen) > _REACH_PX, seen, 0.0)
    depth, here = _depth_and_limit(points, seen, picture.camera)
    _, same = _depth_and_limit(points, inner, picture.camera)
    _, beside = _depth_and_limit(points, farthest, picture.camera)
    return (depth > 0) & ((depth < 0.97 * here) | (depth < 1.02 * same) | (depth < 0.95 * beside))


def lies_on_picture(
    points: Float[Tensor, "p 3"], picture: Picture, tolerance: float = 0.03
) -> Bool[Tensor, p]:
    """Mark points that are the surface that the picture shows, up to a share of the depth."""
    depth, limit = _depth_and_limit(points, settled_depth(picture), picture.camera)
    return (depth - limit).abs() < tolerance * limit


def _depth_and_limit(
    points: Float[Tensor, "p 3"], map_m: Float[Tensor, "h w"], camera: Cameras
) -> tuple[Float[Tensor, p], Float[Tensor, p]]:
    """Return the depth of points, and what a map says where they appear; zero outside of it."""
    pixels, depth = camera.project(points)
    height, width = map_m.shape
    u, v = pixels[0].nan_to_num(-1.0).clamp(-1, 1e6).floor().long().unbind(-1)
    inside = (depth[0] > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    limit = map_m[v.clamp(0, height - 1), u.clamp(0, width - 1)]
    return depth[0], torch.where(inside, limit, 0.0)

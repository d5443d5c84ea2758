"""A scene as a triangle mesh: depth of the splats, fused and written as glb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.images import fit_within
from worldstereo_cli.splatting.rasterize.factory import rasterizer_for
from worldstereo_cli.splatting.rasterize.protocol import Rasterizer
from worldstereo_cli.viewer.contents import SceneContents
from worldstereo_cli.viewer.export.glb import write_glb
from worldstereo_cli.viewer.open3d_import import import_open3d

_LONG_SIDE_PX = 512
_VIEWS_PER_PATH = 6
_VOXELS_PER_DEPTH = 160
"""At the median depth, a voxel is then as large as two to three pixels of what is fused, and a scene has
some 100 000 triangles."""
_TRUNCATION_VOXELS = 4.0
"""Signed distance is kept this far on either side of a surface."""
_MAX_DEPTHS = 8.0
"""Farther than this many median depths, depth is contracted or sky: no surface to touch."""
_SMALLEST_PART = 100
"""Connected parts with fewer triangles are crumbs."""


def write_mesh(scene_dir: Path, path: Path) -> None:
    """Fuse the splats' depth along all paths into one surface and write it as glb.

    glTF's world is ours turned by half a turn about x: +y up, +z towards the viewer. Colours are
    vertex colours.

    Raises:
        ArtifactError: The scene is not finished.
        BackendError: Open3D does not load.
        InputError: The splats show no surface within `_MAX_DEPTHS` median depths.
    """
    contents = SceneContents.read(scene_dir)
    rasterizer = rasterizer_for("cpu")
    vertices, triangles, colours = fuse(contents, mesh_views(contents), rasterizer)
    if len(triangles) == 0:
        raise InputError(
            f"The splats show no surface within {_MAX_DEPTHS * contents.median_depth_m:.3g} m.",
            remedy="Export ply or spz instead.",
        )
    write_glb(path, vertices * np.array([1.0, -1.0, -1.0]), triangles, colours)


def mesh_views(contents: SceneContents) -> list[Cameras]:
    """Choose the photo's view and a few along each path."""
    camera = contents.camera
    size = fit_within(camera.width_px, camera.height_px, _LONG_SIDE_PX)
    views = [camera.cropped_to(*size)]
    for path in contents.paths:
        chosen = np.linspace(0, len(path.cameras) - 1, _VIEWS_PER_PATH + 1).round().astype(int)[1:]
        views += [path.cameras[int(i)].cropped_to(*size) for i in np.unique(chosen)]
    return views


def fuse(
    contents: SceneContents, views: list[Cameras], rasterizer: Rasterizer
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64]]:
    """Fuse what the splats look like from several cameras.

    Returns:
        Vertices (v 3) in metres, our world; triangles (t 3); colours (v 3), sRGB in [0, 1].

    Source: Curless & Levoy, A volumetric method for building complex models from range images, 1996.
    """
    open3d = import_open3d()
    volume = _empty_volume(open3d, contents.median_depth_m / _VOXELS_PER_DEPTH)
    for view in views:
        with torch.no_grad():
            drawing = rasterizer.render(contents.gaussians, view)
            # Over black, a pixel that is not quite opaque is darker than its surface.
            colour = drawing.rgb / drawing.alpha.clamp_min(0.5)
            depth = rasterizer.median_depth(contents.gaussians, view)
        _integrate(open3d, volume, view, colour, depth, _MAX_DEPTHS * contents.median_depth_m)
    # Half an observation: one view is enough, most of a photo's surroundings are seen by few.
    mesh = volume.extract_triangle_mesh(0.5).to_legacy()
    part_of, sizes, _ = mesh.cluster_connected_triangles()
    mesh.remove_triangles_by_mask(np.asarray(sizes)[np.asarray(part_of)] < _SMALLEST_PART)
    mesh.remove_unreferenced_vertices()
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles), np.asarray(mesh.vertex_colors)


def _empty_volume(open3d: Any, voxel_m: float) -> Any:  # noqa: ANN401
    # Not the older ScalableTSDFVolume: in Open3D 0.20 it stays empty whatever is integrated.
    single = open3d.core.float32
    return open3d.t.geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight", "color"),
        attr_dtypes=(single, single, single),
        attr_channels=((1), (1), (3)),
        voxel_size=voxel_m,
        block_resolution=8,
        block_count=20_000,  # The capacity to begin with; it grows.
        device=open3d.core.Device("CPU:0"),
    )


def _integrate(
    open3d: Any,  # noqa: ANN401
    volume: Any,  # noqa: ANN401
    view: Cameras,
    colour: torch.Tensor,
    depth_m: torch.Tensor,
    max_depth_m: float,
) -> None:
    tensor = open3d.core.Tensor
    depth = open3d.t.geometry.Image(tensor(depth_m.float().contiguous().cpu().numpy()))
    picture = open3d.t.geometry.Image(tensor(colour.clamp(0, 1).permute(1, 2, 0).contiguous().cpu().numpy()))
    lens = view.intrinsics[0].double().cpu().numpy()
    # Open3D counts pixels from their centres: its top-left pixel lies at 0, ours at 0.5.
    lens[:2, 2] -= 0.5
    intrinsic, extrinsic = tensor(lens), tensor(view.camera_from_world[0].double().cpu().numpy())
    depth_scale = 1.0
    limits = (depth_scale, max_depth_m, _TRUNCATION_VOXELS)
    blocks = volume.compute_unique_block_coordinates(depth, intrinsic, extrinsic, *limits)
    volume.integrate(blocks, depth, picture, intrinsic, intrinsic, extrinsic, *limits)

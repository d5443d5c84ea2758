"""A lifted photo as a triangle mesh in open3d, cut where depth breaks."""

from __future__ import annotations

import numpy as np
import open3d as o3d
import torch
from torch import Tensor

from worldstereo_cli.artifacts.views import View

_BREAK = 1.08
"""Corners of a triangle that differ more in depth belong to two surfaces."""


class LiftedMesh:
    """Rays and distances against the surface that a photo shows."""

    def __init__(self, view: View) -> None:
        points = view.camera.unproject(view.depth_m[None])[0].reshape(-1, 3).numpy()
        height, width = view.depth_m.shape
        index = np.arange(height * width).reshape(height, width)
        depth, solid = view.depth_m.numpy().ravel(), (view.valid & ~view.sky).numpy().ravel()
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (b, c, d))])
        whole = solid[faces].all(1) & (depth[faces].max(1) < _BREAK * depth[faces].min(1))
        self._caster = o3d.t.geometry.RaycastingScene()
        self._caster.add_triangles(
            o3d.core.Tensor(points.astype(np.float32)), o3d.core.Tensor(faces[whole].astype(np.uint32))
        )
        self._photo = view.camera.centres[0]

    def _hits(self, start: Tensor, end: Tensor) -> int:
        moving = (end - start).norm(dim=-1) > 1e-6
        rays = torch.cat([start[moving], (end - start)[moving]], -1).numpy().astype(np.float32)
        return int((self._caster.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy() < 1).sum())

    def cuts_along(self, centres: Tensor) -> int:
        """Count the pieces of a path that a surface cuts."""
        return self._hits(centres[:-1], centres[1:])

    def hidden_from_photo(self, centres: Tensor) -> int:
        """Count the places that a surface hides from the photo's camera."""
        return self._hits(self._photo.expand_as(centres), centres)

"""Rooms of boxes, looked at through open3d's ray caster: truth that shares no code with ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import open3d as o3d
import torch
from torch import Tensor

from tests import scenes
from worldstereo_cli.artifacts.cloud import write_cloud
from worldstereo_cli.artifacts.manifest import Manifest, draft_directory
from worldstereo_cli.artifacts.scene import Lift
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.recipe import LiftRecipe

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Lower and upper corner, metres; +y is down, the camera stands at the origin and looks along +z."""

LIVING_ROOM: list[Box] = [
    ((-2.2, 1.2, -2.0), (2.2, 1.3, 5.0)),  # floor
    ((-2.2, -1.4, -2.0), (2.2, -1.3, 5.0)),  # ceiling
    ((-2.3, -1.4, -2.0), (-2.2, 1.3, 5.0)),  # walls
    ((2.2, -1.4, -2.0), (2.3, 1.3, 5.0)),
    ((-2.3, -1.4, 5.0), (2.3, 1.3, 5.1)),
    ((-0.5, 0.55, 1.8), (0.7, 0.6, 2.6)),  # table top and legs
    *[((x, 0.6, z), (x + 0.06, 1.2, z + 0.06)) for x in (-0.5, 0.64) for z in (1.8, 2.54)],
    ((-0.1, 0.25, 2.1), (0.05, 0.55, 2.25)),  # vase
    ((-2.0, 0.4, 3.0), (-0.6, 1.2, 3.9)),  # sofa
    ((1.3, -0.9, 3.4), (1.9, 1.2, 3.8)),  # cupboard
]
CORRIDOR: list[Box] = [
    ((-0.7, -1.4, -3.0), (-0.6, 1.2, 9.0)),
    ((0.8, -1.4, -3.0), (0.9, 1.2, 9.0)),
    ((-0.7, 1.2, -3.0), (0.9, 1.3, 9.0)),
    ((-0.7, -1.5, -3.0), (0.9, -1.4, 9.0)),
    ((-0.7, -1.5, 9.0), (0.9, 1.3, 9.1)),
    ((0.35, 0.2, 2.5), (0.8, 1.2, 3.1)),  # a chest along the wall
]


@dataclass
class Furnished:
    """A `TrueScene` of boxes."""

    name: str
    boxes: list[Box]
    camera: Cameras = field(default_factory=lambda: scenes.camera(192, 128, 70.0))

    def __post_init__(self) -> None:
        self.caster = o3d.t.geometry.RaycastingScene()
        for low, high in self.boxes:
            mesh = o3d.geometry.TriangleMesh.create_box(*np.subtract(high, low))
            mesh.translate(low)
            self.caster.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))

    @property
    def image(self) -> Tensor:
        """Grey: planning looks at depth alone."""
        return torch.full((3, self.camera.height_px, self.camera.width_px), 0.5)

    def depth(self, cameras: Cameras) -> Tensor:
        """Exact depth, infinite where nothing is."""
        maps = []
        for i in range(len(cameras)):
            direction = cameras[i].rays()[0] @ cameras.world_from_camera[i, :3, :3].T
            origin = cameras.centres[i].expand_as(direction)
            rays = torch.cat([origin, direction], -1).numpy().astype(np.float32)
            maps.append(torch.from_numpy(self.caster.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()))
        return torch.stack(maps)

    def cuts(self, places: Tensor) -> int:
        """Count the pieces of a way through places that a surface cuts."""
        way = places[1:] - places[:-1]
        moving = way.norm(dim=-1) > 1e-6
        rays = torch.cat([places[:-1][moving], way[moving]], -1).numpy().astype(np.float32)
        return int((self.caster.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy() < 1).sum())

    def distance(self, places: Tensor) -> Tensor:
        """Distance from each place to the nearest true surface, metres."""
        query = o3d.core.Tensor(places.numpy().astype(np.float32))
        return torch.from_numpy(self.caster.compute_distance(query).numpy())

    def view(self) -> View:
        """What a perfect lift would make of the photo; sky lies 100 m away."""
        depth = self.depth(self.camera)[0]
        sky = ~depth.isfinite()
        return View(self.image, torch.where(sky, 100.0, depth), torch.ones_like(sky), sky, self.camera)

    def write_lift(self, root: Path) -> Lift:
        """Write a finished lift with exact depth."""
        view = self.view()
        lift = Lift(
            [view],
            scenes.cloud_of(view),
            Manifest(Lift.kind, LiftRecipe().model_dump(mode="json"), 0, {"photo": self.name}),
        )
        with draft_directory(root) as draft:
            view.write(draft / "views" / "000")
            write_cloud(draft / "cloud.ply", lift.cloud)
            lift.manifest.write(draft)
        return lift

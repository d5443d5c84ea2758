"""Synthetic truth: textured planes and spheres whose depth and visibility have a closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worldstereo_cli.artifacts.cloud import write_cloud
from worldstereo_cli.artifacts.manifest import Manifest, draft_directory
from worldstereo_cli.artifacts.scene import Generation, Lift, Round
from worldstereo_cli.artifacts.splats import write_splats
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cameras import Cameras, focal_from_fov, intrinsics_from_focal
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import LiftRecipe, PlanRecipe
from worldstereo_cli.stages.plan_cloud_to_cameras import plan


@dataclass(frozen=True)
class Plane:
    """All points x with normal . x = offset; `bounds` keeps those within it of `middle`."""

    normal: tuple[float, float, float]
    offset: float
    middle: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bound: float = math.inf
    """Half the side of the axis-aligned box around `middle` that the plane is cut to."""
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def hit(self, origin: Tensor, direction: Tensor) -> Tensor:
        """Distance along `direction` to the surface, infinite where it is missed."""
        normal = torch.tensor(self.normal, dtype=origin.dtype)
        t = (self.offset - origin @ normal) / (direction @ normal)
        inside = ((origin + t[..., None] * direction - torch.tensor(self.middle)).abs() <= self.bound).all(-1)
        return torch.where((t > 0) & inside, t, torch.full_like(t, math.inf))


@dataclass(frozen=True)
class Sphere:
    """A ball."""

    middle: tuple[float, float, float]
    radius: float
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def hit(self, origin: Tensor, direction: Tensor) -> Tensor:
        """Distance along `direction` to the surface, infinite where it is missed."""
        to_middle = origin - torch.tensor(self.middle, dtype=origin.dtype)
        a = (direction * direction).sum(-1)
        b = (direction @ to_middle) / a
        c = (to_middle @ to_middle - self.radius**2) / a
        inside = b * b - c
        t = -b - inside.clamp_min(0).sqrt()
        return torch.where((inside > 0) & (t > 0), t, torch.full_like(t, math.inf))


def camera(width_px: int = 96, height_px: int = 64, fov_deg: float = 60.0) -> Cameras:
    """A camera at the origin that looks along +z; the field of view is that of its width."""
    focal = focal_from_fov(math.radians(fov_deg), width_px)
    return Cameras(
        torch.eye(4)[None], intrinsics_from_focal(focal, width_px, height_px)[None], width_px, height_px
    )


def wall(depth_m: float = 4.0) -> list[Plane | Sphere]:
    """A wall across the whole view."""
    return [Plane((0.0, 0.0, 1.0), depth_m)]


def two_planes(near_m: float = 2.0, far_m: float = 5.0) -> list[Plane | Sphere]:
    """A square board in front of a wall."""
    board = Plane((0.0, 0.0, 1.0), near_m, (0.0, 0.0, near_m), 0.25 * near_m, (1.0, 0.5, 0.4))
    return [board, Plane((0.0, 0.0, 1.0), far_m, tint=(0.5, 0.7, 1.0))]


def room() -> list[Plane | Sphere]:
    """A ball above a floor before a wall: something at every depth, and an up and a down."""
    return [
        Sphere((0.3, 0.2, 3.0), 0.6, (1.0, 0.55, 0.3)),
        Plane((0.0, 1.0, 0.0), 1.0, tint=(0.5, 0.9, 0.5)),
        Plane((0.0, 0.0, 1.0), 6.0, tint=(0.55, 0.7, 1.0)),
    ]


def render(surfaces: list[Plane | Sphere], view: Cameras) -> tuple[Tensor, Tensor]:
    """Cast one ray through every pixel centre of one camera.

    Returns:
        Image (3 h w) in [0, 1], and depth (h w) along the optical axis, infinite where nothing is.
    """
    pose = view.world_from_camera[0].double()
    direction = view.rays()[0].double() @ pose[:3, :3].T
    hits = torch.stack([s.hit(pose[:3, 3], direction) for s in surfaces])
    depth, index = hits.min(0)
    points = pose[:3, 3] + torch.where(depth.isfinite(), depth, 0.0)[..., None] * direction
    tint = torch.tensor([s.tint for s in surfaces], dtype=torch.float64)[index]
    image = torch.where(depth.isfinite()[..., None], tint * texture(points)[..., None], 0.0)
    return image.permute(2, 0, 1).float(), depth.float()


def texture(points: Tensor) -> Tensor:
    """A smooth pattern in world space, in [0.3, 1], that no two nearby places share."""
    x, y, z = points.unbind(-1)
    waves = torch.sin(3.1 * x + 0.7) + torch.sin(4.3 * y - 0.4 * z) + torch.sin(2.3 * z + 1.7 * x * y)
    return 0.65 + 0.35 * waves / 3


def view_of(surfaces: list[Plane | Sphere], photo: Cameras, sky_m: float = 100.0) -> View:
    """The exact view that a perfect lift would make; where nothing is, there is sky."""
    image, depth = render(surfaces, photo)
    sky = ~depth.isfinite()
    return View(image, torch.where(sky, sky_m, depth), torch.ones_like(sky), sky, photo)


def cloud_of(view: View) -> Cloud:
    """One point for each pixel."""
    points = view.camera.unproject(view.depth_m[None])[0].reshape(-1, 3)
    count = len(points)
    return Cloud(
        points,
        view.image.reshape(3, -1).T.contiguous(),
        torch.ones(count),
        torch.zeros(count, dtype=torch.int32),
        view.depth_m.reshape(-1) / view.camera.intrinsics[0, 0, 0],
        view.sky.reshape(-1),
    )


def write_lift(root: Path, surfaces: list[Plane | Sphere], photo: Cameras) -> Lift:
    """Write a finished lift of a synthetic scene."""
    view = view_of(surfaces, photo)
    facts = {"depth_backend": "file", "is_metric": True}
    lift = Lift(
        [view],
        cloud_of(view),
        Manifest(Lift.kind, LiftRecipe().model_dump(mode="json"), 0, {"photo": "synthetic"}, facts),
    )
    with draft_directory(root) as draft:
        view.write(draft / "views" / "000")
        write_cloud(draft / "cloud.ply", lift.cloud)
        lift.manifest.write(draft)
    return lift


def gaussians_of(view: View) -> Gaussians:
    """One round, opaque splat for each pixel, as large as the pixel at its depth."""
    cloud = cloud_of(view)
    count = len(cloud)
    # Three quarters of the spacing as standard deviation: neighbours overlap and leave no holes.
    return Gaussians(
        cloud.points,
        torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4).clone(),
        (0.75 * cloud.spacing_m).log()[:, None].expand(count, 3).clone(),
        torch.full((count,), 4.0),
        ((cloud.colors - 0.5) / 0.28209479)[:, None],
    )


def write_scene(root: Path, surfaces: list[Plane | Sphere], photo: Cameras) -> Gaussians:
    """Write a whole finished scene: every stage holds what a perfect one would have made.

    Two paths of 9 poses, `right` and `eloop`, each with a round of 3 frames; splats of the photo.
    """
    lift = write_lift(root / "lift", surfaces, photo)
    recipe = PlanRecipe(trajectories=("right", "eloop"), num_poses=9)
    planned = plan(root / "lift", root / "plan", recipe, seed=0, progress=silent)
    rounds = [f"{i:02d}-{path.name}" for i, path in enumerate(planned.paths)]
    with draft_directory(root / "generate") as draft:
        for folder, path in zip(rounds, planned.paths, strict=True):
            (draft / "rounds" / folder).mkdir(parents=True)
            _round(path.name, surfaces, path.cameras[::4]).write(draft / "rounds" / folder)
            Manifest(Round.kind, {}, 0, facts={"path": path.name}).write(draft / "rounds" / folder)
        write_cloud(draft / "cloud.ply", lift.cloud)
        told = {
            "rounds": rounds,
            "backend": "warp",
            "num_seen_points": len(lift.cloud),
            "num_invented_points": 0,
        }
        Manifest(Generation.kind, {}, 0, facts=told).write(draft)
    gaussians = gaussians_of(lift.views[0])
    with draft_directory(root / "reconstruct") as draft:
        write_splats(draft / "splats.ply", gaussians)
        Manifest("reconstruct", {}, 0).write(draft)
    return gaussians


def _round(name: str, surfaces: list[Plane | Sphere], cameras: Cameras) -> Round:
    views = [render(surfaces, cameras[i]) for i in range(len(cameras))]
    frames = torch.stack([image for image, _ in views])
    depth = torch.stack([d.nan_to_num(posinf=0.0) for _, d in views])
    return Round(name, cameras, frames, torch.zeros_like(depth, dtype=torch.bool), frames, depth)

"""How much really new surface planned paths show, on scenes whose true geometry is known.

A photo with exact depth is taken in each scene and planned from, as `lift` would hand it over. Then
the true scene is looked at from the cameras of every frame that `generate` would make, and what they
see is compared with what the photo saw.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from worldstereo_cli.artifacts.cloud import write_cloud
from worldstereo_cli.artifacts.manifest import Manifest, draft_directory
from worldstereo_cli.artifacts.scene import Lift
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras, intrinsics_from_focal
from worldstereo_cli.geometry.far import contract_far, far_field, shell_depth
from worldstereo_cli.geometry.paths import Anchor, orbit_right
from worldstereo_cli.geometry.rigid import look_at
from worldstereo_cli.geometry.surface import Surface, cloud_from_surface
from worldstereo_cli.progress import Progress, silent
from worldstereo_cli.recipe import GenerateRecipe, PlanRecipe
from worldstereo_cli.stages.one_round import sampled
from worldstereo_cli.stages.plan_cloud_to_cameras import plan

FIXED_PATHS = ("eloop:0.3", "up:20", "right:25", "left:25")
"""The four paths of WorldStereo's own examples, at the amounts that suit one photo; about the point at
median depth, and shrunk only where they would come too near to something."""

_CELL = 1 / 64
"""Side of a cell as a part of its distance from the photo's camera: about a degree."""
_FRAME_PX = 192
"""Longer side of the pictures in which truth is looked at."""
_SAME = 0.02
"""A point this part behind what the photo saw there is on the same surface."""
_FARTHEST_MEDIANS = 4
"""Area counts up to here: farther away one pixel is as large as a house."""
BESIDE_DEG = 10.0
"""So far to either side, about the point at median depth, a look must find hardly anything that is new."""
_RAY_STEP = 4
"""Every fourth pose of the dense paths is joined to the next by a ray."""


class TrueScene(Protocol):
    """A scene that can be looked at from anywhere."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def camera(self) -> Cameras:
        """Where the photo is taken (a path of one)."""

    @property
    def image(self) -> Float[Tensor, "3 h w"]:
        """The photo, sRGB in [0, 1]."""

    def depth(self, cameras: Cameras) -> Float[Tensor, "n h w"]:
        """Return exact depth, metres along the optical axis; infinite in the sky."""


@dataclass(frozen=True, slots=True)
class Uncovered:
    """What the frames of a plan show that the photo does not."""

    num_paths: int
    num_frames: int
    behind_cells: int
    """Cells of a degree, hidden in the photo behind something nearer."""
    all_cells: int
    """With those outside the photo's frame."""
    area_m2: float
    """All of it within four median depths, by cells of a 64th of the median depth."""
    blocked_rays: int
    """Pieces of the dense paths that a true surface cuts; frames from there on count, and show nothing."""
    missed_beside_frac: float
    """Share of pictures from `BESIDE_DEG` to either side that shows what neither photo nor frames do."""


@dataclass(frozen=True, slots=True)
class PlanScore:
    """One scene, planned twice."""

    scene: str
    auto: Uncovered
    fixed: Uncovered

    def per_frame(self, measure: str) -> float:
        """Return how many times as much `auto` uncovers with each frame; `measure` names a field."""
        ours = getattr(self.auto, measure) / self.auto.num_frames
        theirs = getattr(self.fixed, measure) / self.fixed.num_frames
        return float(ours / theirs) if theirs > 0 else math.inf

    def total(self, measure: str) -> float:
        """Return how many times as much `auto` uncovers in all."""
        return self.per_frame(measure) * self.auto.num_frames / self.fixed.num_frames


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """Means over scenes, geometric as of ratios."""

    num_scenes: int
    auto_frames: float
    """Mean number of frames that `auto` asks for."""
    fixed_frames: float
    per_frame: dict[str, float]
    total: dict[str, float]
    blocked_rays: int
    missed_beside_frac: float
    """Mean of what `auto` leaves; not a ratio."""


MEASURES = ("behind_cells", "all_cells", "area_m2")


def evaluate_planning(
    scenes: Sequence[TrueScene], recipe: PlanRecipe, *, progress: Progress = silent
) -> list[PlanScore]:
    """Plan every scene with `recipe` and with the fixed paths, and look at the truth.

    Args:
        scenes: At least one.
        recipe: Whose trajectories stand for `auto` in the report.
        progress: Told after each scene.

    Raises:
        InputError: A scene shows no surface, or no path is possible in it.
    """
    fixed = recipe.model_copy(update={"trajectories": FIXED_PATHS})
    scores = []
    for index, scene in enumerate(scenes):
        with tempfile.TemporaryDirectory() as scratch:
            lift_dir = Path(scratch) / "lift"
            _write_lift(scene, lift_dir)
            found = [_planned(scene, lift_dir, Path(scratch) / "plan", r) for r in (recipe, fixed)]
        scores.append(PlanScore(scene.name, *found))
        progress(index + 1, len(scenes), scene.name)
    return scores


def summarise(scores: list[PlanScore]) -> PlanSummary:
    """Average over scenes.

    Raises:
        InputError: There is none in which both plans uncover something.
    """
    per_frame, total = {}, {}
    for measure in MEASURES:
        usable = [s for s in scores if getattr(s.fixed, measure) > 0 and getattr(s.auto, measure) > 0]
        if not usable:
            raise InputError("Nothing is hidden in these scenes.", remedy="Take scenes with things in them.")
        per_frame[measure] = math.exp(fmean(math.log(s.per_frame(measure)) for s in usable))
        total[measure] = math.exp(fmean(math.log(s.total(measure)) for s in usable))
    return PlanSummary(
        len(scores),
        fmean(s.auto.num_frames for s in scores),
        fmean(s.fixed.num_frames for s in scores),
        per_frame,
        total,
        sum(s.auto.blocked_rays for s in scores),
        fmean(s.auto.missed_beside_frac for s in scores),
    )


def _write_lift(scene: TrueScene, root: Path) -> None:
    """Write what a perfect lift would have made of the photo."""
    depth = scene.depth(scene.camera)[0]
    known = torch.isfinite(depth)
    if not bool(known.any()):
        raise InputError(f"{scene.name} shows no surface.", remedy="Take another scene.")
    depth = torch.where(known, depth, 1.0)
    # The world of a scene may have its origin anywhere; the shell is about the photo's camera.
    at_origin = replace(scene.camera, world_from_camera=torch.eye(4)[None])
    far = far_field(depth, known, at_origin, 8.0)
    depth = torch.where(known, contract_far(depth, far.bound_m), shell_depth(at_origin, far.shell_m))
    surface = Surface(depth, torch.ones_like(known), ~known, torch.ones_like(depth))
    view = View(scene.image, depth, surface.valid, surface.sky, scene.camera)
    with draft_directory(root) as draft:
        view.write(draft / "views" / "000")
        write_cloud(draft / "cloud.ply", cloud_from_surface(surface, scene.image, scene.camera))
        Manifest(Lift.kind, {}, 0, {"photo": scene.name}).write(draft)


def _planned(scene: TrueScene, lift_dir: Path, out: Path, recipe: PlanRecipe) -> Uncovered:
    paths = [p.cameras for p in plan(lift_dir, out, recipe, seed=0, progress=silent).paths]
    photo_depth = scene.depth(scene.camera)[0]
    median_m = float(photo_depth[torch.isfinite(photo_depth)].median())
    behind, everything, area = [], [], []
    num_frames = 0
    blocked = 0
    frames = [scene.camera]
    for path in paths:
        cut = cut_pieces(scene, path)
        blocked += len(cut)
        chosen = sampled(len(path), GenerateRecipe().num_frames)
        num_frames += len(chosen)
        # What a camera sees after it went through something is none of the scene that people walk in.
        reached = [i for i in chosen if not cut or i <= cut[0]]
        frames.append(path[reached])
        points, hidden, outside = new_points(scene, path[reached], photo_depth)
        offset = (points - scene.camera.centres[0]).double()
        degrees, cubes = _cells_by_distance(offset), torch.floor(offset * 64 / median_m).long()
        near = offset.norm(dim=-1) < _FARTHEST_MEDIANS * median_m
        behind.append(degrees[hidden])
        everything.append(degrees[hidden | outside])
        area.append(cubes[(hidden | outside) & near])
    return Uncovered(
        len(paths),
        num_frames,
        _count(behind),
        _count(everything),
        _count(area) * (median_m / 64) ** 2,
        blocked,
        missed_beside(scene, Anchor(scene.camera, median_m), frames),
    )


def missed_beside(scene: TrueScene, anchor: Anchor, frames: list[Cameras]) -> float:
    """Return the share of pictures from both sides of the photo that shows what no frame does.

    Args:
        scene: The truth; its sky does not count.
        anchor: The photo, and the depth of the point that the sides are measured about.
        frames: All cameras that count as having seen; of one size.
    """
    aside = torch.ones(1)
    sides = [orbit_right(anchor, math.radians(angle), aside) for angle in (-BESIDE_DEG, BESIDE_DEG)]
    looks = _coarse(_joined(sides))
    depth = scene.depth(looks)
    known = torch.isfinite(depth)
    points = looks.unproject(torch.where(known, depth, 1.0))[known]
    witnesses = _coarse(_joined(frames))
    seen = torch.zeros(len(points), dtype=torch.bool)
    for i, front in enumerate(scene.depth(witnesses)):
        pixels, z = witnesses[i].project(points)
        u, v = pixels[0].unbind(-1)
        height, width = front.shape
        inside = (z[0] > 0) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
        farthest = torch.nn.functional.max_pool2d(front[None], 3, 1, 1)[0]
        behind = farthest[v.clamp(0, height - 1).long(), u.clamp(0, width - 1).long()]
        seen |= inside & (z[0] <= (1 + _SAME) * behind)
    return float((~seen).sum()) / depth.numel()


def new_points(
    scene: TrueScene, frames: Cameras, photo_depth: Float[Tensor, "h w"]
) -> tuple[Float[Tensor, "p 3"], Bool[Tensor, p], Bool[Tensor, p]]:
    """Look at the true scene through frames.

    Returns:
        All surface points that are seen, world frame; whether something hid them in the photo; and
        whether they lay outside its frame.
    """
    small = _coarse(frames)
    depth = scene.depth(small)
    known = torch.isfinite(depth)
    points = small.unproject(torch.where(known, depth, 1.0))[known]
    pixels, z = scene.camera.project(points)
    u, v = pixels[0].unbind(-1)
    height, width = photo_depth.shape
    inside = (z[0] > 0) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    # Within a pixel of what the photo saw: edges are no new surface.
    seen = torch.nn.functional.max_pool2d(photo_depth[None], 3, 1, 1)[0]
    front = seen[v.clamp(0, height - 1).long(), u.clamp(0, width - 1).long()]
    return points, inside & (z[0] > (1 + _SAME) * front), ~inside


def _coarse(cameras: Cameras) -> Cameras:
    step = max(1, round(max(cameras.width_px, cameras.height_px) / _FRAME_PX))
    return cameras.cropped_to(cameras.width_px // step, cameras.height_px // step)


def _joined(cameras: list[Cameras]) -> Cameras:
    return replace(
        cameras[0],
        world_from_camera=torch.cat([c.world_from_camera for c in cameras]),
        intrinsics=torch.cat([c.intrinsics for c in cameras]),
    )


def cut_pieces(scene: TrueScene, path: Cameras) -> list[int]:
    """Return the poses after which a true surface cuts a path, by a ray along each piece of it."""
    index = torch.tensor(sorted({*range(0, len(path), _RAY_STEP), len(path) - 1}))
    places = path.centres[index].double()
    way = places[1:] - places[:-1]
    moving = way.norm(dim=-1) > 1e-6
    start, way, index = places[:-1][moving], way[moving], index[:-1][moving]
    if len(start) == 0:
        return []
    poses = torch.cat([_facing(s, s + w) for s, w in zip(start, way, strict=True)]).float()
    # A picture of one pixel whose centre is the optical axis.
    lens = intrinsics_from_focal(1.0, 1, 1).expand(len(poses), 3, 3).clone()
    depth = scene.depth(Cameras(poses, lens, 1, 1))[:, 0, 0]
    return [int(i) for i in index[depth.double() < way.norm(dim=-1)]]


def _facing(place: Float[Tensor, 3], target: Float[Tensor, 3]) -> Float[Tensor, "1 4 4"]:
    """Return a camera that looks from one place at another; straight up or down, too."""
    steep = abs(float((target - place)[1])) > 0.9 * float((target - place).norm())
    down = torch.tensor([0.0, 0.0, 1.0] if steep else [0.0, 1.0, 0.0], dtype=torch.float64)
    return look_at(place[None], target[None], down)


def _cells_by_distance(offset: Float[Tensor, "p 3"]) -> Int64[Tensor, "p 4"]:
    """Return the cells of points: cubes that double in size with the distance."""
    level = torch.floor(torch.log2(offset.norm(dim=-1).clamp_min(1e-9) * _CELL))
    return torch.column_stack([level, torch.floor(offset / torch.exp2(level)[:, None])]).long()


def _count(cells: list[Tensor]) -> int:
    return len(torch.unique(torch.cat(cells), dim=0))

"""How true a scene made from one photo is, seen from real cameras near it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.artifacts.images import write_image
from worldstereo_cli.artifacts.scene import Lift
from worldstereo_cli.artifacts.splats import read_splats
from worldstereo_cli.errors import InputError
from worldstereo_cli.evaluation.triangulate import triangulated_depths
from worldstereo_cli.evaluation.view_cases import ViewCase, read_view_cases
from worldstereo_cli.geometry.cameras import Cameras, fov_from_focal
from worldstereo_cli.geometry.images import crop_resize
from worldstereo_cli.geometry.point_render import SurfaceStyle, render_surface
from worldstereo_cli.progress import Progress, silent
from worldstereo_cli.recipe import Recipe

_MIN_SEEN = 0.05
"""A target that sees less of the photo's surface than this says nothing about fidelity."""


@dataclass(frozen=True, slots=True)
class ViewScore:
    """One real view, compared inside the region that the photo sees."""

    case: str
    source: str
    target: str
    seen_frac: float
    splat_psnr_db: float
    warp_psnr_db: float
    copy_psnr_db: float
    """The photo itself, unmoved: the floor."""


@dataclass(frozen=True, slots=True)
class SourceScore:
    """The mean over the views of one data set."""

    source: str
    num_views: int
    splat_psnr_db: float
    warp_psnr_db: float
    copy_psnr_db: float

    @property
    def gain_db(self) -> float:
        """Splats against warped points, in decibels."""
        return self.splat_psnr_db - self.warp_psnr_db


def evaluate_near_views(
    folder: Path, recipe: Recipe, *, device: str, progress: Progress = silent
) -> list[ViewScore]:
    """Make a scene from each input photo and compare it with real views near it.

    The scale of a scene is fixed by depth in the input view alone: a sensor's where there is one,
    else points triangulated from the real views.

    Args:
        folder: Holds `splits.json` and `data/` with 7-Scenes, Strecha and RE10K.
        recipe: Applied as in a run; the field of view of the input is given.
        device: `cpu` or `cuda`.
        progress: Told after each case.

    Raises:
        InputError: The folder cannot be read.
    """
    scores: list[ViewScore] = []
    cases = list(read_view_cases(folder))
    for index, case in enumerate(cases):
        with tempfile.TemporaryDirectory() as scratch:
            scene = Path(scratch)
            _make_scene(case, scene, recipe, device)
            scores += score_scene(scene, case, device)
        progress(index + 1, len(cases), case.name)
    return scores


def score_scene(scene: Path, case: ViewCase, device: str) -> list[ViewScore]:
    """Compare a finished scene with the real views of its case.

    Raises:
        ArtifactError: The scene is not finished.
        InputError: Nothing fixes the scale: no depth and no triangulated point in the photo.
    """
    from worldstereo_cli.splatting.rasterize.factory import rasterizer_for

    lift = Lift.read(scene / "lift")
    gaussians = read_splats(scene / "reconstruct" / "splats.ply").to(device)
    rasterizer = rasterizer_for(device)
    view = lift.views[0]
    scale = _scale(case, lift)
    photo_cloud = lift.cloud[lift.cloud.round_index == 0]
    found = []
    for name, real, camera in zip(case.target_names, case.targets, case.target_cameras, strict=True):
        target = _in_scene(camera, view.camera, scale).cropped_to(view.camera.width_px, view.camera.height_px)
        truth = crop_resize(real[None], target.width_px, target.height_px)[0]
        warped = render_surface(photo_cloud, target, SurfaceStyle())
        splats = rasterizer.render(gaussians, target.to(device)).rgb.cpu()
        seen = ~warped.hole[0]
        if seen.float().mean() < _MIN_SEEN:
            continue
        found.append(
            ViewScore(
                case.name,
                case.source,
                name,
                float(seen.float().mean()),
                _psnr(splats, truth, seen),
                _psnr(warped.rgb[0], truth, seen),
                _psnr(view.image, truth, seen),
            )
        )
    return found


def summarise(scores: list[ViewScore]) -> list[SourceScore]:
    """Average the views of each data set."""
    rows = []
    for source in dict.fromkeys(score.source for score in scores):
        views = [score for score in scores if score.source == source]
        rows.append(
            SourceScore(
                source,
                len(views),
                fmean(v.splat_psnr_db for v in views),
                fmean(v.warp_psnr_db for v in views),
                fmean(v.copy_psnr_db for v in views),
            )
        )
    return rows


def _make_scene(case: ViewCase, scene: Path, recipe: Recipe, device: str) -> None:
    from worldstereo_cli.stages import generate_cameras_to_frames as generate
    from worldstereo_cli.stages import lift_image_to_cloud as lift
    from worldstereo_cli.stages import plan_cloud_to_cameras as plan
    from worldstereo_cli.stages import reconstruct_frames_to_splats as reconstruct

    photo = scene / "photo.png"
    write_image(photo, case.image)
    long_side = max(case.camera.width_px, case.camera.height_px)
    fov_deg = float(
        torch.rad2deg(torch.tensor(fov_from_focal(float(case.camera.intrinsics[0, 0, 0]), long_side)))
    )
    options = lift.LiftOptions(None, fov_deg)
    seed = recipe.seed
    lift.lift(photo, scene / "lift", recipe.lift, options, seed=seed, device=device, progress=silent)
    plan.plan(scene / "lift", scene / "plan", recipe.plan, seed=seed, progress=silent)
    wishes = generate.GenerateOptions(device=device, memory=recipe.memory)
    generate.generate(
        scene / "lift",
        scene / "plan",
        scene / "generate",
        recipe.generate,
        wishes,
        seed=seed,
        progress=silent,
    )
    reconstruct.reconstruct(
        scene / "lift", scene / "generate", scene / "reconstruct", recipe.reconstruct,
        seed=seed, device=device, progress=silent,
    )  # fmt: skip


def _scale(case: ViewCase, lift: Lift) -> float:
    """Return scene metres for one unit of the case: the median ratio of depths in the input view."""
    view = lift.views[0]
    usable = view.valid & ~view.sky
    if case.depth is not None:
        known = crop_resize(
            case.depth[None, None], view.camera.width_px, view.camera.height_px, nearest=True
        )[0, 0]
        both = usable & (known > 0)
        ratios = view.depth_m[both] / known[both]
    else:
        pixels, depths = triangulated_depths(case.image, case.camera, case.targets, case.target_cameras)
        to_view = torch.tensor(
            [view.camera.width_px / case.camera.width_px, view.camera.height_px / case.camera.height_px]
        )
        x, y = (pixels * to_view).long().unbind(-1)
        x, y = x.clamp(0, view.camera.width_px - 1), y.clamp(0, view.camera.height_px - 1)
        good = usable[y, x]
        ratios = view.depth_m[y, x][good] / depths[good]
    if ratios.numel() == 0:
        raise InputError(f"Nothing fixes the scale of {case.name}.", remedy="Give views with more texture.")
    return float(ratios.median())


def _in_scene(camera: Cameras, photo_camera: Cameras, scale: float) -> Cameras:
    """Carry a case's camera, given relative to the input camera, into the scene's world."""
    pose = camera.world_from_camera.clone()
    pose[:, :3, 3] *= scale
    return Cameras(
        photo_camera.world_from_camera @ pose, camera.intrinsics, camera.width_px, camera.height_px
    )


def _psnr(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"], mask: Bool[Tensor, "h w"]) -> float:
    error = ((a.clamp(0, 1) - b) ** 2).mean(0)[mask].mean()
    return float(-10 * torch.log10(error.clamp_min(1e-10)))

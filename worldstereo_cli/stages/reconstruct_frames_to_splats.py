"""Reconstruct: from the photo, the generated frames and their cloud to splats."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from worldstereo_cli.artifacts.images import write_image
from worldstereo_cli.artifacts.manifest import Manifest, draft_directory, write_json
from worldstereo_cli.artifacts.scene import Generation, Lift, Round
from worldstereo_cli.artifacts.splats import Reconstruction, read_splats, write_splats
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.memory.growth import invented_confidence
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import ReconstructRecipe
from worldstereo_cli.splatting import check
from worldstereo_cli.splatting.densify import GrowthStrategy
from worldstereo_cli.splatting.fit import FitSettings, Fitted, Target, fit, sharpen_colors
from worldstereo_cli.splatting.initialize import (
    Picture,
    SplatStyle,
    backing_splats,
    lies_on_picture,
    seen_in_picture,
    splats_from_cloud,
    splats_from_picture,
    thinned,
)
from worldstereo_cli.splatting.losses import psnr_db
from worldstereo_cli.splatting.parameters import PacedSplats
from worldstereo_cli.splatting.rasterize.cuda import CudaRasterizer
from worldstereo_cli.splatting.rasterize.factory import rasterizer_for
from worldstereo_cli.splatting.rasterize.protocol import Rasterizer
from worldstereo_cli.splatting.targets import Beliefs, frame_target, photo_target, spread_out

_SIDES_DEG = {"photo": 0.0, "right_10": 10.0, "left_10": -10.0, "right_15": 15.0, "left_15": -15.0}
_FACTS = ("num_splats", "psnr_photo_db", "rasterizer", "seconds")
"""Of the metrics, what the manifest repeats."""
_SHARP, _CLOSED = SplatStyle(), SplatStyle(sigma_spacings=0.65)
"""Splats of the photo, which must show it sharply, and all others, which must have no gaps."""
_PHOTO_PACE = 0.25
"""Splats of photo pixels start nearly right."""
_NEW_SHARE = 1 / 4
"""What the photo does not show gets at least this share of the splats, if there is so much of it."""
_SWEEPS_BEFORE, _SWEEPS_AFTER = 3, 2
"""Sharpening of the photo's colours: before the fit, and of what the fit has softened."""


@dataclass(frozen=True, slots=True)
class _Material:
    """What the stage works on, on its device."""

    pictures: list[Picture]
    """The photo (later: several views)."""
    photos: list[Target]
    """The same, as the fit sees them."""
    cloud: Cloud
    """Surface that generation added and that no picture shows."""
    rounds: dict[str, list[Target]]
    """Chosen frames of every path."""

    @property
    def targets(self) -> list[Target]:
        """The photo first, then all frames."""
        return self.photos + [frame for frames in self.rounds.values() for frame in frames]


def reconstruct(
    lift_dir: Path,
    generate_dir: Path,
    out: Path,
    recipe: ReconstructRecipe,
    *,
    seed: int,
    device: str,
    progress: Progress,
) -> Reconstruction:
    """Make splats of a lifted photo and of the frames that were generated around it.

    Args:
        lift_dir: A finished lift.
        generate_dir: What was generated from it, if only no round at all.
        out: The reconstruction; replaced if it exists.
        recipe: How many splats, how many steps.
        seed: Of the order of frames, and of the choice of points when there are too many.
        device: `cpu`, `cuda` or `cuda:N`.
        progress: Told after every path read and every step.

    Raises:
        ArtifactError: One of the two is missing or damaged.
        BackendError, OutOfMemory: The device has no rasteriser, or too little memory.
    """
    began = time.perf_counter()
    rasterizer, lift, generation = rasterizer_for(device), Lift.read(lift_dir), Generation.read(generate_dir)
    material = _gather(lift, generation, recipe, device, progress)
    start = _start(material, recipe, rasterizer, seed)
    fitted = fit(
        start, material.targets, FitSettings(recipe.iterations), rasterizer,
        growth=_growth(rasterizer, start, recipe, seed), seed=seed, progress=progress,
    )  # fmt: skip
    gaussians = _sharpened(fitted.splats, material, rasterizer, _SWEEPS_AFTER).gaussians
    with draft_directory(out) as draft:
        write_splats(draft / "splats.ply", gaussians)
        reread = read_splats(draft / "splats.ply")
        seen = _inspect(draft, gaussians, reread.to(device), material, rasterizer)
        metrics = seen | _account(fitted, rasterizer, began)
        write_json(draft / "metrics.json", metrics)
        inputs = {"lift": lift.manifest.digest, "generate": generation.manifest.digest}
        facts = {k: metrics[k] for k in _FACTS}
        manifest = Manifest(Reconstruction.kind, recipe.model_dump(mode="json"), seed, inputs, facts)
        manifest.write(draft)
    return Reconstruction(reread, metrics, manifest)


def _gather(
    lift: Lift, generation: Generation, recipe: ReconstructRecipe, device: str, progress: Progress
) -> _Material:
    """Read the frames path by path, and keep those that the fit will look at."""
    pictures = [_picture(view).to(device) for view in lift.views]
    rounds: dict[str, list[Target]] = {}
    for number, root in enumerate(generation.round_dirs):
        r = Round.read(root)
        rounds[f"{number + 1:02d}-{r.name}"] = [
            _target(r, i).to(device)
            for i in spread_out(len(r.cameras), recipe.frames_per_path)
            if i not in r.dropped
        ]
        progress(number + 1, len(generation.round_dirs), "reading frames")
    added = generation.cloud[generation.cloud.round_index > 0]
    known = torch.zeros(len(added), dtype=torch.bool)
    for picture in pictures:
        known |= seen_in_picture(added.points, picture.to("cpu"))
    photos = [photo_target(picture, Beliefs()) for picture in pictures]
    return _Material(pictures, photos, added[~known], rounds)


def _target(r: Round, i: int) -> Target:
    confidence = r.hole[i] * invented_confidence(r.hole[i])
    return frame_target(r.frames[i], r.depth_m[i], confidence, r.cameras[i], Beliefs())


def _picture(view: View) -> Picture:
    return Picture(view.image, view.depth_m, view.valid, view.sky, view.camera)


def _start(material: _Material, recipe: ReconstructRecipe, rasterizer: Rasterizer, seed: int) -> PacedSplats:
    """Make the first splats of the pictures and of the cloud that was added."""
    backing = [backing_splats(picture, _CLOSED) for picture in material.pictures]
    most = recipe.max_splats - sum(len(b) for b in backing)
    wanted = sum(p.depth_m.numel() for p in material.pictures)
    room = min(len(material.cloud), max(most - wanted, round(_NEW_SHARE * most)))
    share = (most - room) // len(material.pictures)
    parts = [PacedSplats.of(b, _CLOSED.sigma_spacings, 0.0) for b in backing]
    for picture in material.pictures:
        made = splats_from_picture(picture, _SHARP, share)
        parts.append(PacedSplats.of(made, _SHARP.sigma_spacings, _PHOTO_PACE))
    if room > 0:
        cloud = thinned(material.cloud, room, torch.Generator().manual_seed(seed))
        added = splats_from_cloud(cloud, material.pictures[0].camera.centres[0].cpu(), _CLOSED)
        added = added.to(material.pictures[0].image.device)
        parts.append(PacedSplats.of(added, _CLOSED.sigma_spacings, 1.0))
    return _sharpened(PacedSplats.joined(parts), material, rasterizer, _SWEEPS_BEFORE)


def _sharpened(splats: PacedSplats, material: _Material, rasterizer: Rasterizer, sweeps: int) -> PacedSplats:
    """Sharpen the splats that show what the pictures show."""
    for picture, target in zip(material.pictures, material.photos, strict=True):
        chosen = lies_on_picture(splats.gaussians.means, picture) & (splats.pace > 0)
        sharp = sharpen_colors(splats.gaussians, chosen, target, rasterizer, sweeps)
        splats = replace(splats, gaussians=sharp)
    return splats


def _growth(
    rasterizer: Rasterizer, start: PacedSplats, recipe: ReconstructRecipe, seed: int
) -> GrowthStrategy | None:
    """Return the densification strategy of the GPU; a CPU fits the splats that it starts with."""
    if not isinstance(rasterizer, CudaRasterizer) or recipe.iterations < 100:
        return None
    scale = float((start.gaussians.means - start.gaussians.means.median(0).values).norm(dim=-1).median())
    return GrowthStrategy(rasterizer, recipe.iterations, recipe.max_splats, scale, seed)


@torch.no_grad()
def _inspect(
    draft: Path, fitted: Gaussians, reread: Gaussians, material: _Material, rasterizer: Rasterizer
) -> dict[str, Any]:
    """Draw the file that was read back, keep the pictures, and compare."""
    photo = check.at_common_size(material.pictures[0])
    (draft / "renders").mkdir()
    drawn = {}
    for name, angle_deg in _SIDES_DEG.items():
        drawn[name] = rasterizer.render(reread, check.side_camera(photo, angle_deg))
        write_image(draft / "renders" / f"{name}.png", drawn[name].rgb)
    rounds = {
        name: fmean(
            psnr_db(rasterizer.render(reread, f.camera).rgb, f.image)
            for f in (frames[len(frames) // 2], frames[-1])
        )
        for name, frames in material.rounds.items()
        if frames
    }
    return {
        "num_splats": len(reread),
        "psnr_photo_db": psnr_db(drawn["photo"].rgb, photo.image),
        "psnr_reload_db": psnr_db(
            drawn["photo"].rgb, rasterizer.render(fitted, photo.camera).rgb.clamp(0, 1)
        ),
        "photo_size_px": [photo.camera.width_px, photo.camera.height_px],
        "depth_abs_rel": check.depth_abs_rel(drawn["photo"], photo),
        "hole_percent_photo": check.hole_percent(drawn["photo"]),
        "hole_percent_orbit_10deg": {
            "left": check.hole_percent(drawn["left_10"]),
            "right": check.hole_percent(drawn["right_10"]),
        },
        "psnr_rounds_db": rounds,
    }


def _account(fitted: Fitted, rasterizer: Rasterizer, began: float) -> dict[str, Any]:
    """Say what the fit did, and what all of it cost."""
    return {
        "num_pruned": fitted.num_pruned,
        "loss_first": fmean(fitted.losses[:5]) if fitted.losses else None,
        "loss_last": fmean(fitted.losses[-5:]) if fitted.losses else None,
        "iterations": len(fitted.losses),
        "rasterizer": rasterizer.name,
        "seconds": round(time.perf_counter() - began, 2),
        "peak_memory_mb": _peak_memory_mb(),
    }


def _peak_memory_mb() -> float | None:
    """Return the most memory that this process ever held; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)

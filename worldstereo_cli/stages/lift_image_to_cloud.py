"""From one photograph to depth, a camera and a cloud."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from worldstereo_cli.artifacts.cloud import write_cloud
from worldstereo_cli.artifacts.depth_map import read_depth_map
from worldstereo_cli.artifacts.manifest import Manifest, digest_file, draft_directory
from worldstereo_cli.artifacts.photo import Photo, read_photo
from worldstereo_cli.artifacts.scene import Lift, scale_source
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras, focal_from_fov, fov_from_focal, intrinsics_from_focal
from worldstereo_cli.geometry.far import FarField, far_field
from worldstereo_cli.geometry.gravity import Ground, find_ground, level_rotation
from worldstereo_cli.geometry.skyline import without_low_patches
from worldstereo_cli.geometry.surface import Surface, cloud_from_surface, prepare_surface
from worldstereo_cli.models.depth.factory import depth_backend
from worldstereo_cli.models.depth.protocol import DepthBackend, DepthEstimate
from worldstereo_cli.models.fingerprint import depth_fingerprint
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import LiftRecipe

EYE_HEIGHT_M = 1.6
"""Where depth has no scale of its own, the ground is this far below the camera."""

USUAL_DEPTH_M = 4.0
"""Where there is no ground either, this is the median depth."""

MIN_KNOWN_FRAC = 0.002
"""Less of the photo with known depth carries no scene."""


@dataclass(frozen=True, slots=True)
class LiftOptions:
    """What the user knows better than the models."""

    depth_file: Path | None = None
    """Depth along the optical axis of the whole photo."""
    fov_deg: float | None = None
    """Field of view of the photo's longer side."""


def lift(
    image: Path,
    out: Path,
    recipe: LiftRecipe,
    options: LiftOptions,
    *,
    seed: int,
    device: str,
    progress: Progress,
) -> Lift:
    """Lift a photograph into a cloud.

    The focal length is the user's (who types it means it), else of EXIF, the depth model, the recipe.

    Args:
        image: The photograph.
        out: The directory to make; an old one is replaced once the new one is complete.
        recipe: What to do.
        options: What the user knows better.
        seed: Recorded; nothing here is random.
        device: Where the depth model runs.
        progress: Told of each step.

    Raises:
        InputError: The photo or the depth file cannot be used.
        BackendError: The depth model is not here.
    """
    progress(0, 4, "reading the photo")
    photo = read_photo(image, recipe.long_side_px)
    progress(1, 4, "estimating depth")
    backend = _backend(recipe, options, device)
    known_focal, source = _known_focal(photo, options)
    estimate = backend.estimate(photo.image.to(device), known_focal)
    _refuse_unknown(image, estimate)
    progress(2, 4, "cleaning edges")
    if known_focal is None:
        known_focal, source = _estimated_focal(photo, estimate, recipe)
    placed = _Placed.of(photo, estimate, known_focal, recipe.contraction)
    progress(3, 4, "writing")
    facts = {"focal_source": source, **placed.facts(photo, estimate, backend.name)}
    made_from = _inputs(image, options, recipe)
    manifest = Manifest(Lift.kind, recipe.model_dump(mode="json"), seed, made_from, facts)
    lifted = _written(placed.lifted(photo, manifest), out)
    progress(4, 4, "lifted")
    return lifted


@dataclass(frozen=True, slots=True)
class _Placed:
    """A photo's surface in the world."""

    camera: Cameras
    surface: Surface
    far: FarField
    ground: Ground
    is_level: bool
    scale: float

    @staticmethod
    def of(photo: Photo, estimate: DepthEstimate, focal_px: float, contraction: float) -> _Placed:
        """Choose scale and level, then prepare the surface."""
        height, width = photo.image.shape[1:]
        intrinsics = intrinsics_from_focal(focal_px, width, height)
        camera = Cameras(torch.eye(4)[None], intrinsics[None], width, height)
        depth, known = estimate.depth_m.cpu().float(), estimate.valid.cpu()
        sky = without_low_patches(estimate.sky.cpu())
        ground = find_ground(camera.unproject(depth[None])[0], known)
        scale = 1.0 if estimate.is_metric else _conventional_scale(ground, float(depth[known].median()))
        # Depth without a scale has no certain slope either: what it calls level must not tilt walls.
        is_level = ground.camera_height_m is not None and estimate.is_metric
        far = far_field(scale * depth, known, camera, contraction)
        if is_level:
            pose = torch.eye(4)
            pose[:3, :3] = level_rotation(ground.down)
            camera = camera.moved_by(pose)
        surface = prepare_surface(scale * depth, known, sky, photo.image, camera, far)
        return _Placed(camera, surface, far, ground, is_level, scale)

    def lifted(self, photo: Photo, manifest: Manifest) -> Lift:
        """Return the artifact in memory."""
        s = self.surface
        view = View(photo.image, s.depth_m, s.valid, s.sky, self.camera)
        return Lift([view], cloud_from_surface(s, photo.image, self.camera), manifest)

    def facts(self, photo: Photo, estimate: DepthEstimate, depth_backend: str) -> dict[str, Any]:
        """Return what a reader of the manifest wants to know."""
        depth = {"depth_backend": depth_backend, "is_metric": estimate.is_metric}
        surface, ground = self.surface, self.ground
        solid = surface.valid & ~surface.sky
        height = ground.camera_height_m
        focal = float(self.camera.intrinsics[0, 0, 0])
        tilt = math.acos(max(-1.0, min(1.0, float(ground.down[1]))))
        return {
            "focal_px": focal,
            "fov_deg": math.degrees(fov_from_focal(focal, max(self.camera.width_px, self.camera.height_px))),
            **depth,
            "size_px": [self.camera.width_px, self.camera.height_px],
            "photo_size_px": [photo.original_width_px, photo.original_height_px],
            "photo_notes": list(photo.notes),
            "median_depth_m": float(surface.depth_m[solid].median()),
            "sky_frac": float(surface.sky.double().mean()),
            "invalid_frac": float((~surface.valid).double().mean()),
            "filled_frac": float((~(estimate.valid | estimate.sky)).double().mean()),
            "world": {
                "is_level": self.is_level,
                "gravity_confidence": ground.confidence if self.is_level else 0.0,
                "tilt_deg": math.degrees(tilt) if self.is_level else 0.0,
                "camera_height_m": None if height is None else height * self.scale,
                "world_from_camera": self.camera.world_from_camera[0].tolist(),
                "scale": scale_source(depth),
                "scale_factor": self.scale,
                "far_bound_m": self.far.bound_m,
                "sky_shell_m": self.far.shell_m,
            },
        }


def _written(lifted: Lift, out: Path) -> Lift:
    with draft_directory(out) as draft:
        for index, view in enumerate(lifted.views):
            view.write(draft / "views" / f"{index:03d}")
        write_cloud(draft / "cloud.ply", lifted.cloud)
        lifted.manifest.write(draft)
    return lifted


def _backend(recipe: LiftRecipe, options: LiftOptions, device: str) -> DepthBackend:
    if options.depth_file is None:
        return depth_backend(recipe.depth, device, weights=recipe.weights)
    from worldstereo_cli.models.depth.depth_file import GivenDepth

    given = read_depth_map(options.depth_file)
    return GivenDepth(given.depth_m, given.valid, given.sky)


def _known_focal(photo: Photo, options: LiftOptions) -> tuple[float | None, str]:
    """Return the focal length that is known before depth is, and where it is from."""
    if options.fov_deg is not None:
        if not 1.0 < options.fov_deg < 170.0:
            raise InputError(
                f"A field of view of {options.fov_deg} degrees is not that of a photo.",
                remedy="Pass --fov between 1 and 170 degrees, along the longer side.",
            )
        return focal_from_fov(math.radians(options.fov_deg), max(photo.image.shape)), "user"
    return photo.focal_px, "exif"


def _refuse_unknown(image: Path, estimate: DepthEstimate) -> None:
    if float(estimate.valid.double().mean()) < MIN_KNOWN_FRAC:
        raise InputError(
            f"Almost no depth is known for {image}.", remedy="Use another photo or another --set lift.depth."
        )


def _estimated_focal(photo: Photo, estimate: DepthEstimate, recipe: LiftRecipe) -> tuple[float, str]:
    """Return the focal length where neither user nor EXIF knows it, and where it is from."""
    if estimate.focal_px is not None:
        return estimate.focal_px, "model"
    return focal_from_fov(math.radians(recipe.default_fov_deg), max(photo.image.shape)), "default"


def _inputs(image: Path, options: LiftOptions, recipe: LiftRecipe) -> dict[str, str]:
    """Return digests of all that the user brought, and of the weights."""
    inputs = {"photo": digest_file(image)}
    weights = depth_fingerprint(recipe.depth, recipe.weights)
    if options.depth_file is not None:
        inputs["depth"] = digest_file(options.depth_file)
    elif weights is not None:
        inputs["weights"] = weights
    if options.fov_deg is not None:
        inputs["fov_deg"] = repr(float(options.fov_deg))
    return inputs


def _conventional_scale(ground: Ground, median_depth: float) -> float:
    """Choose a scale for depth that has none: eyes above the ground, or a usual distance."""
    if ground.camera_height_m is not None:
        return EYE_HEIGHT_M / ground.camera_height_m
    return USUAL_DEPTH_M / median_depth

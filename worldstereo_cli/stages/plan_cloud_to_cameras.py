"""Plan: from a lifted photo to the camera paths that will be filled in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from worldstereo_cli.artifacts.manifest import Manifest, digest_file, draft_directory, write_json
from worldstereo_cli.artifacts.plan_preview import draw_plan
from worldstereo_cli.artifacts.scene import Lift, NamedPath, Plan
from worldstereo_cli.artifacts.trajectory import TrajectoryRequest, parse_trajectory, read_trajectory
from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.clearance import SurfaceDistance
from worldstereo_cli.geometry.paths import (
    PRESETS,
    Anchor,
    preset_path,
    rebased,
    scaled_translations,
    scene_median_depth,
)
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import PlanRecipe

SHRINK = 2 / 3
MOST_SHRINKS = 5
"""After five times two thirds, a path is an eighth of what was asked: not worth a round."""


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What became of one requested trajectory."""

    name: str
    requested: str
    kept: float
    """Share of the requested amount that was kept; 0 when the path is left out."""
    clearance_m: float
    """Distance of the closest place of the path to the cloud."""
    note: str = ""


def plan(lift_dir: Path, out: Path, recipe: PlanRecipe, *, seed: int, progress: Progress) -> Plan:
    """Choose the cameras that will look at a lifted photo.

    Every path starts with the photo's camera. Presets are shrunk until they keep clear of the cloud, or
    left out with the reason in the manifest's facts; paths from files are flown as they are.

    Args:
        lift_dir: A finished lift.
        out: The plan; replaced if it exists.
        recipe: Which paths, how far, how clear.
        seed: Recorded; nothing is drawn at random.
        progress: Told after every path.

    Raises:
        ArtifactError: `lift_dir` is not a finished lift.
        InputError: An unknown trajectory, a photo without surface, or no path that keeps clear.
    """
    lift = Lift.read(lift_dir)
    requests = [parse_trajectory(text) for text in recipe.trajectories]
    anchor = _anchor(lift)
    surface = SurfaceDistance(lift.cloud)
    required_m = _required_clearance(anchor, surface, recipe)
    candidates = []
    for index, request in enumerate(requests):
        candidates.append(_path(request, anchor, surface, required_m, recipe))
        progress(index + 1, len(requests), "planning paths")
    paths, path_facts = _named(candidates)
    if not paths:
        raise InputError(
            f"No path keeps {required_m:.3g} m clear of the scene: {'; '.join(f.note for f in path_facts)}.",
            remedy="Try pan, tilt or zoom, a smaller amount (orbit:5), or --set plan.clearance_m=0.02",
        )
    digests = {f"trajectory {r.file}": digest_file(r.file) for r in requests if r.file is not None}
    facts = {
        "median_depth_m": anchor.median_depth_m,
        "required_clearance_m": required_m,
        "paths": [asdict(f) for f in path_facts],
    }
    inputs = {"lift": lift.manifest.digest} | digests
    manifest = Manifest(Plan.kind, recipe.model_dump(mode="json"), seed, inputs, facts)
    with draft_directory(out) as draft:
        write_json(draft / "paths.json", Plan.paths_to_json(paths))
        draw_plan(draft / "preview.png", lift.cloud, paths, anchor.median_depth_m)
        manifest.write(draft)
    return Plan(paths, manifest)


def _anchor(lift: Lift) -> Anchor:
    view = lift.views[0]
    try:
        return Anchor(view.camera, scene_median_depth(view.depth_m, view.valid & ~view.sky))
    except ValueError as error:
        raise InputError(
            f"The photo shows no surface to fly around: {error}",
            remedy="Pass a depth map with --depth, or another photo.",
        ) from error


def _required_clearance(anchor: Anchor, surface: SurfaceDistance, recipe: PlanRecipe) -> float:
    """Return how far cameras must keep off.

    The photo's camera itself may be nearer than the recipe asks (a macro, a table edge); then half
    of what it keeps is required, since no path could do better at its start.
    """
    own = float(surface.at(anchor.camera.centres)[0])
    return min(recipe.clearance_m, recipe.clearance_frac * anchor.median_depth_m, 0.5 * own)


def _path(
    request: TrajectoryRequest,
    anchor: Anchor,
    surface: SurfaceDistance,
    required_m: float,
    recipe: PlanRecipe,
) -> tuple[Cameras, PathFacts]:
    if request.file is not None:
        return _path_from_file(request.file, request, anchor, surface, required_m, recipe.scale)
    kind = PRESETS[request.preset]
    amount = request.amount if request.amount is not None else _default_amount(request.preset, recipe)
    if abs(amount) > kind.largest or (kind.unit == "factor" and amount <= 0):
        raise InputError(
            f"{request.text} asks for {amount:g} {kind.unit}; the largest is {kind.largest:g}.",
            remedy=f"For example {request.preset}:{_default_amount(request.preset, recipe):g}",
        )
    kept, closest = 1.0, 0.0
    for _ in range(MOST_SHRINKS + 1):
        cameras = preset_path(
            request.preset, anchor, kept * amount if kind.moves else amount, recipe.num_poses
        )
        closest = _closest(cameras, surface, required_m)
        if not kind.moves or closest >= required_m:
            note = "" if kept == 1.0 else f"{request.text} was shrunk to {kept:.0%} to keep clear"
            return cameras, PathFacts(request.preset, request.text, kept, closest, note)
        kept *= SHRINK
    note = f"{request.text} comes within {closest:.2g} m of the scene even at {kept / SHRINK:.0%}"
    return cameras, PathFacts(request.preset, request.text, 0.0, closest, note)


def _path_from_file(
    file: Path,
    request: TrajectoryRequest,
    anchor: Anchor,
    surface: SurfaceDistance,
    required_m: float,
    scale: float,
) -> tuple[Cameras, PathFacts]:
    """Carry a path from a file into this scene: same start, same size by cropping, own intrinsics."""
    photo = anchor.camera
    trajectory = read_trajectory(file, photo)
    moved = rebased(scaled_translations(trajectory.cameras, scale), photo.world_from_camera[0])
    cameras = moved.cropped_to(photo.width_px, photo.height_px)
    closest = _closest(cameras, surface, required_m)
    note = f"read as {trajectory.convention}"
    if closest < required_m:
        note += f"; it comes within {closest:.2g} m of the scene, and is flown as it is"
    return cameras, PathFacts(request.preset, request.text, 1.0, closest, note)


def _closest(cameras: Cameras, surface: SurfaceDistance, required_m: float) -> float:
    # Half the required distance between places: no surface that matters fits in between unseen. The
    # floor keeps the count of places bounded when hardly any clearance is required.
    way_m = float((cameras.centres[1:] - cameras.centres[:-1]).norm(dim=-1).sum())
    return surface.along(cameras.centres, max(0.5 * required_m, way_m / 5000, 1e-6))


def _default_amount(preset: str, recipe: PlanRecipe) -> float:
    match preset:
        case "left" | "right" | "orbit":
            return recipe.arc_deg
        case "up":
            return recipe.up_deg
        case "eloop":
            return recipe.loop_frac
        case "spiral":
            return recipe.spiral_frac
        case "forward" | "backward":
            return recipe.travel_frac
        case "strafe" | "rise":
            return recipe.side_frac
        case "pan":
            return recipe.pan_deg
        case "tilt":
            return recipe.tilt_deg
        case "zoom":
            return recipe.zoom_factor
        case _:
            raise ValueError(f"Expected a preset, got {preset!r}.")


def _named(candidates: list[tuple[Cameras, PathFacts]]) -> tuple[list[NamedPath], list[PathFacts]]:
    """Keep the clear paths, and number those that would share a name."""
    paths: list[NamedPath] = []
    facts = []
    for cameras, fact in candidates:
        taken = [p.name for p in paths]
        names = [fact.name, *(f"{fact.name}-{i}" for i in range(2, len(taken) + 3))]
        fact = replace(fact, name=next(n for n in names if n not in taken))
        facts.append(fact)
        if fact.kept > 0:
            paths.append(NamedPath(fact.name, cameras))
    return paths, facts

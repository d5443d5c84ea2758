"""Plan: from a lifted photo to the camera paths that will be filled in."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from worldstereo_cli.artifacts.manifest import Manifest, digest_file, draft_directory, write_json
from worldstereo_cli.artifacts.plan_preview import draw_plan
from worldstereo_cli.artifacts.scene import Lift, NamedPath, Plan
from worldstereo_cli.artifacts.trajectory import AUTO, TrajectoryRequest, parse_trajectory
from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.candidates import Candidate, mean_parallax_depth
from worldstereo_cli.geometry.choose_paths import Budget, Choice, Field, choose_paths
from worldstereo_cli.geometry.clearance import SurfaceDistance
from worldstereo_cli.geometry.coverage import CoarseSurface, Coverage
from worldstereo_cli.geometry.open_space import OpenSpace
from worldstereo_cli.geometry.paths import Anchor, scene_median_depth
from worldstereo_cli.geometry.sway import room_to_sway, sway
from worldstereo_cli.geometry.unseen import CoarseView, Unseen, guess_unseen
from worldstereo_cli.geometry.visitors import likely_views, missed_in_views, valued
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import PlanRecipe
from worldstereo_cli.stages.one_path import Flight, PathFacts, closest_m, requested_path

_COARSE_PX = 192
"""Longer side of the view that planning looks at. Enough for things as thick as an arm; time goes with
the square."""
_ABOUT = (
    "alone, added and uncovered: parts of all that is worth seeing. A part of that is what visitors would"
    " miss, the holes in likely views about the photo; the rest is surface guessed behind what the photo"
    " shows, and beyond its frame."
)
"""What `coverage.json` says of its figures."""
_LOOKS = 8
"""Poses of each path that are looked at: as many as `generate` makes frames of by default."""


@dataclass(frozen=True, slots=True)
class _Flown:
    """One path of the plan, and what is told of it."""

    path: NamedPath
    facts: PathFacts


def plan(lift_dir: Path, out: Path, recipe: PlanRecipe, *, seed: int, progress: Progress) -> Plan:
    """Choose the cameras that will look at a lifted photo.

    Every path starts with the photo's camera. `auto` stands for the paths that uncover most. Presets
    are shrunk until they keep clear of the cloud, or left out with the reason in the manifest's
    facts; paths from files are flown as they are. `coverage.json` tells what each path uncovers, and
    what became of every candidate.

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
    flight, field = _prepared(lift, recipe)
    paths, path_facts, account = _fly(requests, flight, field, progress)
    if not paths:
        raise InputError(
            f"No path keeps {flight.required_m:.3g} m clear of the scene:"
            f" {'; '.join(f.note for f in path_facts)}.",
            remedy="Try pan, tilt or zoom, a smaller amount (orbit:5), or --set plan.clearance_m=0.02",
        )
    digests = {f"trajectory {r.file}": digest_file(r.file) for r in requests if r.file is not None}
    facts = {
        "median_depth_m": flight.anchor.median_depth_m,
        "near_depth_m": flight.near_m,
        "required_clearance_m": flight.required_m,
        "paths": [asdict(f) for f in path_facts],
    }
    inputs = {"lift": lift.manifest.digest} | digests
    manifest = Manifest(Plan.kind, recipe.model_dump(mode="json"), seed, inputs, facts)
    with draft_directory(out) as draft:
        write_json(draft / "paths.json", Plan.paths_to_json(paths))
        write_json(draft / "coverage.json", account)
        draw_plan(draft / "preview.png", lift.cloud, paths, flight.anchor.median_depth_m)
        manifest.write(draft)
    return Plan(paths, manifest)


def _prepared(lift: Lift, recipe: PlanRecipe) -> tuple[Flight, Field]:
    """Measure the scene, and guess what it hides."""
    view = lift.views[0]
    surface_mask = view.valid & ~view.sky
    try:
        anchor = Anchor(view.camera, scene_median_depth(view.depth_m, surface_mask))
    except ValueError as error:
        raise InputError(
            f"The photo shows no surface to fly around: {error}",
            remedy="Pass a depth map with --depth, or another photo.",
        ) from error
    near_m = mean_parallax_depth(view.depth_m, surface_mask)
    surface = SurfaceDistance(lift.cloud)
    flight = Flight(anchor, near_m, surface, _required_clearance(anchor, surface, recipe), recipe)
    coarse = CoarseView.sampled(view.depth_m, view.sky, view.camera, _COARSE_PX)
    space = OpenSpace(coarse, surface, flight.required_m)
    drawn = CoarseSurface(coarse)
    unseen = valued(guess_unseen(coarse), _missed(coarse, drawn, space, anchor))
    return flight, Field(anchor, near_m, unseen, Coverage(drawn, unseen), space)


def _missed(view: CoarseView, drawn: CoarseSurface, space: OpenSpace, anchor: Anchor) -> Unseen:
    """Find what visitors would miss; nobody looks from inside or behind things."""
    looks, odds = likely_views(anchor)
    return missed_in_views(view, drawn, looks, odds * space.in_sight(looks.centres))


def _required_clearance(anchor: Anchor, surface: SurfaceDistance, recipe: PlanRecipe) -> float:
    """Return how far cameras must keep off.

    The photo's camera itself may be nearer than the recipe asks (a macro, a table edge); then half
    of what it keeps is required, since no path could do better at its start.
    """
    own = float(surface.at(anchor.camera.centres)[0])
    return min(recipe.clearance_m, recipe.clearance_frac * anchor.median_depth_m, 0.5 * own)


def _fly(
    requests: list[TrajectoryRequest], flight: Flight, field: Field, progress: Progress
) -> tuple[list[NamedPath], list[PathFacts], dict[str, Any]]:
    """Build what was asked for, in order; every path counts what those before it uncover."""
    paths: list[NamedPath] = []
    facts: list[PathFacts] = []
    choices: list[Choice] = []
    for index, request in enumerate(requests):
        if request.preset == AUTO and request.file is None:
            made = [_sway(flight, field.space)] if flight.recipe.sway_deg > 0 and not paths else []
            flown = [p.cameras for p in paths] + [cameras for cameras, fact in made if fact.kept > 0]
            budget = _budget(flight.recipe, flight.recipe.max_paths - (len(flown) - len(paths)))
            choices.append(choose_paths(field, budget, flown))
            made += [_chosen(candidate, flight) for candidate in choices[-1].chosen]
            if len(flown) == len(paths) and not choices[-1].chosen:
                facts.append(PathFacts(AUTO, AUTO, 0.0, 0.0, _why_none(choices[-1])))
        else:
            made = [requested_path(request, flight)]
        for cameras, fact in made:
            taken = [f.name for f in facts]
            names = [fact.name, *(f"{fact.name}-{i}" for i in range(2, len(taken) + 3))]
            facts.append(replace(fact, name=next(n for n in names if n not in taken)))
            if fact.kept > 0:
                paths.append(NamedPath(facts[-1].name, cameras))
        progress(index + 1, len(requests), "planning paths")
    return paths, facts, _account(paths, choices, field)


def _sway(flight: Flight, space: OpenSpace) -> tuple[Cameras, PathFacts]:
    """Return the sway that `auto` begins with, as far to each side as there is room; kept at 0 without any.

    Whoever opens a scene looks around it first, and frames from there leave no black borders.
    """
    whole = flight.recipe.sway_deg
    right, left = (room_to_sway(flight.anchor, space, math.radians(way)) for way in (whole, -whole))
    progress = torch.linspace(0, 1, flight.recipe.num_poses, dtype=torch.float64)
    cameras = sway(flight.anchor, math.radians(whole), (right, left), progress)
    note = ""
    if min(right, left) < 1:
        note = f"there is room for {right:.0%} of it to the right and {left:.0%} to the left"
    kept = 0.5 * (right + left)
    return cameras, PathFacts("sway", f"{AUTO}: sway:{whole:g}", kept, closest_m(cameras, flight), note)


def _budget(recipe: PlanRecipe, most: int) -> Budget:
    return Budget(most, recipe.min_gain_frac, recipe.max_hole_frac, recipe.num_poses, _LOOKS)


def _chosen(candidate: Candidate, flight: Flight) -> tuple[Cameras, PathFacts]:
    name = candidate.name.partition(":")[0] if candidate.family != "tour" else "tour"
    fact = PathFacts(name, f"{AUTO}: {candidate.name}", 1.0, closest_m(candidate.cameras, flight))
    return candidate.cameras, fact


def _why_none(choice: Choice) -> str:
    """Say what became of the candidates when none of them was taken."""
    verdicts = [c.verdict for c in choice.considered]
    counts = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
    return "auto found none: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def _account(paths: list[NamedPath], choices: list[Choice], field: Field) -> dict[str, Any]:
    """Tell what each path uncovers beyond those before it, and what became of the candidates."""
    unseen = field.unseen
    everything = torch.ones_like(unseen.missed)
    covered = torch.zeros_like(unseen.missed)
    rows = []
    for path in paths:
        looks = field.looks(path.cameras, _LOOKS)
        seen = looks.uncovers.any(0)
        added = seen & ~covered
        row = {
            "name": path.name,
            "alone_frac": unseen.share(seen, everything),
            "added_frac": unseen.share(added, everything),
            "added_to_visitors_frac": unseen.share(added, unseen.missed),
            "added_to_surface_frac": unseen.share(added, ~unseen.missed),
            "max_hole_frac": float(looks.hole_frac.max()),
        }
        covered |= seen
        rows.append(_rounded(row))
    candidates = [asdict(c) for choice in choices for c in choice.considered]
    return {
        "about": _ABOUT,
        "patches": len(unseen.weight),
        **_rounded(
            {
                "worth_of_visitors_frac": unseen.share(unseen.missed, everything),
                "worth_behind_edges_frac": unseen.share(unseen.behind, everything),
                "uncovered_frac": unseen.share(covered, everything),
                "uncovered_for_visitors_frac": unseen.share(covered, unseen.missed),
                "uncovered_surface_frac": unseen.share(covered, ~unseen.missed),
            }
        ),
        "paths": rows,
        "candidates": [_rounded(c) for c in candidates],
    }


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(v, 5) if isinstance(v, float) else v for key, v in row.items()}

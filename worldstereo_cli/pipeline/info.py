"""What a scene is, in facts that people ask for."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from worldstereo_cli.artifacts.manifest import MANIFEST_NAME, Manifest
from worldstereo_cli.artifacts.scene import scale_source
from worldstereo_cli.errors import ArtifactError, BackendError
from worldstereo_cli.pipeline.place import EXPORTS, FLYTHROUGH, VIEWER_PAGE
from worldstereo_cli.pipeline.reuse import STAGES, VIEW
from worldstereo_cli.pipeline.scene_file import SceneFile

_DEPTH_LICENCES = {
    "embedded": "Apache-2.0, shipped with worldstereo",
    "prior": "no weights",
    "file": "a file of yours",
    "depth-anything": "Apache-2.0 for the small model; see the model card of others",
    "depth-pro": "Apple's own, for research; see its model card",
}


def describe_scene(scene_dir: Path) -> dict[str, Any]:
    """Collect what a scene was made from, the state of its stages, and its figures.

    Returns:
        Nested facts of plain JSON; a stage that is not finished has no more than its state.

    Raises:
        ArtifactError: There is no scene, or its record is damaged.
    """
    record = SceneFile.read(scene_dir)
    manifests = {name: _finished(scene_dir / name, name) for name in STAGES}
    facts: dict[str, Any] = {
        "scene": str(scene_dir),
        "photo": record.input.get("path", "unknown"),
        "recipe": record.recipe.name,
        "seed": record.recipe.seed,
    }
    # Exports are copies for others: the scene itself does without.
    exports = scene_dir / EXPORTS
    facts["megabytes"] = _megabytes(scene_dir, but=exports)
    facts |= {"export_megabytes": _megabytes(exports)} if exports.is_dir() else {}
    for name, found in _up_to_date(manifests).items():
        facts[name] = _describe_stage(scene_dir / name, found, record.stages.get(name, {}))
    facts[VIEW] = _describe_view(scene_dir, record.stages.get(VIEW, {}))
    facts["world"] = record.world
    lifted, generated = manifests["lift"], manifests["generate"]
    if isinstance(generated, Manifest):
        facts["seen"] = _seen(scene_dir / "generate", generated)
    if isinstance(lifted, Manifest):
        facts["world"] = record.world | {"scale": scale_source(lifted.facts)}
        facts["made_by"] = _makers(lifted, generated if isinstance(generated, Manifest) else None)
    metrics = _json(scene_dir / "reconstruct" / "metrics.json")
    return facts | ({"metrics": metrics} if metrics else {})


def _finished(root: Path, name: str) -> Manifest | str:
    """Return a stage's manifest, or its state in words."""
    if not (root / MANIFEST_NAME).is_file():
        return "not finished" if root.exists() else "not there"
    try:
        manifest = Manifest.read(root, name)
    except ArtifactError as error:
        return error.problem
    return manifest.damage(root) or manifest


def _up_to_date(found: dict[str, Manifest | str]) -> dict[str, Manifest | str]:
    """Return stages as they were found; of those that another one has left behind, the state in words."""
    finished = {name: manifest for name, manifest in found.items() if isinstance(manifest, Manifest)}
    changed = {name: manifest.changed_since(finished) for name, manifest in finished.items()}
    return found | {
        name: f"{other} has changed since" for name, other in changed.items() if other is not None
    }


def _describe_stage(root: Path, found: Manifest | str, noted: dict[str, Any]) -> dict[str, Any]:
    if isinstance(found, str):
        return {"state": found}
    return {
        "state": "done",
        "seconds": noted.get("seconds"),
        "peak_memory_mb": noted.get("peak_memory_mb"),
        "megabytes": _megabytes(root),
        **{key: value for key, value in found.facts.items() if key not in ("world", "seconds")},
    }


def _describe_view(scene_dir: Path, noted: dict[str, Any]) -> dict[str, Any]:
    paths = [scene_dir / name for name in (VIEWER_PAGE, FLYTHROUGH)]
    if noted.get("state") != "done" or not all(path.is_file() for path in paths):
        return {"state": "not finished" if any(path.is_file() for path in paths) else "not there"}
    size = round(sum(path.stat().st_size for path in paths) / 1e6, 1)
    kept = {key: noted.get(key) for key in ("seconds", "peak_memory_mb")}
    return {"state": "done", **kept, "megabytes": size}


def _seen(root: Path, generated: Manifest) -> dict[str, Any]:
    """Tell how much of the scene the photo showed, and how much was invented."""
    seen, invented = (int(generated.facts[f"num_{what}_points"]) for what in ("seen", "invented"))
    rounds = [_json(root / "rounds" / str(name) / "round.json") for name in generated.facts["rounds"]]
    holes = [fmean(numbers["hole_frac"]) for numbers in rounds if numbers.get("hole_frac")]
    return {
        "points_seen": seen,
        "points_invented": invented,
        "points_invented_percent": round(100 * invented / max(1, seen + invented), 1),
        "frame_pixels_invented_percent": round(100 * fmean(holes), 1) if holes else None,
    }


def _makers(lifted: Manifest, generated: Manifest | None) -> dict[str, str]:
    """Name what made depth and frames, with the licence of its weights."""
    depth = str(lifted.facts["depth_backend"])
    made_by = {"depth": f"{depth} ({_DEPTH_LICENCES.get(depth, 'licence not known')})"}
    if generated is not None:
        made_by["frames"] = _frame_maker(str(generated.recipe["backend"]))
    return made_by


def _frame_maker(backend: str) -> str:
    from worldstereo_cli.models.catalogue import RELEASES, find_weights

    if backend == "warp":
        return "warp (no weights)"
    if backend in RELEASES:
        release = RELEASES[backend]
        return f"{backend} ({release.own.licence}; its base {release.base.licence})"
    try:
        return f"{backend} ({find_weights(backend).licence})"
    except BackendError:
        return f"{backend} (no longer here, licence not known)"


def _megabytes(root: Path, but: Path | None = None) -> float:
    """Return the size of all files in a directory, leaving out those in one part of it."""
    files = [path for path in root.rglob("*") if path.is_file() and (but is None or but not in path.parents)]
    return round(sum(path.stat().st_size for path in files) / 1e6, 1)


def _json(path: Path) -> dict[str, Any]:
    """Read a file of numbers; empty where it is missing or damaged, which its stage's state tells."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}

"""What a scene is, in facts that people ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from worldstereo_cli.artifacts.manifest import Manifest
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.pipeline.reuse import STAGES
from worldstereo_cli.pipeline.scene_file import SceneFile


def describe_scene(scene_dir: Path) -> dict[str, Any]:
    """Collect what a scene was made from, the state of its stages, and its figures.

    Raises:
        ArtifactError: There is no scene, or its record is damaged.
    """
    record = SceneFile.read(scene_dir)
    facts: dict[str, Any] = {
        "scene": str(scene_dir),
        "photo": record.input.get("path", "unknown"),
        "recipe": record.recipe.name,
        "seed": record.recipe.seed,
        "world": record.world,
    }
    for name in STAGES:
        facts[name] = _describe_stage(scene_dir / name, name, record.stages.get(name, {}))
    metrics = scene_dir / "reconstruct" / "metrics.json"
    if metrics.is_file():
        facts["metrics"] = json.loads(metrics.read_text(encoding="utf-8"))
    return facts


def _describe_stage(root: Path, name: str, noted: dict[str, Any]) -> dict[str, Any]:
    try:
        manifest = Manifest.read(root, name)
    except ArtifactError as error:
        return {"state": "not there" if not root.exists() else error.problem}
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return {
        "state": "done",
        "seconds": noted.get("seconds", "unknown"),
        "megabytes": round(size / 1e6, 1),
        **{key: value for key, value in manifest.facts.items() if key not in ("world",)},
    }

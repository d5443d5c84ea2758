"""scene.json: what a scene was made from, with which recipe, and how its stages fared."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from worldstereo_cli import __version__
from worldstereo_cli.artifacts.manifest import SCHEMA, write_json
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.recipe import Recipe

SCENE_FILE = "scene.json"


@dataclass(slots=True)
class SceneFile:
    """The record of a scene, updated after every stage.

    On disk: `scene.json` in the scene directory.
    """

    input: dict[str, Any]
    """The photo's path and SHA-256."""
    recipe: Recipe
    world: dict[str, Any] = field(default_factory=dict)
    """The world frame as lift found it: levelled or not, and how."""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By stage: state, seconds, summary."""

    def write(self, scene_dir: Path) -> None:
        """Write `scene.json`; a reader sees the old file or the new one."""
        scene_dir.mkdir(parents=True, exist_ok=True)
        write_json(
            scene_dir / SCENE_FILE,
            {
                "schema": SCHEMA,
                "version": __version__,
                "input": self.input,
                "recipe": self.recipe.model_dump(mode="json"),
                "world": self.world,
                "stages": self.stages,
            },
        )

    @staticmethod
    def read(scene_dir: Path) -> SceneFile:
        """Read the record of a scene.

        Raises:
            ArtifactError: There is no scene, or its record is damaged or of another version.
        """
        path = scene_dir / SCENE_FILE
        if not path.is_file():
            raise ArtifactError(
                f"{scene_dir} is not a scene: it has no {SCENE_FILE}.",
                remedy=f"Make one with: worldstereo run photo.jpg --out {scene_dir}",
            )
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA:
                raise ArtifactError(
                    f"{path} has schema {data['schema']}; this version reads schema {SCHEMA}.",
                    remedy="Make the scene again with this version, in another directory.",
                )
            recipe = Recipe.model_validate(data["recipe"])
            return SceneFile(data["input"], recipe, data["world"], data["stages"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValidationError) as error:
            raise ArtifactError(
                f"{path} is damaged: {type(error).__name__}.",
                remedy=f"Move it away and run again: worldstereo run photo.jpg --out {scene_dir}",
            ) from error

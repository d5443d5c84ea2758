"""scene.json: what a scene was made from, with which recipe, and how its stages fared."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldstereo_cli import __version__
from worldstereo_cli.artifacts.manifest import SCHEMA, write_json
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.recipe import Recipe

SCENE_FILE = "scene.json"

_PARTS = {
    "lift": ("lift",),
    "plan": ("plan",),
    "generate": ("generate", "memory", "prompt"),
    "reconstruct": ("reconstruct",),
    "view": ("view",),
}
"""What of a recipe each stage applies."""
_PARTS_OF_ALL = ("name", "seed")


_SCENES_ARE = "Pass the directory of a scene; this makes one: worldstereo run photo.jpg --out SCENE"


@dataclass(slots=True)
class SceneFile:
    """The record of a scene, updated after every stage.

    On disk: `scene.json` in the scene directory.
    """

    input: dict[str, Any]
    """The photo's path and SHA-256."""
    recipe: Recipe
    """Of each stage, the section that what is there was made with; of one that is not there yet, the section
    that it is going to be made with."""
    world: dict[str, Any] = field(default_factory=dict)
    """The world frame as lift found it: levelled or not, and how."""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By stage, in order: state (`done` or `waiting`); of what is done seconds, peak memory and summary.
    Of what is to be made anew although it is up to date: `owed`, the digest of what that will be."""

    def await_stage(self, name: str, recipe: Recipe) -> None:
        """Note a stage that is not there and is going to be made."""
        self.enter_stage(name, {"state": "waiting"}, recipe)

    def owe(self, name: str, digest: str) -> None:
        """Note that a stage is to be made anew although what is there is up to date."""
        self.stages[name] = {"state": "waiting"} | self.stages.get(name, {}) | {"owed": digest}

    @property
    def owed(self) -> dict[str, str]:
        """By stage, what was to be made anew and has not been yet."""
        return {name: str(entry["owed"]) for name, entry in self.stages.items() if "owed" in entry}

    def enter_stage(self, name: str, entry: dict[str, Any], recipe: Recipe) -> None:
        """Note what became of a stage, and the part of a recipe that it was made with."""
        parts = (*_PARTS_OF_ALL, *_PARTS[name])
        self.recipe = self.recipe.model_copy(update={part: getattr(recipe, part) for part in parts})
        self.stages[name] = entry

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
            raise ArtifactError(_why_no_scene(scene_dir), remedy=_SCENES_ARE)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(data["schema"], int):
                raise TypeError
            if data["schema"] != SCHEMA:
                raise ArtifactError(
                    f"{path} has schema {data['schema']}; this version reads schema {SCHEMA}.",
                    remedy="Make the scene again with this version, in another directory.",
                )
            recipe = Recipe.model_validate(data["recipe"])
            parts = (data["input"], data["world"], data["stages"])
            if not all(isinstance(part, dict) for part in (*parts, *parts[2].values())):
                raise TypeError
            return SceneFile(parts[0], recipe, parts[1], parts[2])
        # Of a file that holds no JSON, another one's JSON, or JSON that only looks like ours.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(
                f"{path} is damaged: {type(error).__name__}.",
                remedy=f"Move it away and run again: worldstereo run photo.jpg --out {scene_dir}",
            ) from error


def _why_no_scene(place: Path) -> str:
    if not place.exists():
        return f"There is no {place}."
    return f"{place} is not a scene: it {'has no ' + SCENE_FILE if place.is_dir() else 'is a file'}."


def require_scene(place: Path) -> None:
    """Check that there is a scene, whatever state its record is in.

    Raises:
        ArtifactError: There is nothing, or something else.
    """
    if not (place / SCENE_FILE).exists():
        raise ArtifactError(_why_no_scene(place), remedy=_SCENES_ARE)

"""Which stages a run builds, which it reuses, and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldstereo_cli.artifacts.manifest import Manifest
from worldstereo_cli.errors import ArtifactError, RecipeError

STAGES = ("lift", "plan", "generate", "reconstruct")
"""In order; each reads what the ones before it left."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of the river a run covers."""

    first: str = STAGES[0]
    last: str = STAGES[-1]
    forced: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The stages that the run looks at, in order."""
        return STAGES[STAGES.index(self.first) : STAGES.index(self.last) + 1]

    @staticmethod
    def parse(first: str | None, last: str | None, forced: list[str]) -> Selection:
        """Check what the user typed.

        Raises:
            RecipeError: A name is not a stage, or the stages are in the wrong order.
        """
        for name in [first or STAGES[0], last or STAGES[-1], *forced]:
            if name not in (*STAGES, "all"):
                raise RecipeError(f"{name!r} is not a stage.", remedy=f"Stages are {', '.join(STAGES)}.")
        selection = Selection(
            first or STAGES[0],
            last or STAGES[-1],
            frozenset(STAGES if "all" in forced else forced),
        )
        if not selection.names:
            raise RecipeError(
                f"--from {selection.first} comes after --until {selection.last}.",
                remedy=f"The order is {', '.join(STAGES)}.",
            )
        return selection


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a stage would be made from if it ran now."""

    recipe: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, str]


def reason_to_build(root: Path, kind: str, expected: Expectation, forced: bool) -> str | None:
    """Say why a stage has to be built, or return None when what is there can be reused.

    Args:
        root: The stage's directory.
        kind: The kind its manifest must have.
        expected: What it would be made from now.
        forced: The user wants it built in any case.
    """
    if forced:
        return "forced"
    if not root.exists():
        return "not there yet"
    try:
        manifest = Manifest.read(root, kind)
    except ArtifactError as error:
        return f"what is there cannot be used ({error.problem})"
    if manifest.seed != expected.seed:
        return f"the seed changed from {manifest.seed} to {expected.seed}"
    changed = _first_difference(manifest.recipe, expected.recipe)
    if changed:
        return f"{kind}.{changed} changed"
    for role in sorted({*manifest.inputs, *expected.inputs}):
        if manifest.inputs.get(role) != expected.inputs.get(role):
            return f"{role} changed"
    return None


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    normalised: Callable[[Any], str] = lambda value: json.dumps(value, sort_keys=True, default=str)  # noqa: E731
    for key in sorted({*old, *new}):
        if normalised(old.get(key)) != normalised(new.get(key)):
            return key
    return None

"""Which stages a run builds, which it reuses, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from worldstereo_cli.artifacts.manifest import MANIFEST_NAME, Manifest
from worldstereo_cli.errors import ArtifactError, RecipeError

STAGES = ("lift", "plan", "generate", "reconstruct")
"""In order; each reads what the ones before it left."""

VIEW = "view"
"""The step after the last stage: viewer page and flythrough. It has no artifact of its own."""

NOT_MADE = "not made yet"
"""The reason of a first run."""

FORCED = "forced"
CUT_SHORT = "forced before, and cut short"
"""Reasons of stages that are built although what is there is up to date."""

_LONGEST_VALUE = 40
"""A value longer than this is not quoted in a reason."""


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
            RecipeError: A name is not a stage, the stages are in the wrong order, or a stage is
                forced that is not among the selected ones.
        """
        first, last = first or STAGES[0], last or STAGES[-1]
        for name in (first, last):
            _check_stage(name, STAGES)
        for name in forced:
            _check_stage(name, (*STAGES, "all"))
        selection = Selection(first, last)
        if not selection.names:
            raise RecipeError(
                f"--from {first} comes after --until {last}.", remedy=f"The order is {', '.join(STAGES)}."
            )
        outside = [name for name in forced if name not in (*selection.names, "all")]
        if outside:
            raise RecipeError(
                f"--force {outside[0]} is not among the selected stages, {', '.join(selection.names)}.",
                remedy="Change --from or --until, or leave it out.",
            )
        return Selection(first, last, frozenset(selection.names if "all" in forced else forced))


def _check_stage(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        close = get_close_matches(name, known, 1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise RecipeError(f"{name!r} is not a stage.", remedy=f"{meant}Stages are {', '.join(known)}.")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a stage would be made from if it ran now."""

    recipe: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, str]

    def digest(self, kind: str) -> str:
        """Return the digest that the stage's manifest will have."""
        return Manifest(kind, dict(self.recipe), self.seed, dict(self.inputs)).digest


@dataclass(frozen=True, slots=True)
class Decision:
    """What a run does about one stage."""

    name: str
    digest: str
    """What the stage's manifest says or will say that it was made from."""
    reason: str | None
    """Why it is built; None when what is there is reused."""
    is_anew: bool = False
    """Whether it is built because the user does not trust what is there, up to date or not."""


def reason_to_build(root: Path, kind: str, expected: Expectation, forced: bool) -> str | None:
    """Say why a stage has to be built, or return None when what is there can be reused.

    Args:
        root: The stage's directory.
        kind: The kind its manifest must have.
        expected: What it would be made from now.
        forced: The user wants it built in any case.
    """
    if forced:
        return FORCED
    if not (root / MANIFEST_NAME).is_file():
        return "not finished" if root.exists() else NOT_MADE
    try:
        manifest = Manifest.read(root, kind)
    except ArtifactError as error:
        return f"what is there cannot be used ({error.problem})"
    if manifest.seed != expected.seed:
        return f"the seed changed from {manifest.seed} to {expected.seed}"
    changed = _first_difference(manifest.recipe, expected.recipe)
    if changed:
        return f"{kind}.{changed}"
    for role in sorted({*manifest.inputs, *expected.inputs}):
        if manifest.inputs.get(role) != expected.inputs.get(role):
            return _input_changed(role, manifest.inputs, expected.inputs)
    if manifest.digest != expected.digest(kind):
        return f"this version of worldstereo makes {kind} in another way"
    return manifest.damage(root)


def _input_changed(role: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Name an input that differs; one that has an option of its own, as that is typed."""
    name = {"depth": "--depth", "fov_deg": "--fov"}.get(role, role)
    if role not in new:
        return f"{name} is no longer given"
    if role not in old:
        return f"{name} is given now"
    is_told = role == "fov_deg"
    return f"{name} changed" + (f" from {old[role]} to {new[role]}" if is_told else "")


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Name the first key that differs, with both values where they are short."""
    for key in sorted({*old, *new}):
        before, after = (_normalised(values.get(key)) for values in (old, new))
        if before != after:
            short = max(len(before), len(after)) <= _LONGEST_VALUE
            return f"{key} changed" + (f" from {before} to {after}" if short else "")
    return None


def _normalised(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)

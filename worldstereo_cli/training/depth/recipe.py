"""What is learned and how: sections of plain values, read from TOML and from `section.key=value`.

Nothing here needs more than the standard library, because training runs on machines that hold torch and
little else.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import cos, pi
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from worldstereo_cli.errors import RecipeError
from worldstereo_cli.models.depth.network import DepthNetworkShape
from worldstereo_cli.training.depth.augment import AugmentSettings
from worldstereo_cli.training.depth.batches import BatchPlan
from worldstereo_cli.training.depth.losses import LossWeights
from worldstereo_cli.training.depth.optimizer import OptimizerSettings
from worldstereo_cli.training.scenes.settings import SceneSettings

_REMEDY = "See worldstereo_cli/training/depth/recipe.py for what there is."


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a run is, and how its learning rate goes."""

    seed: int = 1
    """Of the first weights, of scenes and of cameras."""
    total_s: float | None = None
    """Training time of the whole run, over all processes. None: the process that ends it."""
    max_steps: int | None = None
    """The run also ends after so many steps, and the learning rate falls accordingly."""
    warmup_steps: int = 150
    flat_share: float = 0.25
    """Share of the run at the full learning rate, before it falls along a cosine."""
    last_rate: float = 0.1
    """Share of the full rate at the end. At rates near zero the third run went on to fit rendered scenes
    better and photographs less well."""
    average_steps: int = 1000
    """Memory of the moving average of the weights."""

    def rate(self, progress: float, steps_here: int) -> float:
        """Return the share of the full rate at a share of the run: warm after every start, flat, falling.

        Args:
            progress: Share of the run.
            steps_here: Steps since this process began.
        """
        fall = max(0.0, min(1.0, progress) - self.flat_share) / max(1e-9, 1 - self.flat_share)
        warm = min(1.0, (steps_here + 1) / self.warmup_steps)
        return warm * (self.last_rate + (1 - self.last_rate) * 0.5 * (1 + cos(pi * fall)))

    def average_decay(self, step: int) -> float:
        """Return what the average keeps of itself: little at first, so that it forgets a random start."""
        return min(1 - 1 / self.average_steps, (1 + step) / (10 + step))


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """A run, but for where it reads and writes and how long one process may take."""

    network: DepthNetworkShape = field(default_factory=DepthNetworkShape)
    scenes: SceneSettings = field(default_factory=SceneSettings)
    batches: BatchPlan = field(default_factory=BatchPlan)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    losses: LossWeights = field(default_factory=LossWeights)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: Schedule = field(default_factory=Schedule)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        RecipeError: It cannot be read.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} is no readable TOML file: {error}", remedy="Pass a TOML file.") from error


def read_recipe(path: Path | None, overrides: Sequence[str] = ()) -> TrainingRecipe:
    """Read a recipe, which states its difference from the defaults.

    Args:
        path: A TOML file; None is the defaults.
        overrides: Strings `section.key=value`, the value in TOML.

    Raises:
        RecipeError: An unreadable file, a misspelt key, or a value of the wrong kind.
    """
    return with_overrides(recipe_from({} if path is None else read_toml(path)), overrides)


def recipe_from(data: Mapping[str, Any]) -> TrainingRecipe:
    """Build a recipe from tables.

    Raises:
        RecipeError: A misspelt key, or a value of the wrong kind.
    """
    return _changed(TrainingRecipe(), data, "")


def with_overrides(recipe: TrainingRecipe, overrides: Sequence[str]) -> TrainingRecipe:
    """Change single values of a recipe.

    Raises:
        RecipeError: An override is not `section.key=value`, misspelt, or of the wrong kind.
    """
    for text in overrides:
        name, equals, value = text.partition("=")
        section, dot, key = name.strip().partition(".")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"] if equals and dot else None
        except ValueError:
            parsed = None
        if parsed is None:
            raise RecipeError(f"{text!r} is not section.key=value with a TOML value.", remedy=_REMEDY)
        recipe = _changed(recipe, {section: {key: parsed}}, "")
    return recipe


_T = TypeVar("_T")


def _changed(value: _T, data: Mapping[str, Any], where: str) -> _T:
    """Return a dataclass with the fields that a table names, nested tables likewise."""
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"Expected a dataclass, got {value!r}")
    known = {entry.name for entry in fields(value)}
    hints = get_type_hints(type(value))
    changes: dict[str, Any] = {}
    for key, given in data.items():
        name = f"{where}{key}"
        if key not in known:
            raise RecipeError(f"There is no {name}; there are {', '.join(sorted(known))}.", remedy=_REMEDY)
        old = getattr(value, key)
        if is_dataclass(old) and isinstance(given, Mapping):
            changes[key] = _changed(old, given, f"{name}.")
        else:
            changes[key] = _checked(given, hints[key], name)
    try:
        return replace(value, **changes)
    except ValueError as error:
        raise RecipeError(f"{where or 'The recipe'}: {error}", remedy=_REMEDY) from error


def _checked(given: object, hint: Any, name: str) -> object:  # noqa: ANN401  (a type)
    """Return a TOML value as a value of a type: numbers, text, flags, tuples, tables."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return _checked(given, next(part for part in parts if part is not NoneType), name)
    if kind is float and isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    if kind is tuple and isinstance(given, list):
        if parts[-1] is Ellipsis:
            parts = (parts[0],) * len(given)
        if len(parts) == len(given):
            return tuple(_checked(item, part, name) for item, part in zip(given, parts, strict=True))
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(given, Mapping):
        hints = get_type_hints(kind)
        if set(given) == {entry.name for entry in fields(kind)}:
            return kind(**{key: _checked(item, hints[key], name) for key, item in given.items()})
    if kind in (int, bool, str) and type(given) is kind:
        return given
    raise RecipeError(f"{name} = {given!r} is not of the kind {hint}.", remedy=_REMEDY)

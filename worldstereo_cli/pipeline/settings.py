"""What to type so that a scene keeps the settings that it was made with."""

from __future__ import annotations

import json
import shlex
from typing import Any

from worldstereo_cli.recipe import Recipe, load_recipe, recipe_names


def flags_to_keep(known: Recipe, new: Recipe) -> list[str]:
    """Return the options that a command lacks to give a scene the recipe that it has.

    What the command sets by itself is left alone: only options that it does not give are named.

    Args:
        known: The scene's.
        new: What the command asks for.

    Returns:
        As typed in a shell; empty if the scene's recipe is asked for, or differs only by what is set.
    """
    values, asked = _values(known), _values(new)
    is_file = new.name not in recipe_names()
    if is_file and known.name == new.name:
        # What the file says and what was typed cannot be told apart; the reasons to build name the changes.
        return []
    chosen = {} if is_file else _changes(asked, _values(load_recipe(new.name)))
    if known.name == new.name:
        missing = _changes(values, asked)
        flags = []
    else:
        # Of a recipe in a file only the name is known.
        is_ours = known.name in recipe_names()
        missing = _changes(values, _values(load_recipe(known.name))) if is_ours else {}
        flags = ["--recipe", known.name if is_ours else f"{known.name}.toml"]
    for key, value in missing.items():
        if key not in chosen:
            flags += _as_typed(key, value)
    return flags


def _values(recipe: Recipe) -> dict[str, Any]:
    """Return all values of a recipe by `section.key`, but for its name."""
    flat: dict[str, Any] = {}
    for name, entry in recipe.model_dump(mode="json").items():
        flat |= (
            {f"{name}.{key}": value for key, value in entry.items()}
            if isinstance(entry, dict)
            else {name: entry}
        )
    del flat["name"]
    return flat


def _changes(values: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value != base[key]}


def _as_typed(key: str, value: Any) -> list[str]:  # noqa: ANN401
    match key:
        case "plan.trajectories":
            return [word for entry in value for word in ("--trajectory", shlex.quote(entry))]
        case "seed" | "prompt":
            return [f"--{key}", shlex.quote(str(value))]
        case _:
            return ["--set", shlex.quote(f"{key}={value if isinstance(value, str) else json.dumps(value)}")]

"""The types behind recipes/*.toml: every knob, its default, its range and its reason.

A recipe file states only its difference from these defaults. `--set section.key=value` overrides
one knob. No torch here: recipes are loaded before anything heavy.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worldstereo_cli.errors import RecipeError

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LiftRecipe(_Section):
    """From one photo to depth and a cloud."""

    depth: Literal["prior", "embedded", "depth-pro", "depth-anything"] = "embedded"
    """The depth backend; a file passed with --depth goes before it."""
    weights: str = ""
    """Hub name or folder of the weights of depth-pro or depth-anything; empty is the usual one."""
    long_side_px: Annotated[int, Field(ge=64, le=8192)] = 768
    """The photo is made this large at most; one splat for each pixel of this size is the default."""
    default_fov_deg: Annotated[float, Field(gt=5, lt=150)] = 60.0
    """Field of view of the longer side when neither EXIF, --fov nor the model gives a focal length."""
    contraction: Annotated[float, Field(ge=1, le=1000)] = 8.0
    """Depth beyond this many medians is contracted towards twice that bound (spec: far contraction)."""


class PlanRecipe(_Section):
    """Where the camera goes.

    The amounts suit one photograph: beyond them most of a frame was never seen. Those of paths that
    move are made smaller where the foreground is nearer than the scene's median depth. A trajectory
    may name its own, as in `orbit:40` or `strafe:-0.1`, which is flown as it is.
    """

    trajectories: Annotated[tuple[str, ...], Field(min_length=1)] = ("auto",)
    """`auto`, presets, `preset:amount`, or trajectory files, in order; each path becomes one round. `auto`
    chooses the paths that uncover most beyond those named before it: of what people miss who sway about the
    photo, and of the surface hidden behind things and beyond the frame. Presets: eloop, up, right, left,
    orbit, spiral, lemniscate, forward, backward, strafe, rise, dolly-zoom, pan, tilt, roll, look-around,
    zoom."""
    sway_deg: Annotated[float, Field(ge=0, le=60)] = 16.0
    """`auto` begins with a sway to either side about the point at median depth, unless paths are named
    before it: whoever opens a scene looks around it first. Where a wall ends the way, the head turns for
    the rest. 0 for none."""
    max_paths: Annotated[int, Field(ge=1, le=35)] = 2
    """So many paths `auto` flies at most, the sway among them; each is a round of `generate`, which costs
    what the rest of planning does many times over. `worldstereo eval plan` tells what more uncover."""
    min_gain_frac: Fraction = 0.04
    """`auto` ends when a path adds less than this part of all that is uncovered with it: what is left lies
    in slivers, which the splats cover as they are."""
    max_hole_frac: Annotated[float, Field(gt=0, le=1)] = 0.4
    """No frame of `auto` shows more that was never seen. Where half is empty, `warp` has too little around
    the holes to continue from; WorldStereo's fixed paths reach 0.3 to 0.5."""
    num_poses: Annotated[int, Field(ge=2, le=2000)] = 81
    """Poses of a preset; 81 are the frames of a WorldStereo clip."""
    arc_deg: Annotated[float, Field(gt=0, le=360)] = 25.0
    """Sweep of left, right and orbit (to either side) about the point at median depth."""
    up_deg: Annotated[float, Field(gt=0, le=90)] = 20.0
    """Sweep of up, which looks down in the end; most photos show little of what lies on top of things."""
    loop_frac: Annotated[float, Field(gt=0, le=2)] = 0.3
    """Height of eloop in median depths; WorldStereo's examples have 0.8."""
    spiral_frac: Annotated[float, Field(gt=0, le=2)] = 0.12
    """Largest radius of spiral in median depths."""
    travel_frac: Annotated[float, Field(gt=0, le=10)] = 0.3
    """Way of forward and backward in median depths."""
    side_frac: Annotated[float, Field(gt=0, le=10)] = 0.2
    """Way of strafe (to the right) and rise in median depths."""
    eight_frac: Annotated[float, Field(gt=0, le=2)] = 0.2
    """Half the width of lemniscate, an eight on its side, in median depths."""
    dolly_frac: Annotated[float, Field(gt=0, le=0.9)] = 0.25
    """Way of dolly-zoom ahead, in parts of the way to the point at median depth; the lens widens with it."""
    roll_deg: Annotated[float, Field(gt=0, le=360)] = 30.0
    """Turn of roll about the optical axis, clockwise."""
    look_deg: Annotated[float, Field(gt=0, le=90)] = 15.0
    """Turn of look-around to either side; a third of it upwards."""
    pan_deg: Annotated[float, Field(gt=0, le=360)] = 20.0
    """Turn of pan, to the right."""
    tilt_deg: Annotated[float, Field(gt=0, le=90)] = 12.0
    """Turn of tilt, upwards."""
    zoom_factor: Annotated[float, Field(gt=0, le=10)] = 1.6
    """Focal length at the end of zoom over that of the photo; below 1 the view widens."""
    clearance_m: Annotated[float, Field(ge=0)] = 0.1
    """A camera keeps this far from every surface, or `clearance_frac` median depths if that is less."""
    clearance_frac: Fraction = 0.1
    """See `clearance_m`; for scenes smaller than a metre."""
    scale: Positive = 1.0
    """Factor on the translations of trajectory files, for those whose unit is not the metre."""

    def most_paths(self, trajectory: str) -> int:
        """Return how many paths an entry of `trajectories` becomes at most."""
        return self.max_paths if trajectory == "auto" else 1


class GenerateRecipe(_Section):
    """How the unseen is made up."""

    backend: Annotated[str, Field(min_length=1)] = "warp"
    """What completes the frames: `warp` (no model), a name of `worldstereo weights list`, or a folder of
    weights."""
    num_frames: Annotated[int, Field(ge=2, le=241)] = 8
    """Frames on each path, for backends that are free to choose. On a sweep of 25 degrees eight are 3.6
    degrees apart."""
    depth: Literal["lift", "prior", "embedded", "depth-pro", "depth-anything"] = "lift"
    """What estimates the depth of frames whose backend does not know it; `lift` is what the lift used."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 40
    """Denoising steps of models that were not distilled."""
    guidance: Annotated[float, Field(ge=1, le=30)] = 5.0
    """How far such models go beyond the prompt; 1 halves the time."""
    weights: Literal["auto", "resident", "eight-bit"] = "auto"
    """How a model's weights are stored on the device; `auto` takes the fastest way that fits."""


class MemoryRecipe(_Section):
    """What a frame backend that looks at past views gets to see."""

    overlap: Literal["visible", "frustum"] = "visible"
    """How past views are rated: by the surface that they share with the frames to come, tested pixel by
    pixel, or by boxes around their view frusta, as WorldStereo was released."""


class ReconstructRecipe(_Section):
    """From frames to splats."""

    max_splats: Annotated[int, Field(ge=1000)] = 650_000
    """Upper bound of the splat count. Above it, smooth parts of the photo get one splat for four pixels, and
    a quarter stays reserved for what the photo does not show."""
    iterations: Annotated[int, Field(ge=0)] = 60
    """Optimisation steps; each looks at one view. On two CPU cores, half a second each at 768 px."""
    frames_per_path: Annotated[int, Field(ge=1)] = 6
    """So many frames of every generated path, at even distances, are fitted: neighbours show the same."""


class ViewRecipe(_Section):
    """Viewer page and flythrough."""

    flythrough_fps: Annotated[int, Field(ge=1, le=120)] = 24
    """Frames of the video in a second."""
    flythrough_seconds: Annotated[float, Field(gt=0, le=300)] = 8.0
    """Length of the video; the paths share it evenly. Four paths there and back take two seconds each."""
    flythrough_max_unseen: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Paths that `auto` chose are flown only so far that what the photo does not show stays under this share
    of the picture; 1 flies them whole. Paths that were asked for are always flown whole."""
    flythrough_long_side_px: Annotated[int, Field(ge=64, le=4096)] = 640
    """Longer side of the video. Its time goes with the square: 120 frames of 640 px take 10 to 20 s on two
    cores."""


class Recipe(_Section):
    """All sections, resolved."""

    name: str = "default"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of all chance."""
    prompt: str = ""
    """What the scene shows, for models that read text; empty, they are told of a still, evenly lit scene
    through which the camera moves."""
    lift: LiftRecipe = LiftRecipe()
    plan: PlanRecipe = PlanRecipe()
    generate: GenerateRecipe = GenerateRecipe()
    memory: MemoryRecipe = MemoryRecipe()
    reconstruct: ReconstructRecipe = ReconstructRecipe()
    view: ViewRecipe = ViewRecipe()


def generate_section(recipe: GenerateRecipe, memory: MemoryRecipe) -> dict[str, Any]:
    """Return the two sections that a generation is made with, as its manifest records them."""
    return recipe.model_dump(mode="json") | {"memory": memory.model_dump(mode="json")}


def round_section(recipe: GenerateRecipe, memory: MemoryRecipe) -> dict[str, Any]:
    """Return what one round of it is made with.

    How weights are stored is left out: a run that ran out of memory goes on with smaller ones.
    """
    return {key: value for key, value in generate_section(recipe, memory).items() if key != "weights"}


def recipe_names() -> list[str]:
    """List the recipes that travel with the package."""
    return sorted(path.stem for path in _recipe_dir().glob("*.toml"))


def load_recipe(name_or_file: str = "default", overrides: list[str] | None = None) -> Recipe:
    """Load a recipe by name or file, apply overrides, and check every value.

    Args:
        name_or_file: A name that `recipe_names` lists, or a path to a TOML file.
        overrides: Strings such as `plan.scale=2` or `plan.trajectories=["orbit"]`; the value is
            TOML, and a bare word is taken as a string.

    Raises:
        RecipeError: Unknown recipe, unreadable file, misspelt key, or a value of the wrong kind.
    """
    data = _read_toml(name_or_file)
    data.setdefault("name", Path(name_or_file).stem)
    return _validated(data, overrides or [])


def override_recipe(recipe: Recipe, overrides: list[str]) -> Recipe:
    """Return a resolved recipe with some values replaced, as `load_recipe` does.

    Raises:
        RecipeError: A misspelt key, or a value of the wrong kind.
    """
    return _validated(recipe.model_dump(mode="json"), overrides)


def with_choices(
    recipe: Recipe, trajectories: list[str] | None, prompt: str | None, seed: int | None
) -> Recipe:
    """Return a recipe with what has an option of its own on the command line; None leaves it alone.

    Raises:
        RecipeError: A value that cannot be.
    """
    data = recipe.model_dump(mode="json")
    if trajectories:
        data["plan"]["trajectories"] = trajectories
    data |= {key: value for key, value in (("prompt", prompt), ("seed", seed)) if value is not None}
    return _validated(data, [])


def recipe_to_toml(recipe: Recipe) -> str:
    """Print a recipe with every value resolved; the result loads as a recipe file."""
    sections = recipe.model_dump(mode="json")
    top = {key: value for key, value in sections.items() if not isinstance(value, dict)}
    # JSON's strings, numbers, booleans and arrays are TOML values as they stand.
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    for name, section in sections.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in section.items() if value is not None]
    return "\n".join(lines) + "\n"


def _validated(data: dict[str, Any], overrides: list[str]) -> Recipe:
    for override in overrides:
        _apply_override(data, override)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(
            _explain(error), remedy="worldstereo recipe show default  lists every key and its value."
        ) from error


def _recipe_dir() -> Path:
    """Find the recipes: inside an installed package, or at the top of a checkout."""
    installed = Path(__file__).parent / "recipes"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "recipes"


def _read_toml(name_or_file: str) -> dict[str, Any]:
    path = Path(name_or_file)
    try:
        if path.suffix == ".toml" or path.is_file():
            text = path.read_text(encoding="utf-8")
        elif name_or_file in recipe_names():
            text = (_recipe_dir() / f"{name_or_file}.toml").read_text(encoding="utf-8")
        else:
            raise RecipeError(
                f"There is no recipe {name_or_file!r}.",
                remedy=f"{_close(name_or_file)}Use one of {', '.join(recipe_names())}, or a .toml file.",
            )
        return tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(
            f"{name_or_file} cannot be read as a recipe: {error}",
            remedy="worldstereo recipe show default  shows one.",
        ) from error


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise RecipeError(
            f"--set {override!r} is not section.key=value.", remedy="For example --set plan.scale=2"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    target = data
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise RecipeError(
                f"--set {override!r}: {part} is not a section.", remedy="worldstereo recipe show default"
            )
    target[parts[-1]] = value


def _close(name: str) -> str:
    close = get_close_matches(name, recipe_names(), 1)
    return f"Did you mean {close[0]}? " if close else ""


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        name = ".".join(place)
        match problem["type"]:
            case "extra_forbidden":
                lines.append(f"{name} is not a recipe key{_meant(place)}")
            case "model_type":
                keys = ", ".join(f"{name}.{key}" for key in list(_keys_at(place))[:3])
                lines.append(f"{name} is a section; its keys are {keys}, ...")
            case "int_parsing" | "int_from_float":
                lines.append(f"{name} = {problem.get('input')!r}: input should be a whole number")
            case "tuple_type" | "too_short":
                lines.append(f'{name} = {problem.get("input")!r}: input should be a list such as ["orbit"]')
            case _:
                lines.append(f"{name} = {problem.get('input')!r}: {problem['msg'].lower()}")
    return "The recipe is not valid: " + "; ".join(lines) + "."


def _meant(place: list[str]) -> str:
    """Suggest the key that was meant: of the same section, or else of any."""
    sections = {name: list(_keys_at([name])) for name in Recipe.model_fields}
    here = get_close_matches(place[-1], list(_keys_at(place[:-1])), 1)
    anywhere = [f"{section}.{place[-1]}" for section, keys in sections.items() if place[-1] in keys]
    found = [".".join([*place[:-1], here[0]])] if here else anywhere
    return f" (did you mean {found[0]}?)" if found else ""


def _keys_at(place: list[str]) -> Iterable[str]:
    """Return the keys of the whole recipe or of one section; none below that."""
    if not place:
        return Recipe.model_fields
    field = Recipe.model_fields.get(place[0]) if len(place) == 1 else None
    section = field.annotation if field is not None else None
    return section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else ()

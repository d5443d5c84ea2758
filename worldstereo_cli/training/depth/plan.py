"""Ablations: a plan of variants of one recipe, what came of each, and the table of all.

A plan is a TOML file:

    recipe = "depth.toml"              # beside the plan; the defaults if absent
    set = ["schedule.max_steps=400"]   # for all variants

    [variants]                         # the first one is what the others are compared with
    reference = []
    "no streets" = ["scenes.street=0"]

On disk, in the folder of the results:
    results.jsonl   one line for each finished variant, with the scores of every case
    table.json      means, intervals, and differences from the first variant
    table.md        the same to read
    log.jsonl       what happened when
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from worldstereo_cli.errors import RecipeError
from worldstereo_cli.models.depth.resampling import interval, resampled_means
from worldstereo_cli.training.depth.development import CaseScore, DevelopmentSet
from worldstereo_cli.training.depth.recipe import TrainingRecipe, read_recipe, read_toml, with_overrides

METRICS = ("scale_abs_rel", "scale_delta1", "affine_abs_rel", "affine_delta1")
"""Of `CaseScore`: means over sources with intervals."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One run of a plan."""

    name: str
    overrides: tuple[str, ...]
    """Its differences from the plan's recipe."""
    recipe: TrainingRecipe

    @property
    def digest(self) -> str:
        """Digest of all settings: a result of other settings is not one of this variant."""
        return hashlib.sha256(json.dumps(asdict(self.recipe)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class VariantResult:
    """What came of a variant."""

    name: str
    digest: str
    """Of its settings, and of the conditions of all variants."""
    steps: int
    num_images: int
    seconds: float
    """Of training."""
    cases: tuple[CaseScore, ...]
    """Of the moving average of the weights, in the order of the development set."""

    def line(self) -> str:
        """Return the result as a line of JSON."""
        cases = [[None if isnan(value) else value for value in case] for case in self.cases]
        return json.dumps(asdict(self) | {"cases": cases}) + "\n"


def read_plan(path: Path, overrides: Iterable[str] = ()) -> list[Variant]:
    """Read a plan.

    Args:
        path: A TOML file.
        overrides: Further settings for all variants.

    Raises:
        RecipeError: The file or one of its settings cannot be used, or it has no variants.
    """
    data = read_toml(path)
    unknown = set(data) - {"recipe", "set", "variants"}
    if unknown or not data.get("variants"):
        raise RecipeError(
            f"{path} is no plan: it has {', '.join(sorted(data)) or 'nothing'}.",
            remedy="A plan has [variants], and may have recipe and set.",
        )
    base = read_recipe(path.parent / data["recipe"] if "recipe" in data else None)
    base = with_overrides(base, [*data.get("set", []), *overrides])
    return [
        Variant(name, tuple(changes), with_overrides(base, changes))
        for name, changes in data["variants"].items()
    ]


def digest_of_files(*places: Path | None) -> str:
    """Digest of the bytes of files, and of the tensors in folders."""
    digest = hashlib.sha256()
    for place in places:
        paths = [] if place is None else sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
        for path in paths:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def append_result(folder: Path, result: VariantResult) -> None:
    """Add a result in one write: processes share the file, and a killed one leaves no line that counts."""
    descriptor = os.open(folder / "results.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, result.line().encode())
    finally:
        os.close(descriptor)


def read_results(folder: Path) -> dict[str, VariantResult]:
    """Read finished variants by digest; the last of each counts."""
    path = folder / "results.jsonl"
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # else the process was killed while it wrote
            fields = json.loads(line)
            cases = tuple(CaseScore(*(nan if v is None else v for v in row)) for row in fields["cases"])
            found[fields["digest"]] = VariantResult(**fields | {"cases": cases})
    return found


def write_table(
    folder: Path, finished: Mapping[str, VariantResult], development: DevelopmentSet
) -> dict[str, Any]:
    """Write and return the table of finished variants.

    Args:
        folder: Of the results.
        finished: By name, in the order of the plan. If the first variant of the plan is among them it
            comes first, and the others are compared with it.
        development: The cases that all were scored on.
    """
    first = next(iter(finished.values()))
    rows = [_row(result, first, development) for result in finished.values()]
    table: dict[str, Any] = {"compared_with": first.name, "num_cases": len(development.cases), "rows": rows}
    for name, text in (("table.json", json.dumps(table, indent=1) + "\n"), ("table.md", _markdown(table))):
        draft = folder / f"{name}.{os.getpid()}"
        draft.write_text(text)
        draft.replace(folder / name)
    return table


def _row(result: VariantResult, first: VariantResult, development: DevelopmentSet) -> dict[str, Any]:
    sources = [case.source for case in development.cases]
    sequences = [case.sequence for case in development.cases]

    def draws(which: VariantResult, metric: str) -> np.ndarray:
        values = np.array([getattr(case, metric) for case in which.cases])
        return resampled_means(values, sources, sequences)

    own, reference = development.summary(list(result.cases)), development.summary(list(first.cases))
    row: dict[str, Any] = {
        "name": result.name,
        "steps": result.steps,
        "num_images": result.num_images,
        "seconds": round(result.seconds, 1),
        "score": {key: None if value != value else value for key, value in asdict(own).items()},
        "intervals": {},
        "differences": {},
    }
    for metric in METRICS:
        row["intervals"][metric] = interval(draws(result, metric))
        if result is not first:
            change = interval(draws(result, metric) - draws(first, metric))
            row["differences"][metric] = [getattr(own, metric) - getattr(reference, metric), *change]
    return row


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def _span(values: Iterable[float]) -> str:
    return f"[{', '.join(_short(value) for value in values)}]"


def _markdown(table: Mapping[str, Any]) -> str:
    lines = [
        f"Mean over the sources of {table['num_cases']} cases, with 95 % bootstrap intervals by sequence; "
        "below, AbsRel by source. "
        f"Differences are from {table['compared_with']}, case by case; negative is better.",
        "",
        "| variant | steps | scale only | scale and shift | F1 | focal | metres | difference, scale only "
        "| difference, scale and shift |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table["rows"]:
        score, spans = row["score"], row["intervals"]
        cells = [row["name"], str(row["steps"])]
        for kind in ("scale", "affine"):
            error, share = f"{kind}_abs_rel", f"{kind}_delta1"
            cells.append(
                f"{_short(score[error])} {_span(spans[error])} / {_short(score[share])} {_span(spans[share])}"
            )
        edges = score["boundary_f1"]
        cells += ["" if edges is None else _short(edges), f"{100 * score['median_focal_error']:.1f} %"]
        cells.append(f"x {score['median_scale_factor']:.2f}")
        for kind in ("scale", "affine"):
            change = row["differences"].get(f"{kind}_abs_rel")
            cells.append(f"{change[0]:+.3f} {_span(change[1:])}" if change else "")
        lines.append(f"| {' | '.join(cells)} |")
    names = list(table["rows"][0]["score"]["by_source"])
    lines += ["", f"| variant | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for row in table["rows"]:
        errors = row["score"]["by_source"]
        lines.append(f"| {row['name']} | {' | '.join(_short(errors[name]) for name in names)} |")
    return "\n".join(lines) + "\n"

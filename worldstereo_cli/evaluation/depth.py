"""Depth of single photographs against truth: one row for each source, and their mean.

A folder of cases holds `index.json`, a list of entries with the fields of `DepthCase`, and the files
that it names. Headline cases are real and of quality "ok".
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import atan
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from worldstereo_cli.errors import InputError
from worldstereo_cli.models.depth import scores
from worldstereo_cli.models.depth.protocol import DepthBackend
from worldstereo_cli.models.depth.resampling import interval, resampled_means
from worldstereo_cli.models.depth.scores import DepthScore

BASELINES = ("constant", "ramp")
"""Predictions that look at no pixel, scored beside every method."""


@dataclass(frozen=True, slots=True)
class DepthCase:
    """One photograph with truth."""

    name: str
    source: str
    sequence: str
    """Cases of one sequence look alike: they are resampled together."""
    image_path: Path
    depth_path: Path
    unit_per_count: float
    """Depth in metres, or disparity in pixels, for one count of the stored PNG."""
    invalid_count: int
    is_disparity: bool
    is_affine_only: bool
    """The disparity has an unknown offset: only scale and shift together can be removed."""
    focal_px: float | None
    """Of the stored image; None where unknown."""
    is_headline: bool

    def image(self) -> Float[Tensor, "3 h w"]:
        """Read the photograph, sRGB in [0, 1]."""
        with Image.open(self.image_path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255

    def truth(self) -> Float[Tensor, "h w"]:
        """Read the true depth; NaN where unknown. Disparity comes inverted, in 1 / pixels."""
        with Image.open(self.depth_path) as picture:
            counts = np.asarray(picture).astype(np.int64)
        value = torch.from_numpy(counts * self.unit_per_count)
        unknown = torch.from_numpy((counts == 0) | (counts == self.invalid_count))
        depth = 1.0 / value if self.is_disparity else value
        return torch.where(unknown, torch.full_like(depth, float("nan")), depth)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a method says about one photograph."""

    depth: Float[Tensor, "h w"]
    """Positive and finite, at the size of the photograph; any unit."""
    focal_px: float | None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Everything measured on one case, for the method and for the baselines."""

    case: DepthCase
    scale: dict[str, DepthScore]
    """By method: "prediction", "constant", "ramp". Empty where only scale and shift are defined."""
    affine: dict[str, DepthScore]
    """Likewise after scale and shift; "ramp" is then the ramp fitted to the truth."""
    boundary_f1: float | None
    """None where the truth is not dense and sharp."""
    focal_error_frac: float | None
    """|predicted - true| / true focal length."""
    fov_error_rad: float | None
    """Error of the field of view across the longer side."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % bootstrap interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SourceRow:
    """The mean over the cases of one source, or over all sources."""

    source: str
    num_cases: int
    scale: dict[str, DepthScore]
    affine: dict[str, DepthScore]


@dataclass(frozen=True, slots=True)
class DepthReport:
    """What `evaluate_depth` found."""

    rows: tuple[SourceRow, ...]
    """One for each source, by name."""
    mean: SourceRow
    """Mean over the sources, each counted once."""
    intervals: dict[str, Interval]
    """Of `mean`: keys "scale.abs_rel", "scale.delta1", "affine.abs_rel", "affine.delta1"."""
    boundary_f1: float | None
    """Mean over the cases with dense and sharp truth."""
    num_boundary_cases: int
    median_focal_error_frac: float | None
    median_fov_error_rad: float | None
    num_focal_cases: int
    sources_behind_ramp: tuple[str, ...]
    """Sources where a ramp has the smaller AbsRel under either alignment."""
    results: tuple[CaseResult, ...]

    def to_json(self) -> dict[str, object]:
        """Return the report as plain numbers, without the single cases."""
        return {
            "rows": [_row_json(row) for row in self.rows],
            "mean": _row_json(self.mean),
            "intervals": {key: [value.low, value.high] for key, value in self.intervals.items()},
            "boundary_f1": self.boundary_f1,
            "num_boundary_cases": self.num_boundary_cases,
            "median_focal_error_frac": self.median_focal_error_frac,
            "median_fov_error_rad": self.median_fov_error_rad,
            "num_focal_cases": self.num_focal_cases,
            "sources_behind_ramp": list(self.sources_behind_ramp),
        }


def _row_json(row: SourceRow) -> dict[str, object]:
    flat: dict[str, object] = {"source": row.source, "num_cases": row.num_cases}
    for name, table in (("scale", row.scale), ("affine", row.affine)):
        flat[name] = {method: [score.abs_rel, score.delta1] for method, score in table.items()}
    return flat


def read_cases(folder: Path) -> list[DepthCase]:
    """Read the index of a folder of depth cases.

    Raises:
        InputError: There is no readable index, or an entry lacks a field.
    """
    index = folder / "index.json"
    remedy = "Pass a folder with an index.json of depth cases."
    try:
        entries = json.loads(index.read_text())
        return [_case(folder, entry) for entry in entries]
    except OSError as error:
        raise InputError(f"{index} cannot be read.", remedy=remedy) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{index} is no list of depth cases: {error!r}.", remedy=remedy) from error


def _case(folder: Path, entry: dict[str, object]) -> DepthCase:
    intrinsics = entry.get("K")
    focal = np.asarray(intrinsics, dtype=np.float64)[0, 0] if intrinsics is not None else None
    return DepthCase(
        name=str(entry["id"]),
        source=str(entry["source"]),
        sequence=str(entry["sequence"]),
        image_path=folder / str(entry["image"]),
        depth_path=folder / str(entry["depth"]),
        unit_per_count=float(str(entry["scale"])),
        invalid_count=int(str(entry["invalid"])),
        is_disparity=entry["kind"] == "disparity",
        is_affine_only=bool(entry["affine_only"]),
        focal_px=None if focal is None else float(focal),
        is_headline=bool(entry["real"]) and entry["quality"] == "ok",
    )


def score_case(case: DepthCase, prediction: Prediction, truth: Float[Tensor, "h w"]) -> CaseResult:
    """Measure one prediction and the baselines against the truth."""
    depths = {
        "prediction": prediction.depth,
        "constant": scores.constant_depth(truth),
        "ramp": scores.ramp_depth(truth),
    }
    affine = {method: scores.affine_to(depth, truth) for method, depth in depths.items()}
    scale = {} if case.is_affine_only else {m: scores.scaled_to(d, truth) for m, d in depths.items()}
    # Only a fitted shift makes ratios comparable with a disparity of unknown offset.
    edges = scores.boundary_f1(affine["prediction"], truth) if case.is_disparity else None
    focal_error = fov_error = None
    if case.focal_px is not None and prediction.focal_px is not None:
        focal_error = abs(prediction.focal_px - case.focal_px) / case.focal_px
        half_px = max(truth.shape) / 2
        fov_error = 2 * abs(atan(half_px / prediction.focal_px) - atan(half_px / case.focal_px))
    return CaseResult(
        case=case,
        scale={method: scores.errors(depth, truth) for method, depth in scale.items()},
        affine={method: scores.errors(depth, truth) for method, depth in affine.items()},
        boundary_f1=edges,
        focal_error_frac=focal_error,
        fov_error_rad=fov_error,
    )


def predict_with(backend: DepthBackend) -> Callable[[Float[Tensor, "3 h w"]], Prediction]:
    """Return what `evaluate_depth` calls for a backend.

    Sky, and what else the backend leaves unknown, counts as the farthest depth that it found: truth
    there is then an error and not left out.
    """

    def predict(image: Float[Tensor, "3 h w"]) -> Prediction:
        estimate = backend.estimate(image, None)
        known = estimate.valid & torch.isfinite(estimate.depth_m) & (estimate.depth_m > 0)
        depth = torch.where(known, estimate.depth_m, 0.0)
        farthest = depth.max() if bool(known.any()) else torch.ones(())
        return Prediction(torch.where(known, depth, farthest), estimate.focal_px)

    return predict


def evaluate_depth(
    folder: Path,
    predict: Callable[[Float[Tensor, "3 h w"]], Prediction],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DepthReport:
    """Score a method on the headline cases of a folder.

    Args:
        folder: Depth cases, see the module docstring.
        predict: From an sRGB photograph in [0, 1] to its depth. It is not told the focal length.
        progress: Called with the number of cases done, and of all cases.

    Raises:
        InputError: The folder cannot be read, or holds no headline case.
    """
    cases = [case for case in read_cases(folder) if case.is_headline]
    results = []
    for done, case in enumerate(cases, start=1):
        results.append(score_case(case, predict(case.image()), case.truth()))
        progress(done, len(cases))
    if not results:
        raise InputError(f"{folder} holds no real case of good quality.", remedy="Pass another folder.")
    return summarise(results)


def _mean(values: Iterable[DepthScore]) -> DepthScore:
    table = np.array([(score.abs_rel, score.delta1) for score in values])
    return DepthScore(abs_rel=float(table[:, 0].mean()), delta1=float(table[:, 1].mean()))


def _row(source: str, results: list[CaseResult]) -> SourceRow:
    methods = ("prediction", *BASELINES)
    scaled = [result for result in results if result.scale]
    return SourceRow(
        source=source,
        num_cases=len(results),
        scale={m: _mean(r.scale[m] for r in scaled) for m in methods} if scaled else {},
        affine={m: _mean(r.affine[m] for r in results) for m in methods},
    )


def _rows(results: Iterable[CaseResult]) -> tuple[SourceRow, ...]:
    by_source: dict[str, list[CaseResult]] = {}
    for result in results:
        by_source.setdefault(result.case.source, []).append(result)
    return tuple(_row(source, by_source[source]) for source in sorted(by_source))


def _mean_row(rows: tuple[SourceRow, ...]) -> SourceRow:
    methods = ("prediction", *BASELINES)
    scaled = [row for row in rows if row.scale]
    return SourceRow(
        source="mean over sources",
        num_cases=sum(row.num_cases for row in rows),
        scale={m: _mean(row.scale[m] for row in scaled) for m in methods} if scaled else {},
        affine={m: _mean(row.affine[m] for row in rows) for m in methods},
    )


def summarise(results: list[CaseResult]) -> DepthReport:
    """Average over cases, then over sources, with bootstrap intervals by sequence."""
    rows = _rows(results)
    edges = [result.boundary_f1 for result in results if result.boundary_f1 is not None]
    focal = [result.focal_error_frac for result in results if result.focal_error_frac is not None]
    fov = [result.fov_error_rad for result in results if result.fov_error_rad is not None]
    return DepthReport(
        rows=rows,
        mean=_mean_row(rows),
        intervals=_intervals(results),
        boundary_f1=float(np.mean(edges)) if edges else None,
        num_boundary_cases=len(edges),
        median_focal_error_frac=float(np.median(focal)) if focal else None,
        median_fov_error_rad=float(np.median(fov)) if fov else None,
        num_focal_cases=len(focal),
        sources_behind_ramp=tuple(row.source for row in rows if _is_behind_ramp(row)),
        results=tuple(results),
    )


def _is_behind_ramp(row: SourceRow) -> bool:
    tables = [table for table in (row.scale, row.affine) if table]
    return any(table["prediction"].abs_rel > table["ramp"].abs_rel for table in tables)


def _intervals(results: list[CaseResult]) -> dict[str, Interval]:
    """Resample whole sequences, since photographs of one sequence err together."""
    sources = [result.case.source for result in results]
    sequences = [result.case.sequence for result in results]
    intervals = {}
    for table in ("scale", "affine"):
        scored = [getattr(result, table).get("prediction") for result in results]
        for metric in ("abs_rel", "delta1"):
            values = np.array([np.nan if score is None else getattr(score, metric) for score in scored])
            if not np.isnan(values).all():
                low, high = interval(resampled_means(values, sources, sequences))
                intervals[f"{table}.{metric}"] = Interval(low, high)
    return intervals

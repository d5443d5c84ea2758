"""Parity with the released models: every number of a folder of references against ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from worldstereo_cli.errors import InputError
from worldstereo_cli.evaluation.parity_cameras import check_camera
from worldstereo_cli.evaluation.parity_golden import Deviation, Golden
from worldstereo_cli.evaluation.parity_pipeline import check_clip, check_pipelines, check_sampler
from worldstereo_cli.evaluation.parity_points import check_depth_lift, check_point_render
from worldstereo_cli.evaluation.parity_retrieval import check_retrieval
from worldstereo_cli.evaluation.parity_transformer import check_transformer
from worldstereo_cli.progress import Progress, silent

_Check = Callable[[Golden], Iterator[Deviation]]


@dataclass(frozen=True, slots=True)
class FileParity:
    """One file of references."""

    name: str
    kind: str
    """What it holds, such as transformer; empty if nothing here computes such numbers."""
    deviations: tuple[Deviation, ...]

    @property
    def worst(self) -> Deviation | None:
        """The comparison that comes closest to its tolerance or exceeds it most; None if there is none."""
        return max(self.deviations, key=_strain, default=None)

    @property
    def failures(self) -> tuple[Deviation, ...]:
        """The comparisons that exceed their tolerance."""
        return tuple(d for d in self.deviations if not d.passed)


@dataclass(frozen=True, slots=True)
class ParityReport:
    """All files of a folder."""

    files: tuple[FileParity, ...]

    @property
    def passed(self) -> bool:
        """Whether something was compared and nothing exceeds its tolerance."""
        compared = [f for f in self.files if f.deviations]
        return bool(compared) and not any(f.failures for f in compared)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, which has no infinity: such a deviation is null there."""
        files = [asdict(file) for file in self.files]
        for deviation in (d for file in files for d in file["deviations"]):
            if not isfinite(deviation["largest"]):
                deviation["largest"] = None
        return {"passed": self.passed, "files": files}


def check_parity(folder: Path, *, progress: Progress = silent) -> ParityReport:
    """Compare every file of references in a folder.

    What a file holds is told from its tensors, and every size and setting is read from its
    metadata, so that other configurations, sizes and seeds are checked as well.

    Args:
        folder: Holds safetensors files in the layout of the public reference set.
        progress: Told after every file.

    Raises:
        InputError: There is no such file, or one cannot be read.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(
            f"{folder} holds no .safetensors files.", remedy="Give the folder that holds the references."
        )
    files = []
    for number, path in enumerate(paths, start=1):
        files.append(_check_file(path))
        progress(number, len(paths), "parity")
    return ParityReport(tuple(files))


def _check_file(path: Path) -> FileParity:
    golden = Golden(path)
    kind, check = _kind(golden)
    deviations = tuple(check(golden)) if check is not None else ()
    return FileParity(path.name, kind, deviations)


def _kind(golden: Golden) -> tuple[str, _Check | None]:
    """Tell what a file holds from the names of its tensors."""
    names = golden.tensors
    last = {name.rsplit("/", 1)[-1] for name in names}
    if any(name.startswith("vae/") for name in names):
        return "pipeline", check_pipelines
    if "in/hidden_states" in names:
        return "transformer", check_transformer
    if "x_start" in names:
        return "sampler", check_sampler
    if any(name.startswith("pixel_values_stride") for name in names):
        return "picture preprocessing", check_clip
    if "hole_mask" in last:
        return "point rendering", check_point_render
    if "contracted_depth" in last:
        return "depth lifting", check_depth_lift
    if "retrieved_bank_index" in last:
        return "retrieval", check_retrieval
    if "w2c" in last:
        return "cameras", check_camera
    return "", None


def _strain(deviation: Deviation) -> float:
    """Return the deviation in tolerances; an exact comparison that differs counts most."""
    if deviation.tolerance == 0:
        return float("inf") if deviation.largest > 0 else 0.0
    return deviation.largest / deviation.tolerance

"""Real photographs with truth, packed small, to steer training by. Nothing here is trained on.

One .npz holds every case at one working resolution: the photograph as JPEG, log depth in 16 bits.
"""

import io
import json
import warnings
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from worldstereo_cli.errors import InputError
from worldstereo_cli.models.depth import scores
from worldstereo_cli.models.depth.network import DepthNetwork, working_size
from worldstereo_cli.training.depth.workers import Workers

LOG_DEPTH_RANGE = (log(1e-5), log(1e5))
"""Codes 1 to 65535 span it evenly: steps of 0.00035, far under any error measured here."""


@dataclass(frozen=True, slots=True)
class DevelopmentCase:
    """One photograph at the working resolution."""

    source: str
    sequence: str
    """Cases of one sequence look alike: they are resampled together."""
    image: Float[Tensor, "3 h w"]
    truth: Float[Tensor, "h w"]
    """Depth, NaN where unknown; metres unless only scale and shift are defined."""
    is_affine_only: bool
    is_sharp: bool
    """The truth is dense and sharp: edges can be scored."""
    focal_per_longer: float
    """Focal length / longer side; NaN where unknown."""


class CaseScore(NamedTuple):
    """Errors on one photograph; NaN where there is no such truth."""

    scale_abs_rel: float
    scale_delta1: float
    affine_abs_rel: float
    affine_delta1: float
    focal_error: float
    """|predicted / true focal length - 1|."""
    log_scale: float
    """Logarithm of the median of predicted / true depth in metres."""
    boundary_f1: float


@dataclass(frozen=True, slots=True)
class DevelopmentScore:
    """Mean over sources, as `worldstereo eval depth` reports it, but at the working resolution."""

    scale_abs_rel: float
    scale_delta1: float
    affine_abs_rel: float
    affine_delta1: float
    median_focal_error: float
    median_scale_factor: float
    """By which depth in metres is off, up or down."""
    boundary_f1: float
    by_source: dict[str, float]
    """AbsRel after scale (after scale and shift where only that is defined)."""

    @property
    def total(self) -> float:
        """What the best checkpoint has least of: relative errors, and half the share of wrong pixels.

        By the errors alone the third run would have shipped its last average, which was worse by every
        other measure, and to look at.
        """
        wrong = (1 - self.scale_delta1) + (1 - self.affine_delta1)
        return self.scale_abs_rel + self.affine_abs_rel + 0.5 * wrong


def pack_development(folder: Path, out: Path, *, longest_px: int) -> int:
    """Pack the headline cases of a folder in the format of `worldstereo eval depth`.

    Args:
        folder: Holds `index.json` and what it names.
        out: The .npz to write.
        longest_px: Longer side of the packed photographs.

    Returns:
        The number of cases.

    Raises:
        InputError: The folder holds no index of depth cases.
    """
    try:
        entries = json.loads((folder / "index.json").read_text())
        chosen = [entry for entry in entries if entry["real"] and entry["quality"] == "ok"]
        packed = [_pack_case(folder, entry, longest_px) for entry in chosen]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder} holds no depth cases: {error!r}", remedy="See its index.json.") from error
    arrays: dict[str, np.ndarray] = {"meta": np.array([json.dumps([meta for meta, _, _ in packed])])}
    for index, (_, jpeg, codes) in enumerate(packed):
        arrays[f"image{index}"], arrays[f"depth{index}"] = jpeg, codes
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return len(packed)


def _pack_case(
    folder: Path, entry: dict[str, object], longest_px: int
) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    with Image.open(folder / str(entry["image"])) as file:
        picture = file.convert("RGB")
    with Image.open(folder / str(entry["depth"])) as file:
        counts = np.asarray(file).astype(np.int64)
    height, width = working_size(picture.height, picture.width, longest_px)
    intrinsics = entry["K"]
    focal = float("nan")
    if intrinsics is not None:
        focal = float(np.asarray(intrinsics)[0, 0]) / max(picture.size)
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BOX).save(buffer, "JPEG", quality=95, subsampling=0)
    # Nearest: an average over a depth edge is the depth of nothing.
    rows = ((np.arange(height) + 0.5) * counts.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * counts.shape[1] / width).astype(int)
    counts = counts[rows][:, columns]
    known = (counts != 0) & (counts != int(str(entry["invalid"])))
    value = np.where(known, counts, 1) * float(str(entry["scale"]))
    log_depth = -np.log(value) if entry["kind"] == "disparity" else np.log(value)
    low, high = LOG_DEPTH_RANGE
    codes = np.where(known, 1 + np.round((log_depth - low) / (high - low) * 65534), 0)
    meta = {
        "source": entry["source"],
        "sequence": entry["sequence"],
        "affine_only": entry["affine_only"],
        "sharp": entry["kind"] == "disparity",
        "focal": focal,
    }
    return meta, np.frombuffer(buffer.getvalue(), dtype=np.uint8), codes.astype(np.uint16)


class DevelopmentSet:
    """Packed cases in memory."""

    def __init__(self, cases: list[DevelopmentCase]) -> None:
        self.cases = cases

    @classmethod
    def read(cls, path: Path) -> "DevelopmentSet":
        """Read what `pack_development` wrote.

        Raises:
            InputError: It cannot be read.
        """
        try:
            with np.load(path) as file:
                metas = json.loads(str(file["meta"][0]))
                cases = [
                    _unpack(meta, file[f"image{index}"], file[f"depth{index}"])
                    for index, meta in enumerate(metas)
                ]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} holds no packed depth cases.", remedy="Pack a folder first.") from error
        return cls(cases)

    def score_cases(self, network: DepthNetwork, workers: Workers) -> list[CaseScore]:
        """Score a network on every case, in order; every process takes a share of them."""
        rows = [
            [index, *_score_case(network, self.cases[index], workers.device)]
            for index in range(workers.rank, len(self.cases), workers.count)
        ]
        table = workers.gather(torch.tensor(rows, dtype=torch.float64).view(-1, 1 + len(CaseScore._fields)))
        return [CaseScore(*row[1:]) for row in sorted(table.tolist())]

    def score(self, network: DepthNetwork, workers: Workers) -> DevelopmentScore:
        """Score a network; every process takes a share of the cases."""
        return self.summary(self.score_cases(network, workers))

    def summary(self, rows: list[CaseScore]) -> DevelopmentScore:
        """Average over the cases of each source, then over sources."""
        table = np.array(rows)
        names = np.array([case.source for case in self.cases])
        with warnings.catch_warnings():
            # A source without such truth has no mean, and is left out of that over sources.
            warnings.simplefilter("ignore", RuntimeWarning)
            means = {str(name): np.nanmean(table[names == name], axis=0) for name in np.unique(names)}
            mean = CaseScore(*np.nanmean(list(means.values()), axis=0).tolist())
            focal_error, off = np.nanmedian(table[:, 4]), np.nanmedian(np.abs(table[:, 5]))
            boundary_f1 = np.nanmean(table[:, 6])
        return DevelopmentScore(
            scale_abs_rel=mean.scale_abs_rel,
            scale_delta1=mean.scale_delta1,
            affine_abs_rel=mean.affine_abs_rel,
            affine_delta1=mean.affine_delta1,
            median_focal_error=float(focal_error),
            median_scale_factor=float(np.exp(off)),
            boundary_f1=float(boundary_f1),
            by_source={
                name: round(float(row[2] if np.isnan(row[0]) else row[0]), 3) for name, row in means.items()
            },
        )


def _unpack(meta: dict[str, object], jpeg: np.ndarray, codes: np.ndarray) -> DevelopmentCase:
    with Image.open(io.BytesIO(jpeg.tobytes())) as file:
        pixels = np.array(file.convert("RGB"))
    low, high = LOG_DEPTH_RANGE
    depth = np.exp(low + (codes.astype(np.float64) - 1) / 65534 * (high - low))
    return DevelopmentCase(
        source=str(meta["source"]),
        sequence=str(meta["sequence"]),
        image=torch.from_numpy(pixels).permute(2, 0, 1).float() / 255,
        truth=torch.from_numpy(np.where(codes > 0, depth, np.nan)),
        is_affine_only=bool(meta["affine_only"]),
        is_sharp=bool(meta["sharp"]),
        focal_per_longer=float(str(meta["focal"])),
    )


@torch.inference_mode()
def _score_case(network: DepthNetwork, case: DevelopmentCase, device: torch.device) -> CaseScore:
    raw = network(case.image[None].to(device))
    depth = raw.log_depth[0].double().exp().cpu()
    log_focal, none = float(raw.log_focal[0]), float("nan")
    aligned = scores.affine_to(depth, case.truth)
    affine = scores.errors(aligned, case.truth)
    scaled = scores.scaled_to(depth, case.truth)
    scale = scores.errors(scaled, case.truth)
    # What would have to be added to the logarithm of the predicted depth.
    missing = float((scaled / depth).log().flatten()[0])
    only = case.is_affine_only
    return CaseScore(
        scale_abs_rel=none if only else scale.abs_rel,
        scale_delta1=none if only else scale.delta1,
        affine_abs_rel=affine.abs_rel,
        affine_delta1=affine.delta1,
        focal_error=abs(exp(log_focal) / case.focal_per_longer - 1),
        log_scale=none if only else float(raw.log_scale[0]) + log_focal - missing,
        boundary_f1=scores.boundary_f1(aligned, case.truth) if case.is_sharp else none,
    )

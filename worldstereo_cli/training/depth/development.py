"""Real photographs with truth, packed small, to steer training by. Nothing here is trained on.

One .npz holds every case at one working resolution: the photograph as JPEG, log depth in 16 bits.
"""

import io
import json
from dataclasses import dataclass
from math import exp, log
from pathlib import Path

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

    source: int
    """Number of its source."""
    image: Float[Tensor, "3 h w"]
    truth: Float[Tensor, "h w"]
    """Depth, NaN where unknown."""
    is_affine_only: bool
    focal_per_longer: float
    """Focal length / longer side; NaN where unknown."""


@dataclass(frozen=True, slots=True)
class DevelopmentScore:
    """Mean over sources, as `worldstereo eval depth` reports it, but at the working resolution."""

    scale_abs_rel: float
    scale_delta1: float
    affine_abs_rel: float
    affine_delta1: float
    median_focal_error: float
    by_source: dict[str, float]
    """AbsRel after scale (after scale and shift where only that is defined)."""

    @property
    def total(self) -> float:
        """What the best checkpoint has least of."""
        return self.scale_abs_rel + self.affine_abs_rel


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
    meta = {"source": entry["source"], "affine_only": entry["affine_only"], "focal": focal}
    return meta, np.frombuffer(buffer.getvalue(), dtype=np.uint8), codes.astype(np.uint16)


class DevelopmentSet:
    """Packed cases in memory."""

    def __init__(self, cases: list[DevelopmentCase], sources: list[str]) -> None:
        self.cases = cases
        self.sources = sources

    @classmethod
    def read(cls, path: Path) -> "DevelopmentSet":
        """Read what `pack_development` wrote.

        Raises:
            InputError: It cannot be read.
        """
        try:
            with np.load(path) as file:
                metas = json.loads(str(file["meta"][0]))
                sources = sorted({meta["source"] for meta in metas})
                cases = [
                    _unpack(meta, sources.index(meta["source"]), file[f"image{index}"], file[f"depth{index}"])
                    for index, meta in enumerate(metas)
                ]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} holds no packed depth cases.", remedy="Pack a folder first.") from error
        return cls(cases, sources)

    def score(self, network: DepthNetwork, workers: Workers) -> DevelopmentScore:
        """Score a network; every process takes a share of the cases."""
        rows = [
            _score_case(network, case, workers.device) for case in self.cases[workers.rank :: workers.count]
        ]
        return self._summary(workers.gather(torch.tensor(rows, dtype=torch.float64).view(-1, 6)))

    def _summary(self, rows: Float[Tensor, "n 6"]) -> DevelopmentScore:
        means = torch.stack(
            [rows[rows[:, 0] == source].nanmean(dim=0) for source in range(len(self.sources))]
        )
        mean = means.nanmean(dim=0)
        shown = torch.where(means[:, 1].isnan(), means[:, 3], means[:, 1])
        return DevelopmentScore(
            scale_abs_rel=float(mean[1]),
            scale_delta1=float(mean[2]),
            affine_abs_rel=float(mean[3]),
            affine_delta1=float(mean[4]),
            median_focal_error=float(rows[:, 5].nanmedian()),
            by_source={name: round(float(shown[index]), 3) for index, name in enumerate(self.sources)},
        )


def _unpack(meta: dict[str, object], source: int, jpeg: np.ndarray, codes: np.ndarray) -> DevelopmentCase:
    with Image.open(io.BytesIO(jpeg.tobytes())) as file:
        pixels = np.array(file.convert("RGB"))
    low, high = LOG_DEPTH_RANGE
    depth = np.exp(low + (codes.astype(np.float64) - 1) / 65534 * (high - low))
    return DevelopmentCase(
        source=source,
        image=torch.from_numpy(pixels).permute(2, 0, 1).float() / 255,
        truth=torch.from_numpy(np.where(codes > 0, depth, np.nan)),
        is_affine_only=bool(meta["affine_only"]),
        focal_per_longer=float(str(meta["focal"])),
    )


@torch.inference_mode()
def _score_case(network: DepthNetwork, case: DevelopmentCase, device: torch.device) -> list[float]:
    """Return source, AbsRel and delta1 by scale, the same by scale and shift, and focal error."""
    raw = network(case.image[None].to(device))
    depth = raw.log_depth[0].double().exp().cpu()
    focal_error = abs(exp(float(raw.log_focal[0])) / case.focal_per_longer - 1)
    affine = scores.errors(scores.affine_to(depth, case.truth), case.truth)
    if case.is_affine_only:
        return [case.source, float("nan"), float("nan"), affine.abs_rel, affine.delta1, focal_error]
    scale = scores.errors(scores.scaled_to(depth, case.truth), case.truth)
    return [case.source, scale.abs_rel, scale.delta1, affine.abs_rel, affine.delta1, focal_error]

"""Scoring a folder of depth cases."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from worldstereo_cli.errors import InputError
from worldstereo_cli.evaluation.depth import Prediction, evaluate_depth
from worldstereo_cli.models.depth import scores


def _ramp(image: torch.Tensor) -> Prediction:
    return Prediction(scores.ramp_depth(image[0]), None)


def _write_case(folder: Path, name: str, depth_m: np.ndarray, **fields: object) -> dict[str, object]:
    counts = np.round(depth_m * 1000).astype(np.uint16)
    Image.fromarray(counts).save(folder / f"{name}.png")
    Image.fromarray(np.zeros((*depth_m.shape, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")
    entry = {
        "id": name, "source": name, "sequence": name, "image": f"{name}.jpg", "depth": f"{name}.png",
        "scale": 0.001, "invalid": 0, "kind": "z", "affine_only": False, "real": True, "quality": "ok",
        "K": [[40.0, 0, 20], [0, 40.0, 15], [0, 0, 1]],
    }  # fmt: skip
    return entry | fields


def test_the_published_baselines_are_reproduced(eval_dir: Path) -> None:
    folder = eval_dir / "depth"
    published = json.loads((folder / "baselines.json").read_text())
    report = evaluate_depth(folder, _ramp)
    assert sum(row.num_cases for row in report.rows) == published["headline_images"]
    columns = (("constant_scale", "scale", "constant"), ("ramp_scale", "scale", "ramp"),
               ("ramp_affine", "affine", "ramp"))  # fmt: skip
    for row in (*report.rows, report.mean):
        expected = published["per_source"].get(row.source, published["mean_over_sources"])
        for key, alignment, method in columns:
            table = getattr(row, alignment)
            if key in expected and table:
                # Published with three decimals.
                found = (table[method].abs_rel, table[method].delta1)
                assert found == pytest.approx(expected[key], abs=1.1e-3), (row.source, key)


def test_sources_count_once_however_many_cases_they_have(tmp_path: Path) -> None:
    height, width = 30, 40
    flat = np.full((height, width), 2.0)
    step = np.concatenate([np.full((height, 20), 1.0), np.full((height, 20), 3.0)], axis=1)
    entries = [_write_case(tmp_path, f"flat{i}", flat, source="flat") for i in range(3)]
    entries.append(_write_case(tmp_path, "step", step))
    entries.append(_write_case(tmp_path, "bad", step, quality="weak"))
    (tmp_path / "index.json").write_text(json.dumps(entries))
    report = evaluate_depth(tmp_path, lambda image: Prediction(scores.constant_depth(image[0]), 50.0))
    assert [row.num_cases for row in report.rows] == [3, 1]
    assert report.rows[0].scale["prediction"].abs_rel < 1e-9
    # One half is right after the median of the two ratios (2): |2 - 1| / 1 and |2 - 3| / 3.
    assert report.rows[1].scale["prediction"].abs_rel == pytest.approx((1 + 1 / 3) / 2)
    assert report.mean.scale["prediction"].abs_rel == pytest.approx((1 + 1 / 3) / 4)
    assert report.median_focal_error_frac == pytest.approx(0.25)
    interval = report.intervals["scale.abs_rel"]
    # All four sequences are of the flat source in 1 draw of 3, and of the other in 1 of 256.
    assert interval.low == pytest.approx(0.0, abs=1e-9)
    assert interval.high == pytest.approx((1 + 1 / 3) / 4)


def test_disparity_of_unknown_offset_has_no_scale_score(tmp_path: Path) -> None:
    disparity = np.full((30, 40), 5.0)
    disparity[10:20, 10:30] = 20.0
    entry = _write_case(tmp_path, "stereo", disparity, kind="disparity", affine_only=True, K=None)
    (tmp_path / "index.json").write_text(json.dumps([entry]))
    report = evaluate_depth(tmp_path, lambda image: Prediction(torch.from_numpy(1 / (disparity + 3.0)), None))
    assert report.rows[0].scale == {}
    assert report.rows[0].affine["prediction"].abs_rel < 1e-3
    assert report.num_boundary_cases == 1
    assert report.boundary_f1 is not None and report.boundary_f1 > 0.9
    assert json.dumps(report.to_json())


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        evaluate_depth(tmp_path, _ramp)
    (tmp_path / "index.json").write_text('[{"id": 1}]')
    with pytest.raises(InputError, match="no list of depth cases"):
        evaluate_depth(tmp_path, _ramp)

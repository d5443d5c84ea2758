"""Parity of cameras as the video model reads them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from worldstereo_cli.evaluation.parity_golden import Deviation, Golden, compare
from worldstereo_cli.geometry.camera_encoding import NormalisedFrame, camera_tokens, plucker_map
from worldstereo_cli.geometry.rigid import quaternion_from_rotation

_CAMERA, _QUATERNION = 1e-5, 1e-6
_FAR_AWAY = 100.0
_RELEASED_COLUMN_PX = -0.5


def check_camera(golden: Golden) -> Iterator[Deviation]:
    """Compare normalised cameras, tokens, ray maps and quaternions."""
    size = (int(golden.setting("width")), int(golden.setting("height")))
    for name in golden.groups():
        case = golden.group(name)
        if "wxyz" in case:
            yield _check_quaternions(name, case)
        elif "w2c" in case:
            yield from _check_case(name, case, size)


def _check_case(name: str, case: dict[str, Tensor], size: tuple[int, int]) -> Iterator[Deviation]:
    frame = NormalisedFrame.fit(case["w2c"])
    targets = frame.apply(case["w2c"])
    if not bool(torch.isfinite(case["w2c"]).all()):
        rays = plucker_map(targets, case["K"], *size, first_column_px=_RELEASED_COLUMN_PX)
        yield compare(f"{name}/plucker", rays, torch.zeros_like(rays), 0.0)
        return
    # Centres far from the rest lose digits in float32, in which the references were computed.
    largest = max(float(value.abs().max()) for key, value in case.items() if "w2c" in key)
    tolerance = _CAMERA if largest <= _FAR_AWAY else 1e-4 + 1e-6 * largest
    results = {
        "normalised_w2c": targets,
        "unified_w2c": targets,
        "camera_qt": camera_tokens(targets),
    }
    if "w2c_ref" in case:
        references = frame.apply(case["w2c_ref"])
        results |= {"unified_w2c_ref": references, "camera_qt_ref": camera_tokens(references)}
    for key, cameras in {"plucker": targets, "plucker_no_normalisation": case["w2c"]}.items():
        if key in case:
            rays = plucker_map(cameras, case["K"], *size, first_column_px=_RELEASED_COLUMN_PX)
            results[key] = rays.transpose(0, 1)[None]
    for key, value in results.items():
        if key in case:
            yield compare(f"{name}/{key}", value, case[key], tolerance)


def _check_quaternions(name: str, case: dict[str, Tensor]) -> Deviation:
    got, expected = quaternion_from_rotation(case["R"]), case["wxyz"]
    # A half turn has two quaternions with w = 0; either is right.
    ambiguous = expected[:, :1].abs() < _QUATERNION
    same_side = (got * expected).sum(-1, keepdim=True) >= 0
    return compare(f"{name}/wxyz", torch.where(ambiguous & ~same_side, -got, got), expected, _QUATERNION)

"""Depth maps that people bring: npy, 16-bit PNG, TIFF and OpenEXR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from worldstereo_cli.artifacts.exr import ExrError, read_exr_channel
from worldstereo_cli.errors import InputError

SKY_FROM_M = 1e5
"""Infinite depth is sky; so is what renderers write instead of it (1e10, 65 504 km ...)."""

MAX_NUMBERS = 200_000_000
"""As many pixels as a photo may have."""

_KINDS = ".npy (float metres), 16-bit .png (millimetres), .tif (float metres) or .exr (metres)"


@dataclass(frozen=True, slots=True)
class DepthMap:
    """A depth map from a file."""

    depth_m: Float[Tensor, "h w"]
    """Metres along the optical axis; 0 where unknown and where sky is."""
    valid: Bool[Tensor, "h w"]
    sky: Bool[Tensor, "h w"]


def read_depth_map(path: Path) -> DepthMap:
    """Read depth along the optical axis; the way up must be that of the photo as it is shown.

    NaN, zero and negative numbers are unknown, and in a 16-bit PNG so is its largest, which sensors
    write for no return. Infinity (or more than 100 km) is sky.

    Raises:
        InputError: The file cannot be read, is of another kind, or holds no depth.
    """
    readers = {".npy": _npy, ".png": _picture, ".tif": _picture, ".tiff": _picture, ".exr": read_exr_channel}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is no depth file.", remedy=f"Pass {_KINDS}.")
    try:
        depth = reader(path)
    except (OSError, ValueError, SyntaxError, EOFError, ExrError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path} cannot be read as depth: {reason}.", remedy=f"Pass {_KINDS}.") from error
    if depth.ndim != 2 or not 0 < depth.size <= MAX_NUMBERS:
        raise InputError(
            f"{path} holds numbers of shape {depth.shape}, not one map.", remedy=f"Pass {_KINDS}."
        )
    sky = depth >= SKY_FROM_M
    valid = np.isfinite(depth) & (depth > 0) & ~sky
    if not valid.any():
        raise InputError(f"{path} holds no valid depth.", remedy="Check what wrote it.")
    cleaned = np.where(valid, depth, 0).astype(np.float32)
    return DepthMap(torch.from_numpy(cleaned), torch.from_numpy(valid), torch.from_numpy(sky))


def _npy(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise ValueError("it does not hold floating-point metres")
    return array.squeeze().astype(np.float64)


def _picture(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with Image.open(path) as picture:
        mode = picture.mode
        values = np.asarray(picture).astype(np.float64)
    if mode == "F":
        return values
    if not mode.startswith("I") or values.max() > 65535:
        raise ValueError(f"8-bit or colour pixels ({mode}) do not hold metres")
    return np.where(values == 65535, np.nan, values / 1000)

"""Which rasteriser draws on which device."""

from __future__ import annotations

import importlib.util

from worldstereo_cli.errors import BackendError
from worldstereo_cli.splatting.rasterize.protocol import Rasterizer


def rasterizer_for(device: str) -> Rasterizer:
    """Return the fast rasteriser of a device.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        BackendError: CUDA was asked for, and gsplat or the device is missing.
        ValueError: There is no rasteriser for such a device.
    """
    match device.split(":")[0]:
        case "cpu":
            from worldstereo_cli.splatting.rasterize.cpu import CpuRasterizer

            return CpuRasterizer()
        case "cuda":
            from worldstereo_cli.splatting.rasterize.cuda import CudaRasterizer

            return CudaRasterizer.load()
        case other:
            raise ValueError(f"Expected cpu or cuda, got {other!r}.")


def check_rasterizer(device: str) -> None:
    """See that the rasteriser of a device is installed, without compiling it.

    Raises:
        BackendError: It is not.
    """
    if device.startswith("cuda") and importlib.util.find_spec("gsplat") is None:
        raise BackendError(
            "Splats on a GPU are drawn by gsplat, which is not installed.",
            remedy="pip install 'worldstereo[cuda]', or use --device cpu.",
        )

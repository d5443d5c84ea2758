"""Which rasteriser draws on which device."""

from __future__ import annotations

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

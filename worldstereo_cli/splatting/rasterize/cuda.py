"""The rasteriser for NVIDIA GPUs: gsplat, with our cameras and our outputs."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.errors import BackendError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.splatting.rasterize import reference
from worldstereo_cli.splatting.rasterize.limits import DILATION_PX2, NEAR_M
from worldstereo_cli.splatting.rasterize.protocol import Rendering, require_one_pinhole

_BAND_ROWS = 64
"""Median depth lists every pair of splat and pixel; so many rows at a time fit on a small card."""


@dataclass(frozen=True, slots=True)
class CudaRasterizer:
    """Draws splats with gsplat in its classic mode.

    Source: Ye et al., gsplat: An open-source library for Gaussian splatting, 2024 (Apache-2.0).
    """

    name: ClassVar[str] = "gsplat"

    @staticmethod
    def load() -> CudaRasterizer:
        """Check that there is a GPU and a gsplat that runs on it; its first use compiles for a minute.

        Raises:
            BackendError: Something is missing; the remedy says what.
        """
        if not torch.cuda.is_available():
            raise BackendError(
                "This torch sees no CUDA device.", remedy="Use --device cpu, or install torch with CUDA."
            )
        try:
            # While it compiles, gsplat says so on the standard output, which is for results.
            with redirect_stdout(sys.stderr):
                from gsplat.cuda import _backend
        except ImportError as error:
            raise BackendError(
                f"gsplat cannot be imported: {error}", remedy="pip install 'worldstereo[cuda]'"
            ) from error
        except RuntimeError as error:
            raise BackendError(
                f"gsplat's kernels did not compile: {str(error)[-300:]}",
                remedy="Install a CUDA toolkit that fits torch (nvcc --version), or use --device cpu.",
            ) from error
        if _backend._C is None:
            raise BackendError(
                "gsplat found no CUDA toolkit to compile its kernels with.",
                remedy="Install nvcc and set CUDA_HOME, or use --device cpu.",
            )
        return CudaRasterizer()

    def render(self, gaussians: Gaussians, camera: Cameras) -> Rendering:
        """Draw splats as one camera sees them (see `Rasterizer.render`)."""
        return self.render_and_inspect(gaussians, camera)[0]

    def render_and_inspect(self, gaussians: Gaussians, camera: Cameras) -> tuple[Rendering, dict[str, Any]]:
        """Draw splats, and hand out what gsplat's densification strategies ask for."""
        import gsplat

        require_one_pinhole(camera)
        image, alpha, facts = gsplat.rasterization(
            gaussians.means,
            gaussians.quaternions,
            gaussians.scales_m,
            gaussians.opacities,
            gaussians.sh,
            camera.camera_from_world.to(gaussians.means),
            camera.intrinsics.to(gaussians.means),
            camera.width_px,
            camera.height_px,
            near_plane=NEAR_M,
            eps2d=DILATION_PX2,
            sh_degree=round(gaussians.sh.shape[1] ** 0.5) - 1,
            render_mode="RGB+ED",
            rasterize_mode="classic",
            packed=False,
        )
        planes = image[0].permute(2, 0, 1)
        return Rendering(planes[:3], planes[3], alpha[0, :, :, 0]), facts

    @torch.no_grad()
    def median_depth(self, gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "h w"]:
        """Return the depth at which half of the light is stopped (see `Rasterizer.median_depth`).

        gsplat does not offer it, so the readable twin finds it on the GPU, band by band.
        """
        ellipses = reference.project(gaussians, camera)
        bands = [
            reference.median_depth_of_rows(
                ellipses, camera, range(top, min(top + _BAND_ROWS, camera.height_px))
            )
            for top in range(0, camera.height_px, _BAND_ROWS)
        ]
        return torch.cat(bands)

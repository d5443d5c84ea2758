"""Gaussian splats as values: what a rasteriser draws and a file stores."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Anisotropic 3D Gaussians with opacity and spherical-harmonic colour.

    Source: Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, 2023.
    """

    means: Float[Tensor, "g 3"]
    """World frame, metres."""
    quaternions: Float[Tensor, "g 4"]
    """(w, x, y, z), world from the splat's own axes; need not be normalised."""
    log_scales: Float[Tensor, "g 3"]
    """Natural logarithm of the standard deviation along each own axis, metres."""
    opacity_logits: Float[Tensor, g]
    """Opacity before the logistic function."""
    sh: Float[Tensor, "g k 3"]
    """Spherical-harmonic coefficients, k = (degree + 1)^2; colour = 0.5 + 0.28209479 sh[0] + ..., sRGB."""

    def __post_init__(self) -> None:
        g = self.means.shape[0]
        k = self.sh.shape[1] if self.sh.ndim == 3 else -1
        if k not in (1, 4, 9, 16):
            raise ValueError(f"Expected sh (g k 3) with k in 1, 4, 9, 16, got {tuple(self.sh.shape)}.")
        for name, shape in {
            "means": (g, 3), "quaternions": (g, 4), "log_scales": (g, 3), "opacity_logits": (g,),
            "sh": (g, k, 3),
        }.items():  # fmt: skip
            if getattr(self, name).shape != shape:
                raise ValueError(f"Expected {name} {shape}, got {tuple(getattr(self, name).shape)}.")

    def __len__(self) -> int:
        return self.means.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Gaussians:
        """Return the chosen splats (a boolean mask, indices or a slice)."""
        return Gaussians(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Gaussians:
        """Return the same splats on another device."""
        return Gaussians(*(getattr(self, f.name).to(device) for f in fields(self)))

    @property
    def scales_m(self) -> Float[Tensor, "g 3"]:
        """Standard deviations, metres."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Float[Tensor, g]:
        """Opacities in (0, 1)."""
        return self.opacity_logits.sigmoid()

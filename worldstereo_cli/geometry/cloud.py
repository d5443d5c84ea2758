"""A coloured point cloud that knows where each of its points comes from."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Cloud:
    """Points with colour, confidence and origin."""

    points: Float[Tensor, "p 3"]
    """World frame, metres."""
    colors: Float[Tensor, "p 3"]
    """sRGB in [0, 1]."""
    confidence: Float[Tensor, p]
    """In (0, 1]: 1 for a pixel of the photo whose depth is certain, less for invented surface."""
    round_index: Int[Tensor, p]
    """The round that added the point: 0 is the photo, 1 the first generated path. int32."""
    spacing_m: Float[Tensor, p]
    """Distance to the neighbouring pixels when the point was made (depth / focal length)."""
    sky: Bool[Tensor, p]
    """True for points of the far shell, whose depth is a convention and not a measurement."""

    def __post_init__(self) -> None:
        p = self.points.shape[0]
        for name, shape in {
            "points": (p, 3), "colors": (p, 3), "confidence": (p,), "round_index": (p,),
            "spacing_m": (p,), "sky": (p,),
        }.items():  # fmt: skip
            if getattr(self, name).shape != shape:
                raise ValueError(f"Expected {name} {shape}, got {tuple(getattr(self, name).shape)}.")

    def __len__(self) -> int:
        return self.points.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Cloud:
        """Return the chosen points (a boolean mask, indices or a slice)."""
        return Cloud(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Cloud:
        """Return the same cloud on another device."""
        return Cloud(*(getattr(self, f.name).to(device) for f in fields(self)))

    @staticmethod
    def empty() -> Cloud:
        """Return a cloud without points."""
        none = torch.zeros(0)
        nowhere = torch.zeros(0, 3)
        return Cloud(nowhere, nowhere, none, none.int(), none, none.bool())

    @staticmethod
    def joined(clouds: list[Cloud]) -> Cloud:
        """Put clouds behind each other.

        Raises:
            ValueError: There is nothing to join.
        """
        if not clouds:
            raise ValueError("Expected at least one cloud.")
        return Cloud(*(torch.cat([getattr(c, f.name) for c in clouds]) for f in fields(Cloud)))

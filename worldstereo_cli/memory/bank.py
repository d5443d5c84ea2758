"""The bank of past views: pictures, cameras and depth, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.seen import SeenViews

SLOTS_PER_ROUND = 8
"""Frames of each round that enter the bank, as in WorldStereo 2.0."""


@dataclass(frozen=True, slots=True)
class Bank:
    """Views that were seen or made, oldest first; the photo is the first."""

    names: tuple[str, ...]
    """`photo`, then `<round>/<frame>`."""
    cameras: Cameras
    images_u8: UInt8[Tensor, "n 3 h w"]
    """sRGB in 0..255."""
    depth_m: Float[Tensor, "n h w"]
    """What each view is evidence for, metres; 0 where nothing is known."""

    def __post_init__(self) -> None:
        size = (len(self.cameras), self.cameras.height_px, self.cameras.width_px)
        if self.depth_m.shape != size or self.images_u8.shape != (size[0], 3, *size[1:]):
            raise ValueError(f"Expected images and depth of {size}.")
        if len(self.names) != size[0] or len(set(self.names)) != size[0]:
            raise ValueError(f"Expected {size[0]} different names, got {len(set(self.names))}.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def seen(self) -> SeenViews:
        """All views as evidence of free space."""
        return SeenViews(self.cameras, self.depth_m)

    def joined(self, newer: Bank) -> Bank:
        """Return this bank with newer views of the same size behind its own."""
        together = replace(
            self.cameras,
            world_from_camera=torch.cat([self.cameras.world_from_camera, newer.cameras.world_from_camera]),
            intrinsics=torch.cat([self.cameras.intrinsics, newer.cameras.intrinsics]),
        )
        return Bank(
            self.names + newer.names,
            together,
            torch.cat([self.images_u8, newer.images_u8]),
            torch.cat([self.depth_m, newer.depth_m]),
        )


def kept_frames(num_frames: int, slots: int = SLOTS_PER_ROUND) -> list[int]:
    """Choose the frames of a round that enter the bank.

    The frames after the first (which an earlier view shows) are divided into `slots` gaps as
    even as whole numbers allow, larger gaps first; each gap gives its last frame, so the last
    frame of the round is always kept.

    Args:
        num_frames: Frames of the round.
        slots: Frames to keep; all but the first are kept when there are no more.

    Source: WorldStereo 2.0, memory bank update: 3, 6, 9, 12, 14, 16, 18, 20 of 21 frames.
    """
    available = num_frames - 1
    if available < 1:
        return []
    slots = min(slots, available)
    gap, longer = divmod(available, slots)
    return [(i + 1) * gap + min(i + 1, longer) for i in range(slots)]

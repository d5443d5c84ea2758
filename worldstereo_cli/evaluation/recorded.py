"""Stand-ins for models: a video model that plays a recorded walk, and an estimator that knows its depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.evaluation.memory_cases import MemoryCase
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.images import crop_resize
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.models.video.protocol import Clip, ClipRequest, ClipSize, ControlStyle

WrongKind = Literal["scaled", "shifted", "noise", "picture", "moved", "zoomed"]
WRONG_KINDS: tuple[WrongKind, ...] = ("scaled", "shifted", "noise", "picture", "moved", "zoomed")
"""Depth times 1.3, depth of elsewhere, depth of nothing; a picture of nothing; picture and depth of another
direction, and of another lens."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What an estimator of depth gets wrong, frame by frame."""

    scale: float = 0.4
    """Depth is multiplied by up to 1 + this, or divided."""
    shift: float = 0.1
    """Inverse depth is moved by up to this share of its median, either way."""
    noise: float = 0.005
    """Standard deviation of each pixel's error, as a share of its depth."""
    waves: float = 0.01
    """Height of smooth errors that reach over a quarter of the picture, as a share of depth."""


@dataclass(frozen=True, slots=True)
class WrongFrame:
    """A frame that does not belong."""

    frame: int
    kind: WrongKind


class Recorded:
    """A video model that makes the recorded frames, without their depth."""

    name = "recorded"
    num_references = 0
    reads_prompt = False
    control_style: ControlStyle = "surface"

    def __init__(self, case: MemoryCase) -> None:
        """Play the frames of a walk."""
        self.credits: dict[str, str] = {}
        self._case = case
        self._frames = 0

    def clip_size(self, width_px: int, height_px: int) -> ClipSize:
        """Return the size of the recording."""
        return ClipSize(max(len(r) for r in self._case.rounds), width_px, height_px)

    def rest(self) -> None:
        """Nothing is held on a device."""

    def generate(self, request: ClipRequest) -> Clip:
        """Return the frames that were recorded at the cameras of the request."""
        index = [_recorded_at(self._case.cameras, request.cameras[i]) for i in range(len(request.cameras))]
        return Clip(self._case.images[index], None)


class DisturbedTruth:
    """An estimator that knows the truth up to scale, shift and noise, other ones for every frame."""

    name = "disturbed truth"

    def __init__(self, case: MemoryCase, disturbance: Disturbance, wrong: WrongFrame | None = None) -> None:
        """Know a walk.

        Args:
            case: The walk.
            disturbance: What is wrong with every estimate.
            wrong: What is wholly wrong with one.
        """
        self._case, self._disturbance, self._wrong = case, disturbance, wrong

    def estimate(self, image: Float[Tensor, "3 h w"], focal_px: float | None) -> DepthEstimate:
        """Return the disturbed depth of a recorded picture."""
        i = int((self._case.images - image).abs().mean((1, 2, 3)).argmin())
        generator = torch.Generator().manual_seed(i)
        depth, known = self._case.depth_m[i], self._case.depth_m[i] > 0
        d = self._disturbance
        a, b = (2 * torch.rand(2, generator=generator) - 1).tolist()
        inverse = torch.where(known, 1 / depth.clamp_min(1e-6), 1.0)
        middle = float(inverse[known].median())
        inverse = (1 + d.scale) ** a * inverse + b * d.shift * middle
        estimate = 1 / inverse.clamp_min(0.05 * middle)
        coarse = torch.randn(1, 1, 4, 4, generator=generator)
        waves = torch.nn.functional.interpolate(coarse, depth.shape, mode="bicubic", align_corners=True)[0, 0]
        estimate = estimate * (1 + d.waves * waves + d.noise * torch.randn(depth.shape, generator=generator))
        if self._wrong is not None and self._wrong.frame == i:
            estimate = _spoiled(estimate, self._wrong.kind, generator)
        return DepthEstimate(torch.where(known, estimate, 0.0), known, ~known & False, None, False)


def _spoiled(depth_m: Float[Tensor, "h w"], kind: WrongKind, generator: torch.Generator) -> Tensor:
    match kind:
        case "scaled":
            return 1.3 * depth_m
        case "shifted" | "moved":
            return depth_m.roll(depth_m.shape[1] // 4, 1)
        case "noise":
            return depth_m.median() * torch.exp(0.5 * torch.randn(depth_m.shape, generator=generator))
        case "picture":
            return depth_m
        case "zoomed":
            return _enlarged(depth_m[None], nearest=True)[0]


def with_wrong_picture(case: MemoryCase, wrong: WrongFrame) -> MemoryCase:
    """Return the walk with the picture that a wrong frame has; its depth is left to the estimator."""
    images, frame = case.images.clone(), wrong.frame
    match wrong.kind:
        case "picture":
            images[frame] = torch.rand(images[frame].shape, generator=torch.Generator().manual_seed(frame))
        case "moved":
            images[frame] = images[frame].roll(images.shape[3] // 4, 2)
        case "zoomed":
            images[frame] = _enlarged(images[frame], nearest=False)
        case "scaled" | "shifted" | "noise":
            pass
    return replace(case, images=images)


def _enlarged(image: Float[Tensor, "c h w"], *, nearest: bool) -> Float[Tensor, "c h w"]:
    """Return the middle of an image, 1.3 times as large."""
    height, width = image.shape[1:]
    large = crop_resize(image[None], round(1.3 * width), round(1.3 * height), nearest=nearest)[0]
    top, left = (large.shape[1] - height) // 2, (large.shape[2] - width) // 2
    return large[:, top : top + height, left : left + width]


def _recorded_at(cameras: Cameras, wanted: Cameras) -> int:
    return int((cameras.world_from_camera - wanted.world_from_camera).abs().amax((1, 2)).argmin())

"""What every frame backend takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.correspondence import Correspondence
from worldstereo_cli.geometry.seen import SeenViews

ControlStyle = Literal["surface", "points"]
"""How the cloud is drawn for a backend: its front surface, closed; or soft points over mid grey, through
whose gaps what lies behind shines, as the released models were trained."""


@dataclass(frozen=True, slots=True)
class ClipSize:
    """How many frames of which size a backend makes for one path."""

    num_frames: int
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class References:
    """Past views that a backend may look at, each placed beside one target frame."""

    images: Float[Tensor, "r 3 h w"]
    cameras: Cameras
    target_index: Int[Tensor, r]
    """The target frame that each reference sits beside, 1 .. num_frames - 1."""
    correspondence: Correspondence | None = None
    """Where every frame of the clip lies in each reference, by squares of 16 pixels."""


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """One clip to make: the cloud's rendering along a path, which the backend completes."""

    cameras: Cameras
    """The sampled cameras, n of them, of the backend's size."""
    control: Float[Tensor, "n 3 h w"]
    """The cloud as these cameras see it, in the backend's control style, sRGB in [0, 1]; holes are 0.5."""
    control_depth_m: Float[Tensor, "n h w"]
    """Depth of that rendering, metres; 0 in holes."""
    hole: Bool[Tensor, "n h w"]
    """True where the cloud shows nothing."""
    first_frame: Float[Tensor, "3 h w"]
    """The picture at the first camera: the photo itself where the path begins at its camera."""
    seen: SeenViews
    """The photo and the frames of earlier paths, at the scene's own size: what a backend that knows
    depth must not put anything in front of."""
    prompt: str = ""
    seed: int = 0
    references: References | None = field(default=None)
    shell_m: float | None = None
    """Radius, about the world's origin, of the shell that carries sky; None without sky."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A finished clip."""

    frames: Float[Tensor, "n 3 h w"]
    """sRGB in [0, 1]."""
    depth_m: Float[Tensor, "n h w"] | None
    """Metres, 0 where unknown; None when the backend makes pictures only and depth is to be estimated."""


class VideoBackend(Protocol):
    """Turns renderings of the cloud into complete frames."""

    name: str
    """As it is called in recipes and recorded in scenes."""
    num_references: int
    """At most this many past views are looked at; 0 when the backend has no use for them."""
    reads_prompt: bool
    """Whether frames depend on the prompt; where they do not, another one makes nothing stale."""
    control_style: ControlStyle
    """How it wants the cloud drawn."""
    credits: dict[str, str]
    """Licence and revision of its weights, to be recorded in scenes; empty for a backend without any."""

    def clip_size(self, width_px: int, height_px: int) -> ClipSize:
        """Declare frame count and size for a scene whose photo has this size."""
        ...

    def generate(self, request: ClipRequest) -> Clip:
        """Make the frames.

        Raises:
            BackendError: Weights or a library are missing.
            OutOfMemory: The clip does not fit on the device.
        """
        ...

    def rest(self) -> None:
        """Let go of what is held on the device until the next clip, which loads it again."""
        ...

"""Frames without a model: what the cloud shows, and its surfaces continued into the holes.

The baseline that every model has to beat. Each invented surface is invented once: the frame that
shows most of the unknown is completed first, what it invents becomes surface in space, and the
other frames see that surface before their own remaining holes are filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.holes import continue_surfaces
from worldstereo_cli.geometry.lifting import lift_pixels
from worldstereo_cli.geometry.point_render import SurfaceStyle, render_surface
from worldstereo_cli.geometry.seen import SeenViews
from worldstereo_cli.models.video.patches import Layered, complete_texture
from worldstereo_cli.models.video.protocol import Clip, ClipRequest, ClipSize, ControlStyle

_LARGEST_HOLE_FRAC = 0.45
"""A frame with more unknown than this waits until its neighbours have been completed: there is too
little in it to continue from."""


@dataclass(slots=True)
class _Canvas:
    """The frames while they are being completed; the tensors change in place."""

    cameras: Cameras
    rgb: Float[Tensor, "n 3 h w"]
    depth_m: Float[Tensor, "n h w"]
    hole: Bool[Tensor, "n h w"]


class WarpBackend:
    """Hole filling in depth and colour; knows the depth of what it makes."""

    name = "warp"
    num_references = 0
    reads_prompt = False
    control_style: ControlStyle = "surface"

    def __init__(self, num_frames: int) -> None:
        """Complete `num_frames` frames on every path."""
        self.credits: dict[str, str] = {}
        self.num_frames = num_frames

    def clip_size(self, width_px: int, height_px: int) -> ClipSize:
        """Work at the photo's own size."""
        return ClipSize(self.num_frames, width_px, height_px)

    def rest(self) -> None:
        """Nothing is held between clips."""

    def generate(self, request: ClipRequest) -> Clip:
        """Complete the frames one after the other, each with what the ones before invented.

        A frame that shows nothing, not even of what others invented, has nothing to continue: it
        stays as it came, a hole without depth.
        """
        canvas = _Canvas(
            request.cameras.to("cpu"),
            request.control.cpu().clone(),
            request.control_depth_m.cpu().clone(),
            request.hole.cpu().clone(),
        )
        seen = SeenViews(request.seen.cameras.to("cpu"), request.seen.depth_m.cpu())
        invented: list[Cloud] = []
        for i in _order(canvas.hole):
            if invented and bool(canvas.hole[i].any()):
                _show(canvas, i, Cloud.joined(invented))
            if bool(canvas.hole[i].any()) and not bool(canvas.hole[i].all()):
                invented.append(_complete(canvas, i, seen, request))
                seen = seen.joined(SeenViews(canvas.cameras[i], canvas.depth_m[i, None]))
        device = request.control.device
        return Clip(canvas.rgb.to(device), canvas.depth_m.to(device))


def _order(hole: Bool[Tensor, "n h w"]) -> list[int]:
    """Order frames: most unknown first, but those that show too little last, the fullest of them first."""
    share = hole.float().mean((1, 2)).tolist()
    return sorted(
        range(len(share)),
        key=lambda i: (share[i] > _LARGEST_HOLE_FRAC, abs(share[i] - _LARGEST_HOLE_FRAC), i),
    )


def _complete(canvas: _Canvas, i: int, seen: SeenViews, request: ClipRequest) -> Cloud:
    """Fill one frame, and return what was invented as surface in space."""
    hole = canvas.hole[i].clone()
    continued = continue_surfaces(canvas.depth_m[i], canvas.rgb[i], canvas.cameras[i], seen, request.shell_m)
    layered = Layered(
        continued.rgb.permute(1, 2, 0).contiguous().numpy(),
        (1 / continued.depth_m).numpy(),
        hole.numpy(),
        continued.ended.numpy(),
    )
    canvas.rgb[i] = torch.from_numpy(complete_texture(layered, request.seed + i)).permute(2, 0, 1)
    kept = hole & continued.possible
    canvas.depth_m[i] = torch.where(hole & ~kept, 0.0, continued.depth_m)
    canvas.hole[i] = False
    points = lift_pixels(canvas.depth_m[i], canvas.cameras[i], kept)
    count = len(points)
    return Cloud(
        points,
        canvas.rgb[i][:, kept].T.contiguous(),
        torch.ones(count),
        torch.zeros(count, dtype=torch.int32),
        canvas.depth_m[i][kept] / canvas.cameras.intrinsics[i, 0, 0],
        torch.zeros(count, dtype=torch.bool),
    )


def _show(canvas: _Canvas, i: int, invented: Cloud) -> None:
    """Draw invented surface into the holes of another frame."""
    drawn = render_surface(invented, canvas.cameras[i], SurfaceStyle())
    new = canvas.hole[i] & ~drawn.hole[0]
    canvas.rgb[i][:, new] = drawn.rgb[0][:, new]
    canvas.depth_m[i][new] = drawn.depth_m[0][new]
    canvas.hole[i] &= ~new

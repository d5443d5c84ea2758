"""One round of `generate`: a path in; control pictures, completed frames and new surface out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.artifacts.references import ReferenceRecord
from worldstereo_cli.artifacts.scene import NamedPath, Round
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.images import crop_resize, crop_restore
from worldstereo_cli.geometry.point_render import PointRender, SurfaceStyle, render_surface
from worldstereo_cli.geometry.seen import SeenViews
from worldstereo_cli.memory.growth import FinishedFrames, Growth, grow
from worldstereo_cli.models.depth.protocol import DepthBackend
from worldstereo_cli.models.video.device import is_out_of_memory
from worldstereo_cli.models.video.protocol import Clip, ClipRequest, ClipSize, VideoBackend
from worldstereo_cli.stages.control_pictures import soft_control
from worldstereo_cli.stages.frame_depth import ClipPictures, FrameDepth, estimated_depth, given_depth
from worldstereo_cli.stages.references import Rule, choose_references
from worldstereo_cli.stages.world import World

_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class Makers:
    """What completes frames, and what estimates their depth when that does not."""

    video: VideoBackend
    make_depth: Callable[[], DepthBackend]
    """Called once a round, when the frame backend does not know the depth of what it makes."""
    prompt: str
    seed: int
    device: str
    overlap: Rule = "visible"
    """How past views are chosen for a backend that looks at them."""

    def with_room(self, work: Callable[[], _ResultT]) -> _ResultT:
        """Do something on the device; if there is no room beside the video model, in its place.

        A GPU of 24 GB holds the released video model or Depth Pro, not both.
        """
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Out here, because the error holds everything that was being worked with.
        self.video.rest()
        return work()


@dataclass(frozen=True, slots=True)
class MadeRound:
    """What a round leaves."""

    round: Round
    evidence_m: Float[Tensor, "n h w"]
    """How far each frame sees, metres; 0 where unknown. The round's depth, but for what the cloud hides."""
    growth: Growth
    """What it adds to the cloud and removes from it."""
    references: ReferenceRecord | None
    """The past views that the backend looked at; None when it looked at none."""
    numbers: dict[str, Any]
    """What happened, for `round.json`."""


def make_round(path: NamedPath, number: int, world: World, makers: Makers) -> MadeRound:
    """Fly one path.

    Args:
        path: The dense path.
        number: The round's number, from 1; the first round's new points carry 1.
        world: What earlier rounds left.
        makers: The backends.
    """
    width, height = world.photo.camera.width_px, world.photo.camera.height_px
    size = makers.video.clip_size(width, height)
    cameras = path.cameras[sampled(len(path.cameras), size.num_frames)].cropped_to(width, height)
    control = makers.with_room(lambda: render_control(world, cameras, makers.device))
    request = makers.with_room(lambda: _request(world, makers, cameras, control, size, number))
    chosen = choose_references(
        world, request.cameras, request.control_depth_m,
        limit=makers.video.num_references, rule=makers.overlap,
    )  # fmt: skip
    request = replace(request, references=chosen.references if chosen else None)
    pictures, given, reached = _at_full_size(makers.video.generate(request), control)
    at_photo = [_same_camera(cameras[i], world.photo.camera) for i in range(len(cameras))]
    whole = ClipPictures(cameras, pictures, reached, control, world.shell_m)
    if given is None:
        depth = makers.with_room(lambda: estimated_depth(whole, makers.make_depth, at_photo))
    else:
        depth = given_depth(whole, given)
    frames = torch.where((control.hole & reached)[:, None], pictures, control.rgb)
    known = ~control.hole | reached
    depth = replace(depth, depth_m=known * depth.depth_m, evidence_m=known * depth.evidence_m)
    growth = _grown(world, FinishedFrames(cameras, frames, depth.depth_m, control.hole), depth, number)
    dropped = tuple(depth.dropped)
    made = Round(path.name, cameras, control.rgb, control.hole, frames, depth.depth_m, dropped)
    numbers: dict[str, Any] = {
        "path": path.name,
        "backend": makers.video.name,
        "num_frames": len(cameras),
        "clip_size_px": [size.width_px, size.height_px],
        "references": list(chosen.record.names) if chosen else [],
        **_numbers(made, depth, growth),
    }
    return MadeRound(made, depth.evidence_m, growth, chosen.record if chosen else None, numbers)


def _numbers(made: Round, depth: FrameDepth, growth: Growth) -> dict[str, Any]:
    """Say what became of the frames of a round."""
    return {
        "hole_frac": _shares(made.hole),
        "unfilled_frac": _shares(made.hole & (made.depth_m == 0)),
        "added_points": growth.counts,
        "num_removed_points": len(growth.removed),
        "depth_alignment": depth.report,
        "dropped_frames": depth.dropped,
    }


def _grown(world: World, frames: FinishedFrames, depth: FrameDepth, number: int) -> Growth:
    """Let the cloud grow by the frames that do not contradict it."""
    good = [i for i in range(len(frames.cameras)) if i not in depth.dropped]
    kept = FinishedFrames(frames.cameras[good], frames.rgb[good], frames.depth_m[good], frames.hole[good])
    witnesses = SeenViews(depth.witness_cameras, depth.witness_m)
    growth = grow(world.cloud, kept, world.bank.seen, witnesses, round_index=number, shell_m=world.shell_m)
    counts = [0] * len(frames.cameras)
    for i, count in zip(good, growth.counts, strict=True):
        counts[i] = count
    return replace(growth, counts=counts)


def sampled(num_poses: int, num_frames: int) -> list[int]:
    """Choose frames evenly from a dense path, the first and the last included.

    A path with fewer poses than frames repeats some.
    """
    if num_frames == 1:
        return [0]
    return [round(i * (num_poses - 1) / (num_frames - 1)) for i in range(num_frames)]


def render_control(world: World, cameras: Cameras, device: str) -> PointRender:
    """Render the cloud along a path; at the photo's own camera the photo stands for itself."""
    drawn = render_surface(world.cloud.to(device), cameras.to(device), SurfaceStyle())
    rgb, depth, hole = drawn.rgb.cpu(), drawn.depth_m.cpu(), drawn.hole.cpu()
    for i in range(len(cameras)):
        if _same_camera(cameras[i], world.photo.camera):
            rgb[i], depth[i] = world.photo.image, world.photo.depth_m
            hole[i] = depth[i] <= 0
    return PointRender(rgb, depth, hole)


def _same_camera(a: Cameras, b: Cameras) -> bool:
    # A thousandth of a pixel, and a tenth of a millimetre in a scene of metres, move no pixel.
    same_pose = torch.allclose(a.world_from_camera, b.world_from_camera, atol=1e-4, rtol=0)
    return same_pose and torch.allclose(a.intrinsics, b.intrinsics, atol=1e-3, rtol=1e-6)


def _request(
    world: World, makers: Makers, cameras: Cameras, control: PointRender, size: ClipSize, number: int
) -> ClipRequest:
    """Bring the control pictures to the size that the backend declared, by a crop."""
    w, h = size.width_px, size.height_px
    small = cameras.cropped_to(w, h)
    if (w, h) == (cameras.width_px, cameras.height_px):
        rgb, depth, hole = control.rgb, control.depth_m, control.hole
    else:
        rgb = crop_resize(control.rgb, w, h)
        depth = crop_resize(control.depth_m[:, None], w, h, nearest=True)[:, 0]
        hole = crop_resize(control.hole[:, None].float(), w, h, nearest=True)[:, 0] > 0.5
    first_frame = rgb[0]
    if makers.video.control_style == "points":
        soft = soft_control(world.cloud, small, makers.device)
        rgb, depth, hole = soft.rgb, soft.depth_m, soft.hole
    return ClipRequest(
        small,
        rgb,
        depth,
        hole,
        first_frame,
        world.bank.seen,
        makers.prompt,
        # Every round draws its own noise, whichever rounds ran before it in this process.
        makers.seed * 1000 + number,
        shell_m=world.shell_m,
    )


def _at_full_size(
    clip: Clip, control: PointRender
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n h w"] | None, Bool[Tensor, "h w"]]:
    """Bring a clip back to the scene's size.

    Returns:
        Its pictures and its depth, with the cloud's rendering in the margins that a crop had cut away,
        and where the clip reaches. Holes in the margins stay holes, without depth.
    """
    frames, depth = clip.frames.cpu(), None if clip.depth_m is None else clip.depth_m.cpu()
    height, width = control.hole.shape[1:]
    if frames.shape[2:] == (height, width):
        return frames, depth, torch.ones(height, width, dtype=torch.bool)
    frames, covered = crop_restore(frames, width, height)
    frames = torch.where(covered, frames, control.rgb)
    if depth is not None:
        restored = crop_restore(depth[:, None], width, height, nearest=True)[0][:, 0]
        depth = torch.where(covered, restored, control.depth_m)
    return frames, depth, covered


def _shares(mask: Bool[Tensor, "n h w"]) -> list[float]:
    return [round(v, 5) for v in mask.float().mean((1, 2)).tolist()]

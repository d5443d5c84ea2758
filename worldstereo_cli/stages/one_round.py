"""One round of `generate`: a path in; control pictures, completed frames and new surface out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.artifacts.scene import NamedPath, Round
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.align import align_inverse_depth
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.images import crop_resize, crop_restore
from worldstereo_cli.geometry.point_render import PointRender, SurfaceStyle, render_surface
from worldstereo_cli.memory.bank import Bank
from worldstereo_cli.memory.growth import FinishedFrames, new_surface
from worldstereo_cli.memory.retrieval import (
    combined_features,
    frustum_scores,
    limited,
    picture_quality,
    retrieve,
)
from worldstereo_cli.models.depth.protocol import DepthBackend
from worldstereo_cli.models.video.protocol import Clip, ClipRequest, ClipSize, References, VideoBackend
from worldstereo_cli.stages.control_pictures import soft_control

_THUMBNAIL_PX = 4
"""Side of the pictures that tell references apart."""


@dataclass(frozen=True, slots=True)
class World:
    """All that is known before a round."""

    photo: View
    cloud: Cloud
    bank: Bank
    shell_m: float | None
    """Radius, about the world's origin, of the shell that carries sky; None without sky."""


@dataclass(frozen=True, slots=True)
class Makers:
    """What completes frames, and what estimates their depth when that does not."""

    video: VideoBackend
    make_depth: Callable[[], DepthBackend]
    """Called when the frame backend does not know the depth of what it makes."""
    prompt: str
    seed: int
    device: str


@dataclass(frozen=True, slots=True)
class MadeRound:
    """What a round leaves."""

    round: Round
    added: Cloud
    """The new points."""
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
    control = render_control(world, cameras, makers.device)
    clip = makers.video.generate(_request(world, makers, cameras, control, size, number))
    frames, depth = _composited(clip, control)
    alignments: list[dict[str, Any]] = []
    if clip.depth_m is None:
        depth, alignments = _estimated_depth(frames, control, cameras, world, makers)
    finished = FinishedFrames(cameras, frames, depth, control.hole)
    added, counts = new_surface(finished, world.bank.seen, round_index=number, shell_m=world.shell_m)
    numbers: dict[str, Any] = {
        "path": path.name,
        "backend": makers.video.name,
        "num_frames": len(cameras),
        "clip_size_px": [size.width_px, size.height_px],
        "hole_frac": _shares(control.hole),
        "unfilled_frac": _shares(control.hole & (depth == 0)),
        "added_points": counts,
        "depth_alignment": alignments,
    }
    made = Round(path.name, cameras, control.rgb, control.hole, frames, depth)
    return MadeRound(made, added, numbers)


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
        _references(world, small, makers.video.num_references),
        world.shell_m,
    )


def _references(world: World, targets: Cameras, limit: int) -> References | None:
    """Choose past views for a path by the frustum rule."""
    if limit == 0:
        return None
    bank = world.bank
    # As far as WorldStereo's later code looks: eight medians of the scene.
    known = world.photo.depth_m[world.photo.valid & ~world.photo.sky]
    far = max(8 * float(known.median()), 0.15) if len(known) else 10.0
    scores = frustum_scores(targets, bank.cameras, far)
    chosen = retrieve(scores)
    pictures = bank.images_u8[chosen.served_by].float() / 255
    thumbnails = torch.nn.functional.adaptive_avg_pool2d(pictures, _THUMBNAIL_PX).flatten(1)
    chosen = limited(
        chosen,
        scores,
        combined_features(bank.cameras[chosen.served_by], thumbnails),
        picture_quality(bank.images_u8[chosen.served_by]),
        limit,
    )
    images = bank.images_u8[chosen.bank_index].float() / 255
    return References(
        crop_resize(images, targets.width_px, targets.height_px),
        bank.cameras[chosen.bank_index].cropped_to(targets.width_px, targets.height_px),
        chosen.target_index,
    )


def _composited(clip: Clip, control: PointRender) -> tuple[Tensor, Tensor]:
    """Keep what the cloud covers at full size, and put the backend's frames into the holes only.

    Returns:
        Frames and depth. Pixels that neither covers (margins that a crop had cut away) stay as
        they are in the control pictures, without depth.
    """
    frames = clip.frames.cpu()
    depth = torch.zeros_like(control.depth_m) if clip.depth_m is None else clip.depth_m.cpu()
    height, width = control.hole.shape[1:]
    filled: Bool[Tensor, "n h w"] = control.hole
    if frames.shape[2:] != (height, width):
        frames, covered = crop_restore(frames, width, height)
        filled = control.hole & covered
        if clip.depth_m is not None:
            depth = crop_restore(depth[:, None], width, height, nearest=True)[0][:, 0]
    rgb = torch.where(filled[:, None], frames, control.rgb)
    return rgb, torch.where(filled, depth, control.depth_m)


def _estimated_depth(
    frames: Float[Tensor, "n 3 h w"], control: PointRender, cameras: Cameras, world: World, makers: Makers
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Estimate the depth of frames, aligned to the cloud; frames that do not fit it get none."""
    backend = makers.make_depth()
    depth = control.depth_m.clone()
    report: list[dict[str, Any]] = []
    for i in range(len(cameras)):
        if not bool(control.hole[i].any()):
            continue
        estimate = backend.estimate(frames[i], float(cameras.intrinsics[i, 0, 0]))
        overlap = ~control.hole[i] & estimate.valid & ~estimate.sky
        if world.shell_m is not None:
            overlap &= control.depth_m[i] < 0.9 * world.shell_m
        line = align_inverse_depth(estimate.depth_m, control.depth_m[i], overlap)
        report.append(
            {
                "frame": i,
                "slope": line.slope,
                "offset": line.offset,
                "support_frac": line.support_frac,
                "problem": line.problem,
            }
        )
        if line.holds:
            new = torch.where(estimate.valid, line.applied(estimate.depth_m), 0.0)
            if world.shell_m is not None:
                new = torch.where(estimate.sky, _shell_depth(cameras[i], world.shell_m), new)
            depth[i] = torch.where(control.hole[i], new, depth[i])
    return depth, report


def _shell_depth(camera: Cameras, shell_m: float) -> Float[Tensor, "h w"]:
    """Return the depth at which the rays of a camera meet the sky's shell about the world's origin."""
    rays = camera.rays()[0]
    rotation, centre = camera.world_from_camera[0, :3, :3], camera.centres[0]
    direction = rays @ rotation.T
    a, b = (direction**2).sum(-1), direction @ centre
    c = centre @ centre - shell_m**2
    root: Tensor = (b**2 - a * c).clamp_min(0).sqrt()
    return (root - b) / a


def _shares(mask: Bool[Tensor, "n h w"]) -> list[float]:
    return [round(v, 5) for v in mask.float().mean((1, 2)).tolist()]

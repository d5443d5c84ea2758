"""Depth of the frames of a clip: estimated, brought to the cloud's scale, and held against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.agreed_depth import agreed_depth
from worldstereo_cli.geometry.align import Alignment, Overlap, near_edge, trusted_overlap
from worldstereo_cli.geometry.align_clip import ClipEstimates, align_clip
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.clip_pictures import odd_pictures
from worldstereo_cli.geometry.far import shell_depth
from worldstereo_cli.geometry.pictures import continues_picture
from worldstereo_cli.geometry.point_render import PointRender
from worldstereo_cli.geometry.votes import VOTE_TOLERANCE
from worldstereo_cli.models.depth.protocol import DepthBackend, DepthEstimate

_AGREEMENT = 0.05
_MIN_AGREEING = 0.3
"""As for a line in inverse depth: two depths of one place agree within 5 % at least so often."""
_MIN_OVERLAP_FRAC = 0.05
"""A frame that shows less of the cloud cannot be held against it."""
_VOTER_AGREES = 0.9
"""Share of what a frame and the cloud both show that must agree before the frame may see through points.
Estimates that err by more than votes tolerate vote right surface away: 1.9 dB of earlier views were lost."""
_ONE_SHELL = 0.9
"""Depth beyond this share of the sky's shell is a convention, by which nothing is aligned."""


@dataclass(frozen=True, slots=True)
class ClipPictures:
    """A finished clip at the scene's own size, and what the cloud showed there."""

    cameras: Cameras
    frames: Float[Tensor, "n 3 h w"]
    """As the backend made them, wherever its clip reaches; the cloud's rendering in the margins."""
    reached: Bool[Tensor, "h w"]
    """Where the clip reaches."""
    control: PointRender
    shell_m: float | None
    """Radius of the sky's shell about the world's origin; None without sky."""


@dataclass(frozen=True, slots=True)
class FrameDepth:
    """Depth of a clip."""

    depth_m: Float[Tensor, "n h w"]
    """The cloud's where it shows something, the frame's own in the holes; 0 where none is trusted."""
    evidence_m: Float[Tensor, "n h w"]
    """As `depth_m`, but where a frame sees something well before what the cloud shows, that: the frame is
    no evidence of free space behind it."""
    witness_m: Float[Tensor, "w h w"]
    """What frames that agree with the cloud say by themselves, holes or not; 0 where unknown. May be of no
    frame at all."""
    witness_cameras: Cameras
    report: list[dict[str, Any]]
    """One entry for each frame that was looked at, for `round.json`."""
    dropped: list[int]
    """Frames that contradict the cloud, and take no part in what follows."""


def given_depth(clip: ClipPictures, depth_m: Float[Tensor, "n h w"]) -> FrameDepth:
    """Take the depth that a backend knows, of the frames whose depth goes on where the cloud's ends.

    Args:
        clip: The frames.
        depth_m: At the scene's size; the cloud's own where the backend's clip does not reach.

    Such frames cast no free-space votes. A backend that knows depth (`warp`) has it from the cloud: in
    its holes surfaces are continued so that they hide nothing seen, and everywhere else it repeats the
    cloud. Were it a witness, the cloud would confirm its own floaters, and a guess could remove a surface.
    """
    control, report, dropped = clip.control, [], []
    depth = torch.where(control.hole, depth_m, control.depth_m)
    for i in range(len(clip.cameras)):
        both = ~control.hole[i] & (depth_m[i] > 0)
        if float(both.float().mean()) < _MIN_OVERLAP_FRAC:
            continue
        apart = (depth_m[i] - control.depth_m[i]).abs()[both]
        agreeing = float((apart <= _AGREEMENT * control.depth_m[i][both]).float().mean())
        if agreeing < _MIN_AGREEING:
            problem = "its depth does not fit the cloud"
            report.append({"frame": i, "support_frac": round(agreeing, 5), "problem": problem})
            dropped.append(i)
            depth[i] = torch.where(control.hole[i], 0.0, control.depth_m[i])
    evidence = _evidence(depth, depth_m)
    return FrameDepth(depth, evidence, depth_m[:0], clip.cameras[[]], report, dropped)


def estimated_depth(
    clip: ClipPictures, make_backend: Callable[[], DepthBackend], known: list[bool]
) -> FrameDepth:
    """Estimate depth and align it to the cloud; frames that do not fit it get none.

    Args:
        clip: The frames.
        make_backend: Makes the estimator, if there is a frame to estimate. It is let go before the next
            clip, whose model may need the memory.
        known: Frames whose depth is known already, because they stand at the photo's own camera.
    """
    count = len(clip.cameras)
    wrong = [
        not known[i]
        and not continues_picture(clip.frames[i], clip.control.rgb[i], ~clip.control.hole[i] & clip.reached)
        for i in range(count)
    ]
    wanted = [i for i in range(count) if not known[i] and not wrong[i]]
    estimates = _estimates(clip, wanted, make_backend)
    lines = _lines(clip, estimates)
    own = {i: _own_word(estimates[i], line) for i, line in lines.items() if line.holds}
    odd = _odd(clip, own, known)
    good = [i for i in own if i not in odd]
    depth, witness = clip.control.depth_m.clone(), clip.control.depth_m[:0]
    if good:
        witness = agreed_depth(clip.cameras[good], torch.stack([own[i] for i in good]))
    evidence = depth.clone()
    for i, aligned in zip(good, witness, strict=True):
        hole = clip.control.hole[i]
        depth[i] = torch.where(hole, _with_sky(clip, i, estimates[i], aligned), depth[i])
        evidence[i] = _evidence(depth[i], aligned)
    unlike = "the picture does not show what the other frames show"
    report = [_described(i, replace(line, problem=unlike) if i in odd else line) for i, line in lines.items()]
    report += [
        {"frame": i, "problem": "the picture does not show what the cloud shows"}
        for i in range(count)
        if wrong[i]
    ]
    dropped = sorted(entry["frame"] for entry in report if entry["problem"])
    kept = [
        k for k, i in enumerate(good) if lines[i].borrowed_from is None and _may_vote(clip, i, witness[k])
    ]
    cameras = clip.cameras[[good[k] for k in kept]]
    report = sorted(report, key=lambda entry: entry["frame"])
    return FrameDepth(depth, evidence, witness[kept], cameras, report, dropped)


def _odd(clip: ClipPictures, own: dict[int, Float[Tensor, "h w"]], known: list[bool]) -> list[int]:
    """Return frames whose picture does not show what the others of the clip show of the same surface."""
    compared = [i for i in range(len(known)) if known[i] or i in own]
    if len(compared) < 2:
        return []
    depth = torch.stack([own[i] if i in own else clip.control.depth_m[i] for i in compared])
    hole_frac = clip.control.hole[compared].float().mean((1, 2)).tolist()
    sure = [known[i] for i in compared]
    odd = odd_pictures(clip.cameras[compared], clip.frames[compared], depth, hole_frac, sure)
    return [compared[k] for k in odd]


def _may_vote(clip: ClipPictures, i: int, own_m: Float[Tensor, "h w"]) -> bool:
    """Tell whether a frame sees what the cloud shows so nearly alike that it may contradict it elsewhere."""
    both = ~clip.control.hole[i] & (own_m > 0)
    if float(both.float().mean()) < _MIN_OVERLAP_FRAC:
        return False
    reference = clip.control.depth_m[i][both]
    alike = (own_m[both] - reference).abs() <= VOTE_TOLERANCE * reference
    return float(alike.float().mean()) >= _VOTER_AGREES


def _evidence(depth_m: Float[Tensor, "*n"], own_m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return how far frames see: up to the cloud, unless they see something well before it."""
    return torch.where((own_m > 0) & (own_m < (1 - VOTE_TOLERANCE) * depth_m), own_m, depth_m)


def _estimates(
    clip: ClipPictures, wanted: list[int], make_backend: Callable[[], DepthBackend]
) -> dict[int, DepthEstimate]:
    if not wanted:
        return {}
    backend = make_backend()
    return {i: backend.estimate(clip.frames[i], float(clip.cameras.intrinsics[i, 0, 0])) for i in wanted}


def _lines(clip: ClipPictures, estimates: dict[int, DepthEstimate]) -> dict[int, Alignment]:
    """Align every frame to the cloud, and all of them to each other."""
    lines: dict[int, Alignment] = {}
    trusted: dict[int, Bool[Tensor, "h w"]] = {}
    smooth: dict[int, Float[Tensor, "h w"]] = {}
    for i, estimate in estimates.items():
        overlap = _trusted(clip, i, estimate)
        if overlap.contradicts:
            # Neither its own line nor a borrowed one can be right.
            lines[i] = Alignment(0.0, 0.0, int(overlap.trusted.sum()), 0.0, overlap.problem)
            continue
        trusted[i] = overlap.trusted if not overlap.problem else overlap.trusted & False
        surface = estimate.valid & ~estimate.sky & (estimate.depth_m > 0)
        smooth[i] = torch.where(surface & ~near_edge(estimate.depth_m, surface), estimate.depth_m, 0.0)
    index = list(trusted)
    if index:
        maps, masks = torch.stack(list(smooth.values())), torch.stack(list(trusted.values()))
        together = ClipEstimates(clip.cameras[index], maps, clip.control.depth_m[index], masks)
        lines |= dict(zip(index, align_clip(together), strict=True))
    return lines


def _trusted(clip: ClipPictures, i: int, estimate: DepthEstimate) -> Overlap:
    """Return where a frame and the cloud show the same surface."""
    reference = clip.control.depth_m[i]
    both = ~clip.control.hole[i] & estimate.valid & ~estimate.sky
    if clip.shell_m is not None:
        both &= reference < _ONE_SHELL * clip.shell_m
    return trusted_overlap(estimate.depth_m, reference, both)


def _own_word(estimate: DepthEstimate, line: Alignment) -> Float[Tensor, "h w"]:
    """Return what a frame says by itself; where its estimator sees sky, there may be anything."""
    return torch.where(estimate.valid & ~estimate.sky, line.applied(estimate.depth_m), 0.0)


def _with_sky(
    clip: ClipPictures, i: int, estimate: DepthEstimate, depth_m: Float[Tensor, "h w"]
) -> Float[Tensor, "h w"]:
    """Put what an estimator takes for sky on the shell, if the scene has one around this camera."""
    if clip.shell_m is None or float(clip.cameras.centres[i].norm()) >= clip.shell_m:
        return depth_m
    return torch.where(estimate.sky, shell_depth(clip.cameras[i], clip.shell_m), depth_m)


def _described(i: int, line: Alignment) -> dict[str, Any]:
    return {
        "frame": i,
        "slope": line.slope,
        "offset": line.offset,
        "support_frac": line.support_frac,
        "borrowed_from": line.borrowed_from,
        "problem": line.problem,
    }

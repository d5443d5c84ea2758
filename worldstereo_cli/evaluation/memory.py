"""How true the growing memory stays: recorded frames stand in for a perfect video model."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from worldstereo_cli.artifacts.manifest import Manifest
from worldstereo_cli.artifacts.scene import Lift, NamedPath
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.evaluation.memory_cases import MemoryCase
from worldstereo_cli.evaluation.recorded import (
    WRONG_KINDS,
    Disturbance,
    DisturbedTruth,
    Recorded,
    WrongFrame,
    with_wrong_picture,
)
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.lifting import lift_pixels
from worldstereo_cli.geometry.point_render import SurfaceStyle, render_surface
from worldstereo_cli.models.depth.protocol import DepthBackend
from worldstereo_cli.progress import Progress, silent
from worldstereo_cli.stages.one_round import MadeRound, Makers, make_round
from worldstereo_cli.stages.world import DoneRound, World, after_round, as_u8, first_world

THRESHOLD_M = 0.05


@dataclass(frozen=True, slots=True)
class RoundScore:
    """The cloud after a round."""

    f_score: float
    """Against what the frames so far have seen."""
    added_error_m: float
    """Median distance of the round's own points from the truth; their drift over the rounds."""
    num_points: int
    num_removed: int
    num_dropped: int
    """Frames that were found to contradict the cloud."""
    seconds: float


@dataclass(frozen=True, slots=True)
class MemoryScore:
    """A walk that was remembered round by round."""

    precision: float
    recall: float
    f_score: float
    fused_f_score: float
    """Of all frames lifted with their true depth."""
    rerender_loss_db: float
    """What the views of the first round lose when they are drawn from the last cloud, not the first: mean."""
    worst_rerender_loss_db: float
    """Of the view that loses most."""
    rounds: list[RoundScore] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WrongFrameScore:
    """What one wrong frame among good ones does to the cloud."""

    kind: str
    place: str
    """Where in its round it stands: `middle`, or `last`, where it has the least to be held against."""
    f_score: float
    f_score_without: float
    """When that frame is left out of the walk."""
    was_dropped: bool


def score_wrong_frames(case: MemoryCase, num_rounds: int = 3) -> list[WrongFrameScore]:
    """Put one wrong frame into the second round of a walk, once for each way to be wrong and each place."""
    short = case.shortened(num_rounds)
    seen = fused_points(case, [0, *(i for frames in short.rounds for i in frames)])
    last = len(short.rounds[1]) - 1

    def grown(walk: MemoryCase, wrong: WrongFrame | None) -> tuple[float, list[int]]:
        history = grow_by_rounds(walk, DisturbedTruth(walk, Disturbance(), wrong))
        return f_score(history[-1][0].cloud.points, seen)[2], history[1][1].numbers["dropped_frames"]

    scores = []
    for name, place in (("middle", (last + 1) // 2), ("last", last)):
        frame = short.rounds[1][place]
        without, _ = grown(short.without(frame), None)
        for kind in WRONG_KINDS:
            wrong = WrongFrame(frame, kind)
            f, dropped = grown(with_wrong_picture(short, wrong), wrong)
            scores.append(WrongFrameScore(kind, name, f, without, place in dropped))
    return scores


def recorded_world(case: MemoryCase) -> World:
    """Return what is known of a walk before its first round: the first frame with its true depth."""
    depth, camera = case.depth_m[0], case.cameras[0]
    known = depth > 0
    view = View(case.images[0], depth, known, torch.zeros_like(known), camera)
    return first_world(Lift([view], _lifted(case, 0), Manifest(Lift.kind, {}, 0)))


def grow_by_rounds(
    case: MemoryCase,
    depth: DepthBackend,
    progress: Progress = silent,
) -> list[tuple[World, MadeRound, float]]:
    """Let a cloud grow by the recorded frames, exactly as `generate` does by made ones.

    Returns:
        After every round: the world, the round, and its seconds.
    """
    world, history = recorded_world(case), []
    for number, frames in enumerate(case.rounds, start=1):
        progress(number - 1, len(case.rounds), f"{case.name}, round {number}")
        began = time.perf_counter()
        path = NamedPath(f"round{number}", case.cameras[frames])
        makers = Makers(Recorded(case), lambda: depth, "", 0, "cpu")
        made = make_round(path, number, world, makers)
        done = DoneRound(
            f"{number:02d}",
            made.round.cameras,
            as_u8(made.round.frames),
            made.evidence_m,
            made.growth.added,
            made.growth.removed,
            made.numbers["dropped_frames"],
        )
        world = after_round(world, done)
        history.append((world, made, time.perf_counter() - began))
    progress(len(case.rounds), len(case.rounds), case.name)
    return history


def score_memory(case: MemoryCase, depth: DepthBackend, progress: Progress = silent) -> MemoryScore:
    """Grow a cloud along a walk and compare it with the truth.

    Args:
        case: The walk.
        depth: Estimates the depth of its frames, as `DisturbedTruth` or a model does.
        progress: Told after every round.
    """
    history = grow_by_rounds(case, depth, progress)
    truth, rounds, so_far = cKDTree(case.truth.numpy()), [], [0]
    for (world, made, seconds), frames in zip(history, case.rounds, strict=True):
        so_far = [*so_far, *frames]
        added = made.growth.added.points
        error = float(np.median(truth.query(added.numpy())[0])) if len(added) else 0.0
        seen = fused_points(case, so_far)
        rounds.append(
            RoundScore(
                f_score(world.cloud.points, seen)[2],
                error,
                len(world.cloud),
                len(made.growth.removed),
                len(made.numbers["dropped_frames"]),
                seconds,
            )
        )
    last = history[-1][0].cloud
    losses = _rerender_losses(case, history[0][0].cloud, last)
    precision, recall, f = f_score(last.points, case.truth)
    return MemoryScore(
        precision,
        recall,
        f,
        f_score(fused_points(case, so_far), case.truth)[2],
        fmean(losses),
        max(losses),
        rounds,
    )


def f_score(
    points: Float[Tensor, "p 3"], truth: Float[Tensor, "q 3"], threshold_m: float = THRESHOLD_M
) -> tuple[float, float, float]:
    """Return precision, recall and their harmonic mean at a distance, of clouds of equal density.

    Both are thinned to one point for each cube of half the threshold, so that density buys nothing.

    Source: Knapitsch et al., Tanks and Temples, 2017.
    """
    a, b = (_thin(p, threshold_m / 2) for p in (points, truth))
    precision = float((cKDTree(b).query(a, workers=-1)[0] < threshold_m).mean())
    recall = float((cKDTree(a).query(b, workers=-1)[0] < threshold_m).mean())
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def fused_points(case: MemoryCase, frames: list[int]) -> Float[Tensor, "p 3"]:
    """Lift frames with their true depth: what a memory without any loss would hold."""
    return torch.cat([_lifted(case, i).points for i in frames])


def _lifted(case: MemoryCase, i: int) -> Cloud:
    depth, camera = case.depth_m[i], case.cameras[i]
    known = depth > 0
    points = lift_pixels(depth, camera, known)
    count = len(points)
    return Cloud(
        points,
        case.images[i][:, known].T.contiguous(),
        torch.ones(count),
        torch.zeros(count, dtype=torch.int32),
        depth[known] / camera.intrinsics[0, 0, 0],
        torch.zeros(count, dtype=torch.bool),
    )


def _rerender_losses(case: MemoryCase, first: Cloud, last: Cloud) -> list[float]:
    """Draw the photo's view and the first round's from two clouds; return what the later loses, dB."""
    cameras = case.cameras[[0, *case.rounds[0]]]
    images = case.images[[0, *case.rounds[0]]]
    before, after = (render_surface(cloud, cameras, SurfaceStyle()) for cloud in (first, last))
    losses = []
    for i in range(len(cameras)):
        shown = ~before.hole[i]
        a, b = (float(((r.rgb[i] - images[i]) ** 2).mean(0)[shown].mean()) for r in (before, after))
        losses.append(10 * float(np.log10(max(b, 1e-10) / max(a, 1e-10))))
    return losses


def _thin(points: Float[Tensor, "p 3"], side_m: float) -> np.ndarray:
    array = points.numpy().astype(np.float64)
    _, first = np.unique(np.floor(array / side_m).astype(np.int64), axis=0, return_index=True)
    return array[first]

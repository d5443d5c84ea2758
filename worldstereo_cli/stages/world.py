"""What is known of a scene between rounds: the photo, the cloud and the bank of past views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldstereo_cli.artifacts.scene import Lift
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.seen import observed_depth
from worldstereo_cli.memory.bank import Bank, kept_frames
from worldstereo_cli.memory.growth import changed


@dataclass(frozen=True, slots=True)
class World:
    """All that is known before a round."""

    photo: View
    cloud: Cloud
    bank: Bank
    shell_m: float | None
    """Radius, about the world's origin, of the shell that carries sky; None without sky."""


@dataclass(frozen=True, slots=True)
class DoneRound:
    """What a finished round tells the rounds after it."""

    name: str
    """Of its directory; the bank names views after it."""
    cameras: Cameras
    frames_u8: UInt8[Tensor, "n 3 h w"]
    evidence_m: Float[Tensor, "n h w"]
    """How far each frame sees, metres; 0 where unknown."""
    added: Cloud
    removed: Int[Tensor, r]
    """Ascending indices into the cloud before the round."""
    dropped: Sequence[int]
    """Frames that contradict the cloud; they do not enter the bank."""


def first_world(lift: Lift) -> World:
    """Return what is known before the first round: the photo, its cloud and its evidence."""
    photo = lift.views[0]
    sky = lift.cloud.points[lift.cloud.sky]
    shell = float(sky.norm(dim=-1).min()) if len(sky) else None
    return World(photo, lift.cloud, photo_bank(photo), shell)


def photo_bank(photo: View) -> Bank:
    """Return the bank that holds the photo alone."""
    evidence = observed_depth(photo.depth_m, photo.valid | photo.sky)
    return Bank(("photo",), photo.camera, as_u8(photo.image)[None], evidence[None])


def after_round(world: World, done: DoneRound) -> World:
    """Return the world with what a round has shown."""
    cloud = changed(world.cloud, done.added, done.removed)
    return replace(world, cloud=cloud, bank=with_round(world.bank, done))


def with_round(bank: Bank, done: DoneRound) -> Bank:
    """Return a bank with the kept frames of a round behind its own."""
    kept = [i for i in kept_frames(len(done.cameras)) if i not in done.dropped]
    if not kept:
        return bank
    names = tuple(f"{done.name}/{i:04d}" for i in kept)
    return bank.joined(Bank(names, done.cameras[kept], done.frames_u8[kept], done.evidence_m[kept]))


def as_u8(image: Float[Tensor, "*n"]) -> UInt8[Tensor, "*n"]:
    """Round colours in [0, 1] to the 256 values that pictures on disk have."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)

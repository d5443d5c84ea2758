"""Rounds and the bank of past views, read back from disk to the bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from worldstereo_cli.artifacts.cameras import read_cameras, read_json
from worldstereo_cli.artifacts.cloud import read_cloud, read_removed
from worldstereo_cli.artifacts.images import read_depth, read_image
from worldstereo_cli.artifacts.scene import Generation, Lift
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.memory.bank import Bank
from worldstereo_cli.stages.world import DoneRound, as_u8, photo_bank, with_round


def read_done(root: Path) -> DoneRound:
    """Read a finished round, always as it lies on disk.

    A run that resumes and one that was never interrupted thus see the same bits.

    Raises:
        ArtifactError: It is damaged.
    """
    cameras = read_cameras(root / "cameras.json")
    files = [f"{i:04d}" for i in range(len(cameras))]
    # Only frames that see something before the cloud's surface have evidence apart from their depth.
    evidence = root / ("evidence" if (root / "evidence").is_dir() else "depth")
    return DoneRound(
        root.name,
        cameras,
        torch.stack([as_u8(read_image(root / "frames" / f"{name}.png")) for name in files]),
        torch.stack([read_depth(evidence / f"{name}.npy") for name in files]),
        read_cloud(root / "added.ply"),
        read_removed(root / "removed.npy"),
        [int(i) for i in read_json(root / "round.json").get("dropped_frames", [])],
    )


def read_bank(lift_dir: Path, generate_dir: Path) -> Bank:
    """Read the bank of a finished scene: the photo from its lift, the frames from their rounds.

    Raises:
        ArtifactError: Something is missing, or not what the bank was when it was recorded.
    """
    bank = photo_bank(Lift.read(lift_dir).views[0])
    for root in Generation.read(generate_dir).round_dirs:
        bank = with_round(bank, read_done(root))
    if read_json(generate_dir / "memory.json").get("digest") != bank_digest(bank):
        raise ArtifactError(
            f"The views below {generate_dir} are not those that its memory.json records.",
            remedy="Run generate again with --force.",
        )
    return bank


def describe_bank(bank: Bank) -> dict[str, object]:
    """Describe a bank for `memory.json`; pictures and depth lie under the names of its views."""
    views = [
        {
            "name": bank.names[i],
            "world_from_camera": bank.cameras.world_from_camera[i].tolist(),
            "intrinsics": bank.cameras.intrinsics[i].tolist(),
            "known_depth_frac": round(float((bank.depth_m[i] > 0).float().mean()), 5),
        }
        for i in range(len(bank))
    ]
    return {"views": views, "digest": bank_digest(bank)}


def bank_digest(bank: Bank) -> str:
    """Return a SHA-256 of every bit of a bank, in hexadecimal."""
    digest = hashlib.sha256("\n".join(bank.names).encode())
    for tensor in (bank.cameras.world_from_camera, bank.cameras.intrinsics, bank.images_u8, bank.depth_m):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()

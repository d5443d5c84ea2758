"""Whole runs in processes of their own, which start warm: a server forks them with all libraries loaded."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numba.core.config

# Loaded by the server before it forks. None of these starts a thread when it is imported.
import worldstereo_cli.cli.running
import worldstereo_cli.models.depth.embedded
import worldstereo_cli.models.depth.prior
import worldstereo_cli.models.video.warp
import worldstereo_cli.splatting.rasterize.cpu
import worldstereo_cli.stages.generate_cameras_to_frames
import worldstereo_cli.stages.lift_image_to_cloud
import worldstereo_cli.stages.plan_cloud_to_cameras
import worldstereo_cli.stages.reconstruct_frames_to_splats
import worldstereo_cli.viewer.flythrough
import worldstereo_cli.viewer.page  # noqa: F401
from worldstereo_cli.cli.main import main

TINY = """
[lift]
depth = "prior"
long_side_px = 128
[plan]
trajectories = ["right", "left"]
num_poses = 9
[generate]
num_frames = 3
[reconstruct]
iterations = 4
frames_per_path = 2
[view]
flythrough_fps = 8
flythrough_seconds = 1
flythrough_long_side_px = 64
"""
"""Every stage does its work, in two seconds."""

_VARYING = {"seconds", "peak_memory_mb"}
"""What no two runs have in common."""


@dataclass(frozen=True)
class Limits:
    """What a process may have; None is as much as there is."""

    file_bytes: int | None = None
    """Of one file."""
    more_memory: int | None = None
    """Bytes of data, beyond what the loaded libraries take."""


def start(arguments: list[str], log: Path, limits: Limits = Limits()) -> BaseProcess:
    """Start one command; what it prints goes to a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(arguments, str(log), limits))
    process.start()
    return process


def finish(arguments: list[str], log: Path, limits: Limits = Limits()) -> int | None:
    """Run one command to its end and return its exit code."""
    process = start(arguments, log, limits)
    process.join()
    return process.exitcode


def _run(arguments: list[str], log: str, limits: Limits) -> None:
    # One thread, so that these runs are as good beside others; equal bits need equal counts of threads.
    # numba read its variables when the server loaded it, and refuses other ones once its threads run.
    os.environ.update(NUMBA_NUM_THREADS="1", OMP_NUM_THREADS="1")
    numba.core.config.reload_config()
    with Path(log).open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        _limit(limits)
        sys.argv = ["worldstereo", *arguments]
        main()


def _limit(limits: Limits) -> None:
    import resource

    if limits.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    if limits.more_memory is not None:
        status = Path("/proc/self/status").read_text().splitlines()
        data = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (data + limits.more_memory,) * 2)


def contents(scene: Path) -> dict[str, bytes | Any]:
    """Return all files of a scene by name: parsed JSON without times and memory, bytes of all others."""
    files = {path.relative_to(scene).as_posix(): path for path in scene.rglob("*") if path.is_file()}
    return {
        name: _without_times(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
        for name, path in files.items()
        if name != ".lock"
    }


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_times(entry) for key, entry in value.items() if key not in _VARYING}
        # Sizes of the JSON files that hold times vary by a digit.
        if "files" in kept:
            kept["files"] = {k: size for k, size in kept["files"].items() if not k.endswith(".json")}
        return kept
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value

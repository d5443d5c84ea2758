"""Whole runs as a user starts them: wall time, peak memory and the figures of the scene."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldstereo_cli.errors import BackendError


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One run."""

    photo: str
    recipe: str
    kernels: str
    """`cold` when the compiled kernels had to be built first, else `warm`."""
    wall_s: float
    peak_memory_mb: float
    stages_s: dict[str, float]
    metrics: dict[str, Any]


def bench_run(photo: Path, scene: Path, recipe: str, *, kernels: str) -> BenchRow:
    """Run `worldstereo run` as a process of its own and measure it.

    Args:
        photo: The photograph.
        scene: Where to put the scene; must not exist.
        recipe: The recipe's name.
        kernels: What is known of the compiled-kernel cache, for the row.

    Raises:
        BackendError: The run failed; its words are in the message.
    """
    command = [sys.executable, "-m", "worldstereo_cli", "run", str(photo), "--out", str(scene)]
    command += ["--recipe", recipe, "--quiet"]
    peak_file = scene.with_suffix(".peak")
    # A tiny parent measures its one child: ru_maxrss of children is the largest single process.
    wrapper = (
        "import resource, subprocess, sys, pathlib;"
        "code = subprocess.call(sys.argv[2:]);"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss;"
        "pathlib.Path(sys.argv[1]).write_text(str(peak));"
        "sys.exit(code)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", wrapper, str(peak_file), *command], capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - began
    if done.returncode != 0:
        raise BackendError(
            f"The run ended with {done.returncode}: {done.stderr.strip()[-300:]}", remedy=" ".join(command)
        )
    unit = 1 if platform.system() == "Darwin" else 1024
    peak_mb = int(peak_file.read_text()) * unit / 1e6
    peak_file.unlink()
    record = json.loads((scene / "scene.json").read_text(encoding="utf-8"))
    stages = {name: float(entry["seconds"]) for name, entry in record["stages"].items()}
    metrics = json.loads((scene / "reconstruct" / "metrics.json").read_text(encoding="utf-8"))
    return BenchRow(photo.name, recipe, kernels, wall, peak_mb, stages, metrics)


def machine() -> str:
    """Name the machine in one line: processor, cores, memory, Python."""
    import os

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu}, {cores} cores, Python {platform.python_version()}, {platform.system()}"

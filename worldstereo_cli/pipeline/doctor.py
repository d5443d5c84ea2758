"""Examines the machine: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from worldstereo_cli import __version__


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    required: bool = True
    remedy: str = ""


_DEFAULT_NEEDS_GB = 2.0
"""The default recipe's peak is 1.5 GB (recipes/README.md)."""

_LIBRARIES = (
    "torch", "numpy", "numba", "open3d", "pycolmap", "imageio", "viser", "diffusers", "transformers",
    "pi-heif",
)  # fmt: skip


def examine() -> list[Check]:
    """Look at Python, the libraries, ffmpeg, GPU, memory, disk and the shipped weights."""
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    checks = [
        Check("worldstereo", ok=True, found=__version__),
        Check("python", supported, platform.python_version(), remedy="Use Python 3.11, 3.12 or 3.13."),
    ]
    checks += [_library(name) for name in _LIBRARIES]
    checks += [_open3d(), _ffmpeg(), _depth_weights(), _released_weights(), _kernels()]
    checks += [_cores(), _gpu(), _gsplat(), _memory(), _disk()]
    return checks


def _library(name: str) -> Check:
    try:
        return Check(name, ok=True, found=metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, ok=False, found="not installed", remedy="pip install worldstereo")


def _open3d() -> Check:
    from worldstereo_cli.errors import BackendError
    from worldstereo_cli.viewer.open3d_import import import_open3d

    try:
        import_open3d()
    except BackendError as error:
        return Check("open3d loads", ok=False, found=error.problem, remedy=error.remedy)
    return Check("open3d loads", ok=True, found="yes")


def _ffmpeg() -> Check:
    import imageio_ffmpeg

    try:
        return Check("ffmpeg", ok=True, found=Path(imageio_ffmpeg.get_ffmpeg_exe()).name)
    except RuntimeError as error:
        return Check("ffmpeg", ok=False, found=str(error), remedy="pip install imageio-ffmpeg")


def _depth_weights() -> Check:
    from worldstereo_cli.models.fingerprint import depth_fingerprint

    found = depth_fingerprint("embedded", "")
    return Check(
        "depth weights",
        found is not None,
        "shipped with the package" if found else "missing",
        remedy="Install worldstereo again.",
    )


def _released_weights() -> Check:
    from worldstereo_cli.models.catalogue import list_weights

    statuses = list_weights()
    here = [status.release.name for status in statuses if status.folder is not None]
    return Check(
        "released models",
        ok=bool(here),
        found=", ".join(here) or f"none of {len(statuses)} here",
        required=False,
        remedy="worldstereo weights list  (only useful with an NVIDIA GPU)",
    )


def _kernels() -> Check:
    """See where compiled kernels are kept, and whether there are any yet."""
    from worldstereo_cli.geometry.jit import kept_in
    from worldstereo_cli.geometry.seen import hides_something

    place = kept_in(hides_something)
    count = sum(1 for _ in place.glob("*.nbc")) if place.is_dir() else 0
    state = f"{count} compiled" if count else "none yet, the first run takes a minute more"
    return Check("kernels", ok=True, found=f"{state}; kept in {place}", required=False)


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("processor", ok=True, found=f"{cores} cores for this process")


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("GPU", ok=False, found="none that CUDA can use: runs on the CPU", required=False)
    properties = torch.cuda.get_device_properties(0)
    return Check(
        "GPU", ok=True, found=f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB", required=False
    )


def _gsplat() -> Check:
    found = importlib.util.find_spec("gsplat") is not None
    return Check(
        "gsplat", found, metadata.version("gsplat") if found else "not installed",
        required=False, remedy="pip install 'worldstereo[cuda]'  (only useful with an NVIDIA GPU)",
    )  # fmt: skip


def _memory() -> Check:
    import psutil  # type: ignore[import-untyped]

    from worldstereo_cli.pipeline.trouble import memory_limit_mb

    total, free = psutil.virtual_memory().total / 1e9, memory_limit_mb() / 1000
    found = f"{total:.0f} GB, of which this process may take {free:.1f} GB"
    return Check("memory", free >= _DEFAULT_NEEDS_GB, found, required=False, remedy="Use --recipe preview.")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Check(
        "disk here", free >= 1, f"{free:.0f} GiB free", required=False, remedy="A scene needs about 0.3 GiB."
    )

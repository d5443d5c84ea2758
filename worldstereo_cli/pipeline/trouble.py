"""Memory and disk that run out, in words; and how much memory there is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from worldstereo_cli.errors import OutOfMemory, WorldStereoError, storage_error
from worldstereo_cli.pipeline.estimate import LIBRARIES_MB, Workload, estimate, setting_that_fits

_NO_MEMORY = (
    "not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "cannot allocate memory",
    "alloc_failed", "can't start new thread", "failed to map segment", "unable to mmap",
)  # fmt: skip
"""What libraries write when the system refuses memory, in lower case. Torch has no class for the host's;
threads and mapped libraries need memory, too."""

_RESERVED_MB = 200
"""What a run reserves and hardly touches (buffers of compressors, stacks of threads), and a limit counts."""

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@contextmanager
def trouble_in(stage: str, work: Callable[[], Workload], device: str, room_mb: float) -> Iterator[None]:
    """Translate what the system refuses while a stage works.

    Args:
        stage: Its name.
        work: Asked for the settings only when memory ran out.
        device: `cpu` or `cuda`.
        room_mb: `memory_limit_mb()` when the run began: later on, stages have left memory behind that they
            no longer use and that a new run has.

    Raises:
        OutOfMemory: Memory of the host or the GPU ran out; the remedy names a setting that fits.
        InputError: The disk is full, or refuses to be written.
    """
    try:
        yield
    except WorldStereoError as error:
        # Not enough memory to read a file may look like a damaged file.
        if isinstance(error, OutOfMemory) or error.__cause__ is None or not _is_memory(error.__cause__):
            raise
        raise _out_of_memory(stage, work(), room_mb, on_gpu=False) from error
    except OSError as error:
        told = storage_error(error, f"What {stage} made")
        if isinstance(told, OutOfMemory):
            raise _out_of_memory(stage, work(), room_mb, on_gpu=False) from error
        if told is None:
            raise
        raise told from error
    except Exception as error:  # Every library has its own class.
        if not _is_memory(error):
            raise
        on_gpu = device.startswith("cuda") and "cpu" not in str(error).lower()
        raise _out_of_memory(stage, work(), room_mb, on_gpu=on_gpu) from error


@contextmanager
def storage_words() -> Iterator[None]:
    """Put into words what the system refuses between the stages.

    Raises:
        InputError, OutOfMemory: As `storage_error` says.
    """
    try:
        yield
    except OSError as error:
        told = storage_error(error)
        if told is None:
            raise
        raise told from error


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return any(words in str(error).lower() for words in _NO_MEMORY)


def _out_of_memory(stage: str, work: Workload, room_mb: float, *, on_gpu: bool) -> OutOfMemory:
    if on_gpu:
        remedy = _gpu_remedy(stage, work)
        return OutOfMemory(f"{stage} ran out of GPU memory; what is finished is kept.", remedy=remedy)
    # It did not fit as it is, whatever was expected: no more than half of that, nor than there is.
    half = LIBRARIES_MB + 0.5 * (estimate(stage, work).memory_mb - LIBRARIES_MB)
    fitting = setting_that_fits(stage, work, min(half, room_mb))
    remedy = fitting or "Close other programs, or use a machine with more memory."
    return OutOfMemory(f"{stage} ran out of memory; what is finished is kept.", remedy=remedy)


def _gpu_remedy(stage: str, work: Workload) -> str:
    recipe = work.recipe
    if stage == "generate" and recipe.generate.backend != "warp" and recipe.generate.weights != "eight-bit":
        return "--set generate.weights=eight-bit"
    if stage == "reconstruct":
        return f"--set reconstruct.max_splats={recipe.reconstruct.max_splats // 2}"
    return "--device cpu"


def memory_limit_mb() -> float:
    """Return how much memory this process may hold, in 10^6 bytes: what is free, less any limit on it."""
    import psutil  # type: ignore[import-untyped]

    own = psutil.Process().memory_info()
    # Pages of libraries that it shares with others, or that the system has put away, do not count as its own.
    held = max(own.rss, round(LIBRARIES_MB * 1e6) if "torch" in sys.modules else 0)
    limits = [psutil.virtual_memory().available + own.rss]
    for path in _CGROUP_LIMITS:
        text = Path(path).read_text().strip() if Path(path).is_file() else "max"
        if text.isdigit():
            limits.append(int(text))
    if sys.platform != "win32":
        import resource

        # They count what is only reserved, too; what a process holds may grow by what they leave.
        used = {resource.RLIMIT_AS: own.vms, resource.RLIMIT_DATA: getattr(own, "data", own.vms)}
        for kind, taken in used.items():
            soft = resource.getrlimit(kind)[0]
            if soft != resource.RLIM_INFINITY:
                limits.append(held + max(0, soft - taken) - round(_RESERVED_MB * 1e6))
    return float(min(limits)) / 1e6


def peak_memory_mb() -> int | None:
    """Return the most memory that this process ever held, in 10^6 bytes; None where it cannot be told."""
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 1e6)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)

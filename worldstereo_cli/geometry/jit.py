"""Numba's compiler, typed, with the machine code kept on disk for the next process.

Kernels here keep IEEE arithmetic: fills must come out bit for bit alike on every run, and the
renderers are compared with golden numbers.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a function.

    Numba notices a change in the file of the compiled function, not in files it calls into:
    kernels that call each other live in one file.
    """
    return compiled(function)


def parallel_kernel(function: F) -> F:
    """Compile a function whose `numba.prange` loops run on all threads."""
    return compiled(function, parallel=True)


def compiled(function: F, **options: Any) -> F:  # noqa: ANN401  (numba's own options)
    """Compile a function, and keep the machine code where numba finds a place for it.

    That is beside its source or in the user's cache. Where neither can be written (a system-wide
    installation, a service without a home) it is a directory of ours for temporary files.

    Args:
        function: What to compile.
        options: Of `numba.njit`.
    """
    compile_it = numba.njit(cache=True, **({"error_model": "numpy"} | options))
    try:
        return cast(F, compile_it(function))
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
    numba.config.CACHE_DIR = str(_own_directory())
    return cast(F, compile_it(function))


def kept_in(kernel: Callable[..., Any]) -> Path:
    """Return the directory that keeps the machine code of a compiled function."""
    return Path(cast(Any, kernel).stats.cache_path)


def _own_directory() -> Path:
    """Return a directory that nobody else can write into: machine code is loaded from it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    place = Path(tempfile.gettempdir()) / f"worldstereo-kernels-{user}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
        is_ours = place.is_dir() and not place.is_symlink() and status.st_uid == user
    except OSError:
        is_ours = False
    return place if is_ours and not status.st_mode & 0o022 else Path(tempfile.mkdtemp(prefix="worldstereo-"))

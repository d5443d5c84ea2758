"""Numba's compiler with the settings that all kernels here share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from worldstereo_cli.geometry.jit import compiled

F = TypeVar("F", bound=Callable[..., Any])

# Everything of fast-math except the promise that NaN and infinity never occur.
_FAST_MATH = {"reassoc", "contract", "arcp", "nsz", "afn"}


def kernel(function: F) -> F:
    """Compile a function, and keep the machine code on disk for the next process.

    Numba notices a change in the file of the compiled function, not in files it calls into:
    kernels that call each other live in one file.
    """
    return compiled(function, fastmath=_FAST_MATH)


def parallel_kernel(function: F) -> F:
    """Compile a function whose `numba.prange` loops run on all threads."""
    return compiled(function, fastmath=_FAST_MATH, parallel=True)


def worker_count() -> int:
    """Return how many interleaved shares of the work keep all threads equally busy."""
    return 4 * int(numba.get_num_threads())

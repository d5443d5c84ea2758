"""Numba's compiler, typed, with the machine code kept on disk for the next process.

Kernels here keep IEEE arithmetic: fills must come out bit for bit alike on every run, and the
renderers are compared with golden numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a function.

    Numba notices a change in the file of the compiled function, not in files it calls into:
    kernels that call each other live in one file.
    """
    return cast(F, numba.njit(cache=True, error_model="numpy")(function))


def parallel_kernel(function: F) -> F:
    """Compile a function whose `numba.prange` loops run on all threads."""
    return cast(F, numba.njit(cache=True, error_model="numpy", parallel=True)(function))

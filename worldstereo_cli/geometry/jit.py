"""Numba's compiler, typed, with the machine code kept on disk for the next process.

Kernels here keep IEEE arithmetic: fills must come out bit for bit alike on every run, and the
renderers are compared with golden numbers.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import pickle
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

F = TypeVar("F", bound=Callable[..., Any])

_LOADING_BYTES = 16 << 20
"""The first kernel of a process takes 8 to 12 MiB, every other one up to 3."""
_COMPILING_BYTES = 128 << 20
"""Our largest kernel takes between 32 and 64 MiB, and the compiler itself as much again."""


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
    kernel = numba.njit(**({"error_model": "numpy"} | options))(function)
    try:
        kept = _Kept(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        numba.config.CACHE_DIR = str(_own_directory())
        kept = _Kept(function)
    # What `cache=True` does, whose cache cannot be chosen.
    kernel._cache = kept
    return cast(F, kernel)


class _Kept(FunctionCache):  # type: ignore[misc]  # numba has no types
    """The machine code of one function, on disk.

    LLVM has no answer to a system that refuses it memory but to end the process, so the system is asked
    beforehand: Python's exceptions come through.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _FilePerSignature(
            Path(self.cache_path), self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:  # noqa: ANN401  (numba's own)
        """Load the code of a signature; None where it has to be compiled.

        Raises:
            MemoryError: There is not enough for the loader, or for the compiler that is called next.
        """
        _require_memory(_LOADING_BYTES)
        found = super().load_overload(sig, target_context)
        if found is None:
            _require_memory(_COMPILING_BYTES)
        return found


def _require_memory(num_bytes: int) -> None:
    """Have the system say whether it would give memory, without touching any."""
    if sys.platform == "win32":
        return
    try:
        mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as error:
        raise MemoryError(f"Cannot allocate memory for machine code: {error}") from error


class _FilePerSignature:
    """Keeps the machine code of each signature of a function in a file of its own.

    Numba's own layout numbers the files, and an index tells which is which. Two processes that compile at
    once read the index before either has written it, and give two signatures one number: of 40 starts of
    six processes at once, 4 left a signature with the code of another, and 14 signatures were lost. A
    process that ends between index and file leaves a new index with old code. Here a file tells itself
    what it holds, and is put in its place by one rename.
    """

    def __init__(self, place: Path, base: str, stamp: Any) -> None:  # noqa: ANN401  (numba's own)
        self._place, self._base = place, base
        self._made_by = (numba.__version__, stamp)

    def save(self, key: tuple[Any, ...], data: Any) -> None:  # noqa: ANN401  (numba's own)
        """Keep the code of a signature; `key` also tells the processor and the function's bytecode."""
        path = self._path(key)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            with draft.open("xb") as stream:
                pickle.dump(self._made_by, stream)
                stream.write(dumps((key, data)))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def load(self, key: tuple[Any, ...]) -> Any:  # noqa: ANN401  (numba's own)
        """Return what was kept; None where that is nothing, or something else, or torn by a power cut."""
        try:
            with self._path(key).open("rb") as stream:
                # Of another numba, the rest may not be readable.
                if pickle.load(stream) != self._made_by:
                    return None
                known, data = pickle.load(stream)
        except (FileNotFoundError, EOFError, pickle.UnpicklingError):
            return None
        return data if known == key else None

    def _path(self, key: tuple[Any, ...]) -> Path:
        signature, processor, _bytecode = key
        name = hashlib.sha256(repr((signature, processor)).encode()).hexdigest()[:16]
        return self._place / f"{self._base}.{name}.nbc"


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

"""Numba's compiler, typed, with the machine code kept on disk for the next process.

Kernels here keep IEEE arithmetic: fills must come out bit for bit alike on every run, and the
renderers are compared with golden numbers.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.serialize import dumps

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
        kernel = compile_it(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        numba.config.CACHE_DIR = str(_own_directory())
        kernel = compile_it(function)
    # Numba has no way to choose how its files are laid out: these two are its own names.
    cache = kernel._cache
    cache._cache_file = _FilePerSignature(
        Path(cache.cache_path), cache._impl.filename_base, cache._impl.locator.get_source_stamp()
    )
    return cast(F, kernel)


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

"""What can go wrong in a way that a user can act on.

Every error says what is wrong and what to do about it. `cli.main` is the only place that
catches them; anything else that is raised is a bug of ours and keeps its traceback.
"""

import errno
from os import PathLike
from typing import ClassVar


class WorldStereoError(Exception):
    """A problem with a remedy."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes: the remedy has no place among an exception's usual arguments."""
        return _revived, (type(self), self.problem, self.remedy)


def _revived(kind: type[WorldStereoError], problem: str, remedy: str) -> WorldStereoError:
    return kind(problem, remedy=remedy)


class RecipeError(WorldStereoError):
    """A recipe, or an override of one, that cannot be used."""

    exit_code: ClassVar[int] = 3


class InputError(WorldStereoError):
    """A file or value from the user that cannot be used."""

    exit_code: ClassVar[int] = 4


class ArtifactError(WorldStereoError):
    """A scene directory that is missing, unfinished, damaged or of another kind."""

    exit_code: ClassVar[int] = 4


class BackendError(WorldStereoError):
    """A model, its weights or a library that is not there or does not work."""

    exit_code: ClassVar[int] = 5


class OutOfMemory(WorldStereoError):  # noqa: N818  (the field says "out of memory", not "error")
    """Host or GPU memory ran out."""

    exit_code: ClassVar[int] = 6


def is_interrupt(error: BaseException) -> bool:
    """Tell whether Ctrl-C, or a signal taken as one, is what an error comes from.

    A library's compiled code that is interrupted while it calls Python may raise an error of its
    own over the interrupt: numba a SystemError, "returned a result with an exception set".
    """
    seen: set[int] = set()
    origin: BaseException | None = error
    while origin is not None and id(origin) not in seen:
        if isinstance(origin, KeyboardInterrupt):
            return True
        seen.add(id(origin))
        origin = origin.__cause__ or origin.__context__
    return False


_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
_BROKEN = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.EISDIR, errno.ENOTDIR}


def storage_error(error: OSError, what: str = "A file") -> InputError | OutOfMemory | None:
    """Put an error of the operating system into words, where a user can act on it.

    Args:
        error: As it was raised.
        what: What was being written, for an error that names no file.

    Returns:
        None where the error is not about disk, permissions or memory; then it is a bug of ours.
    """
    # The library is numpy, which reports a short write without an error number.
    is_short_write = error.errno is None and "requested and" in str(error) and "written" in str(error)
    # Of a rename, the place that is in the way.
    named = error.filename2 or error.filename
    place = str(named) if isinstance(named, str | PathLike) else what
    if error.errno in _FULL or is_short_write:
        full = "the largest size of a file is reached" if error.errno == errno.EFBIG else "the disk is full"
        return InputError(
            f"{place} cannot be written: {full}.",
            remedy="Free some space, or choose another disk with --out; the same command then resumes.",
        )
    if error.errno in _FORBIDDEN:
        return InputError(
            f"{place} cannot be written: {error.strerror}.", remedy="Choose another place with --out."
        )
    if error.errno == errno.ENOMEM:
        return OutOfMemory("The system has no memory left.", remedy="Close other programs, and run again.")
    if error.errno in _BROKEN:
        return InputError(f"{place}: {error.strerror}.", remedy="Fix that, then run the same command again.")
    return None

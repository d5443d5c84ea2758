"""How long work speaks: a callback that the caller may draw, log or ignore."""

from typing import Protocol


class Progress(Protocol):
    """Called now and then by long work."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """Report that `done` of `total` steps of `what` are finished."""
        ...


def silent(done: int, total: int, what: str) -> None:
    """Ignore progress."""

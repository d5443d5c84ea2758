"""Signals that ask a process to end: all raise KeyboardInterrupt, where Python code can be left.

A signal may come while a compiler calls Python out of its own C code. An error raised there is
printed and lost, or comes out as another one, and half a kernel stays behind; so it waits until the
compiler is done. Where a signal cannot be sent again a little later (Windows), nothing waits.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""All that ask a process to end are cleaned up after as Ctrl-C is."""
_COMPILERS = {"numba", "llvmlite"}
_CAN_WAIT = hasattr(signal, "setitimer")
_WAIT_S = 0.02


@contextmanager
def heard_signals() -> Iterator[list[int]]:
    """Let signals that ask the process to end raise KeyboardInterrupt, so that drafts are cleared away.

    Raised once: while drafts are cleared away, only the same signal again raises again.

    Yields:
        A list that fills with the numbers of those that came.
    """
    ending = _Ending()
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    # What the caller ignores stays ignored: nohup does that.
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        number: ending.end for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    if _CAN_WAIT:
        handlers[signal.SIGALRM] = ending.try_again
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield ending.heard
    finally:
        if before and _CAN_WAIT:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class _Ending:
    """Raises for the signals that ask the process to end."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self._is_waiting = False

    def end(self, number: int, frame: FrameType | None) -> None:
        is_first, is_again = not self.heard, number in self.heard
        self.heard.append(number)
        if is_first and _CAN_WAIT and _is_compiling(frame):
            self._is_waiting = True
            signal.setitimer(signal.ITIMER_REAL, _WAIT_S)
        elif is_first or is_again:
            self._is_waiting = False
            raise KeyboardInterrupt

    def try_again(self, _number: int, frame: FrameType | None) -> None:
        if self._is_waiting and _is_compiling(frame):
            signal.setitimer(signal.ITIMER_REAL, _WAIT_S)
        elif self._is_waiting:
            self._is_waiting = False
            raise KeyboardInterrupt


def _is_compiling(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _COMPILERS:
            return True
        frame = frame.f_back
    return False

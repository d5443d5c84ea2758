"""Signals that ask a process to end: all raise KeyboardInterrupt, where Python code can be left.

A signal may come while a compiler calls Python out of its own C code. An error raised there is
printed and lost, or comes out as another one, and half a kernel stays behind; so it waits until the
compiler is done. Other C code that calls Python (a finalizer, a callback) loses errors, too; there the
interpreter tells of it, and the error is raised again a little later. Where nothing can be raised a
little later (Windows), nothing waits.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""All that ask a process to end are cleaned up after as Ctrl-C is."""
_COMPILERS = {"numba", "llvmlite"}
_CAN_WAIT = hasattr(signal, "setitimer")
_WAIT_S = 0.02


class Interrupted(KeyboardInterrupt):
    """Raised by a signal that asks the process to end.

    Of KeyboardInterrupt itself, and of nothing that is derived from it, CPython notes that it left a piece
    of code that was compiled from a string, as that of every dataclass is. It then ends the process by
    SIGINT, whatever exit code was asked for and whoever caught the error
    (`unhandled_keyboard_interrupt` in Python/pythonrun.c).
    """


def ignore_signals() -> None:
    """Ignore signals that ask the process to end: it is ending, and has told its exit code to nobody yet."""
    for name in _SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@contextmanager
def heard_signals() -> Iterator[Signals]:
    """Let signals that ask the process to end raise KeyboardInterrupt, so that drafts are cleared away.

    Raised once: while drafts are cleared away, only the same signal again raises again.

    Yields:
        What was heard.
    """
    signals = Signals()
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    # What the caller ignores stays ignored: nohup does that.
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        number: signals.end for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    if _CAN_WAIT:
        handlers[signal.SIGALRM] = signals.try_again
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    if before and _CAN_WAIT:
        sys.unraisablehook = signals.heard_of_loss
    try:
        yield signals
    finally:
        if before and _CAN_WAIT:
            sys.unraisablehook = signals.told_before
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class Signals:
    """Raises for the signals that ask the process to end."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        """Numbers of those that came."""
        self.told_before = sys.unraisablehook
        """Hears of other errors that are lost."""
        self._is_waiting = False
        self._is_over = False

    def stop(self) -> None:
        """Raise for none any more: what they could interrupt has ended."""
        self._is_over = True

    def end(self, number: int, frame: FrameType | None) -> None:
        """Raise for a signal, now or once the compiler is done."""
        if self._is_over:
            return
        is_first, is_again = not self.heard, number in self.heard
        self.heard.append(number)
        if is_first and _CAN_WAIT and _is_compiling(frame):
            self._is_waiting = True
            signal.setitimer(signal.ITIMER_REAL, _WAIT_S)
        elif is_first or is_again:
            self._is_waiting = False
            raise Interrupted

    def try_again(self, _number: int, frame: FrameType | None) -> None:
        """Raise for a signal that has waited, unless it has to wait longer."""
        if self._is_over:
            return
        if self._is_waiting and _is_compiling(frame):
            signal.setitimer(signal.ITIMER_REAL, _WAIT_S)
        elif self._is_waiting:
            self._is_waiting = False
            raise Interrupted

    def heard_of_loss(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raise again, a little later, what was raised where nobody could catch it."""
        if isinstance(unraisable.exc_value, Interrupted):
            self._is_waiting = True
            signal.setitimer(signal.ITIMER_REAL, _WAIT_S)
        else:
            self.told_before(unraisable)


def _is_compiling(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _COMPILERS:
            return True
        frame = frame.f_back
    return False

"""How a run looks in a terminal, and in a log without one. Everything here goes to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from worldstereo_cli.pipeline.report import StageReport

_LOG_EVERY_S = 5.0
"""Without a terminal, a line at most this often."""


class Console:
    """Shows stages and their progress: a bar in a terminal, plain lines elsewhere."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._stage = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.fields[stage]:<12}{task.description:<28}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage_started(self, name: str, reason: str) -> None:
        """Say that a stage begins."""
        self._stage = name
        self._last_line = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task("", total=None, stage=name)
        if self._verbose or self._bar is None:
            self.line(f"{name:<12}building: {reason}")

    def progress(self, done: int, total: int, what: str) -> None:
        """Report steps within the stage."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=what)
        elif self._bar is None and time.monotonic() - self._last_line > _LOG_EVERY_S:
            self._last_line = time.monotonic()
            self.line(f"{self._stage:<12}{what} {done}/{total}")

    def stage_ended(self, report: StageReport) -> None:
        """Say what became of a stage."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        took = "reused" if report.state == "reused" else f"{report.seconds:.1f} s"
        self.line(f"{report.name:<12}{took:>8}  {report.summary}".rstrip())

    def note(self, text: str) -> None:
        """Say something that concerns the whole run."""
        self.line(text)

    def line(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

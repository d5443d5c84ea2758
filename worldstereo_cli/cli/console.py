"""How a run looks in a terminal, and in a log without one. Everything here goes to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from worldstereo_cli.cli.time_left import TimeLeft, spoken
from worldstereo_cli.pipeline.reuse import NOT_MADE

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from worldstereo_cli.pipeline.report import StageReport

_LOG_EVERY_S = 5.0
"""Without a terminal, a line at most this often."""


class Console:
    """Shows stages and their progress: bars in a terminal, plain lines elsewhere."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.is_quiet = quiet
        self.is_verbose = verbose
        self.bars: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self.is_quiet:
            self.bars = _bars()
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            self.bars.stop()

    def scene(self, label: str = "") -> Lines:
        """Return what shows one scene; with a label, its lines are told from those of others."""
        return Lines(self, label)

    def line(self, text: str) -> None:
        """Print one line, above the bars if there are any."""
        if self.is_quiet:
            return
        if self.bars is not None:
            self.bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)


class Lines:
    """What is said about one scene."""

    def __init__(self, console: Console, label: str) -> None:
        self._console = console
        self._prefix = f"{label}: " if label else ""
        self._time_left = TimeLeft(time.monotonic)
        self._stage = ""
        self._task: TaskID | None = None
        self._last_line = 0.0
        self._is_muted = False

    def run_planned(self, stages: list[StageReport]) -> None:
        """Learn what will be done, for the time left; of many scenes, say little of one that is done."""
        self._is_muted = bool(self._prefix) and all(stage.expected is None for stage in stages)
        self._time_left.planned((s.name, s.expected.seconds) for s in stages if s.expected is not None)

    def stage_started(self, name: str, reason: str) -> None:
        """Say that a stage begins, and why."""
        self._stage = name
        self._last_line = time.monotonic()
        self._time_left.started(name)
        if self._console.bars is not None:
            self._task = self._console.bars.add_task(
                "", total=None, stage=f"{self._prefix}{name}", time_left=self._time_left
            )
        is_first = reason == NOT_MADE
        if self._console.is_verbose or self._console.bars is None or not is_first:
            self.note(f"{name:<12}building" + ("" if is_first else f": {reason}"))

    def progress(self, done: int, total: int, what: str) -> None:
        """Report steps within the stage."""
        self._time_left.progressed(done / total if total else 0.0)
        if self._console.bars is not None and self._task is not None:
            self._console.bars.update(self._task, completed=done, total=total, description=what)
        elif self._console.bars is None and time.monotonic() - self._last_line > _LOG_EVERY_S:
            self._last_line = time.monotonic()
            left = self._time_left.seconds()
            later = f", {_left_in_words(left)}" if left else ""
            self.note(f"{self._stage:<12}{what} {done}/{total}{later}")

    def stage_ended(self, report: StageReport) -> None:
        """Say what became of a stage."""
        self._time_left.ended(report.name, report.seconds)
        if self._console.bars is not None and self._task is not None:
            self._console.bars.remove_task(self._task)
            self._task = None
        if self._is_muted and not self._console.is_verbose:
            return
        took = "reused" if report.state == "reused" else f"{report.seconds:.1f} s"
        why = f"{report.reason}: " if report.state == "reused" else ""
        kept = f" ({report.rounds_kept} kept from before)" if report.rounds_kept else ""
        self.note(f"{report.name:<12}{took:>8}  {why}{report.summary}{kept}".rstrip())

    def note(self, text: str) -> None:
        """Say something that concerns the whole run."""
        self._console.line(f"{self._prefix}{text}")


def _left_in_words(seconds: float) -> str:
    return f"about {spoken(max(1.0, seconds))} left for the whole run"


def _bars() -> Progress:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class LeftColumn(ProgressColumn):
        """The time that the whole run still takes."""

        def render(self, task: Task) -> Text:
            """Ask anew each time: it runs down between two steps, too."""
            time_left = task.fields["time_left"]
            seconds = time_left.seconds()
            return Text(_left_in_words(seconds) if seconds else "", style="progress.remaining")

    return Progress(
        TextColumn("{task.fields[stage]:<12}{task.description:<26}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        LeftColumn(),
        console=RichConsole(stderr=True),
        transient=True,
    )

"""How long a run will still take: from what was expected of its stages, and from how they went."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_PACES = (0.2, 10.0)
"""However far off the first stage is, the rest is not taken to be further."""

_WORTH_COUNTING_S = 0.5
"""Shorter stages say nothing about the machine."""


@dataclass(slots=True)
class TimeLeft:
    """The expected seconds of a run's stages, corrected by the machine's pace."""

    clock: Callable[[], float]
    """Seconds of any origin."""
    _to_do: dict[str, float] = field(default_factory=dict)
    _expected_s: float = 0.0
    _taken_s: float = 0.0
    _stage: str = ""
    _began: float = 0.0
    _done_frac: float = 0.0

    def planned(self, stages: Iterable[tuple[str, float]]) -> None:
        """Say which stages will be built, and how many seconds each is expected to take."""
        self._to_do = dict(stages)

    def started(self, stage: str) -> None:
        """Say that a stage begins."""
        self._stage, self._began, self._done_frac = stage, self.clock(), 0.0

    def progressed(self, done_frac: float) -> None:
        """Say how much of what the stage does now is done."""
        self._done_frac = done_frac

    def ended(self, stage: str, seconds: float) -> None:
        """Say how long a stage took."""
        expected = self._to_do.pop(stage, 0.0)
        if min(expected, seconds) > _WORTH_COUNTING_S:
            self._expected_s += expected
            self._taken_s += seconds
        self._stage = ""

    def seconds(self) -> float | None:
        """Return the seconds that are left; None where nothing was expected."""
        if not self._to_do:
            return None
        slow, fast = _PACES
        pace = min(fast, max(slow, self._taken_s / self._expected_s)) if self._expected_s else 1.0
        later = sum(seconds for stage, seconds in self._to_do.items() if stage != self._stage)
        return pace * later + self._of_this_stage(pace)

    def _of_this_stage(self, pace: float) -> float:
        if not self._stage:
            return 0.0
        spent = self.clock() - self._began
        expected = pace * self._to_do.get(self._stage, 0.0)
        if spent < expected:
            return expected - spent
        # Longer than expected: what was done so far tells what is left, if it tells anything.
        return spent * (1 - self._done_frac) if self._done_frac else 0.0


def spoken(seconds: float) -> str:
    """Say a time as people do: 40 s, 2 min 5 s, 1 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

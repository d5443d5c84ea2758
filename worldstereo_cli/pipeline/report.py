"""What a run says while it works, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stage is expected to cost."""

    seconds: float
    memory_mb: float
    """Peak of the whole process while the stage works, in 10^6 bytes."""
    disk_mb: float
    """What it will leave on disk, in 10^6 bytes."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """What happened to one stage, or what would."""

    name: str
    state: str
    """`built`, `reused` or `planned` (not done yet)."""
    reason: str
    """Why it was built or reused, in one line."""
    seconds: float = 0.0
    summary: str = ""
    """The facts that people ask for, in one line."""
    expected: Estimate | None = None
    """For what is to be built."""
    rounds_kept: int = 0
    """Of a stage that was built: rounds that were there already."""


@dataclass(frozen=True, slots=True)
class SceneReport:
    """What happened to one scene."""

    scene_dir: Path
    stages: list[StageReport]
    seconds: float


class Reporter(Protocol):
    """Shows a run to somebody."""

    def run_planned(self, stages: list[StageReport]) -> None:
        """Say what the run is going to do, before it begins."""
        ...

    def stage_started(self, name: str, reason: str) -> None:
        """Say that a stage begins, and why."""
        ...

    def progress(self, done: int, total: int, what: str) -> None:
        """Report steps within the stage."""
        ...

    def note(self, text: str) -> None:
        """Say something that concerns the whole run."""
        ...

    def stage_ended(self, report: StageReport) -> None:
        """Say what became of a stage."""
        ...

"""Facts, checks and plans as aligned text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from worldstereo_cli.cli.time_left import spoken

if TYPE_CHECKING:
    from worldstereo_cli.pipeline.doctor import Check
    from worldstereo_cli.pipeline.folder import FolderEntry
    from worldstereo_cli.pipeline.report import StageReport

_BASIS = "expected on two cores; the first run of all compiles kernels for a minute more"


def print_facts(facts: Mapping[str, object], indent: int = 0) -> None:
    """Print nested facts, one a line."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            typer.echo(f"{' ' * indent}{key}")
            print_facts(value, indent + 2)
        else:
            typer.echo(f"{' ' * indent}{key:<{max(2, 24 - indent)}}{value}")


def print_checks(checks: list[Check]) -> None:
    """Print what `doctor` found, with a remedy for each thing that is missing."""
    for check in checks:
        state = "ok" if check.ok else ("MISSING" if check.required else "absent")
        typer.echo(f"{check.name:<20}{state:<9}{check.found}")
        if not check.ok and check.remedy:
            typer.echo(f"{'':<20}try: {check.remedy}")


def plan_table(stages: Sequence[StageReport]) -> Iterator[str]:
    """Lay out what a run would do: stage, what happens, what it costs, and why."""
    yield f"{'stage':<13}{'':<8}{'time':>12}{'memory':>10}{'disk':>10}  why"
    for stage in stages:
        verb = "reuse" if stage.expected is None else "build"
        yield f"{stage.name:<13}{verb:<8}{_costs(stage)}  {stage.reason}"
    costs = [stage.expected for stage in stages if stage.expected is not None]
    if costs:
        seconds, disk = sum(c.seconds for c in costs), sum(c.disk_mb for c in costs)
        memory = max(c.memory_mb for c in costs)
        yield f"{'in all':<21}{_cells(seconds, memory, disk)}  {_BASIS}"


def _costs(stage: StageReport) -> str:
    if stage.expected is None:
        return _cells(0.0, 0.0, 0.0)
    return _cells(stage.expected.seconds, stage.expected.memory_mb, stage.expected.disk_mb)


def _cells(seconds: float, memory_mb: float, disk_mb: float) -> str:
    if not seconds:
        return f"{'-':>12}{'-':>10}{'-':>10}"
    return f"{spoken(max(1.0, seconds)):>12}{memory_mb / 1000:>7.1f} GB{max(1.0, disk_mb):>7.0f} MB"


def folder_table(entries: Sequence[FolderEntry]) -> Iterator[str]:
    """Lay out what became of the photos of a folder."""
    width = max(len(entry.photo.name) for entry in entries)
    failed = sum(entry.error is not None for entry in entries)
    for entry in entries:
        if entry.error is not None:
            yield f"{entry.photo.name:<{width}}  {'failed':>12}  {entry.error.problem}"
            yield f"{'':<{width}}  {'':>12}  try: {entry.error.remedy}"
        elif entry.report is not None:
            built = any(stage.state == "built" for stage in entry.report.stages)
            took = spoken(entry.report.seconds) if built else "unchanged"
            yield f"{entry.photo.name:<{width}}  {took:>12}  {entry.scene_dir}"
    yield f"{len(entries) - failed} of {len(entries)} photos done" + (f", {failed} failed" if failed else "")

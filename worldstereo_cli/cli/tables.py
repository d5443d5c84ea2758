"""Facts, checks and plans as aligned text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from worldstereo_cli.cli.time_left import spoken
from worldstereo_cli.pipeline.reuse import STAGES, VIEW

if TYPE_CHECKING:
    from worldstereo_cli.pipeline.doctor import Check
    from worldstereo_cli.pipeline.folder import FolderEntry
    from worldstereo_cli.pipeline.report import StageReport

_SHOWN_ABOVE = ("state", "seconds", "peak_memory_mb", "megabytes")
_BASIS = (
    "expected on two cores, splats without a GPU; the first run of all compiles kernels for a minute more"
)


def scene_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Lay out the facts of a scene: what people ask first comes first, matrices stay in the JSON."""
    for key in ("scene", "photo", "recipe", "seed"):
        yield f"{key:<14}{facts[key]}"
    for maker, name in facts.get("made_by", {}).items():
        yield f"{maker + ' by':<14}{name}"
    if "seen" in facts:
        yield f"{'invented':<14}{_invented(facts['seen'])}"
    yield ""
    yield f"{'stage':<13}{'state':<10}{'time':>12}{'memory':>10}{'disk':>10}"
    for name in (*STAGES, VIEW):
        yield _stage_line(name, facts[name])
    yield f"{'in all':<23}{'':>22}{facts['megabytes']:>7.0f} MB"
    if "export_megabytes" in facts:
        yield f"{'and its exports':<23}{'':>22}{facts['export_megabytes']:>7.0f} MB"
    for title, skipped in (
        ("lift", (*_SHOWN_ABOVE, "is_metric")),
        ("plan", _SHOWN_ABOVE),
        ("world", ()),
        ("metrics", ("seconds",)),
    ):
        rows = [(k, _in_words(v)) for k, v in facts.get(title, {}).items() if k not in skipped]
        if any(words for _, words in rows):
            yield ""
            yield from (f"{title + ' ' + k:<34}{words}" for k, words in rows if words)


def _invented(seen: Mapping[str, Any]) -> str:
    pixels = seen["frame_pixels_invented_percent"]
    share = f"{pixels} % of the generated frames' pixels, " if pixels is not None else ""
    points = f"{seen['points_invented']:,} of {seen['points_seen'] + seen['points_invented']:,}"
    return f"{share}{seen['points_invented_percent']} % of the points ({points})"


def _stage_line(name: str, facts: Mapping[str, Any]) -> str:
    if facts["state"] != "done":
        return f"{name:<13}{facts['state']}"
    seconds, peak = facts.get("seconds"), facts.get("peak_memory_mb")
    took = "unknown" if seconds is None else f"{seconds:.1f} s"
    memory = "unknown" if peak is None else f"{peak / 1000:.1f} GB"
    return f"{name:<13}{'done':<10}{took:>12}{memory:>10}{facts['megabytes']:>7.1f} MB"


def _in_words(value: object) -> str:
    """Write a fact as a word or a short number; empty for what only programs read."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_in_words(entry)}" for key, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(entry, Mapping) for entry in value):
            return ", ".join(str(entry.get("name", "")) for entry in value)
        return " x ".join(map(str, value)) if all(isinstance(entry, int) for entry in value) else ""
    return "" if value is None else str(value)


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
    failed = sum(entry.error is not None for entry in entries)
    yield from folder_rows(entries)
    yield f"{len(entries) - failed} of {len(entries)} photos done" + (f", {failed} failed" if failed else "")


def folder_rows(entries: Sequence[FolderEntry]) -> Iterator[str]:
    """Lay out what became of some photos of a folder."""
    width = max((len(entry.photo.name) for entry in entries), default=0)
    for entry in entries:
        if entry.error is not None:
            yield f"{entry.photo.name:<{width}}  {'failed':>12}  {entry.error.problem}"
            yield f"{'':<{width}}  {'':>12}  try: {entry.error.remedy}"
        elif entry.report is not None:
            built = any(stage.state == "built" for stage in entry.report.stages)
            took = spoken(entry.report.seconds) if built else "unchanged"
            yield f"{entry.photo.name:<{width}}  {took:>12}  {entry.scene_dir}"

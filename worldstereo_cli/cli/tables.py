"""Facts and checks as aligned text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from worldstereo_cli.pipeline.doctor import Check


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

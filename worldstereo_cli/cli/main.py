"""The error boundary: the one place where errors become words and exit codes."""

from __future__ import annotations

import sys

import typer

from worldstereo_cli.cli.app import app
from worldstereo_cli.errors import WorldStereoError

_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""Typer's own usage error: its module moved between versions, its place in the hierarchy did not."""

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: What the user typed after `worldstereo`.

    Returns:
        0 done, 1 some of a folder failed, 2 usage, 3 recipe, 4 input or artifact, 5 backend or
        weights missing, 6 out of memory, 130 interrupted. Bugs keep their traceback.
    """
    try:
        result = app(arguments, prog_name="worldstereo", standalone_mode=False)
    except WorldStereoError as error:
        _card(error.problem, error.remedy)
        return error.exit_code
    except _USAGE_ERROR as error:
        _card(_message(error), _help_for(error))
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        _card("Interrupted; what is finished is kept.", "The same command resumes.")
        return EXIT_INTERRUPTED
    except typer.Exit as leave:
        return leave.exit_code
    return result if isinstance(result, int) else 0


def _card(problem: str, remedy: str) -> None:
    print(f"error: {problem}\n  try: {remedy}", file=sys.stderr)


def _message(error: Exception) -> str:
    describe = getattr(error, "format_message", None)
    return " ".join(str(describe() if describe else error).split())


def _help_for(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'worldstereo'} --help"

"""The error boundary: the one place where errors become words and exit codes."""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import typer

from worldstereo_cli.cli.app import app
from worldstereo_cli.errors import WorldStereoError, is_interrupt, storage_error
from worldstereo_cli.pipeline.interrupts import heard_signals, ignore_signals

_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""Typer's own usage error: its module moved between versions, its place in the hierarchy did not."""

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
_EXIT_BROKEN_PIPE = 141
"""As a shell shows a program that SIGPIPE ended."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    _prepare_streams()
    code = run(sys.argv[1:])
    ignore_signals()
    try:
        sys.stdout.flush()
    except OSError:
        # Nobody reads any more; the interpreter must not try again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or _EXIT_BROKEN_PIPE
    sys.exit(code)


def _prepare_streams() -> None:
    """Let all names of files through, and give what the caller has closed somewhere to go."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            # Names are bytes; those that are not text in this locale must not end a run.
            stream.reconfigure(errors="surrogateescape")


def run(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: What the user typed after `worldstereo`.

    Returns:
        0 done, 1 some of a folder failed, 2 usage, 3 recipe, 4 input or artifact, 5 backend or
        weights missing, 6 out of memory, 130 interrupted. Bugs keep their traceback.
    """
    if not os.environ.get("PYTHONWARNINGS"):
        # Libraries warn their own developers; what users should know is said in our own words.
        warnings.simplefilter("ignore")
    with heard_signals() as signals:
        try:
            try:
                result = app(arguments, prog_name="worldstereo", standalone_mode=False)
            finally:
                # Nothing is left to interrupt but the words about it.
                signals.stop()
        except (KeyboardInterrupt, typer.Abort):
            return _interrupted(arguments, signals.heard)
        except typer.Exit as leave:
            return leave.exit_code
        except Exception as error:
            if is_interrupt(error):
                return _interrupted(arguments, signals.heard)
            return _failed(error)
        # Typer may return the exit code of an interrupt instead of passing it on.
        if signals.heard and result == EXIT_INTERRUPTED:
            return _interrupted(arguments, signals.heard)
        return result if isinstance(result, int) else 0


def _failed(error: Exception) -> int:
    """Put an error into words, and raise it again if it is a bug of ours."""
    told = storage_error(error) if isinstance(error, OSError) else error
    if isinstance(told, WorldStereoError):
        _card(told.problem, told.remedy)
        return told.exit_code
    if isinstance(error, BrokenPipeError):
        return _EXIT_BROKEN_PIPE
    if isinstance(error, _USAGE_ERROR):
        problem = _message(error)
        # Without a command the help has been shown already, and there is nothing else to say.
        if problem:
            _card(problem, _help_for(error))
        return EXIT_USAGE
    raise error


def _interrupted(arguments: list[str], signals: list[int]) -> int:
    _card("Interrupted; what is finished is kept.", _how_to_resume(arguments))
    return 128 + signals[0] if signals else EXIT_INTERRUPTED


def _card(problem: str, remedy: str) -> None:
    with suppress(OSError):
        print(f"error: {_in_one_line(problem)}\n  try: {_in_one_line(remedy)}", file=sys.stderr)


def _in_one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


def _how_to_resume(arguments: list[str]) -> str:
    if "--force" in arguments:
        return "The same command without --force resumes."
    return "The same command resumes."


def _message(error: Exception) -> str:
    describe = getattr(error, "format_message", None)
    return str(describe() if describe else error)


def _help_for(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'worldstereo'} --help"

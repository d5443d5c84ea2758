"""Signals that ask a process to end, which may come at any moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import pytest

from worldstereo_cli.pipeline.interrupts import heard_signals

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals that can wait")


@numba.njit
def compiled(number: int) -> int:
    return number + 1


def test_a_signal_while_a_kernel_is_compiled_waits_for_the_compiler_and_is_not_lost(capfd, monkeypatch):
    engine = numba.core.registry.cpu_target.target_context.codegen()._engine._ee
    notify = engine._object_cache_notify
    done = []

    def signalled(module, data):
        # C code calls this: an error raised here is printed, and lost.
        if not done:
            os.kill(os.getpid(), signal.SIGTERM)
        notify(module, data)
        done.append(True)

    monkeypatch.setattr(engine, "_object_cache_notify", signalled)
    with heard_signals() as signals, pytest.raises(KeyboardInterrupt):
        compiled(1)
        time.sleep(10)
    assert signals.heard[0] == signal.SIGTERM
    assert done
    assert capfd.readouterr().err == ""
    assert compiled(1) == 2


def test_only_the_same_signal_again_disturbs_the_clearing_up():
    with heard_signals() as signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signals.heard == [signal.SIGINT, signal.SIGTERM, signal.SIGINT]


def test_what_was_set_before_is_set_again():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with heard_signals():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in numbers] == before


class Finalized:
    """Something that a signal meets while it goes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)


def test_a_signal_that_a_finalizer_loses_is_raised_again(capfd):
    with heard_signals() as signals, pytest.raises(KeyboardInterrupt):
        Finalized()
        time.sleep(10)
    assert signals.heard == [signal.SIGTERM]
    assert capfd.readouterr().err == ""


class Broken:
    """Something else that goes wrong where nobody can catch it."""

    def __del__(self) -> None:
        raise ZeroDivisionError


def test_other_errors_that_are_lost_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with heard_signals():
        Broken()
    Broken()
    assert told == [ZeroDivisionError, ZeroDivisionError]


def test_a_signal_after_the_work_interrupts_nothing():
    with heard_signals() as signals:
        signals.stop()
        signal.raise_signal(signal.SIGTERM)
    assert signals.heard == []


ENDING = """
import atexit, os, signal, sys
from worldstereo_cli.cli import main as door
def interrupted(*_arguments, **_options):
    # As a library that makes classes while it is imported.
    exec("signal.raise_signal(signal.{name})")
door.app = {app}
{before}
door.main()
"""


def ended(place: Path, **what: str) -> subprocess.CompletedProcess[str]:
    """Run a program as `python -m` does; other ways to start one leave with another piece of C code."""
    (place / "ending.py").write_text(ENDING.format(**what))
    path = os.pathsep.join([str(place), *sys.path])
    command = [sys.executable, "-m", "ending"]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_in_code_made_from_a_string_ends_with_the_exit_code_all_the_same(name, code, tmp_path):
    done = ended(tmp_path, name=name, app="interrupted", before="")
    assert done.returncode == code
    assert done.stderr.startswith("error: Interrupted; what is finished is kept.")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_a_finished_program_goes_changes_nothing(name, tmp_path):
    before = f"atexit.register(lambda: signal.raise_signal(signal.{name}))"
    done = ended(tmp_path, name=name, app="lambda *_arguments, **_options: 5", before=before)
    assert (done.returncode, done.stderr) == (5, "")

"""Signals that ask a process to end, which may come at any moment."""

import os
import signal
import time

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
    assert signals[0] == signal.SIGTERM
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
    assert signals == [signal.SIGINT, signal.SIGTERM, signal.SIGINT]


def test_what_was_set_before_is_set_again():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with heard_signals():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in numbers] == before

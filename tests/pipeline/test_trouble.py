"""Memory that runs out is told as such, whichever library meets it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worldstereo_cli.errors import InputError, OutOfMemory
from worldstereo_cli.pipeline.estimate import Workload
from worldstereo_cli.pipeline.trouble import memory_limit_mb, trouble_in
from worldstereo_cli.recipe import Recipe

SHORT_OF_MEMORY = """
import resource
import zstandard
from worldstereo_cli.errors import OutOfMemory
from worldstereo_cli.pipeline.estimate import Workload
from worldstereo_cli.pipeline.trouble import memory_limit_mb, trouble_in
from worldstereo_cli.recipe import Recipe

data = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (data + 50_000_000,) * 2)
try:
    with trouble_in("view", lambda: Workload.of(Recipe(), (640, 480)), "cpu", memory_limit_mb()):
        compressor = zstandard.ZstdCompressor(level=22).compressobj()
        compressor.compress(bytes(1000))
        compressor.flush()
except OutOfMemory as error:
    print(type(error.__cause__).__name__, error.problem)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process as Linux does")
def test_a_library_with_errors_of_its_own_ran_out_of_memory_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, check=False
    )
    assert done.stdout == "ZstdError view ran out of memory; what is finished is kept.\n", done.stderr


def test_what_has_nothing_to_do_with_memory_passes_unchanged() -> None:
    for error in (ValueError("a bug"), RuntimeError("another"), InputError("Bad.", remedy="Mend it.")):
        with (
            pytest.raises(type(error)) as raised,
            trouble_in("lift", lambda: Workload.of(Recipe(), None), "cpu", memory_limit_mb()),
        ):
            raise error
        assert raised.value is error


def test_a_damaged_file_for_want_of_memory_is_no_damaged_file() -> None:
    with (
        pytest.raises(OutOfMemory),
        trouble_in("plan", lambda: Workload.of(Recipe(), None), "cpu", memory_limit_mb()),
    ):
        raise InputError("cloud.ply is damaged.", remedy="Make it again.") from MemoryError()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process as Linux does")
def test_a_limit_leaves_room_for_what_is_only_reserved() -> None:
    code = """
import resource, psutil
from worldstereo_cli.pipeline.trouble import memory_limit_mb
own = psutil.Process().memory_info()
resource.setrlimit(resource.RLIMIT_DATA, (own.data + 400_000_000,) * 2)
print(memory_limit_mb() - own.rss / 1e6)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(200, abs=10)
    assert memory_limit_mb() > 0

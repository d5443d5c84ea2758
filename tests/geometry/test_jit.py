import os
import subprocess
import sys

import numpy as np
import pytest

from worldstereo_cli.geometry.jit import kept_in
from worldstereo_cli.geometry.seen import hides_something


def test_compiled_kernels_can_be_found():
    hides_something(0.0, 0.0, 1.0, np.zeros((0, 3, 4)), np.zeros((0, 2, 2)))
    assert list(kept_in(hides_something).glob("*.nbc")) != []


def test_kernels_find_a_place_where_neither_source_nor_home_can_be_written(tmp_path):
    """A system-wide installation, run by a service without a home."""
    source = tmp_path / "kernel.py"
    source.write_text(
        "from worldstereo_cli.geometry.jit import compiled, kept_in\n"
        "plus = compiled(lambda x: x + 1)\n"
        "print(plus(1), kept_in(plus))\n"
    )
    # A file in the place of a directory stops even root.
    (tmp_path / "__pycache__").touch()
    nowhere = str(source / "none")
    environment = os.environ | {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "TMPDIR": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, str(source)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    place = tmp_path / f"worldstereo-kernels-{os.getuid()}"
    assert done.stdout.startswith(f"2 {place}")
    assert list(place.rglob("*.nbc")) != []
    assert place.stat().st_mode & 0o777 == 0o700


_AT_ONCE = """
import multiprocessing, os
import numpy as np
from worldstereo_cli.geometry.jit import compiled

def total(x):
    s = 0
    for i in range(len(x)):
        s += x[i]
    return s

TYPES = ("int8", "int32", "float32", "float64")

def compile_for(dtype, barrier):
    # None has put a file in its place before all have read what is there.
    replace, waited = os.replace, []
    def together(source, target):
        if not waited:
            waited.append(barrier.wait(60))
        replace(source, target)
    os.replace = together
    compiled(total)(np.ones(3, dtype))

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(TYPES))
    at_once = [context.Process(target=compile_for, args=(dtype, barrier)) for dtype in TYPES]
    for process in at_once:
        process.start()
    for process in at_once:
        process.join()
    known = compiled(total)
    print([float(known(np.ones(3, dtype))) for dtype in TYPES], sum(known.stats.cache_hits.values()))
"""


def test_processes_that_compile_at_once_lose_and_mix_up_nothing(tmp_path):
    """Each compiles the same function for another type, as the photos of a folder may."""
    source = tmp_path / "kernel.py"
    source.write_text(_AT_ONCE)
    done = subprocess.run([sys.executable, str(source)], capture_output=True, text=True, check=False)
    assert done.stdout == "[3.0, 3.0, 3.0, 3.0] 4\n", done.stderr


def test_code_that_was_torn_by_a_power_cut_is_compiled_again(tmp_path):
    source = tmp_path / "kernel.py"
    source.write_text(
        "from worldstereo_cli.geometry.jit import compiled\nprint(compiled(lambda x: x + 1)(1))\n"
    )
    outputs = []
    for size in (None, 0, 40, 4000):
        for path in tmp_path.rglob("*.nbc"):
            os.truncate(path, size)
        outputs.append(
            subprocess.run([sys.executable, str(source)], capture_output=True, text=True, check=False).stdout
        )
    assert outputs == ["2\n"] * 4


_SHORT_OF_MEMORY = """
import os, resource
from worldstereo_cli.geometry.jit import compiled

@compiled
def first(x):
    return x

@compiled
def known(x):
    return x + 1

@compiled
def new(x):
    return x - 1

if os.fork() == 0:
    known(1)
    os._exit(0)
os.wait()
# Libraries that the compiler needs are loaded with the first kernel of a process.
first(1)

def data():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))

def ends(kernel, more):
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (data() + more,) * 2)
        try:
            kernel(1)
        except MemoryError:
            os._exit(6)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

print({ends(known, more << 16) for more in (*range(20), 400)})
print({ends(new, more << 20) for more in (*range(0, 40, 2), 200)})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process as Linux does")
def test_memory_that_is_short_for_the_compiler_is_an_exception_of_python(tmp_path):
    """LLVM, which makes and loads machine code, would end the process."""
    source = tmp_path / "kernel.py"
    source.write_text(_SHORT_OF_MEMORY)
    done = subprocess.run([sys.executable, str(source)], capture_output=True, text=True, check=False)
    assert done.stdout == "{0, 6}\n{0, 6}\n", done.stderr

import os
import subprocess
import sys

import numpy as np

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

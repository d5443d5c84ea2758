"""Glass has the depth of its front and the colour of what is behind it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from worldstereo_cli.training.scenes.build import SOURCE_DIR

COMPILER = next((found for name in ("clang++", "g++", "c++") if (found := shutil.which(name))), None)


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_a_wall_is_seen_through_a_pane_that_is_as_far_as_it_stands(tmp_path: Path) -> None:
    program, source = tmp_path / "glass", Path(__file__).with_name("glass.cpp")
    flags = ["-O0", "-std=c++14", f"-I{SOURCE_DIR}"]
    subprocess.run([str(COMPILER), *flags, "-o", str(program), str(source)], check=True)
    lines = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.splitlines()
    clear, opaque = ([float(number) for number in line.split()] for line in lines)
    assert clear[0] == opaque[0] == pytest.approx(1.95, abs=1e-4)
    # The wall glows in (0.9, 0.6, 0.3); the pane takes half of the red, a tenth of the rest.
    assert clear[1:] == pytest.approx([0.45, 0.54, 0.27], abs=1e-3)
    assert opaque[1] < opaque[2]
    assert opaque[1:] != pytest.approx(clear[1:], abs=0.05)

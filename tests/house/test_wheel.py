"""A wheel carries everything it needs and runs outside the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "tests" / "data" / "photos" / "living_room.jpg"


@pytest.mark.slow
def test_a_wheel_runs_outside_the_repository(tmp_path):
    wheels = tmp_path / "wheels"
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(wheels),
        str(ROOT),
    ]
    subprocess.run(build, check=True)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(next(wheels.glob("worldstereo-*.whl"))) as wheel:
        wheel.extractall(installed)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
        )

    where = python("-c", "import worldstereo_cli; print(worldstereo_cli.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(installed)
    assert "preview" in python("-m", "worldstereo_cli", "recipe", "list").stdout.split()
    done = python(
        "-m", "worldstereo_cli", "run", str(PHOTO), "--out", "scene", "--recipe", "preview",
        "--set", "lift.long_side_px=128", "--until", "plan",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "scene" / "plan" / "artifact.json").is_file()

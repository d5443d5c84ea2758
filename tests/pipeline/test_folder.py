"""A folder of photos: every photo a scene and a process of its own."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.journey.whole_runs import TINY
from worldstereo_cli.cli.main import run
from worldstereo_cli.errors import InputError, OutOfMemory
from worldstereo_cli.pipeline.folder import _broken_down, photos_in

PHOTO = Path(__file__).parents[1] / "data" / "photos" / "mountain_path.jpg"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two good photos and, between them by name, one that is damaged."""
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(PHOTO) as image:
        image.resize((128, 96)).save(photos / "a.png")
        image.resize((96, 128)).save(photos / "c d.jpg")
    (photos / "b.jpg").write_bytes(PHOTO.read_bytes()[:5000])
    (photos / ".hidden.jpg").write_bytes(b"")
    (photos / "notes.txt").write_text("no photo")
    (tmp_path / "tiny.toml").write_text(TINY)
    return photos


def command(folder: Path, *options: str) -> list[str]:
    out = folder.parent / "scenes"
    return ["run", str(folder), "-o", str(out), "-r", str(folder.parent / "tiny.toml"), *options]


def test_one_failure_does_not_stop_the_rest_and_a_second_run_does_only_what_is_left(folder, capfd):
    scenes = folder.parent / "scenes"
    assert run(command(folder, "--jobs", "2", "--until", "plan")) == 1
    told = capfd.readouterr()
    # One result a line, of what was made.
    assert told.out.splitlines() == [str(scenes / "a" / "plan"), str(scenes / "c d" / "plan")]
    assert "b.jpg" in told.err
    assert "is damaged" in told.err
    assert told.err.splitlines()[-1] == "2 of 3 photos done, 1 failed"
    assert not (scenes / "b").exists()
    with Image.open(PHOTO) as image:
        image.resize((128, 96)).save(folder / "b.jpg")
    assert run(command(folder, "--until", "plan", "--json")) == 0
    told = capfd.readouterr()
    entries = json.loads(told.out)
    assert [[stage["state"] for stage in entry["stages"]] for entry in entries] == [
        ["reused", "reused"],
        ["built", "built"],
        ["reused", "reused"],
    ]
    assert entries[2]["result"] == str(scenes / "c d" / "plan")
    assert told.err.splitlines()[-1] == f"next: worldstereo generate {scenes / 'a'}"


def test_a_dry_run_of_a_folder_tells_each_photo_and_makes_nothing(folder, capsys):
    (folder / "b.jpg").unlink()
    assert run(command(folder, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert said.count("in all") == 2
    assert not (folder.parent / "scenes").exists()


def test_a_dry_run_of_a_folder_tells_what_it_cannot_do(folder, capsys):
    (folder / "b.jpg").write_text("no picture")
    assert run(command(folder, "--dry-run")) == 1
    told = capsys.readouterr()
    assert told.out.count("in all") == 2
    assert told.err.splitlines()[0].startswith("b.jpg")
    assert "is not a picture that can be read" in told.err
    assert "photos done" not in told.err


def test_one_depth_file_is_not_taken_for_all_photos_of_a_folder(folder, capsys):
    np.save(folder.parent / "depth.npy", np.ones((96, 128), np.float32))
    assert run(command(folder, "--depth", str(folder.parent / "depth.npy"))) == 4
    assert "is the depth of one photo" in capsys.readouterr().err
    assert not (folder.parent / "scenes").exists()


def test_scenes_may_lie_among_the_photos(folder):
    (folder / "b.jpg").unlink()
    (folder / "c d.jpg").unlink()
    arguments = ["run", str(folder), "-o", str(folder), "-r", str(folder.parent / "tiny.toml")]
    assert run([*arguments, "--until", "lift"]) == 0
    assert (folder / "a" / "lift" / "artifact.json").is_file()
    assert [photo.name for photo in photos_in(folder)] == ["a.png"]


def test_a_folder_of_another_kind_with_a_photos_name_fails_that_photo_alone(folder, capfd):
    (folder / "b.jpg").unlink()
    (folder / "a").mkdir()
    (folder / "a" / "letter.txt").write_text("mine")
    arguments = ["run", str(folder), "-o", str(folder), "-r", str(folder.parent / "tiny.toml")]
    assert run([*arguments, "--until", "lift"]) == 1
    assert "is not a scene and not empty: it holds letter.txt." in capfd.readouterr().err
    assert [path.name for path in (folder / "a").iterdir()] == ["letter.txt"]
    assert (folder / "c d" / "lift" / "artifact.json").is_file()


def test_clashing_names_are_refused_before_anything_is_made(folder, capsys):
    (folder / "A.webp").write_bytes(b"")
    assert run(command(folder)) == 4
    assert "would both become the scene" in capsys.readouterr().err
    assert not (folder.parent / "scenes").exists()


def test_an_error_travels_between_processes_whole():
    error = pickle.loads(pickle.dumps(InputError("It broke.", remedy="Mend it.")))
    assert (type(error), error.problem, error.remedy) == (InputError, "It broke.", "Mend it.")


def test_a_process_that_was_killed_is_told_as_out_of_memory():
    assert isinstance(_broken_down(-9), OutOfMemory)
    assert "crashed with exit code 1" in _broken_down(1).problem


def started(folder: Path, *, working: bool = True) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """Start the command, and wait until two photos have a process each, which works or is just there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worldstereo_cli", *command(folder, "--jobs", "2")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"NUMBA_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        workers = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        if len(workers) == 2 and (not working or all(lock_is_there(folder, name) for name in ("a", "c d"))):
            return process, workers
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate())


def lock_is_there(folder: Path, name: str) -> bool:
    return (folder.parent / "scenes" / name / "scene.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_a_photo_whose_process_is_killed_fails_alone(folder):
    (folder / "b.jpg").unlink()
    process, workers = started(folder)
    workers[0].kill()
    out, err = process.communicate()
    assert process.returncode == 1
    assert len(out.splitlines()) == 1
    assert "was killed, most likely because the system ran out of memory" in err
    assert err.splitlines()[-1] == "1 of 2 photos done, 1 failed"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_folder_ends_all_its_processes_cleanly(folder, number):
    (folder / "b.jpg").unlink()
    process, workers = started(folder)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number
    assert err.splitlines()[-2] == "error: Interrupted; what is finished is kept."
    assert "Traceback" not in err
    assert not any(worker.is_running() for worker in workers)
    left = {path.name for path in (folder.parent / "scenes").rglob(".*")}
    assert left <= {".lock"}
    assert run(command(folder)) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("later_s", [0.0, 0.3, 1.0])
def test_ctrl_c_in_a_terminal_is_told_once_even_while_processes_load_their_libraries(folder, later_s):
    (folder / "b.jpg").unlink()
    process, workers = started(folder, working=False)
    time.sleep(later_s)
    # To all processes of the terminal at once.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines() == [
        "error: Interrupted; what is finished is kept.",
        "  try: The same command resumes.",
    ]
    assert not any(worker.is_running() for worker in workers)

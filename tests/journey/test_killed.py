"""Runs that are ended at any moment: what was finished is kept, and the same command finishes the rest."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.journey.whole_runs import TINY, contents, finish, start

PHOTO = Path(__file__).parents[1] / "data" / "photos" / "mountain_path.jpg"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """What makes a tiny scene in a given place."""
    root = tmp_path_factory.mktemp("tiny")
    with Image.open(PHOTO) as image:
        image.resize((128, 96)).save(root / "photo.png")
    (root / "tiny.toml").write_text(TINY)

    def of(place: Path) -> list[str]:
        return ["run", str(root / "photo.png"), "--out", str(place / "scene"), "-r", str(root / "tiny.toml")]

    return of


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, command):
    """The files of a run that nobody disturbed, and the seconds that it took with kernels compiled."""
    for name in ("compiling", "whole"):
        place = tmp_path_factory.mktemp(name)
        began = time.monotonic()
        assert finish(command(place), place / "log") == 0, (place / "log").read_text()
    return contents(place / "scene"), time.monotonic() - began


def nothing_is_half_done(scene: Path) -> None:
    """Everything that looks finished has all its files, at their full size."""
    from worldstereo_cli.artifacts.manifest import Manifest

    for path in scene.rglob("artifact.json"):
        if not any(part.startswith(".") for part in path.relative_to(scene).parts):
            kind = "round" if path.parent.parent.name == "rounds" else path.parent.name
            assert Manifest.read(path.parent, kind).damage(path.parent) is None


@pytest.mark.slow
def test_a_run_killed_at_any_of_fifty_moments_is_finished_by_the_same_command(tmp_path, command, undisturbed):
    whole, seconds = undisturbed
    moments = random.Random(4)
    for number in range(50):
        # Evenly over the run: one moment in each fiftieth of it.
        share, process = (number + moments.random()) / 50, None
        while process is None or process.exitcode != -signal.SIGKILL:
            # One that ended by itself was faster than the one that was timed; its moment is tried again.
            seconds *= 1.0 if process is None else 0.9
            place = tmp_path / f"{number}-{seconds}"
            place.mkdir()
            process = start(command(place), place / "log")
            process.join(share * seconds)
            process.kill()
            process.join()
        nothing_is_half_done(place / "scene")
        assert finish(command(place), place / "log") == 0, (place / "log").read_text()
        again = contents(place / "scene")
        assert again.keys() == whole.keys()
        different = [name for name in whole if again[name] != whole[name]]
        assert different == [], f"killed after {number}/50 of the run"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_clean_and_is_resumed(tmp_path, command, undisturbed, number, code):
    whole, seconds = undisturbed
    for share in (0.3, 0.6, 0.8):
        process = None
        while process is None or process.exitcode == 0:
            # One that ended by itself was faster than the one that was timed; its moment is tried again.
            seconds *= 1.0 if process is None else 0.8
            place = tmp_path / f"{share}-{seconds}"
            place.mkdir()
            process = start(command(place), place / "log")
            process.join(share * seconds)
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
            process.join()
        words = (place / "log").read_text()
        assert process.exitcode == code, words
        assert words.splitlines()[-2:] == [
            "error: Interrupted; what is finished is kept.",
            "  try: The same command resumes.",
        ]
        left = [path.name for path in (place / "scene").rglob(".*")] if (place / "scene").exists() else []
        assert left in ([".lock"], [])
        assert finish(command(place), place / "log") == 0
        assert contents(place / "scene") == whole

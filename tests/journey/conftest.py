"""A tiny scene that is finished, and copies of it."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.journey.finished import command
from tests.journey.whole_runs import TINY
from worldstereo_cli.cli.main import run

PHOTO = Path(__file__).parents[1] / "data" / "photos" / "mountain_path.jpg"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a photo, a recipe and a finished scene."""
    root = tmp_path_factory.mktemp("made")
    with Image.open(PHOTO) as image:
        image.resize((128, 96)).save(root / "photo.png")
    (root / "tiny.toml").write_text(TINY)
    assert run(command(root)) == 0
    return root


@pytest.fixture
def scene(made, tmp_path) -> Path:
    return shutil.copytree(made / "scene", tmp_path / "scene")

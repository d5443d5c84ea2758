"""One finished synthetic scene for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import scenes


@pytest.fixture(scope="session")
def scene_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball above a floor before a wall, 96x64, with the paths `right` and `eloop`."""
    root = tmp_path_factory.mktemp("scenes") / "ball & wall"
    scenes.write_scene(root, scenes.room(), scenes.camera(96, 64))
    return root

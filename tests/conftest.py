"""Places that only some machines have, as fixtures that skip with a reason."""

import os
from pathlib import Path

import pytest


def _directory_from(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    return Path(value)


@pytest.fixture(scope="session")
def eval_dir() -> Path:
    """Real images with truth, for measuring only."""
    return _directory_from("WORLDSTEREO_EVAL")


@pytest.fixture(scope="session")
def goldens_dir() -> Path:
    """Numbers to match."""
    return _directory_from("WORLDSTEREO_GOLDENS")

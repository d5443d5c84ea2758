"""Places and devices that only some machines have, as fixtures that skip with a reason."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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


def pytest_configure() -> None:
    """Hear Ctrl-C and hang-ups, which `&` or nohup have tests ignore: some send them."""
    for name, heard in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)  # Windows has no hang-ups.
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, heard)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(params=[pytest.param("real", marks=pytest.mark.gpu), "pretended"])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A GPU: the machine's own, and one that is pretended, with gsplat's kernels in torch."""
    if request.param == "real":
        yield "cuda"
        return
    from tests.pretend_cuda import pretend_cuda
    from tests.splatting.gsplat_in_torch import KERNELS

    backend = ModuleType("gsplat.cuda._backend")
    monkeypatch.setattr(backend, "_C", KERNELS, raising=False)
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    with pretend_cuda():
        yield "cuda"

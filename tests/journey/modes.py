"""Has the modes of files hold for root, too, who may do everything otherwise."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_VERSION_3 = 0x20080522
_DAC_OVERRIDE = 1 << 1
"""The bit of CAP_DAC_OVERRIDE, see capabilities(7)."""


@contextmanager
def obeying_modes() -> Iterator[None]:
    """Give up, within the block, the right to pass over the modes of files.

    Source: capset(2).
    """
    if sys.platform == "win32":
        pytest.skip("directories have no modes there")
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root cannot give up its rights there")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    rights = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, rights) == 0
    had = rights[0]
    rights[0] = had & ~_DAC_OVERRIDE
    assert libc.capset(header, rights) == 0
    try:
        yield
    finally:
        rights[0] = had
        assert libc.capset(header, rights) == 0

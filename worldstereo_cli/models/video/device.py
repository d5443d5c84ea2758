"""What a device has to offer: free memory, and speed."""

from __future__ import annotations

import time

import psutil  # type: ignore[import-untyped]
import torch

_SIDE = {"cuda": 8192, "cpu": 768}
_REPEATS = 3


def available_bytes(device: torch.device) -> int:
    """Return the bytes that this process may still take, or has taken, on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device))
    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a device refused memory, to the allocator or to a library that asks for its own."""
    told = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in told or "alloc_failed" in told


def matmul_flops_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Time a matrix product that is large enough to keep the device busy; a few hundredths of a second."""
    side = _SIDE.get(device.type, 2048)
    # Random numbers, because a GPU is a tenth faster on constant ones: it draws less power.
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(_REPEATS + 1):
        wait_for(device)
        start = time.perf_counter()
        torch.mm(left, right)
        wait_for(device)
        fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * side**3 / fastest


def wait_for(device: torch.device) -> None:
    """Return when a device has done what it was told, which a GPU does in its own time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

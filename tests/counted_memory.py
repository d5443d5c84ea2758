"""Memory that a computation takes, counted tensor by tensor; on the meta device, at whatever size."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class CountedMemory(TorchDispatchMode):
    """Counts the bytes of everything that operations make while it is on, and when it is let go.

    What a kernel takes for itself and what an allocator loses to rounding, it cannot tell.
    """

    def __init__(self, *there_before: torch.Tensor) -> None:
        super().__init__()
        self._known = {t.untyped_storage()._cdata for t in there_before}
        self._now = 0
        self.peak = 0
        """Bytes."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size

"""Tensors that say they are on a GPU and compute on the CPU, to run what is written for CUDA without one.

They obey the rules that code for one device breaks: operations refuse to mix them with tensors of
the CPU, and `numpy` refuses them. What kernels do on a real GPU, and how fast, they cannot tell.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda", 0)
_aten = torch.ops.aten
_MAY_MIX = {_aten.copy_.default, _aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default,
            _aten._index_put_impl_.default}  # fmt: skip
"""Copies cross devices; indices of a GPU tensor may lie on the CPU (but not the other way round)."""


class PretendCuda(torch.Tensor):
    """A tensor of the CPU that claims to be on `cuda:0`."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "PretendCuda":
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=held.device
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"PretendCuda({self.held!r})"

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        _refuse_mixture(func, args, kwargs)
        held_args, held_kwargs = tree_map_only(PretendCuda, lambda t: t.held, (args, kwargs))
        result = func(*held_args, **held_kwargs)
        wrapped = tree_map_only(torch.Tensor, PretendCuda, result)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _refuse_mixture(func, args, kwargs) -> None:
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    strangers = [t for t in tensors if not isinstance(t, PretendCuda) and t.ndim > 0]
    alone = func in _MAY_MIX and (isinstance(tensors[0], PretendCuda) or func is _aten.copy_.default)
    if strangers and not alone:
        raise RuntimeError(f"Expected all tensors to be on the same device, got cuda:0 and cpu in {func}.")


class _Arrive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return PretendCuda(value.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return gradient.held


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.held.clone()

    @staticmethod
    def backward(ctx, gradient):
        return PretendCuda(gradient)


def _moved(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    here = isinstance(value, PretendCuda)
    if (device.type == "cuda") == here:
        return value
    return _Leave.apply(value) if here else _Arrive.apply(value)


class _Mode(TorchFunctionMode):
    """Catches what names a device, before torch looks for that device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("to", "cuda", "cpu", "type_as"):
            return self._transfer(name, args, kwargs)
        if name in ("tolist", "new_tensor") and isinstance(args[0], PretendCuda):
            if name == "tolist":
                return args[0].held.tolist()
            made = torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs, "device": "cpu"})
            return PretendCuda(made)
        if name in ("backward", "grad"):
            return self._differentiated(name, args, kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            kwargs["device"] = "cpu"
            result = func(*args, **kwargs)
            return result if isinstance(result, PretendCuda) else PretendCuda(result)
        return func(*args, **kwargs)

    def _differentiated(self, name, args, kwargs):
        """Stay in charge of what backward functions written in Python do."""
        # Tensor.backward has another name for this one.
        renamed = {"gradient": "grad_tensors"}
        kwargs = {renamed.get(key, key): value for key, value in kwargs.items()}
        with patch.object(torch.autograd, "has_torch_function", lambda _: False), self:
            return getattr(torch.autograd, name)(*args, **kwargs)

    def _transfer(self, name, args, kwargs):
        value, *rest = args
        copied = kwargs.pop("copy", False)
        if name in ("cuda", "cpu"):
            device, dtype = (CUDA if name == "cuda" else torch.device("cpu")), None
        elif rest and isinstance(rest[0], torch.Tensor):
            device, dtype = rest[0].device, rest[0].dtype
        else:
            device, dtype, *_ = torch._C._nn._parse_to(*rest, **kwargs)
        # First the dtype, on the device where the value is: `to` between dtypes names no device.
        if dtype is not None and dtype != value.dtype:
            value = (
                torch.Tensor.type(value, dtype) if not isinstance(value, PretendCuda) else _cast(value, dtype)
            )
        moved = value if device is None else _moved(value, device)
        return moved.clone() if copied and moved is value else moved


def _cast(value: PretendCuda, dtype: torch.dtype) -> torch.Tensor:
    return torch.ops.aten._to_copy.default(value, dtype=dtype)


@contextmanager
def pretend_cuda() -> Iterator[None]:
    """Make `cuda` a device, as far as tensors of this module go."""
    overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
    # Parameters of a module that moves become new ones: the old ones cannot turn into another class.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with (
        patch.object(torch.cuda, "is_available", lambda: True),
        patch.object(torch.cuda, "empty_cache", lambda: None),
        patch.object(torch.cuda, "synchronize", lambda device=None: None),
        patch.object(torch.cuda, "mem_get_info", lambda device=None: (24 << 30, 24 << 30)),
        patch.object(torch.cuda, "memory_reserved", lambda device=None: 0),
        patch.object(torch.cuda, "get_device_capability", lambda device=None: (8, 9)),
        patch.object(torch.cuda, "get_rng_state", lambda device: None),
        patch.object(torch.cuda, "set_rng_state", lambda state, device: None),
        # Wrapped tensors have no inference mode.
        patch.object(torch._C, "_InferenceMode", lambda mode: torch.no_grad()),
        _Mode(),
    ):
        try:
            yield
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwritten)

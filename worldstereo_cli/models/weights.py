"""Weights from safetensors files to a model on its device, one tensor at a time.

The model is built on the meta device, so nothing is allocated twice; host memory holds a tensor
and at most `_MAPPED_BYTES` of the file. Nothing in a weights folder is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from worldstereo_cli.errors import BackendError
from worldstereo_cli.progress import Progress, silent

_MAPPED_BYTES = 1 << 30
"""A file is opened anew after this much, because pages that were read stay in memory until then."""
_NAMES_SHOWN = 4
_PULL_AGAIN = "Pull the weights again, or give a folder that belongs to this model."
_FLOATING = {"F64", "F32", "F16", "BF16"}


@runtime_checkable
class TakesTensors(Protocol):
    """A module that stores a tensor in another form than it came."""

    def take_tensor(self, name: str, value: Tensor) -> None:
        """Take the value of one of its parameters, on the device where it belongs."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    file: Path
    shape: tuple[int, ...]
    dtype: str


class Checkpoint:
    """The tensors of one model, in one safetensors file or several."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Read the headers.

        Raises:
            BackendError: A file is missing or damaged, or a tensor comes twice.
        """
        self._entries: dict[str, _Entry] = {}
        for path in files:
            with _opened(path) as file:
                for key in file.keys():
                    if key in self._entries:
                        raise BackendError(f"{key} comes twice, last in {path}.", remedy=_PULL_AGAIN)
                    part = file.get_slice(key)
                    self._entries[key] = _Entry(path, tuple(part.get_shape()), part.get_dtype())

    @staticmethod
    def find(folder: Path, stem: str = "model") -> Checkpoint:
        """Open `STEM.safetensors`, or the parts that `STEM.safetensors.index.json` lists.

        Raises:
            BackendError: Neither is there, or one is damaged.
        """
        return Checkpoint(checkpoint_files(folder, stem))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor."""
        return {key: entry.shape for key, entry in self._entries.items()}

    def dtype(self, key: str) -> str:
        """Return the dtype of a tensor as safetensors spells it, such as BF16."""
        return self._entries[key].dtype

    def stream(self, keys: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield tensors file by file, in the order in which they lie there.

        Each is a view of the file: copy it before asking for the next.
        """
        wanted: dict[Path, set[str]] = {}
        for key in keys:
            wanted.setdefault(self._entries[key].file, set()).add(key)
        for path, chosen in wanted.items():
            for batch in self._batches(path, chosen):
                with _opened(path) as file:
                    for key in batch:
                        yield key, file.get_tensor(key)

    def _batches(self, path: Path, chosen: set[str]) -> Iterator[list[str]]:
        """Group keys so that reading one group maps a bounded part of the file."""
        with _opened(path) as file:
            ordered = [key for key in file.offset_keys() if key in chosen]
        batch: list[str] = []
        size = 0
        for key in ordered:
            batch.append(key)
            size += 4 * torch.Size(self._entries[key].shape).numel()
            if size >= _MAPPED_BYTES:
                yield batch
                batch, size = [], 0
        yield batch


def checkpoint_files(folder: Path, stem: str = "model") -> list[Path]:
    """Find the files of a checkpoint.

    Raises:
        BackendError: There are none, or the index names something that is not beside it.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        besides = f" ({', '.join(pickles)} could run code when opened and is not read)" if pickles else ""
        raise BackendError(f"{folder} holds no {single.name}{besides}.", remedy=_PULL_AGAIN)
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"{index} is no index of weights: {error!r}.", remedy=_PULL_AGAIN) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise BackendError(f"{index} lists {name!r}, which is not beside it.", remedy=_PULL_AGAIN)
    return [folder / name for name in names]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How tensors reach a model."""

    device: torch.device
    dtype: torch.dtype = torch.bfloat16
    keep_float32: tuple[str, ...] = ()
    """Parts of names whose tensors stay float32."""
    ignored: tuple[str, ...] = ()
    """Parts of names that a file may hold although the model has no use for them."""
    fallback: Callable[[list[str]], Checkpoint] | None = field(default=None)
    """Fetches tensors that the checkpoint lacks, from the model that it was trained from."""
    may_lack: Callable[[str], bool] = field(default=lambda name: False)
    """Tells which tensors a checkpoint may lack."""


def check_names(model: nn.Module, checkpoint: Checkpoint, plan: LoadPlan) -> Checkpoint:
    """Compare every name and shape with a model's, without reading a tensor.

    Args:
        model: May be on the meta device.
        checkpoint: With the model's own names.
        plan: Where missing tensors may come from.

    Returns:
        What holds those that the checkpoint lacks.

    Raises:
        BackendError: Names or shapes differ.
    """
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    missing = [name for name in expected if name not in checkpoint.shapes()]
    rest = Checkpoint([])
    if missing and plan.fallback is not None and all(map(plan.may_lack, missing)):
        rest = plan.fallback(missing)
        missing = [name for name in missing if name not in rest.shapes()]
    found = {**{k: s for k, s in rest.shapes().items() if k in expected}, **checkpoint.shapes()}
    _compare(expected, found, missing, plan.ignored)
    return rest


@torch.no_grad()
def load_streaming(
    model: nn.Module, checkpoint: Checkpoint, plan: LoadPlan, *, progress: Progress = silent
) -> None:
    """Fill a model that was built on the meta device.

    Every name and shape is compared before the first tensor is read.

    Args:
        model: Changed in place; its parameters come to the device of the plan.
        checkpoint: With the model's own names.
        plan: Device, dtypes, and where missing tensors may come from.
        progress: Told after every tensor.

    Raises:
        BackendError: Names or shapes differ.
    """
    rest = check_names(model, checkpoint, plan)
    expected = {name for name, _ in model.named_parameters()}
    done = 0
    for source in (checkpoint, rest):
        keys = [k for k in source.shapes() if k in expected]
        if source is rest:
            keys = [k for k in keys if k not in checkpoint.shapes()]
        for name, value in source.stream(keys):
            exact = any(part in name for part in plan.keep_float32)
            _assign(model, name, value, plan.device, torch.float32 if exact else plan.dtype)
            done += 1
            progress(done, len(expected), "loading weights")


def _compare(
    expected: dict[str, tuple[int, ...]],
    found: dict[str, tuple[int, ...]],
    missing: list[str],
    ignored: tuple[str, ...],
) -> None:
    """Refuse a checkpoint that is not the model's, naming what differs."""
    unexpected = [k for k in found if k not in expected and not any(part in k for part in ignored)]
    reshaped = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = []
    for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)):
        if names:
            shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
            problems.append(f"{len(names)} {what} ({shown})")
    if problems:
        raise BackendError(
            f"The weights do not fit the model of their config.json: {'; '.join(problems)}.",
            remedy=_PULL_AGAIN,
        )


def _assign(model: nn.Module, name: str, value: Tensor, device: torch.device, dtype: torch.dtype) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    # A copy even where nothing changes: the value is a view of a file that is about to be closed.
    moved = value.to(device, dtype, copy=True)
    if isinstance(owner, TakesTensors):
        owner.take_tensor(leaf, moved)
        return
    old = owner.get_parameter(leaf)
    setattr(owner, leaf, nn.Parameter(moved, requires_grad=old.requires_grad))


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (OSError, SafetensorError) as error:
        raise BackendError(f"{path} cannot be read: {error}", remedy=_PULL_AGAIN) from error

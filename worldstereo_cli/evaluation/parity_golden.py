"""A file of reference numbers: its tensors, its settings, and the comparison with ours."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from worldstereo_cli.errors import InputError

_OTHER_VERSION = re.compile(r"_diffusers_[\d.]+$")


@dataclass(frozen=True, slots=True)
class Deviation:
    """One number that was compared."""

    name: str
    """The tensor's name in the file."""
    largest: float
    """Largest absolute difference; infinite for another shape or a number that is none."""
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether it is within its tolerance."""
        return self.largest <= self.tolerance


def compare(name: str, got: Tensor, expected: Tensor, tolerance: float) -> Deviation:
    """Compare a result with its reference.

    Args:
        name: Of the reference.
        got: Our value.
        expected: The reference.
        tolerance: Largest absolute difference that is accepted.
    """
    if got.shape != expected.shape:
        return Deviation(name, float("inf"), tolerance)
    difference = (got.detach().double().cpu() - expected.double()).abs()
    largest = float(difference.max()) if difference.numel() else 0.0
    return Deviation(name, largest if largest == largest else float("inf"), tolerance)


class Golden:
    """A safetensors file of references.

    A file whose name ends in `_diffusers_VERSION` holds some results of another version; inputs
    and settings that it lacks are those of the file without that ending.
    """

    def __init__(self, path: Path) -> None:
        """Read a file, and its companion if it has one.

        Raises:
            InputError: It cannot be read.
        """
        self.path = path
        self.own, settings = _read(path)
        self.tensors = self.own
        stem = _OTHER_VERSION.sub("", path.stem)
        if stem != path.stem:
            base, base_settings = _read(path.with_name(f"{stem}.safetensors"))
            self.tensors = {**base, **self.own}
            settings = {**base_settings, **settings}
        self._settings = settings

    def setting(self, key: str, default: Any = None) -> Any:  # noqa: ANN401  (whatever the JSON holds)
        """Return a value of the metadata, parsed as JSON where it is JSON.

        Raises:
            InputError: It is missing and there is no default.
        """
        if key not in self._settings:
            if default is not None:
                return default
            raise InputError(
                f"{self.path} has no {key!r} in its metadata.", remedy="Compare with the goldens' README."
            )
        try:
            return json.loads(self._settings[key])
        except json.JSONDecodeError:
            return self._settings[key]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below a prefix, without it."""
        start = f"{prefix}/"
        return {k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)}

    def groups(self) -> list[str]:
        """List the first parts of all names, in order."""
        return list(dict.fromkeys(k.split("/")[0] for k in self.tensors if "/" in k))

    def sibling(self, stem: str) -> Golden:
        """Open another file of the same folder.

        Raises:
            InputError: It cannot be read.
        """
        return Golden(self.path.with_name(f"{stem}.safetensors"))

    @property
    def release_schedule(self) -> bool:
        """Whether the numbers were made with the diffusers that the release pins, 0.36."""
        version = str(dict(self.setting("versions", {})).get("diffusers", "0.36.0"))
        return version.startswith("0.36.")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors, everything floating or a mask as float32, and the metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read: {error}", remedy="Give a folder of safetensors files with references."
        ) from error
    widened = {
        key: value.float() if value.is_floating_point() or value.dtype == torch.uint8 else value
        for key, value in tensors.items()
    }
    return widened, metadata

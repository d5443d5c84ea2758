"""Which past views a round looked at, and where its frames lie in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.correspondence import Correspondence


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """The references of one path.

    On disk: `references.safetensors`; the names and the rule are in its metadata.
    """

    names: tuple[str, ...]
    """Of the views, as the bank calls them, in the order of the targets beside which they sit."""
    rule: str
    """`visible` or `frustum`."""
    target_index: Int[Tensor, " r"]
    """The target frame beside which each sits."""
    ranked: Int[Tensor, "t r"]
    """For every target frame, the first included, positions in `names`, the best reference first."""
    scores: Float[Tensor, "t r"]
    """By which they are ranked, in the order of `names`."""
    correspondence: Correspondence
    """Pixels of each reference, at the size of the clip, for each square of the target."""

    def write(self, path: Path) -> None:
        """Write all of it without loss."""
        tensors = {
            "target_index": self.target_index,
            "ranked": self.ranked,
            "scores": self.scores,
            "pixels": self.correspondence.pixels,
            "visible": self.correspondence.visible,
        }
        # One entry: the library writes several in any order, and equal records must be equal files.
        metadata = {"references": json.dumps({"names": self.names, "rule": self.rule})}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)

    @staticmethod
    def read(path: Path) -> ReferenceRecord:
        """Read what `write` wrote.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = json.loads(file.metadata()["references"])
                t = {name: file.get_tensor(name) for name in file.keys()}
            return ReferenceRecord(
                tuple(metadata["names"]),
                metadata["rule"],
                t["target_index"],
                t["ranked"],
                t["scores"],
                Correspondence(t["pixels"], t["visible"]),
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{path} cannot be read: {error}", remedy="Run the stage that wrote it again with --force."
            ) from error

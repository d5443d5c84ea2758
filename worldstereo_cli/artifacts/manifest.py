"""Finished or absent: drafts, manifests and the digests that tie artifacts together."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldstereo_cli import __version__
from worldstereo_cli.errors import ArtifactError

MANIFEST_NAME = "artifact.json"
SCHEMA = 1
"""Raised whenever a file layout changes, so that an old scene is refused in words."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Who made an artifact, and from what.

    On disk: `artifact.json`, written last, so that its presence means that all else is there.
    """

    kind: str
    """What the directory holds: `lift`, `plan`, `round`, `generate`, `reconstruct`."""
    recipe: dict[str, Any]
    """The resolved recipe section that was applied."""
    seed: int
    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of what it was made from, by role (`photo`, `lift`, `plan`, ...)."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What a reader wants to know: backend, frame counts, seconds, world frame."""
    schema: int = SCHEMA
    version: str = __version__

    @staticmethod
    def read(root: Path, kind: str) -> Manifest:
        """Read the manifest of a finished artifact.

        Raises:
            ArtifactError: `root` is missing, unfinished, damaged, of another kind or schema.
        """
        path = root / MANIFEST_NAME
        remedy = f"Run the stage that makes {kind} again: worldstereo run IMAGE --out {root.parent}"
        if not path.is_file():
            state = "is not finished" if root.is_dir() else "does not exist"
            raise ArtifactError(f"{root} {state}, but a finished {kind} was expected.", remedy=remedy)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            manifest = Manifest(**data)
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise ArtifactError(f"{path} is damaged: {error}", remedy=remedy) from error
        if manifest.schema != SCHEMA:
            raise ArtifactError(
                f"{root} has schema {manifest.schema} (written by worldstereo {manifest.version}); "
                f"this version reads schema {SCHEMA}.",
                remedy=f"Make the scene again with this version, in another directory than {root.parent}.",
            )
        if manifest.kind != kind:
            raise ArtifactError(
                f"{root} holds {manifest.kind}, but {kind} was expected.",
                remedy=f"Pass the output of the stage that makes {kind}.",
            )
        return manifest

    def write(self, root: Path) -> None:
        """Write `artifact.json` into a directory whose other files are complete."""
        write_json(root / MANIFEST_NAME, asdict(self))

    @property
    def digest(self) -> str:
        """A digest of what went in; equal digests mean that rebuilding changes nothing."""
        made_from = {"kind": self.kind, "recipe": self.recipe, "seed": self.seed, "inputs": self.inputs}
        return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(path)


@contextmanager
def draft_directory(root: Path) -> Iterator[Path]:
    """Yield a directory to fill beside `root`; rename it to `root` when the block succeeds.

    The old `root`, if any, stays whole until the new one is complete. On any exception the draft
    is removed; after a kill it stays behind under a dotted name that no reader looks at, and the
    next draft of the same artifact clears it away.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    for leftover in root.parent.glob(f".{root.name}.draft-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    draft = root.parent / f".{root.name}.draft-{os.getpid()}"
    draft.mkdir()
    try:
        yield draft
        if not (draft / MANIFEST_NAME).is_file():
            raise RuntimeError(f"The draft of {root} has no manifest.")
        old = root.parent / f".{root.name}.draft-old-{os.getpid()}"
        if root.exists():
            root.rename(old)
        draft.rename(root)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)

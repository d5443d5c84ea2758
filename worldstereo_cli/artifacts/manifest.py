"""Finished or absent: drafts, manifests and the digests that tie artifacts together."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from worldstereo_cli import __version__
from worldstereo_cli.errors import ArtifactError

MANIFEST_NAME = "artifact.json"
SCHEMA = 1
"""Raised whenever a file layout changes, so that an old scene is refused in words."""

CODE = {"lift": 2, "plan": 4, "round": 4, "generate": 4, "reconstruct": 2}
"""By kind, raised when a stage makes something else of the same inputs, so that old results are rebuilt."""

_DRAFT = ".draft-"


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
    code: int = -1
    """Which version of the stage's code made it; left alone, the present one."""
    files: dict[str, int] = field(default_factory=dict, compare=False)
    """Sizes in bytes of all files beside the manifest, known once it was written; an artifact further
    down is listed by its own manifest alone."""

    def __post_init__(self) -> None:
        if self.code < 0:
            object.__setattr__(self, "code", CODE.get(self.kind, 0))

    @staticmethod
    def read(root: Path, kind: str) -> Manifest:
        """Read the manifest of a finished artifact.

        Raises:
            ArtifactError: `root` is missing, unfinished, damaged, of another kind or schema.
        """
        path = root / MANIFEST_NAME
        scene = root.parent.parent.parent if kind == "round" else root.parent
        remedy = f"Finish the scene: worldstereo run IMAGE --out {scene}"
        if not path.is_file():
            has = f"its {kind} was cut short" if root.is_dir() else f"it has no {kind} yet"
            raise ArtifactError(f"{scene} is not finished: {has}.", remedy=remedy)
        try:
            manifest = _parsed(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError) as error:
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
        write_json(root / MANIFEST_NAME, asdict(self) | {"files": dict(sorted(_sizes(root)))})

    def damage(self, root: Path) -> str | None:
        """Say which file is gone or of another size than it was when the manifest was written, if any.

        Args:
            root: The directory that the manifest lies in.
        """
        for name, size in self.files.items():
            path = root / name
            if not path.is_file():
                return f"{name} is gone"
            if path.name == MANIFEST_NAME:
                inner = _inner_damage(path)
                if inner is not None:
                    return f"{path.parent.name}: {inner}"
            elif path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes instead of {size}"
        return None

    def changed_since(self, others: Mapping[str, Manifest]) -> str | None:
        """Say which other artifact, by its role, is no longer what this one was made from, if any."""
        names = (
            name for name, other in others.items() if self.inputs.get(name, other.digest) != other.digest
        )
        return next(names, None)

    @property
    def digest(self) -> str:
        """A digest of what went in; equal digests mean that rebuilding changes nothing."""
        made_from = {
            "kind": self.kind,
            "code": self.code,
            "recipe": self.recipe,
            "seed": self.seed,
            "inputs": self.inputs,
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()


def read_chain(scene_dir: Path, names: Iterable[str]) -> dict[str, Manifest]:
    """Read the manifests of finished stages, and see that each was made from what the others are now.

    Args:
        scene_dir: Where the stages lie.
        names: Of the stages, in order.

    Raises:
        ArtifactError: One is missing or damaged, or another one has been made anew since.
    """
    chain: dict[str, Manifest] = {}
    for name in names:
        manifest = Manifest.read(scene_dir / name, name)
        changed = manifest.changed_since(chain)
        if changed is not None:
            raise ArtifactError(
                f"{scene_dir} is not finished: its {changed} has changed since {name} was made.",
                remedy=f"Finish the scene: worldstereo run IMAGE --out {scene_dir}",
            )
        chain[name] = manifest
    return chain


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    with draft_file(path) as draft:
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(value, indent=1, allow_nan=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """Yield a path to write beside `path`; rename it to `path` when the block succeeds.

    The draft keeps the ending of the name, which some writers go by.
    """
    draft = path.with_name(f".{path.stem}{_DRAFT}{os.getpid()}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_directory(root: Path) -> Iterator[Path]:
    """Yield a directory to fill beside `root`; rename it to `root` when the block succeeds.

    The old `root`, if any, stays whole until the new one is complete. On any exception the draft
    is removed; after a kill it stays behind under a dotted name that no reader looks at, and
    `clear_drafts` or the next draft of the same artifact clears it away.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    clear_drafts(root.parent, f".{root.name}{_DRAFT}*")
    draft = root.parent / f".{root.name}{_DRAFT}{os.getpid()}"
    draft.mkdir()
    try:
        yield draft
        if not (draft / MANIFEST_NAME).is_file():
            raise RuntimeError(f"The draft of {root} has no manifest.")
        put_in_place(draft, root)
    finally:
        discard(draft)


def put_in_place(complete: Path, root: Path) -> None:
    """Rename a complete artifact that lies beside `root` to `root`; an old one goes once that is done.

    Wherever this ends early, one of the two is at `root`, or both lie where `clear_drafts` finds them.
    """
    _settle(complete)
    old = root.parent / f".{root.name}{_DRAFT}old-{os.getpid()}"
    try:
        if os.path.lexists(root):
            discard(old)
            root.rename(old)
        complete.rename(root)
    finally:
        if os.path.lexists(old) and not os.path.lexists(root):
            old.rename(root)
        discard(old)


def next_to(root: Path) -> Path:
    """Return where an artifact that takes long is made while a finished one is in its place.

    Unlike a draft it outlives its run: what is finished in it is found by the next one.
    """
    return root.with_name(f".{root.name}.next")


def copy_cheaply(source: Path, target: Path) -> None:
    """Let a finished artifact appear at a second place, without copying bytes where the disk can do that.

    Artifacts are replaced and never written to, so that two may share their files.
    """
    with draft_directory(target) as draft:
        shutil.copytree(source, draft, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every disk knows links.
        shutil.copy2(source, target)


def clear_drafts(folder: Path, pattern: str = f".*{_DRAFT}*") -> None:
    """Clear away what killed runs have left in a folder.

    A kill between the two renames of a rebuild leaves the complete draft and the old artifact beside
    the empty place; then the draft is put there.
    """
    for leftover in sorted(folder.glob(pattern)):
        root = folder / leftover.name[1:].partition(_DRAFT)[0]
        if (leftover / MANIFEST_NAME).is_file() and not root.exists():
            leftover.rename(root)
        else:
            discard(leftover)


def discard(path: Path) -> None:
    """Remove a directory with all that is in it, a file or a link; not what a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _parsed(data: object) -> Manifest:
    """Build a manifest of what its file says, checking the kind of every value.

    Raises:
        TypeError: A value is missing, unknown or of the wrong kind.
    """
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}, not an object")
    # Manifests of the first version do not name the version of the code.
    told: dict[str, Any] = {"code": 0} | data
    manifest = Manifest(**told)
    kinds = {"str": str, "int": int, "dict": dict}
    for entry in fields(Manifest):
        value = getattr(manifest, entry.name)
        if not isinstance(value, kinds[str(entry.type).partition("[")[0]]):
            raise TypeError(f"its {entry.name} is a {type(value).__name__}")
    return manifest


def _inner_damage(path: Path) -> str | None:
    """Say what is wrong with an artifact that is part of another one."""
    try:
        return _parsed(json.loads(path.read_text(encoding="utf-8"))).damage(path.parent)
    except (OSError, ValueError, TypeError, RecursionError):
        return f"{path.name} is damaged"


def _settle(root: Path) -> None:
    """Bring all files of a directory to the disk, so that a power cut cannot empty what a rename shows."""
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("r+b") as stream:
                os.fsync(stream.fileno())


def _sizes(root: Path) -> Iterator[tuple[str, int]]:
    for path in root.iterdir():
        if path.name.startswith(".") or path.name == MANIFEST_NAME:
            continue
        if path.is_file():
            yield path.name, path.stat().st_size
        elif (path / MANIFEST_NAME).is_file():
            yield f"{path.name}/{MANIFEST_NAME}", (path / MANIFEST_NAME).stat().st_size
        else:
            for name, size in _sizes(path):
                yield f"{path.name}/{name}", size

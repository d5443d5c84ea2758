"""The scene directory as a place: whether it may be used, held by one run at a time, and kept clean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from worldstereo_cli.artifacts.manifest import MANIFEST_NAME, clear_drafts, next_to
from worldstereo_cli.errors import ArtifactError, InputError
from worldstereo_cli.pipeline.reuse import STAGES
from worldstereo_cli.pipeline.scene_file import SCENE_FILE

VIEWER_PAGE = "viewer.html"
FLYTHROUGH = "flythrough.mp4"
EXPORTS = "export"
"""Where exports go, unless told."""

_LOCK = ".lock"


@contextmanager
def held(scene_dir: Path) -> Iterator[None]:
    """Hold a scene for one run, making the directory; a second run on it is refused.

    What a killed run left half done is cleared away first. When the block fails before anything is
    finished in a directory that was made here, the directory goes, too.

    Raises:
        ArtifactError: Another run holds it, or it holds other things than a scene.
        InputError: It cannot be written.
    """
    refuse_foreign(scene_dir)
    made_here = [place for place in (scene_dir, *scene_dir.parents) if not place.exists()]
    lock = _locked(scene_dir)
    try:
        for folder in _with_drafts(scene_dir):
            clear_drafts(folder)
        yield
    except BaseException:
        if made_here and not (scene_dir / STAGES[0]).exists():
            _remove_empty(scene_dir, made_here)
        raise
    finally:
        lock.release()


def _with_drafts(scene_dir: Path) -> list[Path]:
    """Return where a run that was killed may have left drafts."""
    generate_dir = scene_dir / "generate"
    made = (generate_dir, next_to(generate_dir))
    return [scene_dir, *made, *(place / "rounds" for place in made)]


def refuse_foreign(scene_dir: Path) -> None:
    """Refuse a directory that holds anything but a scene.

    What a run that was killed at its very beginning may leave has a dotted name, as have the files that
    file managers leave everywhere; these are passed over.

    Raises:
        ArtifactError: It holds other things, and no scene.
        InputError: It is not a directory.
    """
    if scene_dir.exists() and not scene_dir.is_dir():
        raise InputError(
            f"{scene_dir} is a file, so no scene can be made there.",
            remedy="Choose another place with --out.",
        )
    if not scene_dir.exists() or is_scene(scene_dir):
        return
    names = sorted(path.name for path in scene_dir.iterdir() if not path.name.startswith("."))
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ArtifactError(
            f"{scene_dir} is not a scene and not empty: it holds {names[0]}{more}.",
            remedy=f"Choose a new or empty directory, such as --out {scene_dir / 'scene'}",
        )


def is_scene(place: Path) -> bool:
    """Say whether a run has left anything finished in a directory."""
    made = (SCENE_FILE, *(f"{name}/{MANIFEST_NAME}" for name in STAGES))
    return any((place / name).exists() for name in made)


def can_be_written(scene_dir: Path) -> bool:
    """Say whether files may be made and replaced in a scene that is there, without trying it."""
    # As whom files would be made, which is not who started the program where that was changed on the way.
    return os.access(scene_dir, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _locked(scene_dir: Path) -> FileLock:
    try:
        scene_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(scene_dir / _LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ArtifactError(
            f"Another run is working on {scene_dir}.", remedy="Wait for it to end, or choose another --out."
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        # Of the commands on a scene that is there, most have no --out.
        remedy = "Choose another place with --out."
        if is_scene(scene_dir):
            remedy = "Make it writable, or copy the scene to where it is."
        raise InputError(f"{scene_dir} cannot be written: {reason}.", remedy=remedy) from error
    return lock


def _remove_empty(scene_dir: Path, made_here: list[Path]) -> None:
    """Remove directories that hold no more than the record of a run that made nothing."""
    with suppress(OSError):
        if {path.name for path in scene_dir.iterdir()} <= {_LOCK, SCENE_FILE}:
            for name in (SCENE_FILE, _LOCK):
                (scene_dir / name).unlink(missing_ok=True)
            for place in made_here:
                place.rmdir()

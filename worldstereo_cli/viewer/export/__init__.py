"""A scene in the formats of other tools, one file for each format."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from worldstereo_cli.artifacts.manifest import Manifest, clear_drafts, discard, put_in_place, read_chain
from worldstereo_cli.errors import ArtifactError, InputError
from worldstereo_cli.viewer.contents import SPLATS

TARGETS = {
    "ply": "splats.ply",
    "spz": "splats.spz",
    "html": "viewer.html",
    "mp4": "flythrough.mp4",
    "colmap": "colmap",
    "nerfstudio": "nerfstudio",
    "glb": "mesh.glb",
}
"""What each format is called in the export directory."""


def export_scene(
    scene_dir: Path, formats: list[str], out_dir: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write a scene in the formats of other tools.

    Args:
        scene_dir: A finished scene.
        formats: Keys of `TARGETS`; one that is named twice is written once.
        out_dir: Made if it is not there.
        overwrite: Replace files of an earlier export. Without it nothing that exists is touched.

    Returns:
        What was written, in the order of `formats`.

    Raises:
        InputError: An unknown format, no format, a file that exists, or a place that cannot be made.
        ArtifactError: The scene is not finished, or a stage was made anew since.
        BackendError: A library that a format needs does not load.
    """
    formats = list(dict.fromkeys(formats))
    unknown = [f for f in formats if f not in TARGETS]
    if unknown or not formats:
        problem = f"There is no export format {unknown[0]!r}." if unknown else "No export format was named."
        raise InputError(problem, remedy=f"Formats are {', '.join(TARGETS)}.")
    targets = [out_dir / TARGETS[f] for f in formats]
    existing = [str(t) for t in targets if t.exists()]
    if existing and not overwrite:
        raise InputError(
            f"Already there: {', '.join(existing)}.",
            remedy="Pass --overwrite, or another directory with --out.",
        )
    Manifest.read(scene_dir / "reconstruct", "reconstruct")
    # Files of one scene that were made from two plans would not fit each other.
    read_chain(scene_dir, ("lift", "plan", "generate", "reconstruct"))
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out_dir} cannot be a directory: {error.strerror}.", remedy="Choose another place with --out."
        ) from error
    for name, target in zip(formats, targets, strict=True):
        _export(name, scene_dir, target)
    return targets


def _export(name: str, scene_dir: Path, target: Path) -> None:
    """Write one format beside its place, then move it there, so that no half of it is ever seen."""
    # What an export that was killed has left.
    clear_drafts(target.parent, f".{target.name}.draft-*")
    draft = target.with_name(f".{target.name}.draft-{os.getpid()}")
    try:
        _write(name, scene_dir, draft)
        if target.is_dir():
            # A directory takes long to remove: it has to be out of the way by then.
            put_in_place(draft, target)
        else:
            draft.replace(target)
    finally:
        discard(draft)


def _write(name: str, scene_dir: Path, path: Path) -> None:
    match name:
        case "ply":
            _copy(scene_dir / SPLATS, path)
        case "html":
            _copy(scene_dir / TARGETS["html"], path)
        case "mp4":
            _copy(scene_dir / TARGETS["mp4"], path)
        case "spz":
            from worldstereo_cli.viewer.export.spz import write_spz

            write_spz(scene_dir, path)
        case "colmap":
            from worldstereo_cli.viewer.export.colmap import write_colmap

            write_colmap(scene_dir, path)
        case "nerfstudio":
            from worldstereo_cli.viewer.export.nerfstudio import write_nerfstudio

            write_nerfstudio(scene_dir, path)
        case "glb":
            from worldstereo_cli.viewer.export.mesh import write_mesh

            write_mesh(scene_dir, path)
        case _:
            raise ValueError(f"Expected a format, got {name!r}.")


def _copy(source: Path, path: Path) -> None:
    try:
        shutil.copyfile(source, path)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{source} is not there.", remedy=f"worldstereo reconstruct {source.parent} --force  writes it."
        ) from error

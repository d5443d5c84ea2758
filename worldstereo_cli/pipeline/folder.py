"""A folder of photos: one scene each, and one failure does not stop the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldstereo_cli.errors import InputError, WorldStereoError
from worldstereo_cli.pipeline.report import Reporter, SceneReport
from worldstereo_cli.pipeline.run import RunOptions, run_scene
from worldstereo_cli.recipe import Recipe

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".tif", ".tiff", ".bmp"})


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """What became of one photo of a folder."""

    photo: Path
    scene_dir: Path
    report: SceneReport | None
    error: WorldStereoError | None


def photos_in(folder: Path) -> list[Path]:
    """List the photos of a folder by name.

    Raises:
        InputError: There are none, or two would share a scene because their names differ in the
            ending only.
    """
    photos = sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
    if not photos:
        endings = ", ".join(sorted(PHOTO_SUFFIXES))
        raise InputError(f"{folder} holds no photos.", remedy=f"Photos end in {endings}.")
    by_stem: dict[str, Path] = {}
    for photo in photos:
        # Lower case, because two scenes that differ in case are one on some file systems.
        other = by_stem.setdefault(photo.stem.lower(), photo)
        if other is not photo:
            raise InputError(
                f"{other.name} and {photo.name} would both become the scene {photo.stem}.",
                remedy="Rename one of them.",
            )
    return photos


def run_folder(
    folder: Path, out: Path, recipe: Recipe, options: RunOptions, reporter: Reporter
) -> list[FolderEntry]:
    """Build one scene for each photo of a folder, in `out/<stem>/`.

    Raises:
        InputError: The folder holds no photos, or names clash.
    """
    entries = []
    for photo in photos_in(folder):
        scene_dir = out / photo.stem
        try:
            report = run_scene(photo, scene_dir, recipe, options, reporter)
            entries.append(FolderEntry(photo, scene_dir, report, None))
        except WorldStereoError as error:
            entries.append(FolderEntry(photo, scene_dir, None, error))
    return entries

r"""`python -m worldstereo_cli.training assets`: build the asset pack.

The packages are free downloads; in an empty folder PACKAGES:

    apt-get download sweethome3d-furniture supertuxkart-data cube2-data mypaint-data-extras \
        blender-data lomiri-wallpapers-16.04
    for deb in *.deb; do mkdir -p ${deb%%_*}; dpkg -x $deb ${deb%%_*}; done
    npm pack @pmndrs/assets@1.7.0
    mkdir -p pmndrs-assets && tar xzf pmndrs-assets-1.7.0.tgz -C pmndrs-assets --strip-components=1
    pip install OpenEXR

then `python -m worldstereo_cli.training assets --packages PACKAGES --out .assets`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from worldstereo_cli.errors import InputError
from worldstereo_cli.training.assets.furniture import ARCHIVES, TileStore, read_archive
from worldstereo_cli.training.assets.pack import (
    PACK_NAME,
    PANORAMA_SHAPE,
    AssetPack,
    Credit,
    PackedMesh,
)
from worldstereo_cli.training.assets.pictures import read_panorama, texture_tiles

SELECTION = Path(__file__).parent / "selection.json"
_NPM_FOLDERS = {"@pmndrs/assets": "pmndrs-assets"}


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m worldstereo_cli.training assets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--packages", type=Path, required=True, help="folder of unpacked packages")
    parser.add_argument("--out", type=Path, default=Path(".assets"), help="where the pack goes")
    options = parser.parse_args(arguments)
    pack = build_pack(options.packages)
    pack.write(options.out)
    size = (options.out / PACK_NAME).stat().st_size / 1e6
    sys.stderr.write(
        f"{len(pack.meshes)} meshes, {len(pack.tiles)} tiles, {len(pack.panoramas)} panoramas, "
        f"{len(pack.credits)} sources, {size:.1f} MB\n"
    )
    return 0


def build_pack(packages: Path, selection_file: Path = SELECTION) -> AssetPack:
    """Read everything that the selection names.

    Raises:
        InputError: A package is missing.
    """
    selection: dict[str, Any] = json.loads(selection_file.read_text())
    rng = np.random.default_rng(0)
    photos: list[bytes] = []
    credits: list[Credit] = []
    for entry in selection["pictures"]:
        photos += texture_tiles(_find(packages, entry), entry["kind"], rng)
        credits.append(_credit(entry))
    panoramas = []
    for entry in selection["panoramas"]:
        panoramas.append(read_panorama(_find(packages, entry)))
        credits.append(_credit(entry))
    meshes, store = _read_furniture(packages, selection["furniture"], credits)
    shifted = [_shift_tiles(mesh, len(photos)) for mesh in meshes]
    maps = np.stack(panoramas) if panoramas else np.zeros((0, *PANORAMA_SHAPE, 3), np.float16)
    return AssetPack(shifted, photos + store.tiles, len(photos), maps, credits)


def _read_furniture(
    packages: Path, settings: dict[str, Any], credits: list[Credit]
) -> tuple[list[PackedMesh], TileStore]:
    meshes: list[PackedMesh] = []
    store = TileStore()
    for name, pack in settings["packs"].items():
        archive = _find(packages, {"package": settings["package"], "path": f"{ARCHIVES}/{name}.sh3f"})
        for mesh, credit in read_archive(archive, name, pack, set(settings["left_out"]), store):
            meshes.append(mesh)
            credits.append(credit)
    return meshes, store


def _shift_tiles(mesh: PackedMesh, shift: int) -> PackedMesh:
    tile = np.where(mesh.tile >= 0, mesh.tile + shift, -1).astype(np.int16)
    return PackedMesh(mesh.group, mesh.size_m, mesh.corners, mesh.uv, tile, mesh.color)


def _credit(entry: dict[str, str]) -> Credit:
    return Credit(entry["path"], f"{entry['package']} {entry['version']}", entry["licence"], entry["author"])


def _find(packages: Path, entry: dict[str, str]) -> Path:
    folder = packages / _NPM_FOLDERS.get(entry["package"], entry["package"])
    path = folder / entry["path"]
    if not path.exists():
        raise InputError(
            f"{path} is missing.",
            remedy="Unpack the packages as python -m worldstereo_cli.training assets --help says.",
        )
    return path

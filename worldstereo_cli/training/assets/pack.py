"""The asset pack on disk: one compressed archive and the credits that its licences ask for."""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from worldstereo_cli.errors import InputError

PACK_NAME = "assets.npz"
CREDITS_NAME = "SOURCES.md"
CREDITS_DATA_NAME = "sources.json"
PANORAMA_SHAPE = (128, 256)
TILE_SIZE = 256


@dataclass(frozen=True, slots=True)
class Credit:
    """Where one used file comes from."""

    name: str
    """Path inside its package."""
    package: str
    licence: str
    author: str


@dataclass(frozen=True, slots=True)
class PackedMesh:
    """A thinned mesh of the pack."""

    group: str
    """One of `MESH_GROUPS`."""
    size_m: npt.NDArray[np.float32]
    """(3,) full extent, metres."""
    corners: npt.NDArray[np.int16]
    """(t, 3, 3): [-1, 1] as [-32000, 32000]."""
    uv: npt.NDArray[np.float16]
    """(t, 3, 2) in tiles, v down."""
    tile: npt.NDArray[np.int16]
    """(t,) index into the pack's tiles, or -1."""
    color: npt.NDArray[np.uint32]
    """(t,) sRGB 0x00BBGGRR."""


@dataclass(frozen=True, slots=True)
class AssetPack:
    """Meshes, texture tiles, panoramas, and their credits."""

    meshes: list[PackedMesh]
    tiles: list[bytes]
    """JPEG files of 256 x 256 pixels; the first `num_photos` are free textures."""
    num_photos: int
    panoramas: npt.NDArray[np.float16]
    """(n, 128, 256, 3) linear light, mean luminance 1, equirectangular, up first."""
    credits: list[Credit]

    def write(self, folder: Path) -> None:
        """Write the archive and the credits."""
        folder.mkdir(parents=True, exist_ok=True)
        lengths = np.array([len(tile) for tile in self.tiles], np.int64)
        fields: dict[str, npt.NDArray[np.generic]] = {
            "tile_bytes": np.frombuffer(b"".join(self.tiles), np.uint8),
            "tile_lengths": lengths,
            "num_photos": np.array(self.num_photos),
            "panoramas": self.panoramas,
            "groups": np.array([mesh.group for mesh in self.meshes], dtype=np.str_),
            "counts": np.array([len(mesh.corners) for mesh in self.meshes], np.int64),
            "sizes": np.array([mesh.size_m for mesh in self.meshes], np.float32).reshape(-1, 3),
        }
        for name in ("corners", "uv", "tile", "color"):
            parts = [getattr(mesh, name) for mesh in self.meshes]
            fields[name] = np.concatenate(parts) if parts else np.zeros(0)
        np.savez_compressed(folder / PACK_NAME, **fields)  # type: ignore[arg-type]
        (folder / CREDITS_NAME).write_text(credits_text(self.credits))
        (folder / CREDITS_DATA_NAME).write_text(json.dumps([asdict(c) for c in self.credits], indent=1))

    @classmethod
    def read(cls, folder: Path) -> "AssetPack":
        """Read a pack.

        Raises:
            InputError: The folder holds none.
        """
        path = folder / PACK_NAME
        if not path.exists():
            raise InputError(
                f"{folder} holds no asset pack.",
                remedy="Build one: python -m worldstereo_cli.training assets --help",
            )
        with np.load(path) as archive:
            data = {name: archive[name] for name in archive.files}
        ends = np.cumsum(data["tile_lengths"])
        blob = data["tile_bytes"].tobytes()
        tiles = [blob[int(e - n) : int(e)] for e, n in zip(ends, data["tile_lengths"], strict=True)]
        stops = np.cumsum(data["counts"])
        meshes = []
        for group, size, stop, count in zip(
            data["groups"], data["sizes"], stops, data["counts"], strict=True
        ):
            part = slice(int(stop - count), int(stop))
            fields = (data[name][part] for name in ("corners", "uv", "tile", "color"))
            meshes.append(PackedMesh(str(group), size, *fields))
        credits = [Credit(**entry) for entry in json.loads((folder / CREDITS_DATA_NAME).read_text())]
        return cls(meshes, tiles, int(data["num_photos"]), data["panoramas"], credits)


def encode_tile(picture: Image.Image) -> bytes:
    """JPEG of a picture squeezed to one tile."""
    buffer = io.BytesIO()
    square = picture.convert("RGB").resize((TILE_SIZE, TILE_SIZE), Image.Resampling.LANCZOS)
    square.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def credits_text(credits: list[Credit]) -> str:
    """Markdown table of every source, grouped by package and licence."""
    lines = [
        "# Pictures and meshes seen in training",
        "",
        "Changes: meshes thinned, pictures cut and scaled. CC0-1.0 and public domain need no credit;",
        "CC-BY: https://creativecommons.org/licenses/by/3.0/ and https://creativecommons.org/licenses/by/4.0/.",
        "",
        "| package | file | author | licence |",
        "| --- | --- | --- | --- |",
    ]
    for c in sorted(credits, key=lambda c: (c.package, c.name)):
        lines.append(f"| {c.package} | {c.name} | {c.author or 'not named'} | {c.licence} |")
    return "\n".join(lines) + "\n"

"""Read the furniture archives of Sweet Home 3D: which models, how large, of what kind."""

import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from worldstereo_cli.training.assets.obj import ObjMaterial, ObjMesh, read_obj, thin
from worldstereo_cli.training.assets.pack import Credit, PackedMesh, encode_tile

MAX_TRIANGLES = 1500
MAX_PERSON_TRIANGLES = 3500
ARCHIVES = "usr/share/sweethome3d/furniture"

_KINDS: tuple[tuple[str, str], ...] = (
    ("pack_person", r"\b(woman|man|male|female|boy|girl|child|person|baby)\b"),
    ("pack_seat", r"chair|stool|seat|banquette"),
    ("pack_sofa", r"sofa|armchair|couch|futon|pouf|settee"),
    ("pack_bed", r"\bbed\b|cradle|crib"),
    ("pack_table", r"table|desk\b"),
    ("pack_lamp", r"lamp|light|chandelier|candle|lantern"),
    ("pack_plant", r"plant|tree|flower|palm|bush|fern|yucca|bamboo|cactus"),
    (
        "pack_storage",
        r"cupboard|cabinet|chest|wardrobe|shel|bookcase|dresser|rack|drawer|closet|sideboard|library",
    ),
    ("pack_device", r"computer|laptop|monitor|screen|television|\btv\b|speaker|printer|keyboard|radio|phone"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of a catalogue."""

    path: str
    """OBJ file inside the archive."""
    name: str
    category: str
    creator: str
    size_m: tuple[float, float, float]
    """Width, height, depth."""
    rotation: tuple[float, ...]
    """Row-major 3 x 3, applied to the file's vertices."""


def read_catalogue(text: str) -> list[Model]:
    """Models of a PluginFurnitureCatalog.properties file, doors and windows left out."""
    entries: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        match = re.match(r"(\w+)#(\d+)=(.*)", line.strip())
        if match:
            entries.setdefault(match[2], {})[match[1]] = match[3].strip()
    models = []
    for entry in entries.values():
        if entry.get("doorOrWindow") == "true" or "model" not in entry:
            continue
        size = tuple(float(entry[key]) / 100 for key in ("width", "height", "depth"))
        rotation = tuple(float(x) for x in entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split())
        models.append(
            Model(
                entry["model"].lstrip("/"),
                entry.get("name", ""),
                entry.get("category", ""),
                entry.get("creator", ""),
                (size[0], size[1], size[2]),
                rotation,
            )
        )
    return models


def group_of(model: Model) -> str:
    """The mesh group that a model joins, by its name, category and size."""
    name, category, height = model.name.lower(), model.category, model.size_m[1]
    if category == "Characters":
        return "pack_person" if 0.8 < height < 2.1 else "pack_small"
    if category == "Vehicles":
        return "pack_vehicle" if max(model.size_m) > 2.5 else "pack_outdoor"
    small = max(model.size_m) < 0.55
    for group, pattern in _KINDS:
        if re.search(pattern, name):
            if group == "pack_lamp" and (height < 0.9 or category == "Exterior"):
                return "pack_small" if small else "pack_outdoor"
            return "pack_small" if small else group
    if small:
        return "pack_kitchen" if category == "Kitchen" and height > 0.12 else "pack_small"
    return {"Exterior": "pack_outdoor", "Bathroom": "pack_bath"}.get(category, "pack_large")


class TileStore:
    """Texture tiles, each picture once."""

    def __init__(self) -> None:
        self.tiles: list[bytes] = []
        self._index: dict[Path, int] = {}

    def index_of(self, picture: Path) -> int:
        """Tile of a picture file, or -1 when it is a cut-out, which the renderer cannot show."""
        if picture not in self._index:
            with Image.open(picture) as image:
                rgba = image.convert("RGBA")
            if np.asarray(rgba)[..., 3].mean() < 245:
                self._index[picture] = -1
            else:
                self._index[picture] = len(self.tiles)
                self.tiles.append(encode_tile(rgba))
        return self._index[picture]


def pack_model(mesh: ObjMesh, model: Model, store: TileStore) -> PackedMesh | None:
    """Thin a model and give its triangles tiles and colours; None if it is cut-outs or glass at large."""
    shown = [
        m.opacity > 0.5 and (m.picture is None or store.index_of(m.picture) >= 0) for m in mesh.materials
    ]
    keep = np.array(shown)[mesh.material]
    if keep.mean() < 0.7:
        return None
    turned = mesh.corners[keep] @ np.array(model.rotation).reshape(3, 3).T
    whole = ObjMesh(turned, mesh.uv[keep], mesh.material[keep], mesh.materials)
    group = group_of(model)
    small = thin(whole, MAX_PERSON_TRIANGLES if group == "pack_person" else MAX_TRIANGLES)
    low, high = small.corners.min((0, 1)), small.corners.max((0, 1))
    unit = (small.corners - (low + high) / 2) / np.maximum((high - low) / 2, 1e-6)
    uv = small.uv * [1, -1] + [0, 1]
    uv = uv - np.floor(uv.min(1, keepdims=True))  # float16 has no room for far repeats
    tile = np.array([-1 if m.picture is None else store.index_of(m.picture) for m in small.materials])
    color = np.array([_packed(m) for m in small.materials])
    return PackedMesh(
        group,
        np.array(model.size_m, np.float32),
        np.round(unit * 32000).astype(np.int16),
        uv.clip(-60, 60).astype(np.float16),
        tile[small.material].astype(np.int16),
        color[small.material].astype(np.uint32),
    )


def _packed(material: ObjMaterial) -> int:
    red, green, blue = (round(255 * c) for c in material.color)
    return red | green << 8 | blue << 16


def read_archive(
    archive: Path, pack: str, settings: dict[str, str], left_out: set[str], store: TileStore
) -> Iterator[tuple[PackedMesh, Credit]]:
    """Meshes of one furniture archive with their credits."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
        root = Path(folder)
        text = (root / "PluginFurnitureCatalog.properties").read_text(encoding="latin-1")
        for model in read_catalogue(text):
            if str(Path(model.path).parent) in left_out or not (root / model.path).exists():
                continue
            mesh = read_obj(root / model.path)
            packed = pack_model(mesh, model, store) if len(mesh.corners) else None
            if packed is None:
                continue
            author = ", ".join(dict.fromkeys(a for a in (model.creator, settings["author"]) if a))
            name = f"{pack}.sh3f/{Path(model.path).parent}"
            yield packed, Credit(name, "sweethome3d-furniture", settings["licence"], author)

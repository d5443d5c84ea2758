"""Promises of the asset pack: licences kept, credits complete, meshes and textures in place."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worldstereo_cli.errors import InputError
from worldstereo_cli.training.assets.command import SELECTION, build_pack
from worldstereo_cli.training.assets.furniture import group_of, read_catalogue
from worldstereo_cli.training.assets.obj import read_obj, thin
from worldstereo_cli.training.assets.pack import AssetPack, credits_text
from worldstereo_cli.training.scenes.library import build_library
from worldstereo_cli.training.scenes.meshes import MESH_GROUPS

CATALOGUE = """
license=Creative Commons
name#1=Oak chair
category#1=Living room
model#1=/things/chair/chair.obj
width#1=50
depth#1=40
height#1=90
doorOrWindow#1=false
creator#1=A. Joiner
name#2=Gate
category#2=Doors and windows
model#2=/things/gate/gate.obj
width#2=50
depth#2=40
height#2=90
doorOrWindow#2=true
name#3=Banknote
category#3=Miscellaneous
model#3=/things/banknote/banknote.obj
width#3=10
depth#3=1
height#3=5
doorOrWindow#3=false
"""


def sheet_obj(cells):
    """A square of cells x cells quads in the plane z = 0, whose texture coordinates are its x and y."""
    n = cells + 1
    lines = ["mtllib sheet.mtl", "usemtl paint"]
    lines += [f"v {x / cells} {y / cells} 0" for y in range(n) for x in range(n)]
    lines += [f"vt {x / cells} {y / cells}" for y in range(n) for x in range(n)]
    for y in range(cells):
        for x in range(cells):
            a = y * n + x + 1
            ring = (a, a + 1, a + n + 1, a + n)
            lines.append("f " + " ".join(f"{i}/{i}" for i in ring))
    return "\n".join(lines)


def png(color, size=(300, 300)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def packages(tmp_path):
    """One furniture archive and one texture, as the packages hold them."""
    folder = tmp_path / "packages"
    furniture = folder / "sweethome3d-furniture/usr/share/sweethome3d/furniture"
    furniture.mkdir(parents=True)
    with zipfile.ZipFile(furniture / "Things.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", CATALOGUE)
        for name in ("chair", "gate", "banknote"):
            archive.writestr(f"things/{name}/{name}.obj", sheet_obj(3))
            archive.writestr(f"things/{name}/sheet.mtl", "newmtl paint\nKd 1 0 0\nmap_Kd wood.png\n")
            archive.writestr(f"things/{name}/wood.png", png((200, 40, 10)))
    (folder / "textures").mkdir()
    (folder / "textures/stone.png").write_bytes(png((90, 90, 90)))
    selection = {
        "furniture": {
            "package": "sweethome3d-furniture",
            "version": "1",
            "packs": {"Things": {"licence": "CC-BY-3.0", "author": "The Things"}},
            "left_out": ["things/banknote"],
        },
        "pictures": [
            {
                "package": "textures",
                "version": "2",
                "path": "stone.png",
                "licence": "CC0-1.0",
                "author": "A. Mason",
                "kind": "texture",
            }
        ],
        "panoramas": [],
    }
    (tmp_path / "selection.json").write_text(json.dumps(selection))
    return folder


def test_a_pack_credits_all_that_it_holds_and_nothing_else(packages, tmp_path):
    pack = build_pack(packages, tmp_path / "selection.json")
    assert [(c.name, c.author, c.licence) for c in pack.credits] == [
        ("stone.png", "A. Mason", "CC0-1.0"),
        ("Things.sh3f/things/chair", "A. Joiner, The Things", "CC-BY-3.0"),
    ]
    assert len(pack.meshes) == 1
    assert pack.meshes[0].group == "pack_seat"
    text = credits_text(pack.credits)
    assert "A. Joiner" in text and "stone.png" in text and "banknote" not in text


def test_a_pack_survives_the_disk_and_reaches_the_renderer(packages, tmp_path):
    build_pack(packages, tmp_path / "selection.json").write(tmp_path / "pack")
    assert "A. Mason" in (tmp_path / "pack/SOURCES.md").read_text()
    pack = AssetPack.read(tmp_path / "pack")
    library = build_library(tmp_path / "pack")
    chairs = [mesh for mesh in library.meshes if mesh.group == "pack_seat"]
    assert np.allclose(chairs[0].half_m[:2], [0.25, 0.45])
    assert len(library.tiles) == len(pack.tiles) == pack.num_photos + 1
    texel = int(library.tiles[chairs[0].tile[0]][0])
    assert abs((texel & 255) - 200) < 8 and abs((texel >> 8 & 255) - 40) < 8


def test_a_folder_without_a_pack_is_refused(tmp_path):
    with pytest.raises(InputError, match="no asset pack"):
        build_library(tmp_path)


def test_thinning_keeps_the_texture_in_place(tmp_path):
    (tmp_path / "sheet.obj").write_text(sheet_obj(12))
    mesh = read_obj(tmp_path / "sheet.obj")
    assert mesh.corners.shape == (288, 3, 3)
    small = thin(mesh, 40)
    assert 2 <= len(small.corners) <= 40
    assert np.allclose(small.uv, small.corners[..., :2], atol=1e-5)


def test_the_selection_allows_only_free_licences():
    selection = json.loads(SELECTION.read_text())
    licences = {entry["licence"] for kind in ("pictures", "panoramas") for entry in selection[kind]}
    licences |= {pack["licence"] for pack in selection["furniture"]["packs"].values()}
    for licence in licences:
        assert licence.upper().startswith(("CC0", "CC-BY-3", "CC-BY-4", "PUBLIC-DOMAIN")), licence
    for entry in selection["pictures"]:
        assert entry["author"] or entry["licence"].upper().startswith(("CC0", "PUBLIC-DOMAIN"))


def test_models_join_the_group_of_their_name():
    models = read_catalogue(CATALOGUE.replace("Oak chair", "Floor lamp"))
    assert [group_of(model) for model in models] == ["pack_lamp", "pack_small"]
    assert set(map(group_of, models)) <= set(MESH_GROUPS)


def test_photographs_that_we_measure_on_dress_no_scene():
    photos = Path(__file__).parents[2] / "data" / "photos"
    rows = [line.split("|") for line in (photos / "CREDITS.md").read_text().splitlines() if ".jpg" in line]
    measured = {(row[2].strip().split()[0].lower(), row[3].strip()) for row in rows}
    assert len(measured) == len(list(photos.glob("*.jpg")))
    for picture in json.loads(SELECTION.read_text())["pictures"]:
        name = Path(picture["path"]).stem.lower()
        assert not any(name.startswith(title) and author == picture["author"] for title, author in measured)

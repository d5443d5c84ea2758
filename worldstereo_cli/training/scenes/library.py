"""Pack meshes, textures and skies into the flat arrays that the scene program reads."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from worldstereo_cli.training.assets.pack import AssetPack, PackedMesh
from worldstereo_cli.training.scenes.meshes import MESH_GROUPS, Mesh, make_mesh
from worldstereo_cli.training.scenes.settings import SceneSettings
from worldstereo_cli.training.scenes.shapes import procedural_meshes

MESH_LEAF = 4
TILE_SIZE = 256
TILE_LEVELS = 6
TILE_WORDS = sum((TILE_SIZE >> level) ** 2 for level in range(TILE_LEVELS))
SKY_HEIGHT, SKY_WIDTH = 32, 64
SKY_WORDS = 27 + SKY_HEIGHT * SKY_WIDTH * 3
PACK_PREFIX = "pack"
"""Groups of meshes that only the asset pack fills."""
WITHOUT_FURNITURE = "groups_without_furniture"
"""The same groups, those of the asset pack empty."""
USE_MATERIAL = 0xFF000000
"""Colour of a triangle that takes the instance's material."""

# Mirrors of the structs of source/scene.h.
MESH_INFO = np.dtype(
    [
        ("first_triangle", "i4"),
        ("first_node", "i4"),
        ("leaf_count", "i4"),
        ("group", "i4"),
        ("half", "f4", 3),
        ("solid", "f4"),
    ]
)
LOOK = np.dtype([("normal", "f4", 9), ("uv", "f4", 6), ("tile", "i4"), ("color", "u4")])
HEADER = np.dtype(
    [
        ("tiles", "u8"),
        ("tile_count", "i4"),
        ("skies", "u8"),
        ("sky_count", "i4"),
        ("meshes", "u8"),
        ("mesh_nodes", "u8"),
        ("triangles", "u8"),
        ("looks", "u8"),
        ("groups", "u8"),
        ("has_pictures", "i4"),
        ("has_panoramas", "i4"),
    ],
    align=True,
)

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class AssetLibrary:
    """Everything that all scenes share."""

    tiles: npt.NDArray[np.uint32]
    """(tiles, texels of all levels): 8-bit sRGB, 0x00BBGGRR, finest level first."""
    skies: npt.NDArray[np.float32]
    """(panoramas, SKY_WORDS): irradiance harmonics (9, 3), then a coarse map (32, 64, 3)."""
    meshes: list[Mesh]
    """Sorted by group."""

    def arrays(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Raw bytes by name, in the layout of source/scene.h."""
        infos, nodes, triangles, looks = _pack_meshes(self.meshes)
        groups = np.zeros((len(MESH_GROUPS), 2), np.int32)
        for index, group in enumerate(MESH_GROUPS):
            members = [i for i, mesh in enumerate(self.meshes) if mesh.group == group]
            groups[index] = (members[0], len(members)) if members else (0, 0)
        is_pack = np.array([group.startswith(PACK_PREFIX) for group in MESH_GROUPS])
        packed: dict[str, Array] = {
            "tiles": self.tiles,
            "skies": self.skies,
            "meshes": infos,
            "mesh_nodes": nodes,
            "triangles": triangles,
            "looks": looks,
            "groups": groups,
            WITHOUT_FURNITURE: np.where(is_pack[:, None], 0, groups),
        }
        # One spare word keeps empty arrays addressable.
        return {name: np.concatenate([_bytes(a), np.zeros(16, np.uint8)]) for name, a in packed.items()}

    def header(self, pointers: dict[str, int], settings: SceneSettings) -> Array:
        """The struct `Library` for arrays that lie at these addresses, without what is not wanted."""
        header = np.zeros(1, HEADER)
        for name, address in pointers.items():
            if name != WITHOUT_FURNITURE:
                header[name] = address
        if not settings.furniture:
            header["groups"] = pointers[WITHOUT_FURNITURE]
        header["tile_count"] = len(self.tiles)
        header["sky_count"] = len(self.skies)
        # What is left out is still drawn by lot, so that the shapes of a scene stay the same.
        header["has_pictures"] = settings.pictures
        header["has_panoramas"] = settings.panoramas
        return header


def build_library(assets_dir: Path | None) -> AssetLibrary:
    """Procedural meshes, and the asset pack when there is one.

    Args:
        assets_dir: Folder of an asset pack; shapes and patterns alone when absent.

    Raises:
        InputError: `assets_dir` holds no asset pack.
    """
    meshes: list[Mesh] = []
    tiles, skies = np.zeros((0, TILE_WORDS), np.uint32), np.zeros((0, SKY_WORDS), np.float32)
    if assets_dir is not None:
        pack = AssetPack.read(assets_dir)
        meshes = [_unpack_mesh(mesh) for mesh in pack.meshes]
        tiles = np.array([_decode_tile(tile) for tile in pack.tiles], np.uint32).reshape(-1, TILE_WORDS)
        panoramas = pack.panoramas.astype(np.float32)
        skies = np.array([_pack_sky(panorama) for panorama in panoramas], np.float32).reshape(-1, SKY_WORDS)
    meshes += procedural_meshes()
    meshes.sort(key=lambda mesh: MESH_GROUPS.index(mesh.group))
    return AssetLibrary(tiles, skies, meshes)


def _unpack_mesh(packed: PackedMesh) -> Mesh:
    half = packed.size_m.astype(np.float64) / 2
    looks = (packed.uv.astype(np.float32), packed.tile.astype(np.int32), packed.color)
    return make_mesh(packed.group, packed.corners / 32000.0 * half, looks=looks)


def _decode_tile(jpeg: bytes) -> npt.NDArray[np.uint32]:
    """All levels of a tile, finest first, as 0x00BBGGRR."""
    with Image.open(io.BytesIO(jpeg)) as image:
        level = np.asarray(image.convert("RGB"), np.float32)
    levels = []
    for _ in range(TILE_LEVELS):
        byte = np.round(level).astype(np.uint32)
        levels.append((byte[..., 0] | byte[..., 1] << 8 | byte[..., 2] << 16).ravel())
        level = level.reshape(level.shape[0] // 2, 2, level.shape[1] // 2, 2, 3).mean((1, 3))
    return np.concatenate(levels)


def _pack_sky(panorama: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Light from every side: nine harmonics of the irradiance, then a coarse map for reflections.

    Source: Ramamoorthi and Hanrahan, An Efficient Representation for Irradiance Environment Maps, 2001.
    """
    height, width = panorama.shape[:2]
    polar = (np.arange(height) + 0.5) / height * np.pi
    angle = (np.arange(width) + 0.5) / width * 2 * np.pi
    y = np.repeat(np.cos(polar)[:, None], width, 1)
    x, z = np.sin(polar)[:, None] * np.sin(angle), np.sin(polar)[:, None] * np.cos(angle)
    first = (0.282095 + 0 * x, 0.488603 * y, 0.488603 * z, 0.488603 * x)
    second = (1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z)
    basis = np.stack([*first, *second, 0.546274 * (x * x - y * y)])
    solid_angle = np.sin(polar)[:, None] * (np.pi / height) * (2 * np.pi / width)
    bands = np.array([1.0, *(3 * [2 / 3]), *(5 * [1 / 4])])[:, None]  # cosine lobe over pi
    clipped = np.minimum(panorama, 30.0)  # the sun is a light of its own
    harmonics = np.einsum("khw,hwc->kc", basis * solid_angle, clipped) * bands
    small = np.minimum(panorama, 8.0).reshape(
        SKY_HEIGHT, height // SKY_HEIGHT, SKY_WIDTH, width // SKY_WIDTH, 3
    )
    return np.concatenate([harmonics.ravel(), small.mean((1, 3)).ravel()]).astype(np.float32)


def _bytes(array: Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _pack_meshes(meshes: list[Mesh]) -> tuple[Array, Array, Array, Array]:
    infos = np.zeros(len(meshes), MESH_INFO)
    nodes, triangles, looks = [], [], []
    node_count = triangle_count = 0
    for index, mesh in enumerate(meshes):
        order, boxes = _build_tree(mesh.corners)
        infos[index] = (
            triangle_count,
            node_count,
            len(boxes) // 2,
            MESH_GROUPS.index(mesh.group),
            mesh.half_m,
            mesh.solid,
        )
        padded = np.zeros((len(order), 3, 3), np.float32)
        padded[order >= 0] = mesh.corners[order[order >= 0]]
        edges = np.stack([padded[:, 0], padded[:, 1] - padded[:, 0], padded[:, 2] - padded[:, 0]], 1)
        look = np.zeros(len(order), LOOK)
        used = order >= 0
        look["normal"][used] = mesh.normals[order[used]].reshape(-1, 9)
        look["uv"][used] = mesh.uv[order[used]].reshape(-1, 6)
        look["tile"], look["color"] = -1, USE_MATERIAL
        look["tile"][used], look["color"][used] = mesh.tile[order[used]], mesh.color[order[used]]
        nodes.append(boxes)
        triangles.append(edges.astype(np.float32))
        looks.append(look)
        node_count += len(boxes)
        triangle_count += len(order)
    return infos, np.concatenate(nodes), np.concatenate(triangles), np.concatenate(looks)


def _build_tree(corners: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Split triangles at the median of the longest axis, level by level, into a complete binary tree.

    Args:
        corners: (t, 3, 3).

    Returns:
        Triangle of every slot of every leaf, -1 where a slot is empty; and the boxes of all nodes,
        (2 * leaves, 6), root at index 1.
    """
    count = len(corners)
    leaves = 1
    while leaves * MESH_LEAF < count:
        leaves *= 2
    # Empty slots are spread over all leaves, so that every level halves exactly.
    slots = np.full(leaves * MESH_LEAF, -1, np.int64)
    slots[np.linspace(0, len(slots), count, endpoint=False).astype(np.int64)] = np.arange(count)
    centers = corners.mean(1)
    order = slots[slots >= 0]
    segment_of_slot = np.nonzero(slots >= 0)[0]
    width = len(slots)
    while width > MESH_LEAF:
        segment = segment_of_slot // width
        starts = np.nonzero(np.r_[True, segment[1:] != segment[:-1]])[0]
        c = centers[order]
        extent = np.maximum.reduceat(c, starts) - np.minimum.reduceat(c, starts)
        axis = extent.argmax(1)[np.cumsum(np.r_[True, segment[1:] != segment[:-1]]) - 1]
        order = order[np.lexsort((c[np.arange(count), axis], segment))]
        width //= 2
    slots[segment_of_slot] = order
    boxes = np.empty((2 * leaves, 6), np.float32)
    low, high = np.full((len(slots), 3), 1e30), np.full((len(slots), 3), -1e30)
    low[segment_of_slot], high[segment_of_slot] = corners[order].min(1) - 1e-5, corners[order].max(1) + 1e-5
    boxes[leaves:, :3] = low.reshape(leaves, MESH_LEAF, 3).min(1)
    boxes[leaves:, 3:] = high.reshape(leaves, MESH_LEAF, 3).max(1)
    boxes[0] = 0  # node 0 does not exist
    level = leaves // 2
    while level >= 1:
        children = boxes[2 * level : 4 * level].reshape(level, 2, 6)
        boxes[level : 2 * level, :3] = children[:, :, :3].min(1)
        boxes[level : 2 * level, 3:] = children[:, :, 3:].max(1)
        level //= 2
    return slots, boxes

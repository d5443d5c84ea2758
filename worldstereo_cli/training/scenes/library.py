"""Pack meshes, textures and skies into the flat arrays that the scene program reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from worldstereo_cli.training.scenes.meshes import MESH_GROUPS, Mesh, procedural_meshes

MESH_LEAF = 4
TILE_SIZE = 256
TILE_LEVELS = 6
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
        ("photo_count", "i4"),
        ("panoramas", "u8"),
        ("panorama_count", "i4"),
        ("meshes", "u8"),
        ("mesh_nodes", "u8"),
        ("triangles", "u8"),
        ("looks", "u8"),
        ("groups", "u8"),
    ],
    align=True,
)

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class AssetLibrary:
    """Everything that all scenes share."""

    tiles: npt.NDArray[np.uint32]
    """(tiles, texels of all levels): 8-bit sRGB, 0x00BBGGRR, finest level first."""
    num_photos: int
    """Tiles before this one are free textures, the others belong to meshes."""
    panoramas: npt.NDArray[np.uint32]
    """(panoramas, 128 * 256) RGBE."""
    meshes: list[Mesh]
    """Sorted by group."""

    def arrays(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Raw bytes by name, in the layout of source/scene.h."""
        infos, nodes, triangles, looks = _pack_meshes(self.meshes)
        groups = np.zeros((len(MESH_GROUPS), 2), np.int32)
        for index, group in enumerate(MESH_GROUPS):
            members = [i for i, mesh in enumerate(self.meshes) if mesh.group == group]
            groups[index] = (members[0], len(members)) if members else (0, 0)
        packed: dict[str, Array] = {
            "tiles": self.tiles,
            "panoramas": self.panoramas,
            "meshes": infos,
            "mesh_nodes": nodes,
            "triangles": triangles,
            "looks": looks,
            "groups": groups,
        }
        # One spare word keeps empty arrays addressable.
        return {name: np.concatenate([_bytes(a), np.zeros(16, np.uint8)]) for name, a in packed.items()}

    def header(self, pointers: dict[str, int]) -> Array:
        """The struct `Library` for arrays that lie at these addresses."""
        header = np.zeros(1, HEADER)
        for name, address in pointers.items():
            header[name] = address
        header["tile_count"] = len(self.tiles)
        header["photo_count"] = self.num_photos
        header["panorama_count"] = len(self.panoramas)
        return header


def build_library(assets_dir: Path | None) -> AssetLibrary:
    """Procedural meshes, and the asset pack when there is one.

    Raises:
        InputError: `assets_dir` holds no asset pack.
    """
    meshes = procedural_meshes()
    words = sum((TILE_SIZE >> level) ** 2 for level in range(TILE_LEVELS))
    tiles, panoramas, photos = np.zeros((0, words), np.uint32), np.zeros((0, 128 * 256), np.uint32), 0
    meshes.sort(key=lambda mesh: MESH_GROUPS.index(mesh.group))
    return AssetLibrary(tiles, photos, panoramas, meshes)


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
    boxes = np.zeros((2 * leaves, 6), np.float32)
    boxes[:, :3], boxes[:, 3:] = 1e30, -1e30
    leaf = leaves + segment_of_slot // MESH_LEAF
    np.minimum.at(boxes[:, :3], leaf, corners[order].min(1) - 1e-5)
    np.maximum.at(boxes[:, 3:], leaf, corners[order].max(1) + 1e-5)
    level = leaves // 2
    while level >= 1:
        children = boxes[2 * level : 4 * level].reshape(level, 2, 6)
        boxes[level : 2 * level, :3] = children[:, :, :3].min(1)
        boxes[level : 2 * level, 3:] = children[:, :, 3:].max(1)
        level //= 2
    return slots, boxes

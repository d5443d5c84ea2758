"""Triangle meshes as the scene library takes them, and the grids and tubes they are made of."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Order as MeshGroup in source/grammar.h.
MESH_GROUPS = (
    "bottle",
    "cup",
    "bowl",
    "vase",
    "lampshade",
    "rock",
    "crown",
    "conifer",
    "bush",
    "houseplant",
    "tuft",
    "bare_tree",
    "cable",
    "cloth",
    "fruit",
    "toy",
    "pack_seat",
    "pack_table",
    "pack_sofa",
    "pack_bed",
    "pack_storage",
    "pack_lamp",
    "pack_plant",
    "pack_kitchen",
    "pack_bath",
    "pack_device",
    "pack_small",
    "pack_large",
    "pack_person",
    "pack_vehicle",
    "pack_outdoor",
)
# A camera may stand inside the box of these.
HOLLOW_GROUPS = frozenset({"crown", "conifer", "bush", "tuft", "bare_tree", "cable", "houseplant"})
USE_MATERIAL = 0xFF000000


@dataclass(frozen=True, slots=True)
class Mesh:
    """A triangle soup scaled to [-1, 1] along every axis; +y up, front along +z."""

    group: str
    corners: F32
    """(t, 3, 3) in [-1, 1]."""
    normals: F32
    """(t, 3, 3), unit length in the scaled space of `corners`, as normals transform."""
    half_m: F32
    """(3,) half of the natural size, metres."""
    uv: F32
    """(t, 3, 2) in tiles."""
    tile: npt.NDArray[np.int32]
    """(t,) texture, or -1."""
    color: npt.NDArray[np.uint32]
    """(t,) sRGB 0x00BBGGRR, or `USE_MATERIAL`."""

    @property
    def solid(self) -> float:
        """1 where no camera may stand inside the box, else 0."""
        return 0.0 if self.group in HOLLOW_GROUPS else 1.0


def make_mesh(
    group: str,
    triangles_m: npt.ArrayLike,
    *,
    creases_deg: float = 40.0,
    size_m: float | None = None,
    looks: tuple[F32, npt.NDArray[np.int32], npt.NDArray[np.uint32]] | None = None,
) -> Mesh:
    """Scale triangles to the unit box and give them smooth normals.

    Args:
        group: One of `MESH_GROUPS`.
        triangles_m: (t, 3, 3) corners in metres.
        creases_deg: Edges sharper than this stay hard.
        size_m: Height to scale to; as given when absent.
        looks: Texture coordinates, tiles and colours per triangle.

    Returns:
        The mesh.
    """
    corners = np.asarray(triangles_m, np.float64)
    low, high = corners.min((0, 1)), corners.max((0, 1))
    half = np.maximum((high - low) / 2, 1e-3)
    normals = _smooth_normals(corners, creases_deg) * half
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    unit = (corners - (low + high) / 2) / half
    scale = 1.0 if size_m is None else size_m / (2 * half[1])
    count = len(corners)
    uv, tile, color = looks or (
        np.zeros((count, 3, 2), np.float32),
        np.full(count, -1, np.int32),
        np.full(count, USE_MATERIAL, np.uint32),
    )
    return Mesh(
        group,
        unit.astype(np.float32),
        normals.astype(np.float32),
        (half * scale).astype(np.float32),
        uv,
        tile,
        color,
    )


def _smooth_normals(corners: F64, creases_deg: float) -> F64:
    """Corner normals: the mean over the faces around a vertex that bend less than the crease angle."""
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    unit = face / (np.linalg.norm(face, axis=-1, keepdims=True) + 1e-20)
    size = np.ptp(corners.reshape(-1, 3), axis=0).max() + 1e-9
    keys = np.round(corners.reshape(-1, 3) / size * 20000).astype(np.int64)
    _, vertex = np.unique(keys @ np.array([1, 1 << 20, 1 << 40]), return_inverse=True)
    spread = np.repeat(face, 3, 0)
    total = np.stack([np.bincount(vertex, spread[:, k]) for k in range(3)], -1)
    mean = total[vertex].reshape(-1, 3, 3)
    mean = mean / (np.linalg.norm(mean, axis=-1, keepdims=True) + 1e-20)
    smooth = (mean * unit[:, None]).sum(-1) > np.cos(np.radians(creases_deg))
    result: F64 = np.where(smooth[..., None], mean, unit[:, None])
    return result


def grid_mesh(points: F64) -> F64:
    """Triangles of a (rows, columns, 3) grid of points."""
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, :-1], points[1:, 1:]
    quads = np.stack([np.stack([a, c, b], -2), np.stack([b, c, d], -2)], -3)
    return quads.reshape(-1, 3, 3)


def tube_mesh(path: F64, radius: float | F64, sides: int = 6) -> F64:
    """A round tube along a polyline (n, 3)."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True) + 1e-12
    helper = np.where(np.abs(tangent[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    u = np.cross(tangent, helper)
    u /= np.linalg.norm(u, axis=-1, keepdims=True) + 1e-12
    v = np.cross(tangent, u)
    angle = np.linspace(0, 2 * np.pi, sides + 1)[None, :, None]
    radii = np.broadcast_to(np.asarray(radius, np.float64), (len(path),))[:, None, None]
    return grid_mesh(path[:, None] + radii * (np.cos(angle) * u[:, None] + np.sin(angle) * v[:, None]))

"""Read Wavefront OBJ files with their materials, and thin them while keeping textures in place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ObjMaterial:
    """Colour and picture of a material."""

    color: tuple[float, float, float]
    opacity: float
    picture: Path | None


@dataclass(frozen=True, slots=True)
class ObjMesh:
    """A triangle soup with one material per triangle."""

    corners: F64
    """(t, 3, 3) in the file's units."""
    uv: F64
    """(t, 3, 2), v up."""
    material: npt.NDArray[np.int64]
    """(t,) index into `materials`."""
    materials: list[ObjMaterial]


def read_obj(path: Path) -> ObjMesh:
    """Read a mesh; polygons become fans of triangles."""
    materials: dict[str, ObjMaterial] = {}
    positions: list[list[float]] = []
    texture: list[list[float]] = []
    faces: list[tuple[tuple[int, int], tuple[int, int], tuple[int, int], str]] = []
    current = ""
    for line in path.read_text(errors="replace").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "v":
            positions.append([float(x) for x in rest.split()[:3]])
        elif word == "vt":
            texture.append([float(x) for x in rest.split()[:2]])
        elif word == "usemtl":
            current = rest.strip()
        elif word == "mtllib":
            materials.update(_read_mtl(path.parent / rest.strip()))
        elif word == "f":
            ring = [_corner(token, len(positions), len(texture)) for token in rest.split()]
            faces += [(ring[0], ring[i], ring[i + 1], current) for i in range(1, len(ring) - 1)]
    names = sorted({face[3] for face in faces})
    plain = ObjMaterial((0.7, 0.7, 0.7), 1.0, None)
    index = np.array([[c[0] for c in face[:3]] for face in faces]).reshape(-1, 3)
    uv_index = np.array([[c[1] for c in face[:3]] for face in faces]).reshape(-1, 3)
    table = np.array([*texture, [0.0, 0.0]])
    return ObjMesh(
        np.array(positions)[index],
        table[uv_index],
        np.array([names.index(face[3]) for face in faces]),
        [materials.get(name, plain) for name in names],
    )


def _corner(token: str, num_positions: int, num_texture: int) -> tuple[int, int]:
    parts = token.split("/")
    v = int(parts[0])
    t = int(parts[1]) if len(parts) > 1 and parts[1] else num_texture + 1
    return (v - 1 if v > 0 else num_positions + v, t - 1 if t > 0 else num_texture + t)


def _read_mtl(path: Path) -> dict[str, ObjMaterial]:
    materials: dict[str, ObjMaterial] = {}
    if not path.exists():
        return materials
    name, color, opacity, picture = "", (0.7, 0.7, 0.7), 1.0, None
    for line in [*path.read_text(errors="replace").splitlines(), "newmtl"]:
        word, _, rest = line.strip().partition(" ")
        if word == "newmtl":
            if name:
                materials[name] = ObjMaterial(color, opacity, picture)
            name, color, opacity, picture = rest.strip(), (0.7, 0.7, 0.7), 1.0, None
        elif word == "Kd":
            red, green, blue = (min(max(float(x), 0.0), 1.0) for x in rest.split()[:3])
            color = (red, green, blue)
        elif word == "d":
            opacity = float(rest.split()[-1])
        elif word == "map_Kd":
            found = path.parent / rest.split()[-1]
            picture = found if found.exists() else None
    return materials


def thin(mesh: ObjMesh, max_triangles: int) -> ObjMesh:
    """Collapse edges until few triangles are left; textures follow the nearest original triangle.

    Source: Garland and Heckbert, Surface Simplification Using Quadric Error Metrics, 1997 (Open3D's code).
    """
    if len(mesh.corners) <= max_triangles:
        return mesh
    import open3d

    o3d: Any = open3d  # its stubs do not know array arguments

    soup = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.corners.reshape(-1, 3)),
        o3d.utility.Vector3iVector(np.arange(3 * len(mesh.corners)).reshape(-1, 3)),
    )
    soup.remove_duplicated_vertices()
    small = soup.simplify_quadric_decimation(max_triangles)
    corners = np.asarray(small.vertices)[np.asarray(small.triangles)]
    if len(corners) == 0:
        return mesh
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(mesh.corners.reshape(-1, 3).astype(np.float32)),
        o3d.core.Tensor(np.arange(3 * len(mesh.corners), dtype=np.uint32).reshape(-1, 3)),
    )
    answer = scene.compute_closest_points(o3d.core.Tensor(corners.mean(1).astype(np.float32)))
    nearest = answer["primitive_ids"].numpy().astype(np.int64)
    uv = _carry_uv(corners, mesh.corners[nearest], mesh.uv[nearest])
    return ObjMesh(corners, uv, mesh.material[nearest], mesh.materials)


def _carry_uv(points: F64, triangles: F64, uv: F64) -> F64:
    """Texture coordinates of points, by the affine map of a nearby triangle each."""
    e1, e2 = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    p = points - triangles[:, :1]
    a, b, c = (e1 * e1).sum(-1), (e1 * e2).sum(-1), (e2 * e2).sum(-1)
    det = np.maximum(a * c - b * b, 1e-12 * np.maximum(a * c, 1e-12))
    d1, d2 = (p * e1[:, None]).sum(-1), (p * e2[:, None]).sum(-1)
    s = ((c[:, None] * d1 - b[:, None] * d2) / det[:, None]).clip(-30, 31)
    t = ((a[:, None] * d2 - b[:, None] * d1) / det[:, None]).clip(-30, 31)
    du, dv = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    result: F64 = uv[:, :1] + s[..., None] * du[:, None] + t[..., None] * dv[:, None]
    return result

"""Triangle meshes that a few lines of arithmetic can make: crockery, plants, rocks, cloth, cables.

Everything is drawn from a fixed seed, so the library is the same on every machine.
"""

from collections.abc import Callable
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


def _grid(points: F64) -> F64:
    """Triangles of a (rows, columns, 3) grid of points."""
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, :-1], points[1:, 1:]
    quads = np.stack([np.stack([a, c, b], -2), np.stack([b, c, d], -2)], -3)
    return quads.reshape(-1, 3, 3)


def _lathe(profile: npt.ArrayLike, sides: int = 28) -> F64:
    """Turn a profile of (radius, height) points about the y axis."""
    p = np.asarray(profile, np.float64)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([np.cos(angle), np.zeros(sides + 1), np.sin(angle)], -1)
    return _grid(p[:, None, :1] * ring[None] + p[:, None, 1:] * np.array([0.0, 1.0, 0.0]))


def _tube(path: F64, radius: float | F64, sides: int = 6) -> F64:
    """A round tube along a polyline (n, 3)."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True) + 1e-12
    helper = np.where(np.abs(tangent[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    u = np.cross(tangent, helper)
    u /= np.linalg.norm(u, axis=-1, keepdims=True) + 1e-12
    v = np.cross(tangent, u)
    angle = np.linspace(0, 2 * np.pi, sides + 1)[None, :, None]
    radii = np.broadcast_to(np.asarray(radius, np.float64), (len(path),))[:, None, None]
    return _grid(path[:, None] + radii * (np.cos(angle) * u[:, None] + np.sin(angle) * v[:, None]))


def _noise(points: F64, rng: np.random.Generator, waves: int = 24, frequency: float = 2.0) -> F64:
    """A smooth random field: a sum of sines of random direction, deviation about 1."""
    k = rng.normal(size=(waves, 3)) * frequency * rng.uniform(0.5, 2.0, (waves, 1))
    phase = rng.uniform(0, 2 * np.pi, waves)
    weight = 1 / (0.5 + np.linalg.norm(k, axis=1) / frequency)
    field: F64 = (np.sin(points @ k.T + phase) * weight).sum(-1) / np.sqrt((weight**2).sum() / 2)
    return field


def _sphere(rows: int, columns: int) -> F64:
    polar, angle = np.linspace(0, np.pi, rows)[:, None], np.linspace(0, 2 * np.pi, columns)[None]
    y = np.cos(polar) + 0 * angle
    result: F64 = np.stack([np.sin(polar) * np.cos(angle), y, np.sin(polar) * np.sin(angle)], -1)
    return result


def _bottle(rng: np.random.Generator) -> Mesh:
    body, neck, shoulder = rng.uniform(0.13, 0.2), rng.uniform(0.04, 0.07), rng.uniform(0.5, 0.7)
    lip = neck * rng.uniform(1.0, 1.5)
    turn = np.linspace(0, 1, 8)
    s = 0.5 - 0.5 * np.cos(np.pi * turn)
    profile = [(0, 0), (body * 0.9, 0), (body, 0.02), (body, shoulder)]
    profile += [(body + (neck - body) * a, shoulder + 0.2 * t) for a, t in zip(s, turn, strict=True)]
    profile += [(neck, 0.95), (lip, 0.95), (lip, 1.0), (0, 1.0)]
    return make_mesh("bottle", _lathe(profile), size_m=rng.uniform(0.18, 0.33))


def _cup(rng: np.random.Generator) -> Mesh:
    top, base, wall = rng.uniform(0.35, 0.55), rng.uniform(0.25, 0.5), 0.04
    profile = [(0, 0), (base, 0), (top, 1), (top - wall, 1), (base - wall, 0.08), (0, 0.08)]
    parts = [_lathe(profile)]
    if rng.random() < 0.7:
        angle = np.linspace(-1.7, 1.7, 12)
        middle = (top + base) / 2
        handle = np.stack([middle - 0.04 + 0.3 * np.cos(angle), 0.5 + 0.32 * np.sin(angle), 0 * angle], -1)
        parts.append(_tube(handle, 0.05))
    return make_mesh("cup", np.concatenate(parts), size_m=rng.uniform(0.07, 0.13))


def _bowl(rng: np.random.Generator) -> Mesh:
    t = np.linspace(0.15, 1, 9)
    power, wall = rng.uniform(1.2, 3.5), 0.03
    outer = [(a, a**power) for a in t]
    inner = [(max(a - wall, 0.1), a**power + (0.0 if a > 0.99 else wall)) for a in t[::-1]]
    profile = [(0, t[0] ** power), *outer, *inner, (0, t[0] ** power + wall)]
    depth = rng.uniform(0.15, 0.7)
    return make_mesh("bowl", _lathe([(r, h * depth) for r, h in profile]), size_m=rng.uniform(0.03, 0.1))


def _vase(rng: np.random.Generator) -> Mesh:
    t = np.linspace(0, 1, 24)
    radius = (
        0.22
        + 0.1 * np.sin(t * rng.uniform(3, 7) + rng.uniform(0, 6))
        + 0.05 * np.sin(t * 11 + rng.uniform(0, 6))
    )
    profile = [
        (0, 0),
        *zip(radius, t, strict=True),
        *zip(radius[::-1][:12] - 0.025, t[::-1][:12], strict=True),
    ]
    return make_mesh("vase", _lathe(profile), size_m=rng.uniform(0.15, 0.5))


def _lampshade(rng: np.random.Generator) -> Mesh:
    top, bulge = rng.uniform(0.2, 0.9), rng.uniform(-0.2, 0.2)
    t = np.linspace(0, 1, 8)
    radius = 1 + (top - 1) * t + bulge * np.sin(np.pi * t)
    return make_mesh("lampshade", _lathe(np.stack([radius * rng.uniform(0.4, 0.8), t], -1)), size_m=0.25)


def _rock(rng: np.random.Generator) -> Mesh:
    p = _sphere(20, 29)
    p[:, -1] = p[:, 0]
    size = 1 + 0.18 * _noise(p, rng, frequency=1.5) + 0.06 * _noise(p, rng, frequency=5)
    for _ in range(rng.integers(2, 7)):  # broken faces
        n = rng.normal(size=3)
        n /= np.linalg.norm(n)
        size = np.minimum(size, rng.uniform(0.6, 0.95) / np.maximum((p * n).sum(-1), 0.05))
    p = p * size[..., None] * [1, rng.uniform(0.5, 0.9), rng.uniform(0.7, 1)]
    return make_mesh("rock", _grid(p), creases_deg=25, size_m=0.5)


def _leaves(centers: F64, normals: F64, size: float, rng: np.random.Generator, slender: float = 0.45) -> F64:
    """One pointed leaf of two triangles, folded along its middle, for every centre."""
    n = len(centers)
    up = normals + 0.7 * rng.normal(size=(n, 3))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    along = np.cross(up, rng.normal(size=(n, 3)))
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    across = np.cross(up, along)
    length = size * rng.uniform(0.6, 1.3, (n, 1))
    stem, tip = centers - along * length, centers + along * length
    left = centers + across * length * slender + up * length * 0.15
    right = centers - across * length * slender + up * length * 0.15
    return np.concatenate([np.stack([stem, left, tip], 1), np.stack([stem, tip, right], 1)])


def _blob(rng: np.random.Generator, count: int, lumps: int) -> tuple[F64, F64]:
    """Points on the upper outside of a cluster of balls, and outward normals."""
    middle = rng.normal(size=(lumps, 3)) * [0.42, 0.3, 0.42]
    radius = rng.uniform(0.25, 0.5, lumps)
    which = rng.integers(0, lumps, count)
    d = rng.normal(size=(count, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    return middle[which] + d * (radius[which] * rng.uniform(0.6, 1.05, count))[:, None], d


def _crown(rng: np.random.Generator) -> Mesh:
    centers, normals = _blob(rng, int(rng.integers(900, 2200)), int(rng.integers(5, 14)))
    leaves = _leaves(centers, normals, rng.uniform(0.035, 0.08), rng)
    twigs = [_tube(np.linspace([0, -0.7, 0], centers[i] * 0.9, 4), 0.012, 3) for i in range(14)]
    return make_mesh("crown", np.concatenate([leaves, *twigs]), creases_deg=1, size_m=4)


def _conifer(rng: np.random.Generator) -> Mesh:
    n, tiers = int(rng.integers(1400, 2400)), int(rng.integers(7, 14))
    tier = rng.integers(0, tiers, n) / tiers
    reach, angle = np.sqrt(rng.random(n)), rng.random(n) * 2 * np.pi
    spread = (1 - tier) * rng.uniform(0.25, 0.42) * reach
    y = tier + 0.16 * (1 - reach) - 0.05 * reach
    centers = np.stack([spread * np.cos(angle), y, spread * np.sin(angle)], -1)
    outward = np.stack([np.cos(angle), np.full(n, 1.2), np.sin(angle)], -1)
    return make_mesh("conifer", _leaves(centers, outward, 0.035, rng, 0.25), creases_deg=1, size_m=8)


def _bush(rng: np.random.Generator) -> Mesh:
    centers, normals = _blob(rng, int(rng.integers(700, 1400)), int(rng.integers(4, 9)))
    centers[:, 1] = np.abs(centers[:, 1])
    return make_mesh("bush", _leaves(centers, normals, rng.uniform(0.04, 0.1), rng), creases_deg=1, size_m=1)


def _blades(rng: np.random.Generator, count: int, width: float, droop: float, lean: float) -> F64:
    """Long bent leaves from one root."""
    t = np.linspace(0, 1, 6)
    parts = []
    for _ in range(count):
        angle, tilt, length = rng.random() * 2 * np.pi, rng.uniform(0, lean), rng.uniform(0.5, 1)
        out = np.sin(tilt) * t * length + droop * t**2.5 * length
        y = np.cos(tilt) * t * length - droop * 0.8 * t**3 * length
        side = width * np.sin(np.pi * np.clip(t * 0.9 + 0.1, 0, 1)) ** 0.7
        c, s = np.cos(angle), np.sin(angle)
        middle = np.stack([out * c, y, out * s], -1)
        across = np.stack([-s * side, 0.15 * side, c * side], -1)
        parts.append(
            _grid(np.stack([middle - across, middle, middle + across * [1, -1, 1] * -1 + 2 * across], 1))
        )
    return np.concatenate(parts)


def _houseplant(rng: np.random.Generator) -> Mesh:
    if rng.random() < 0.5:
        blades = _blades(
            rng, int(rng.integers(8, 40)), rng.uniform(0.02, 0.09), rng.uniform(0, 0.6), rng.uniform(0.3, 1.0)
        )
        return make_mesh("houseplant", blades, creases_deg=60, size_m=0.5)
    n = int(rng.integers(5, 12))
    stems, leaves = [], []
    for _ in range(n):
        tip = rng.normal(size=3) * [0.35, 0.2, 0.35] + [0, rng.uniform(0.4, 1), 0]
        path = np.linspace(0, 1, 6)[:, None] ** [0.8, 1.0, 0.8] * tip
        stems.append(_tube(path, 0.01, 4))
        at = path[rng.integers(2, 6, 14)] + rng.normal(size=(14, 3)) * 0.06
        leaves.append(_leaves(at, np.tile([0.0, 1.0, 0.0], (14, 1)), rng.uniform(0.05, 0.14), rng, 0.5))
    return make_mesh("houseplant", np.concatenate(stems + leaves), creases_deg=1, size_m=0.5)


def _tuft(rng: np.random.Generator) -> Mesh:
    parts = []
    for _ in range(int(rng.integers(6, 16))):
        blades = _blades(rng, 14, 0.012, rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.6)) * rng.uniform(0.5, 1.0)
        parts.append(blades + rng.normal(size=3) * [0.5, 0, 0.5])
    return make_mesh("tuft", np.concatenate(parts), creases_deg=60, size_m=0.3)


def _branch(
    rng: np.random.Generator, start: F64, direction: F64, length: float, radius: float, level: int
) -> list[F64]:
    t = np.linspace(0, 1, 5)[:, None]
    bend = rng.normal(size=3) * 0.25 * length
    path = start + direction * length * t + bend * t**2
    parts = [_tube(path, np.linspace(radius, radius * 0.6, 5), 5 if level < 2 else 3)]
    if level == 3:
        return parts
    for _ in range(int(rng.integers(3, 5))):
        child = direction + rng.normal(size=3) * 0.55
        child /= np.linalg.norm(child)
        root = path[rng.integers(2, 5)]
        parts += _branch(rng, root, child, length * rng.uniform(0.5, 0.8), radius * 0.5, level + 1)
    return parts


def _bare_tree(rng: np.random.Generator) -> Mesh:
    parts = _branch(rng, np.zeros(3), np.array([0.0, 1.0, 0.0]), 1.0, 0.05, 0)
    return make_mesh("bare_tree", np.concatenate(parts), creases_deg=60, size_m=7)


def _cable(rng: np.random.Generator) -> Mesh:
    knots = np.cumsum(rng.normal(size=(9, 2)) * 0.25, 0)
    t = np.linspace(0, 8, 70)
    i = np.clip(t.astype(int), 0, 7)
    f = (t - i)[:, None]
    f = f * f * (3 - 2 * f)
    flat = knots[i] * (1 - f) + knots[i + 1] * f
    y = 0.012 + 0.03 * np.clip(np.sin(t * 1.7 + rng.uniform(0, 6)), 0, 1)
    path = np.stack([flat[:, 0], y, flat[:, 1]], -1)
    return make_mesh("cable", _tube(path, 0.009, 5), creases_deg=60, size_m=0.03)


def _cloth(rng: np.random.Generator) -> Mesh:
    x, z = np.meshgrid(np.linspace(-1, 1, 34), np.linspace(-1, 1, 34))
    p = np.stack([x, np.zeros_like(x), z], -1)
    ridge = np.abs(_noise(p, rng, frequency=1.6)) * 0.5 + np.abs(_noise(p, rng, frequency=4)) * 0.15
    fall = np.clip(1.2 - (x**2 + z**2) * rng.uniform(0.6, 1.2), 0, 1)
    shift = np.stack([_noise(p, rng, frequency=1.5), 0 * x, _noise(p, rng, frequency=1.5)], -1) * 0.12
    p = p + shift
    p[..., 1] = 0.35 * ridge * fall
    return make_mesh("cloth", _grid(p), creases_deg=80, size_m=0.1)


def _fruit(rng: np.random.Generator) -> Mesh:
    p = _sphere(14, 21)
    p[:, -1] = p[:, 0]
    pear = rng.uniform(-0.3, 0.3)
    stretch = np.array([1, rng.uniform(0.7, 1.7), rng.uniform(0.9, 1.1)])
    p = p * (1 + pear * p[..., 1:2] + 0.03 * _noise(p, rng)[..., None]) * stretch
    p[..., 0] += rng.uniform(-0.3, 0.3) * p[..., 1] ** 2
    return make_mesh("fruit", _grid(p), creases_deg=80, size_m=0.08)


def _toy(rng: np.random.Generator) -> Mesh:
    """A stuffed or moulded figure: a few balls and arms grown together."""
    parts = []
    for _ in range(int(rng.integers(4, 10))):
        p = _sphere(10, 15)
        p[:, -1] = p[:, 0]
        size = rng.uniform(0.12, 0.4) * rng.uniform(0.6, 1.4, 3)
        parts.append(
            _grid(p * size * (1 + 0.05 * _noise(p, rng)[..., None]) + rng.normal(size=3) * [0.25, 0.4, 0.2])
        )
    return make_mesh("toy", np.concatenate(parts), creases_deg=80, size_m=0.2)


_MAKERS: tuple[tuple[Callable[[np.random.Generator], Mesh], int], ...] = (
    (_bottle, 14),
    (_cup, 12),
    (_bowl, 10),
    (_vase, 10),
    (_lampshade, 6),
    (_rock, 10),
    (_crown, 10),
    (_conifer, 5),
    (_bush, 6),
    (_houseplant, 14),
    (_tuft, 6),
    (_bare_tree, 3),
    (_cable, 8),
    (_cloth, 8),
    (_fruit, 8),
    (_toy, 10),
)


def procedural_meshes() -> list[Mesh]:
    """Make the whole library of meshes that need no files, the same every time."""
    meshes = []
    for index, (maker, count) in enumerate(_MAKERS):
        for variant in range(count):
            meshes.append(maker(np.random.default_rng([index, variant])))
    return meshes

"""Plants: leaves, blades and branches by the hundred."""

import numpy as np

from worldstereo_cli.training.scenes.meshes import F64, Mesh, grid_mesh, make_mesh, tube_mesh


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


def _blob(rng: np.random.Generator, count: int, lumps: int) -> tuple[F64, F64, F64]:
    """Points on the outside of a cluster of balls, outward normals, and the balls, (l, 4): middle, radius."""
    middle = rng.normal(size=(lumps, 3)) * [0.42, 0.3, 0.42]
    radius = rng.uniform(0.25, 0.5, lumps)
    which = rng.integers(0, lumps, count)
    d = rng.normal(size=(count, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    points = middle[which] + d * (radius[which] * rng.uniform(0.55, 1.15, count))[:, None]
    return points, d, np.concatenate([middle, radius[:, None]], 1)


def _core(balls: F64) -> F64:
    """Closed lumps inside the outer leaves: a crown in leaf hides what is behind it."""
    polar, angle = np.linspace(0, np.pi, 7)[:, None], np.linspace(0, 2 * np.pi, 10)[None]
    shell = np.stack(
        [np.sin(polar) * np.cos(angle), np.cos(polar) + 0 * angle, np.sin(polar) * np.sin(angle)], -1
    )
    return np.concatenate([grid_mesh(ball[:3] + 0.62 * ball[3] * shell) for ball in balls])


def crown(rng: np.random.Generator) -> Mesh:
    """Make one crown: in two of three the leaves are fine and close, in the others the sky shows through."""
    is_close = rng.random() < 0.67
    count = int(rng.integers(2200, 4000) if is_close else rng.integers(900, 2200))
    centers, normals, balls = _blob(rng, count, int(rng.integers(5, 14)))
    size = rng.uniform(0.02, 0.045) if is_close else rng.uniform(0.035, 0.08)
    twigs = [tube_mesh(np.linspace([0, -0.7, 0], centers[i] * 0.9, 4), 0.012, 3) for i in range(14)]
    parts = [_leaves(centers, normals, size, rng), *twigs, *([_core(balls)] if is_close else [])]
    return make_mesh("crown", np.concatenate(parts), creases_deg=1, size_m=4)


def conifer(rng: np.random.Generator) -> Mesh:
    """Make one conifer."""
    n, tiers = int(rng.integers(1400, 2400)), int(rng.integers(7, 14))
    tier = rng.integers(0, tiers, n) / tiers
    reach, angle = np.sqrt(rng.random(n)), rng.random(n) * 2 * np.pi
    spread = (1 - tier) * rng.uniform(0.25, 0.42) * reach
    y = tier + 0.16 * (1 - reach) - 0.05 * reach
    centers = np.stack([spread * np.cos(angle), y, spread * np.sin(angle)], -1)
    outward = np.stack([np.cos(angle), np.full(n, 1.2), np.sin(angle)], -1)
    return make_mesh("conifer", _leaves(centers, outward, 0.035, rng, 0.25), creases_deg=1, size_m=8)


def bush(rng: np.random.Generator) -> Mesh:
    """Make one bush."""
    centers, normals, balls = _blob(rng, int(rng.integers(900, 2200)), int(rng.integers(4, 9)))
    centers[:, 1], balls[:, 1] = np.abs(centers[:, 1]), np.abs(balls[:, 1])
    leaves = _leaves(centers, normals, rng.uniform(0.03, 0.08), rng)
    return make_mesh("bush", np.concatenate([leaves, _core(balls)]), creases_deg=1, size_m=1)


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
            grid_mesh(np.stack([middle - across, middle, middle + across * [1, -1, 1] * -1 + 2 * across], 1))
        )
    return np.concatenate(parts)


def houseplant(rng: np.random.Generator) -> Mesh:
    """Make one houseplant."""
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
        stems.append(tube_mesh(path, 0.01, 4))
        at = path[rng.integers(2, 6, 14)] + rng.normal(size=(14, 3)) * 0.06
        leaves.append(_leaves(at, np.tile([0.0, 1.0, 0.0], (14, 1)), rng.uniform(0.05, 0.14), rng, 0.5))
    return make_mesh("houseplant", np.concatenate(stems + leaves), creases_deg=1, size_m=0.5)


def tuft(rng: np.random.Generator) -> Mesh:
    """Make one tuft."""
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
    parts = [tube_mesh(path, np.linspace(radius, radius * 0.6, 5), 5 if level < 2 else 3)]
    if level == 3:
        return parts
    for _ in range(int(rng.integers(3, 5))):
        child = direction + rng.normal(size=3) * 0.55
        child /= np.linalg.norm(child)
        root = path[rng.integers(2, 5)]
        parts += _branch(rng, root, child, length * rng.uniform(0.5, 0.8), radius * 0.5, level + 1)
    return parts


def bare_tree(rng: np.random.Generator) -> Mesh:
    """Make one bare tree."""
    parts = _branch(rng, np.zeros(3), np.array([0.0, 1.0, 0.0]), 1.0, 0.05, 0)
    return make_mesh("bare_tree", np.concatenate(parts), creases_deg=60, size_m=7)

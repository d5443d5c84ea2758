"""Meshes that a few lines of arithmetic can make: crockery, rocks, cloth, cables, toys, and the plants.

Everything is drawn from a fixed seed, so the library is the same on every machine.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from worldstereo_cli.training.scenes import plants
from worldstereo_cli.training.scenes.meshes import F64, Mesh, grid_mesh, make_mesh, tube_mesh


def _lathe(profile: npt.ArrayLike, sides: int = 28) -> F64:
    """Turn a profile of (radius, height) points about the y axis."""
    p = np.asarray(profile, np.float64)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([np.cos(angle), np.zeros(sides + 1), np.sin(angle)], -1)
    return grid_mesh(p[:, None, :1] * ring[None] + p[:, None, 1:] * np.array([0.0, 1.0, 0.0]))


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
        parts.append(tube_mesh(handle, 0.05))
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
    return make_mesh("rock", grid_mesh(p), creases_deg=25, size_m=0.5)


def _cable(rng: np.random.Generator) -> Mesh:
    knots = np.cumsum(rng.normal(size=(9, 2)) * 0.25, 0)
    t = np.linspace(0, 8, 70)
    i = np.clip(t.astype(int), 0, 7)
    f = (t - i)[:, None]
    f = f * f * (3 - 2 * f)
    flat = knots[i] * (1 - f) + knots[i + 1] * f
    y = 0.012 + 0.03 * np.clip(np.sin(t * 1.7 + rng.uniform(0, 6)), 0, 1)
    path = np.stack([flat[:, 0], y, flat[:, 1]], -1)
    return make_mesh("cable", tube_mesh(path, 0.009, 5), creases_deg=60, size_m=0.03)


def _cloth(rng: np.random.Generator) -> Mesh:
    x, z = np.meshgrid(np.linspace(-1, 1, 34), np.linspace(-1, 1, 34))
    p = np.stack([x, np.zeros_like(x), z], -1)
    ridge = np.abs(_noise(p, rng, frequency=1.6)) * 0.5 + np.abs(_noise(p, rng, frequency=4)) * 0.15
    fall = np.clip(1.2 - (x**2 + z**2) * rng.uniform(0.6, 1.2), 0, 1)
    shift = np.stack([_noise(p, rng, frequency=1.5), 0 * x, _noise(p, rng, frequency=1.5)], -1) * 0.12
    p = p + shift
    p[..., 1] = 0.35 * ridge * fall
    return make_mesh("cloth", grid_mesh(p), creases_deg=80, size_m=0.1)


def _fruit(rng: np.random.Generator) -> Mesh:
    p = _sphere(14, 21)
    p[:, -1] = p[:, 0]
    pear = rng.uniform(-0.3, 0.3)
    stretch = np.array([1, rng.uniform(0.7, 1.7), rng.uniform(0.9, 1.1)])
    p = p * (1 + pear * p[..., 1:2] + 0.03 * _noise(p, rng)[..., None]) * stretch
    p[..., 0] += rng.uniform(-0.3, 0.3) * p[..., 1] ** 2
    return make_mesh("fruit", grid_mesh(p), creases_deg=80, size_m=0.08)


def _toy(rng: np.random.Generator) -> Mesh:
    """A stuffed or moulded figure: a few balls and arms grown together."""
    parts = []
    for _ in range(int(rng.integers(4, 10))):
        p = _sphere(10, 15)
        p[:, -1] = p[:, 0]
        size = rng.uniform(0.12, 0.4) * rng.uniform(0.6, 1.4, 3)
        parts.append(
            grid_mesh(
                p * size * (1 + 0.05 * _noise(p, rng)[..., None]) + rng.normal(size=3) * [0.25, 0.4, 0.2]
            )
        )
    return make_mesh("toy", np.concatenate(parts), creases_deg=80, size_m=0.2)


_MAKERS: tuple[tuple[Callable[[np.random.Generator], Mesh], int], ...] = (
    (_bottle, 14),
    (_cup, 12),
    (_bowl, 10),
    (_vase, 10),
    (_lampshade, 6),
    (_rock, 10),
    (plants.crown, 14),
    (plants.conifer, 5),
    (plants.bush, 6),
    (plants.houseplant, 14),
    (plants.tuft, 6),
    (plants.bare_tree, 3),
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

"""Splats as PLY files that every 3DGS viewer opens, and the artifact that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from worldstereo_cli.artifacts.cameras import read_json
from worldstereo_cli.artifacts.manifest import Manifest
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.gaussians import Gaussians

_REMEDY = "Run the stage that wrote it again with --force, or pass a 3D Gaussian splatting PLY."
_MAX_HEADER = 1 << 16


def write_splats(path: Path, gaussians: Gaussians) -> int:
    """Write splats in the layout of the original 3DGS code.

    One vertex element of little-endian floats: position, zero normals, colour harmonics (the higher
    ones channel by channel), opacity before the logistic function, logarithms of the scales, unit
    quaternion (w, x, y, z). Splats with a value that is not finite, or without a direction, are
    left out.

    Returns:
        How many splats the file holds.

    Source: Kerbl et al. 2023, the file format of its released code.
    """
    g = gaussians.to("cpu")
    count, terms = g.sh.shape[:2]
    norm = g.quaternions.norm(dim=-1, keepdim=True)
    columns = [
        g.means,
        torch.zeros(count, 3),
        g.sh[:, 0],
        g.sh[:, 1:].transpose(1, 2).reshape(count, 3 * (terms - 1)),
        g.opacity_logits[:, None],
        g.log_scales,
        g.quaternions / norm,
    ]
    table = torch.cat([c.detach().float() for c in columns], dim=1)
    table = table[table.isfinite().all(dim=1) & (norm[:, 0] > 1e-12)]
    with path.open("wb") as stream:
        stream.write(_header(len(table), terms))
        stream.write(table.numpy().astype("<f4").tobytes())
    return len(table)


def read_splats(path: Path) -> Gaussians:
    """Read splats from a 3DGS PLY, with or without normals, properties in any order.

    Raises:
        ArtifactError: The file is missing, truncated, holds something else, or values that are not
            finite.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}", remedy=_REMEDY) from error
    names, count, start = _parse_header(data, path)
    if len(data) != start + 4 * count * len(names):
        raise ArtifactError(
            f"{path} has {len(data) - start} bytes of splats, but its header promises "
            f"{4 * count * len(names)}.",
            remedy=_REMEDY,
        )
    table = torch.from_numpy(np.frombuffer(data, "<f4", offset=start).reshape(count, -1).astype(np.float32))
    rest = sum(name.startswith("f_rest_") for name in names)
    wanted = _property_names(rest // 3 + 1)
    missing = [name for name in wanted if name not in names and name not in ("nx", "ny", "nz")]
    if missing or rest not in (0, 9, 24, 45):
        what = f"lacks {', '.join(missing)}" if missing else f"has {rest} higher harmonics"
        raise ArtifactError(f"{path} {what}, so it does not hold splats.", remedy=_REMEDY)
    if not bool(table.isfinite().all()):
        raise ArtifactError(f"{path} holds values that are not finite.", remedy=_REMEDY)
    column = {name: i for i, name in enumerate(names)}

    def take(*chosen: str) -> torch.Tensor:
        return table[:, [column[name] for name in chosen]]

    higher = take(*(f"f_rest_{i}" for i in range(rest))).reshape(count, 3, rest // 3).transpose(1, 2)
    return Gaussians(
        take("x", "y", "z"),
        take("rot_0", "rot_1", "rot_2", "rot_3"),
        take("scale_0", "scale_1", "scale_2"),
        take("opacity")[:, 0],
        torch.cat([take("f_dc_0", "f_dc_1", "f_dc_2")[:, None], higher], dim=1),
    )


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The scene as splats.

    On disk:
        splats.ply    the standard 3DGS layout (see `write_splats`)
        metrics.json  num_splats, psnr_photo_db, psnr_reload_db, seconds, peak_memory_mb and more
        renders/      the file, read back and drawn at the photo's camera and to its sides
    """

    kind: ClassVar[str] = "reconstruct"
    splats: Gaussians
    metrics: dict[str, Any]
    manifest: Manifest

    @staticmethod
    def read(root: Path) -> Reconstruction:
        """Read a finished reconstruction.

        Raises:
            ArtifactError: It is missing, unfinished or damaged.
        """
        manifest = Manifest.read(root, Reconstruction.kind)
        return Reconstruction(read_splats(root / "splats.ply"), read_json(root / "metrics.json"), manifest)


def _property_names(terms: int) -> list[str]:
    return [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2",
        *(f"f_rest_{i}" for i in range(3 * (terms - 1))),
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip


def _header(count: int, terms: int) -> bytes:
    properties = "".join(f"property float {name}\n" for name in _property_names(terms))
    return (
        "ply\nformat binary_little_endian 1.0\n"
        "comment worldstereo splats, metres, +x right +y down +z forward, sRGB\n"
        f"element vertex {count}\n{properties}end_header\n"
    ).encode()


def _parse_header(data: bytes, path: Path) -> tuple[list[str], int, int]:
    """Return the property names, the number of splats, and where their bytes begin."""
    end = data.find(b"end_header\n", 0, _MAX_HEADER)
    lines = [line.split() for line in data[: max(end, 0)].decode("ascii", "replace").splitlines()]
    elements = [line for line in lines if line[:1] == ["element"]]
    properties = [line for line in lines if line[:1] == ["property"]]
    well_formed = (
        lines[:2] == [["ply"], ["format", "binary_little_endian", "1.0"]]
        and len(elements) == 1
        and elements[0][1:2] == ["vertex"]
        and elements[0][2:3] != []
        and elements[0][2].isdigit()
        and all(len(line) == 3 and line[1] in ("float", "float32") for line in properties)
    )
    if not well_formed:
        raise ArtifactError(
            f"{path} is not a binary little-endian PLY with one element of float vertices.", remedy=_REMEDY
        )
    return [line[2] for line in properties], int(elements[0][2]), end + len(b"end_header\n")

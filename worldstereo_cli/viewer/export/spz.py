"""Splats as SPZ, a tenth of the size of PLY."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.artifacts.splats import read_splats
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.viewer.contents import SPLATS

_FLIPS_SIGN = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0], dtype=torch.bool)
"""Spherical harmonics up to degree 3, in the order of splat files, that are odd in y and z together:
1; y, z, x; xy, yz, 2zz-xx-yy, xz, xx-yy; y(3xx-yy), xyz, y(4zz-xx-yy), z(2zz-3xx-3yy), x(4zz-xx-yy),
z(xx-yy), x(xx-3yy)."""
_MOST_FRACTION_BITS = 16


def write_spz(scene_dir: Path, path: Path) -> None:
    """Write the splats of a scene as SPZ 3, which all readers know.

    SPZ's world is RUB, +x right, +y up, +z back: ours turned by half a turn about x.

    Raises:
        ArtifactError: The splats are missing or damaged.

    Source: github.com/nianticlabs/spz (MIT), the format's description.
    """
    import gsply
    from gsply.spz import write_spz as write

    splats = right_up_back(read_splats(scene_dir / SPLATS))
    data = gsply.GSData.from_arrays(
        means=splats.means.numpy(),
        scales=splats.log_scales.numpy(),
        quats=torch.nn.functional.normalize(splats.quaternions, dim=-1).numpy(),
        opacities=splats.opacity_logits.numpy(),
        sh0=splats.sh[:, 0].numpy(),
        shN=splats.sh[:, 1:].numpy() if splats.sh.shape[1] > 1 else None,
        format="ply",
    )
    write(path, data, version=3, fractional_bits=_fraction_bits(splats.means))


def right_up_back(splats: Gaussians) -> Gaussians:
    """Turn splats by half a turn about x: +y down, +z forward become +y up, +z back."""
    flip = torch.tensor([1.0, -1.0, -1.0])
    w, x, y, z = splats.quaternions.unbind(-1)
    # The half turn is the quaternion (0, 1, 0, 0), multiplied from the left.
    turned = torch.stack([-x, w, -z, y], -1)
    signs = 1 - 2 * _FLIPS_SIGN[: splats.sh.shape[1], None].float()
    return Gaussians(splats.means * flip, turned, splats.log_scales, splats.opacity_logits, splats.sh * signs)


def _fraction_bits(means: Float[Tensor, "g 3"]) -> int:
    """Return the finest fixed-point step, a power of two metres, whose 24 bits reach the farthest splat."""
    farthest = max(float(means.abs().max()), 1.0) if len(means) else 1.0
    return max(1, min(_MOST_FRACTION_BITS, 22 - math.floor(math.log2(farthest))))

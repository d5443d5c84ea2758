"""From a depth map, as a model or a file gives it, to the surface that a scene is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.depth_edges import EdgeSettings, near_break, sharpen_depth
from worldstereo_cli.geometry.far import FarField, contract_far, shell_depth

SKYLINE_FRAC = 0.004
"""Half the width of the strip along the skyline that the image shares out anew, as a share of the
longer side: sky masks come from coarse networks, and a fringe of sky on a roof is seen at once."""

GUESSED_CONFIDENCE = 0.7
"""Of a pixel of a soft edge: its depth is one of two that are known to be near."""

FILLED_CONFIDENCE = 0.25
"""Of a pixel whose depth the backend did not know."""

SKY_CONFIDENCE = 0.5
"""Of sky: its colour is certain, its depth a convention."""

_BREAK_CONFIDENCE = (0.4, 0.7)
"""At a break and one pixel from it: colours of both surfaces mix there."""

_GRAZING = 0.25
"""Confidence falls where the cosine between ray and normal does not reach this."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Depth that is ready to become points."""

    depth_m: Float[Tensor, "h w"]
    """Metres along the optical axis, positive everywhere; sky on the shell."""
    valid: Bool[Tensor, "h w"]
    """False where a ramp between two surfaces could not be resolved."""
    sky: Bool[Tensor, "h w"]
    confidence: Float[Tensor, "h w"]
    """In (0, 1]."""


def prepare_surface(
    depth_m: Float[Tensor, "h w"],
    known: Bool[Tensor, "h w"],
    sky: Bool[Tensor, "h w"],
    image: Float[Tensor, "3 h w"],
    camera: Cameras,
    far: FarField,
) -> Surface:
    """Contract the far, put sky on the shell, make edges steps, and fill what is unknown.

    Args:
        depth_m: Metres along the optical axis; any value where not known.
        known: Where the depth is that of a surface; must not be empty.
        sky: Where there is sky.
        image: sRGB in [0, 1].
        camera: A path of one camera, within the shell.
        far: The far field of the scene.

    Raises:
        ValueError: Nothing is known, or sizes differ.
    """
    shell = shell_depth(camera, far.shell_m).to(depth_m.dtype)
    known = known & ~sky
    full = torch.where(sky, shell, contract_far(depth_m, far.bound_m))
    sharp = sharpen_depth(full, ~(known | sky) | _skyline(sky), image, EdgeSettings())
    row, column = sharp.seed.unbind(-1)
    # A pixel that continues sky is sky, wherever the mask drew its line.
    is_sky = sky[row, column]
    depth = torch.where(
        is_sky, shell, torch.minimum(sharp.depth_m, 2 * far.bound_m + torch.zeros_like(shell))
    )
    confidence = _confidence(depth, camera)
    confidence = torch.where(sharp.moved, GUESSED_CONFIDENCE * confidence, confidence)
    confidence = torch.where(known | sky, confidence, confidence.clamp(max=FILLED_CONFIDENCE))
    confidence = torch.where(is_sky, SKY_CONFIDENCE * torch.ones_like(confidence), confidence)
    return Surface(depth, ~sharp.loose | is_sky, is_sky, confidence)


def cloud_from_surface(
    surface: Surface, image: Float[Tensor, "3 h w"], camera: Cameras, round_index: int = 0
) -> Cloud:
    """Make one point of every valid pixel, in row-major order."""
    keep = surface.valid
    points = camera.unproject(surface.depth_m[None])[0][keep]
    return Cloud(
        points,
        image.permute(1, 2, 0)[keep],
        surface.confidence[keep],
        torch.full((len(points),), round_index, dtype=torch.int32, device=points.device),
        surface.depth_m[keep] / camera.intrinsics[0, 0, 0],
        surface.sky[keep],
    )


def surface_normals(points: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """Return unit normals of a grid of points by central differences, towards the grid's origin side.

    In camera coordinates normals point at the camera (negative z for a wall straight ahead). On the
    border they are those one pixel further in; a degenerate neighbourhood gives zero.
    """
    right = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    normal = torch.nn.functional.normalize(torch.cross(down, right, dim=-1), dim=-1)
    padded = torch.nn.functional.pad(normal.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")
    return padded[0].permute(1, 2, 0)


def _skyline(sky: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Mark the strip along the border between sky and the rest.

    What is thinner than the strip, a lamp post or a gap between leaves, is left as the mask has it:
    nothing of it would remain to continue.
    """
    mask = sky.cpu().numpy()
    reach = max(2, round(SKYLINE_FRAC * max(mask.shape[0], mask.shape[1])))
    square = np.ones((2 * reach + 1, 2 * reach + 1))
    strip = np.zeros_like(mask)
    for side in (mask, ~mask):
        padded = np.pad(side, reach, mode="edge")
        core = ndimage.binary_erosion(padded, square)
        thick = ndimage.binary_dilation(core, square)
        strip |= (thick & padded & ~core)[reach:-reach, reach:-reach]
    return torch.from_numpy(strip).to(sky.device)


def _confidence(depth_m: Float[Tensor, "h w"], camera: Cameras) -> Float[Tensor, "h w"]:
    """Rate how sure a pixel's depth is from the shape of the surface alone."""
    distance = near_break(depth_m)
    edge = torch.ones_like(depth_m)
    for pixels, value in enumerate(_BREAK_CONFIDENCE, start=1):
        edge = torch.where((distance >= pixels) & (distance < pixels + 1), value, edge)
    rays = camera.rays()[0].to(depth_m.dtype)
    normal = surface_normals(rays * depth_m[..., None])
    cosine = -(normal * torch.nn.functional.normalize(rays, dim=-1)).sum(-1)
    grazing = (cosine / _GRAZING).clamp(0.3, 1.0)
    return edge * grazing

"""Parity of the cloud and of its renders: depth made ready to lift, soft points."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from worldstereo_cli.evaluation.parity_golden import Deviation, Golden, compare
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.depth_edges import reference_edge_mask
from worldstereo_cli.geometry.far import contract_far
from worldstereo_cli.geometry.point_render import PointStyle, render_points
from worldstereo_cli.geometry.rigid import invert_rigid

_RGB, _MASK_FRACTION = 5e-4, 1e-3
_DEPTH_FRACTION, _POINTS = 1e-5, 1e-4


def check_point_render(golden: Golden) -> Iterator[Deviation]:
    """Compare soft points: colours, and the share of pixels whose hole mask differs."""
    scenes = golden.setting("scenes")
    with_points = [name for name in scenes if f"{name}/points" in golden.tensors]
    for name, settings in scenes.items():
        # A scene without points of its own is another rendering of the one its name begins with.
        source = golden.group(max((n for n in with_points if name.startswith(n)), key=len))
        cameras = Cameras(
            invert_rigid(source["w2c"]), source["K"], int(settings["width"]), int(settings["height"])
        )
        style = PointStyle(float(settings["radius"]), int(settings["points_per_pixel"]), 0.0)
        seen = render_points(source["points"], source["colors"], cameras, style)
        expected = golden.group(name)
        yield compare(f"{name}/rgb", seen.rgb, expected["rgb"], _RGB)
        differs = (seen.hole.float() != expected["hole_mask"][:, 0]).float().mean()
        yield compare(f"{name}/hole_mask", differs, torch.zeros(()), _MASK_FRACTION)


def check_depth_lift(golden: Golden) -> Iterator[Deviation]:
    """Compare contracted depth, the released edge filter and the points that it leaves.

    The filter is the release's own and serves as a yardstick; `lift` uses a better one.
    """
    factor = float(golden.setting("contraction_factor"))
    for name in golden.setting("cases"):
        case = golden.group(name)
        depth = case["depth"] * case.get("valid", torch.ones_like(case["depth"]))
        contracted = contract_far(depth, factor * float(depth[depth > 0].median()))
        edges, slope = reference_edge_mask(contracted)
        expected = case["contracted_depth"]
        scale = expected.clamp_min(torch.finfo().eps)
        yield compare(f"{name}/contracted_depth", contracted / scale, expected / scale, _DEPTH_FRACTION)
        yield compare(f"{name}/sobel_magnitude", slope, case["sobel_magnitude"], _POINTS)
        yield compare(f"{name}/edge_mask", edges.float(), case["edge_mask"], 0.0)
        if "points" in case:
            yield from _check_points(name, case, contracted, (depth > 0) & ~edges)


def _check_points(name: str, case: dict[str, Tensor], depth: Tensor, kept: Tensor) -> Iterator[Deviation]:
    height, width = depth.shape
    camera = Cameras(invert_rigid(case["w2c"][:1]), case["K"][:1], width, height)
    points = camera.unproject(depth[None])[0][kept]
    yield compare(f"{name}/points", points, case["points"], _POINTS)
    yield compare(f"{name}/colors", case["image"][:, kept].T, case["colors"], _POINTS)

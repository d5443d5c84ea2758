"""How much of a window the opening view fills."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests.viewer.pages import with_invented
from worldstereo_cli.viewer.contents import SceneContents
from worldstereo_cli.viewer.opening import filled_reach


def with_splats_at(contents: SceneContents, places: Float[Tensor, "n 2"]) -> SceneContents:
    """The same photo with splats 3 m away, at places that are from -1 to 1 within the photo."""
    camera, g = contents.camera, contents.gaussians
    pixels = 0.5 * (places + 1) * torch.tensor([camera.width_px, camera.height_px])
    rays = torch.nn.functional.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(camera.intrinsics[0]).T
    own = [g.quaternions, g.log_scales, g.opacity_logits, g.sh]
    as_many = [values[:1].expand(len(places), *values.shape[1:]) for values in own]
    return replace(contents, gaussians=type(g)(3 * rays, *as_many))


def grid(across: float, upright: float) -> Float[Tensor, "n 2"]:
    steps = 1 / 128 + torch.arange(-256, 256) / 64
    places = torch.cartesian_prod(steps, steps)
    return places[(places.abs() < torch.tensor([across, upright])).all(-1)]


def test_a_scene_of_no_more_than_the_photo_opens_within_the_photo(scene_dir: Path) -> None:
    assert filled_reach(SceneContents.read(scene_dir)) == (1, 1)


def test_the_opening_view_reaches_as_far_as_splats_fill_it(scene_dir: Path) -> None:
    contents = SceneContents.read(scene_dir)
    across, upright = filled_reach(with_splats_at(contents, grid(2, 1.25)))
    assert across == pytest.approx(2, abs=1 / 32)
    assert upright == pytest.approx(1.25, abs=1 / 32)


def test_cracks_are_let_pass_but_not_a_side_that_is_empty(scene_dir: Path) -> None:
    contents = SceneContents.read(scene_dir)
    places = grid(2, 1)
    # One in two hundred patches, of a thirty-second of half the photo, is missing.
    kept = torch.rand(256, 256, generator=torch.Generator().manual_seed(0)) > 0.005
    column, row = ((places + 4) * 32).long().unbind(-1)
    cracked = places[kept[column, row]]
    assert len(cracked) < len(places)
    assert filled_reach(with_splats_at(contents, cracked))[0] == pytest.approx(2, abs=1 / 32)
    one_sided = places[places[:, 0] > -1]
    assert filled_reach(with_splats_at(contents, one_sided))[0] == 1


def test_splats_away_from_the_photo_or_behind_it_fill_nothing(scene_dir: Path) -> None:
    assert filled_reach(with_invented(SceneContents.read(scene_dir))) == (1, 1)

"""Soft depth edges become steps where the image has its edge, and nothing else is touched."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy import ndimage
from torch import Tensor

from worldstereo_cli.geometry.depth_edges import near_break, reference_edge_mask, sharpen_depth
from worldstereo_cli.geometry.edge_kernels import flying_pixels, hard_steps

HEIGHT, WIDTH = 192, 256


def disc(radius: float = 50.0) -> np.ndarray:
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    return (u - 110) ** 2 + (v - 90) ** 2 < radius**2


def picture(mask: np.ndarray, noise: float = 0.04) -> Tensor:
    """Two textures whose border is the true edge, a little blurred as by a lens."""
    random = np.random.default_rng(0)
    near = np.array([0.7, 0.3, 0.2]) + noise * random.normal(size=(HEIGHT, WIDTH, 3))
    far = np.array([0.35, 0.45, 0.5]) + noise * random.normal(size=(HEIGHT, WIDTH, 3))
    mixed = ndimage.gaussian_filter(np.where(mask[..., None], near, far), (0.6, 0.6, 0))
    return torch.from_numpy(mixed.clip(0, 1)).permute(2, 0, 1).float()


def two_planes(mask: np.ndarray) -> np.ndarray:
    """Disparity of a tilted board before a floor that recedes to a wall."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    return np.where(mask, 0.45 + 2e-4 * (u - 110), np.maximum(0.1, 0.2 * (v - 60) / 60))


def blurred(disparity: np.ndarray, sigma: float) -> Tensor:
    return torch.from_numpy(1 / ndimage.gaussian_filter(disparity, sigma)).float()


def sure() -> Tensor:
    return torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)


def edge_band(mask: np.ndarray, width: int = 8) -> np.ndarray:
    return ndimage.binary_dilation(mask, iterations=width) & ~ndimage.binary_erosion(mask, iterations=width)


@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_a_blurred_board_before_a_floor_gets_its_true_edge_back(sigma: float) -> None:
    mask = disc()
    truth = two_planes(mask)
    band = edge_band(mask)
    soft = blurred(truth, sigma)
    sharp = sharpen_depth(soft, sure(), picture(mask))
    before = np.abs(1 / soft.numpy() / truth - 1)[band]
    after = np.abs(1 / sharp.depth_m.numpy() / truth - 1)[band]
    assert (before > 0.05).mean() > 0.1
    # A pixel or so along the border may fall to the wrong side where the texture hides it.
    assert (after > 0.05).mean() < 0.025
    assert after.mean() < 0.2 * before.mean()
    assert sharp.loose.float().mean() < 1e-3


def test_no_rubber_sheet_remains_between_foreground_and_background() -> None:
    mask = disc()
    truth = np.where(mask, 0.5, 0.1)
    soft = blurred(truth, 2.0)
    between = (0.12, 0.45)

    def hanging(depth: Tensor) -> int:
        disparity = 1 / depth.numpy()
        return int(((disparity > between[0]) & (disparity < between[1])).sum())

    sharp = sharpen_depth(soft, sure(), picture(mask))
    assert hanging(soft) > 1500
    assert hanging(torch.where(sharp.loose, torch.tensor(2.0), sharp.depth_m)) <= 5


def test_the_edge_goes_where_the_image_has_it_even_if_the_depth_is_off() -> None:
    mask = disc()
    off = np.roll(two_planes(mask), 2, axis=1)
    sharp = sharpen_depth(blurred(off, 1.5), sure(), picture(mask))
    truth, band = two_planes(mask), edge_band(mask)
    assert (np.abs(1 / sharp.depth_m.numpy() / truth - 1)[band] > 0.05).mean() < 0.04


def test_a_plane_is_not_an_edge_however_steep() -> None:
    v, _ = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    floor = torch.from_numpy(1 / (0.004 * (v + 3))).float()
    sharp = sharpen_depth(floor, sure(), picture(disc()))
    assert not sharp.moved.any()
    assert torch.allclose(sharp.depth_m, floor)
    assert not sharp.loose.any()
    assert torch.isinf(near_break(floor)).all()


def test_a_step_that_is_crisp_already_stays_where_it_is() -> None:
    truth = torch.from_numpy(1 / np.where(disc(), 0.5, 0.1)).float()
    elsewhere = picture(np.roll(disc(), 20, axis=0))
    sharp = sharpen_depth(truth, sure(), elsewhere)
    assert torch.allclose(sharp.depth_m, truth)


def test_a_thin_pole_survives_its_soft_flanks() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:180, 120:126] = True
    soft = blurred(np.where(mask, 0.5, 0.1), 1.2)
    sharp = 1 / sharpen_depth(soft, sure(), picture(mask)).depth_m.numpy()
    inside = ndimage.binary_erosion(mask, iterations=1)
    assert (sharp[inside] > 0.4).mean() > 0.95
    assert (sharp[~ndimage.binary_dilation(mask, iterations=2)] < 0.15).mean() > 0.98


def test_unknown_pixels_are_filled_from_the_side_that_looks_like_them() -> None:
    mask = disc()
    truth = two_planes(mask)
    depth = torch.from_numpy(1 / truth).float()
    hole = torch.from_numpy(edge_band(mask, 5))
    depth[hole] = math.nan
    sharp = sharpen_depth(depth, hole, picture(mask))
    error = np.abs(1 / sharp.depth_m.numpy() / truth - 1)
    assert (error[hole.numpy()] > 0.05).mean() < 0.05
    assert torch.equal(sharp.moved, hole | sharp.moved)
    assert (sharp.reach_px[hole] > 0).all()
    assert (sharp.reach_px[~sharp.moved] == 0).all()


def test_a_filled_pixel_names_the_pixel_that_it_continues() -> None:
    mask = disc()
    hole = torch.from_numpy(edge_band(mask, 3))
    sharp = sharpen_depth(torch.from_numpy(1 / two_planes(mask)).float(), hole, picture(mask))
    row, column = sharp.seed.unbind(-1)
    assert not sharp.moved[row, column].any()
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    assert torch.equal(row[~sharp.moved], rows[~sharp.moved])
    assert torch.equal(column[~sharp.moved], columns[~sharp.moved])


def test_one_invalid_pixel_does_not_hide_the_edges_from_us_as_it_does_upstream() -> None:
    mask = disc()
    soft = blurred(np.where(mask, 0.5, 0.1), 1.5)
    dropped, _ = reference_edge_mask(soft)
    assert dropped.sum() > 200
    soft[0, 0] = 0.0
    blind, _ = reference_edge_mask(soft)
    assert blind.sum() <= 4
    unsure = sure()
    unsure[0, 0] = True
    assert sharpen_depth(soft, unsure, picture(mask)).moved.sum() > 1000


def test_results_do_not_depend_on_the_unit_of_depth() -> None:
    mask = disc()
    soft = blurred(two_planes(mask), 1.5)
    one = sharpen_depth(soft, sure(), picture(mask)).depth_m
    thousand = sharpen_depth(1000 * soft, sure(), picture(mask)).depth_m
    assert torch.allclose(1000 * one, thousand, rtol=1e-4)


def test_distance_to_a_break_counts_from_one_on_both_sides() -> None:
    depth = torch.full((40, 60), 2.0)
    depth[:, 30:] = 4.0
    distance = near_break(depth)
    assert distance[20, 27:33].tolist() == [3, 2, 1, 1, 2, 3]


def test_a_pixel_between_two_surfaces_is_flying_and_a_ramp_that_goes_on_is_not() -> None:
    row = np.full(40, 0.1)
    row[20:] = 0.5
    row[20] = 0.3
    step = np.repeat(row[None], 30, 0)
    assert flying_pixels(step, 0.05)[15].nonzero()[0].tolist() == [20]
    ramp = np.repeat(np.linspace(0.1, 0.5, 40)[None], 30, 0)
    assert not flying_pixels(ramp, 0.01).any()
    assert not hard_steps(ramp, 0.01).any()


@pytest.mark.parametrize("everything", [True, False])
def test_nothing_known_or_other_sizes_are_refused(everything: bool) -> None:
    unsure = torch.full((HEIGHT, WIDTH), everything)
    depth = torch.ones(HEIGHT, WIDTH if everything else 10)
    with pytest.raises(ValueError, match="Expected"):
        sharpen_depth(depth, unsure, picture(disc()))


def test_the_yardstick_equals_the_reference(goldens_dir: Path) -> None:
    with safe_open(goldens_dir / "depth_lift.safetensors", "pt") as file:
        assert json.loads(file.metadata()["threshold_alpha"]) == pytest.approx(0.35)
        assert json.loads(file.metadata()["beta"]) == pytest.approx(10)
        cases = sorted({key.split("/")[0] for key in file.keys()})
        for case in cases:
            dropped, magnitude = reference_edge_mask(file.get_tensor(f"{case}/contracted_depth"))
            assert torch.equal(dropped, file.get_tensor(f"{case}/edge_mask").bool()), case
            wanted = file.get_tensor(f"{case}/sobel_magnitude")
            assert torch.allclose(magnitude, wanted, rtol=1e-5, atol=1e-6), case


@pytest.mark.parametrize(
    "case", ["middlebury2003_teddy_0", "stereo_middlebury_cone", "stereo_middlebury_wood2"]
)
def test_real_scenes_with_blurred_truth_lose_most_of_their_wrong_pixels(eval_dir: Path, case: str) -> None:
    from PIL import Image

    entry = next(e for e in json.loads((eval_dir / "depth/index.json").read_text()) if e["id"] == case)
    counts = np.asarray(Image.open(eval_dir / "depth" / entry["depth"])).astype(float)
    image = np.asarray(Image.open(eval_dir / "depth" / entry["image"]).convert("RGB")) / 255
    bad = (counts == 0) | (counts == entry["invalid"])
    nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    truth = counts[tuple(nearest)] * entry["scale"]
    soft = torch.from_numpy(1 / ndimage.gaussian_filter(truth, 2.0))
    sharp = sharpen_depth(
        soft, torch.zeros(soft.shape, dtype=torch.bool), torch.from_numpy(image).permute(2, 0, 1)
    )
    near = (ndimage.maximum_filter(truth, 9) > 1.05 * ndimage.minimum_filter(truth, 9)) & ~bad
    wrong = [float((np.abs(1 / d.numpy() / truth - 1)[near] > 0.05).mean()) for d in (soft, sharp.depth_m)]
    assert wrong[1] < 0.65 * wrong[0]

"""The depth weights that ship in the package."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from worldstereo_cli.evaluation.depth import evaluate_depth, predict_with
from worldstereo_cli.models.depth.embedded import DEFAULT_WEIGHTS, WEIGHTS_ROOT, EmbeddedDepth
from worldstereo_cli.models.depth.network import DepthNetwork

FOLDER = WEIGHTS_ROOT / DEFAULT_WEIGHTS
PHOTOS = Path(__file__).parents[1] / "data" / "photos"


@pytest.fixture(scope="module")
def backend() -> EmbeddedDepth:
    return EmbeddedDepth.load(torch.device("cpu"))


def _photo(name: str, longest_px: int) -> torch.Tensor:
    with Image.open(PHOTOS / name) as file:
        picture = file.convert("RGB")
    picture.thumbnail((longest_px, longest_px))
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255


def test_the_weights_are_small_and_name_their_sources() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 15_000_000
    assert "by-sa" not in (FOLDER / "SOURCES.md").read_text().lower()
    assert (FOLDER / "MODEL_CARD.md").exists()


def test_a_mountain_photo_has_sky_above_and_ground_that_recedes(backend: EmbeddedDepth) -> None:
    estimate = backend.estimate(_photo("mountain_path.jpg", 384), None)
    height, width = estimate.depth_m.shape
    assert float(estimate.sky[: height // 10].float().mean()) > 0.8
    assert not bool(estimate.sky[-height // 4 :].any())
    column = estimate.depth_m[:, width // 3 : width // 2].median(dim=1).values
    assert float(column[-1]) < 0.5 * float(column[int(0.6 * height)])
    assert estimate.focal_px is not None
    assert 30 < math.degrees(2 * math.atan(width / 2 / estimate.focal_px)) < 90


def test_a_cloud_over_the_ridge_is_sky_and_snow_below_it_is_not(backend: EmbeddedDepth) -> None:
    sky = backend.estimate(_photo("mountain_path.jpg", 384), None).sky.float()
    height, width = sky.shape
    cloud = sky[height // 10 : 7 * height // 20, 3 * width // 20 : 7 * width // 20]
    snow = sky[6 * height // 10 : 78 * height // 100, 62 * width // 100 :]
    # Weights that had seen neither called two thirds of this cloud terrain, and a fifth of the snow sky;
    # these call a tenth of it terrain, and some snow sky, before what they are sure of decides.
    assert float(cloud.mean()) > 0.95
    assert float(snow.mean()) < 0.005


def test_trained_in_bfloat16_the_scale_is_no_coarser_than_it_need_be(backend: EmbeddedDepth) -> None:
    # It was a bfloat16 of some 50, whose steps are a quarter: its gradient was noise.
    photo = _photo("living_room.jpg", 384)[None, :, :256, :384]
    exact, coarse = backend._network, DepthNetwork(backend._network.shape).eval()
    coarse.load_state_dict(exact.state_dict())
    coarse.to(dtype=torch.bfloat16)
    with torch.inference_mode():
        wanted, got = exact(photo), coarse(photo)
    assert abs(float(wanted.log_scale)) < 8
    assert float(got.log_scale) == pytest.approx(float(wanted.log_scale), abs=0.05)
    assert float(got.log_focal) == pytest.approx(float(wanted.log_focal), abs=0.03)


def test_the_same_photo_gives_the_same_depth(backend: EmbeddedDepth) -> None:
    photo = _photo("mountain_path.jpg", 192)
    assert torch.equal(backend.estimate(photo, None).depth_m, backend.estimate(photo, None).depth_m)


@pytest.mark.slow
def test_depth_of_real_photographs_is_as_good_as_we_say(backend: EmbeddedDepth, eval_dir: Path) -> None:
    report = evaluate_depth(eval_dir / "depth", predict_with(backend))
    scale, affine = report.mean.scale["prediction"], report.mean.affine["prediction"]
    # A probe trained for 440 s got .206 / .693 and .176 / .720; a fitted ramp .232 / .621.
    assert scale.abs_rel < 0.12 and scale.delta1 > 0.865
    assert affine.abs_rel < 0.12 and affine.delta1 > 0.84
    assert len(report.sources_behind_ramp) <= 2
    assert report.boundary_f1 is not None and report.boundary_f1 > 0.18
    assert report.median_focal_error_frac is not None and report.median_focal_error_frac < 0.11

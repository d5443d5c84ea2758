"""The network and its eight-bit weights."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from worldstereo_cli.errors import BackendError
from worldstereo_cli.models.depth.eight_bit import from_eight_bit, to_eight_bit
from worldstereo_cli.models.depth.embedded import EmbeddedDepth, draw_in_far
from worldstereo_cli.models.depth.network import (
    DepthNetwork,
    DepthNetworkShape,
    GuidedUpsampler,
    num_parameters,
    rotary_angles,
    rotate,
    working_size,
)
from worldstereo_cli.models.depth.upsample import upsample_along_edges

TINY = DepthNetworkShape(
    stem_channels=8, quarter_channels=8, eighth_channels=8, width=64, num_layers=2,
    decoder_channels=8, num_quarter_blocks=1, num_eighth_blocks=1,
)  # fmt: skip


def _network() -> DepthNetwork:
    torch.manual_seed(0)
    return DepthNetwork(TINY).eval()


@pytest.mark.parametrize("size", [(32, 80), (80, 32), (48, 48)])
def test_any_aspect_gives_maps_of_the_size_of_the_image(size: tuple[int, int]) -> None:
    raw = _network()(torch.rand(2, 3, *size))
    assert raw.log_depth.shape == raw.sky_logit.shape == (2, *size)
    assert raw.log_focal.shape == raw.log_scale.shape == (2,)


def test_the_shipped_size_fits_into_fifteen_megabytes() -> None:
    count = num_parameters(DepthNetwork(DepthNetworkShape()))
    assert 11e6 < count < 14.5e6


def test_log_depth_holds_shape_alone() -> None:
    # Left free, it drifted to 25 on one photograph and 50 on another, and the scale to the opposite.
    network, image = _network(), torch.rand(2, 3, 48, 64)
    with torch.inference_mode():
        before = network(image)
        network.values.bias[0] += 40.0
        after = network(image)
    assert torch.allclose(after.log_depth, before.log_depth, atol=1e-4)
    # Over the whole image, which is all surface to a network that knows nothing yet of sky.
    assert bool((before.log_depth.mean(dim=(1, 2)).abs() < 0.5 * before.log_depth.std(dim=(1, 2))).all())


def test_the_same_image_gives_the_same_depth() -> None:
    network, image = _network(), torch.rand(1, 3, 48, 64)
    with torch.inference_mode():
        first, second = network(image), network(image)
    assert torch.equal(first.log_depth, second.log_depth)


def test_rotated_products_depend_on_offsets_only() -> None:
    angles = rotary_angles(4, 6, 64, torch.device("cpu"))
    query, key = torch.randn(64), torch.randn(64)
    turned = [
        rotate(vector.expand(1, 1, 24, 64), angles.cos(), angles.sin())[0, 0] for vector in (query, key)
    ]
    products = turned[0] @ turned[1].T
    # Patch 1 to patch 8 is one row down and one column right, as is patch 9 to patch 16.
    assert products[1, 8] == pytest.approx(float(products[9, 16]), abs=1e-3)
    assert products[1, 8] != pytest.approx(float(products[8, 1]), abs=1e-2)


def test_upsampling_invents_no_depth() -> None:
    torch.manual_seed(1)
    upsampler = GuidedUpsampler(8)
    values = torch.randn(1, 2, 6, 7)
    full = upsampler(values, torch.randn(1, 8, 6, 7), torch.rand(1, 48, 6, 7))
    assert full.shape == (1, 2, 24, 28)
    for channel in range(2):
        assert full[:, channel].max() <= values[:, channel].max() + 1e-5
        assert full[:, channel].min() >= values[:, channel].min() - 1e-5


def test_upsampled_edges_can_follow_pixels() -> None:
    """A few steps teach the upsampler to cut a cell along a line that only the pixels show."""
    torch.manual_seed(2)
    upsampler = GuidedUpsampler(4)
    optimizer = torch.optim.Adam(upsampler.parameters(), lr=5e-3)
    features = torch.zeros(4, 4, 4, 6)

    def scene() -> tuple[torch.Tensor, torch.Tensor]:
        edge = torch.randint(5, 19, (4, 1, 1, 1))
        near = (torch.arange(24).view(1, 1, 1, 24) < edge).float().expand(4, 1, 16, 24)
        return near, torch.nn.functional.max_pool2d(near, 4)

    def miss() -> torch.Tensor:
        near, cells = scene()
        pixels = torch.nn.functional.pixel_unshuffle(near.expand(-1, 3, -1, -1) - 0.5, 4)
        return (upsampler(cells, features, pixels) - near).abs().mean()

    before = float(torch.stack([miss() for _ in range(8)]).mean().detach())
    for _ in range(80):
        loss = miss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = float(torch.stack([miss() for _ in range(8)]).mean().detach())
    assert after < 0.3 * before


def test_a_large_picture_cuts_depth_along_its_own_edges() -> None:
    """The small map knows an edge to its pixel; the picture knows it 5 times better."""
    image = torch.full((3, 60, 100), 0.2)
    image[:, :, 47:] = 0.8
    small = torch.nn.functional.interpolate(image[None], (12, 20), mode="area")[0]
    depth = torch.ones(1, 12, 20)
    depth[:, :, 9:] = 3.0
    full = upsample_along_edges(depth, small, image)
    assert bool((full[0, :, :46] < 1.2).all())
    assert bool((full[0, :, 48:] > 2.8).all())
    slope = torch.linspace(0, 1, 20).expand(1, 12, 20)
    smooth = upsample_along_edges(slope, torch.full((3, 12, 20), 0.5), torch.full((3, 60, 100), 0.5))
    # A staircase would step by 1/19 every five pixels.
    assert float((smooth[..., 1:] - smooth[..., :-1]).abs().max()) < 0.5 / 19


def test_the_working_size_keeps_the_aspect() -> None:
    assert working_size(480, 640, 512) == (384, 512)
    assert working_size(4000, 3000, 384) == (384, 288)
    assert working_size(500, 500, 512) == (512, 512)


def test_long_images_are_seen_with_as_many_pixels_as_others() -> None:
    height, width = working_size(1216, 1936, 512)
    assert width / height == pytest.approx(1936 / 1216, rel=0.05)
    assert height * width == pytest.approx(384 * 512, rel=0.05)
    # As far as the longer side may grow.
    assert working_size(375, 1242, 512) == (208, 704)
    assert working_size(10, 4000, 512) == (16, 704)


def test_eight_bits_move_weights_by_half_a_step_at_most() -> None:
    weights = {name: value for name, value in _network().named_parameters()}
    back = from_eight_bit(to_eight_bit(weights))
    assert set(back) == set(weights)
    for name, value in weights.items():
        if value.ndim < 2:
            assert torch.equal(back[name], value)
        else:
            step = value.flatten(1).abs().amax(dim=1) / 127
            assert bool(((back[name] - value).flatten(1).abs().amax(dim=1) <= 0.501 * step + 1e-9).all())


def _write_weights(folder: Path, *, mirrored: bool = False) -> Path:
    config = {"shape": asdict(TINY), "inference": {"longest_px": 64, "mirrored": mirrored}}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(to_eight_bit(dict(_network().named_parameters())), folder / "model.safetensors")
    return folder


def test_the_backend_answers_at_the_size_of_the_picture(tmp_path: Path) -> None:
    backend = EmbeddedDepth.load_folder(_write_weights(tmp_path), torch.device("cpu"))
    image = torch.rand(3, 101, 75)
    estimate = backend.estimate(image, None)
    assert estimate.depth_m.shape == (101, 75)
    assert bool((estimate.depth_m[estimate.valid] > 0).all())
    assert bool((estimate.sky == ~estimate.valid).all())
    assert estimate.focal_px is not None and estimate.focal_px > 0


def test_a_known_focal_length_sets_the_scale_and_not_the_shape(tmp_path: Path) -> None:
    backend = EmbeddedDepth.load_folder(_write_weights(tmp_path), torch.device("cpu"))
    image = torch.rand(3, 64, 64)
    near, far = backend.estimate(image, 50.0), backend.estimate(image, 100.0)
    assert torch.allclose(2 * near.depth_m, far.depth_m, rtol=1e-4)


def test_a_mirrored_estimate_mirrors_with_the_picture(tmp_path: Path) -> None:
    backend = EmbeddedDepth.load_folder(_write_weights(tmp_path, mirrored=True), torch.device("cpu"))
    image = torch.rand(3, 48, 64)
    depth, flipped = backend.estimate(image, 60.0).depth_m, backend.estimate(image.flip(-1), 60.0).depth_m
    assert torch.allclose(depth, flipped.flip(-1), rtol=1e-3)


def test_only_the_far_tail_is_drawn_in() -> None:
    log_depth = torch.linspace(0.0, 2.0, 400).reshape(20, 20)
    log_depth[-1, -1] = 7.0
    sky = torch.zeros(20, 20, dtype=torch.bool)
    drawn = draw_in_far(log_depth, sky)
    assert torch.allclose(drawn.flatten()[:379], log_depth.flatten()[:379])
    assert bool((drawn.flatten().diff() >= 0).all())
    assert 2.2 < float(drawn.max()) < 2.45
    assert torch.equal(draw_in_far(log_depth, ~sky), log_depth)


def test_missing_and_damaged_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be read"):
        EmbeddedDepth.load_folder(tmp_path / "nowhere", torch.device("cpu"))
    folder = _write_weights(tmp_path)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BackendError, match="damaged"):
        EmbeddedDepth.load_folder(folder, torch.device("cpu"))

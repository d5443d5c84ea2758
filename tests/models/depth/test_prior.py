"""The prior guesses plausibly: floors recede, things stand, sky is found outdoors and not indoors."""

import pytest
import torch

from worldstereo_cli.errors import RecipeError
from worldstereo_cli.models.depth.factory import depth_backend
from worldstereo_cli.models.depth.prior import PriorDepth, segments
from worldstereo_cli.models.depth.sky import find_sky

HEIGHT, WIDTH = 180, 240


def outdoors() -> torch.Tensor:
    """A pale blue gradient over rough green ground with a dark pillar, taller than the skyline."""
    generator = torch.Generator().manual_seed(0)
    image = torch.empty(3, HEIGHT, WIDTH)
    blue = torch.linspace(0, 1, 90)[:, None]
    image[:, :90] = torch.stack([0.45 + 0.3 * blue, 0.6 + 0.25 * blue, 0.9 + 0.05 * blue]).expand(
        3, 90, WIDTH
    )
    green = torch.tensor([0.25, 0.35, 0.15])[:, None, None]
    image[:, 90:] = green + 0.08 * torch.randn(3, 90, WIDTH, generator=generator)
    image[:, 40:150, 100:130] = torch.tensor([0.12, 0.08, 0.08])[:, None, None]
    return image.clamp(0, 1)


def test_a_floor_recedes_upwards() -> None:
    image = 0.4 + 0.02 * torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    depth = PriorDepth().estimate(image, None).depth_m
    rows = depth.mean(1)
    assert (rows.diff() < 0).float().mean() > 0.95
    assert rows[0] > 2 * rows[-1]


def test_a_pillar_stands_before_the_ground_behind_it() -> None:
    depth = PriorDepth().estimate(outdoors(), None).depth_m
    pillar, beside = depth[95:145, 105:125], depth[95:145, 60:80]
    assert pillar.std() < 0.6 * beside.std()
    assert depth[100, 115] < 0.9 * depth[100, 70]
    assert depth[148, 115] == pytest.approx(float(depth[148, 70]), rel=0.1)


def test_it_says_that_it_is_a_guess() -> None:
    estimate = PriorDepth().estimate(outdoors(), 200.0)
    assert not estimate.is_metric
    assert estimate.focal_px is None
    assert torch.equal(estimate.valid, ~estimate.sky)
    assert (estimate.depth_m[estimate.valid] > 0).all()
    assert (estimate.depth_m[estimate.sky] == 0).all()


def test_it_is_deterministic() -> None:
    first, second = (PriorDepth().estimate(outdoors(), None).depth_m for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("size", [(32, 33), (33, 900), (700, 40)])
def test_it_takes_any_size(size: tuple[int, int]) -> None:
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(2))
    estimate = PriorDepth().estimate(image, None)
    assert estimate.depth_m.shape == size
    assert estimate.depth_m[estimate.valid].isfinite().all()


def test_sky_reaches_the_skyline_and_leaves_the_pillar_out() -> None:
    sky = find_sky(outdoors())
    truth = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    truth[:90] = True
    truth[40:90, 100:130] = False
    assert (sky ^ truth).float().mean() < 0.02


def test_a_pale_ceiling_is_no_sky() -> None:
    image = torch.full((3, HEIGHT, WIDTH), 0.75)
    image[0] += 0.05
    image[:, 90:] = 0.5
    assert not find_sky(image).any()


def test_where_depth_says_near_there_is_no_sky() -> None:
    nothing_far = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    assert not find_sky(outdoors(), nothing_far).any()
    far = nothing_far.clone()
    far[:90] = True
    assert find_sky(outdoors(), far)[:35].float().mean() > 0.95


def test_segments_follow_colour_and_small_ones_join() -> None:
    image = torch.zeros(40, 60, 3).double()
    image[:, 30:] = 0.8
    image[5, 5] = 1.0
    labels = segments(image.numpy(), 2.0, 20)
    assert len(set(labels.ravel().tolist())) == 2
    assert labels[20, 0] != labels[20, 59]
    assert labels[5, 5] == labels[5, 6]


def test_an_unknown_backend_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="crystal-ball"):
        depth_backend("crystal-ball", "cpu")

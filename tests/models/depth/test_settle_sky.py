"""Sky that spreads from where the network is sure of it."""

import numpy as np
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve

from worldstereo_cli.models.depth.settle_sky import settle_sky
from worldstereo_cli.models.depth.upsample import COLOUR_SIGMA

HEIGHT, WIDTH = 96, 128
BLUE, WHITE, GREY = (0.35, 0.55, 0.85), (0.95, 0.95, 0.97), (0.45, 0.42, 0.4)


def _scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blue sky over grey rock, between them a cloud that fades upwards and breaks off at the rock."""
    row = torch.arange(HEIGHT, dtype=torch.float32)[:, None].expand(HEIGHT, WIDTH)
    cloud = ((row - 20) / 30).clamp(0, 1)
    blue, white, grey = (torch.tensor(colour)[:, None, None] for colour in (BLUE, WHITE, GREY))
    image = torch.where(row < 60, blue + (white - blue) * cloud, grey)
    logit = torch.where(row < 60, 6.0, -6.0)
    return image, logit, row


def test_a_cloud_is_sky_down_to_the_ridge() -> None:
    image, logit, row = _scene()
    # Half of the cloud reads as mountain, as on photographs, though not surely.
    logit[(row >= 35) & (row < 60) & (torch.arange(WIDTH) < WIDTH // 2)] = -0.5
    settled = settle_sky(logit, image)
    assert bool((settled[row < 59] > 0).all())
    assert bool((settled[row >= 61] < 0).all())


def test_a_white_wall_that_is_surely_a_wall_stays_one_against_a_white_sky() -> None:
    image = torch.full((3, HEIGHT, WIDTH), 0.95)
    logit = torch.full((HEIGHT, WIDTH), 6.0)
    logit[48:, 32:96] = -6.0
    logit[HEIGHT - 8 :] = -6.0
    settled = settle_sky(logit, image)
    assert float(((settled > 0) != (logit > 0)).float().mean()) < 0.005


def test_a_thin_dark_post_stands_before_the_sky() -> None:
    image, logit, _ = _scene()
    image[:, 5:60, 64] = 0.1
    logit[5:60, 64] = -3.0
    assert bool((settle_sky(logit, image)[5:60, 64] < 0).all())


def test_specks_in_the_sky_and_doubtful_sky_in_the_ground_vanish() -> None:
    image, logit, _ = _scene()
    logit[8:12, 20:24] = -0.8
    logit[80:84, 40:44] = 0.6
    settled = settle_sky(logit, image)
    assert bool((settled[:58] > 0).all())
    assert bool((settled[62:] < 0).all())


def test_gaps_of_which_the_network_is_sure_stay_open() -> None:
    image, logit, _ = _scene()
    image[:, 70:78, 40:48] = torch.tensor(BLUE)[:, None, None]
    logit[70:78, 40:48] = 4.0
    settled = settle_sky(logit, image)
    assert bool((settled[71:77, 41:47] > 0).all())
    image[:, 70:78, 40:48] = torch.tensor(WHITE)[:, None, None]
    # A snowfield is as bright, but of it the network is not sure.
    logit[70:78, 40:48] = 0.5
    assert bool((settle_sky(logit, image)[62:] < 0).all())


def test_without_any_sky_nothing_changes() -> None:
    logit = -torch.rand(64, 80) - 0.01
    assert torch.equal(settle_sky(logit, torch.rand(3, 64, 80)), logit)
    assert torch.equal(settle_sky(-logit, torch.rand(3, 64, 80)), -logit)


def test_it_is_the_random_walk_that_it_says_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(
        torch.rand(1, 3, 9, 11, generator=generator), (90, 110), mode="bilinear"
    )[0]
    logit = torch.nn.functional.interpolate(
        4 * torch.randn(1, 1, 5, 6, generator=generator), (90, 110), mode="bicubic"
    )[0, 0]
    belief = torch.tanh(logit / 2).double().numpy()
    weight = 0.003 * np.sinh(logit.double().numpy() / 2) ** 2
    exact = _exact(belief, weight, image.double().permute(1, 2, 0).numpy())
    settled = torch.tanh(settle_sky(logit, image) / 2).double().numpy()
    # Patches without sure sky are turned over on purpose; nothing else is. 0.02 of 2: what the sweeps leave.
    assert np.abs(np.abs(settled) - np.abs(exact)).max() < 0.02
    assert ((settled > 0.02) <= (exact > 0)).all()
    assert (np.sign(settled) == np.sign(exact)).mean() > 0.95


def _exact(belief: np.ndarray, weight: np.ndarray, colours: np.ndarray) -> np.ndarray:
    height, width = belief.shape
    number = np.arange(belief.size).reshape(height, width)
    ends = [(number[:, :-1], number[:, 1:], np.diff(colours, axis=1))]
    ends += [(number[:-1], number[1:], np.diff(colours, axis=0))]
    first = np.concatenate([a.ravel() for a, _, _ in ends])
    second = np.concatenate([b.ravel() for _, b, _ in ends])
    unlike = np.concatenate([(change**2).sum(-1).ravel() for _, _, change in ends])
    link = np.exp(-0.5 * unlike / COLOUR_SIGMA**2) + 1e-4
    both = (np.r_[link, link], (np.r_[first, second], np.r_[second, first]))
    links = coo_matrix(both, shape=(belief.size, belief.size)).tocsr()
    system = diags(np.asarray(links.sum(1)).ravel() + weight.ravel()) - links
    solution: np.ndarray = spsolve(system.tocsc(), (weight * belief).ravel())
    return solution.reshape(height, width)

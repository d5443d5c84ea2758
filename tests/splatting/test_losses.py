"""Losses mean what their names say, and the compiled ones keep to plain torch."""

import pytest
import torch

from worldstereo_cli.splatting.losses import (
    coverage_loss,
    depth_loss,
    photometric_loss,
    psnr_db,
    ssim,
)


def pictures(height: int = 70, width: int = 150) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A picture, a disturbed copy, and weights with zeros; wider than two strips of the kernels."""
    g = torch.Generator().manual_seed(0)
    a = torch.rand(3, height, width, generator=g)
    b = (a + 0.1 * torch.randn(3, height, width, generator=g)).clamp(0, 1)
    weight = torch.rand(height, width, generator=g)
    weight[:20, :30] = 0
    return a, b, weight


def test_compiled_photometric_loss_has_value_and_gradient_of_plain_torch() -> None:
    a, b, weight = pictures()
    fast, slow = a.clone().requires_grad_(True), a.double().requires_grad_(True)
    compiled = photometric_loss(fast, b, weight, 0.3)
    plain = photometric_loss(slow, b.double(), weight.double(), 0.3)
    (2 * compiled).backward()
    (2 * plain).backward()
    assert compiled.item() == pytest.approx(plain.item(), rel=1e-5)
    assert (fast.grad - slow.grad).norm() < 1e-5 * slow.grad.norm()
    assert slow.grad[:, :10, :20].abs().max() < 1e-7 < slow.grad.abs().max()


def test_ssim_of_constant_pictures_is_the_luminance_term() -> None:
    a, b = torch.full((3, 40, 40), 0.3), torch.full((3, 40, 40), 0.6)
    expected = (2 * 0.3 * 0.6 + 1e-4) / (0.3**2 + 0.6**2 + 1e-4)
    assert ssim(a, b)[0, 20, 20].item() == pytest.approx(expected, rel=1e-3)
    assert ssim(a, a).min().item() == pytest.approx(1.0, abs=1e-4)


def test_psnr_of_a_known_error() -> None:
    a = torch.full((3, 8, 8), 0.5)
    assert psnr_db(a + 0.1, a) == pytest.approx(20.0, abs=1e-4)
    assert psnr_db(a, a) == 100.0


def test_depth_loss_cuts_outliers_and_ignores_pixels_without_weight() -> None:
    target = torch.full((4, 4), 2.0)
    depth = torch.tensor([[2.1, 20.0, 2.0, 0.0]]).expand(4, 4)
    weight = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).expand(4, 4)
    assert depth_loss(depth, target, weight).item() == pytest.approx((0.05 + 0.1 + 0.0) / 3, rel=1e-5)


def test_coverage_loss_is_the_weighted_mean_of_missing_alpha() -> None:
    alpha = torch.tensor([[0.5, 1.0], [0.0, 0.0]])
    weight = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    assert coverage_loss(alpha, weight).item() == pytest.approx(2.5 / 4)

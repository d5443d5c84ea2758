"""The compiled rasteriser keeps to the readable one, and both to what can be worked out by hand."""

import math

import numba
import pytest
import torch
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras, intrinsics_from_focal
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.geometry.rigid import look_at
from worldstereo_cli.splatting.rasterize.cpu import CpuRasterizer
from worldstereo_cli.splatting.rasterize.factory import rasterizer_for
from worldstereo_cli.splatting.rasterize.protocol import Rendering
from worldstereo_cli.splatting.rasterize.reference import ReferenceRasterizer

FIELDS = ("means", "quaternions", "log_scales", "opacity_logits", "sh")


def camera(width_px: int = 83, height_px: int = 61, focal_px: float = 70.0) -> Cameras:
    """A camera that is turned and moved, of a size that fills no whole number of tiles."""
    centre, target, down = torch.tensor([[0.3, -0.2, -0.5], [0.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    pose = look_at(centre, target, down)
    intrinsics = intrinsics_from_focal(focal_px, width_px, height_px)
    intrinsics[0, 2] += 3.7
    intrinsics[1, 1] *= 1.1
    return Cameras(pose[None], intrinsics[None], width_px, height_px)


def splats(count: int, sh_terms: int = 1, seed: int = 1, spread: float = 0.6) -> Gaussians:
    """Splats of all shapes before, beside and behind the camera."""
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(count, 3, generator=g) * torch.tensor([1.5, 1.2, 1.5]) + torch.tensor([0.0, 0.0, 3.0])
    means[: count // 40, 2] -= 4
    return Gaussians(
        means,
        torch.randn(count, 4, generator=g),
        torch.randn(count, 3, generator=g) * spread - 3,
        torch.randn(count, generator=g) * 2 + 1,
        torch.randn(count, sh_terms, 3, generator=g) * 0.3,
    )


def with_gradients(gaussians: Gaussians, dtype: torch.dtype) -> Gaussians:
    return Gaussians(*(getattr(gaussians, f).to(dtype).clone().requires_grad_(True) for f in FIELDS))


def weighted_sum(rendering: Rendering, seed: int = 5) -> Tensor:
    """A loss that all outputs take part in, with other weights for every pixel."""
    g = torch.Generator().manual_seed(seed)
    planes = torch.cat([rendering.rgb, rendering.depth_m[None], rendering.alpha[None]])
    return (planes * torch.randn(planes.shape, generator=g).to(planes)).sum()


@pytest.mark.parametrize("sh_terms", [1, 4, 16])
def test_values_and_gradients_are_those_of_the_readable_twin(sh_terms: int) -> None:
    given = splats(1500, sh_terms)
    fast, slow = with_gradients(given, torch.float32), with_gradients(given, torch.float64)
    drawn, expected = CpuRasterizer().render(fast, camera()), ReferenceRasterizer().render(slow, camera())
    assert expected.alpha.max() > 0.99 and expected.alpha.min() < 0.1
    for field in ("rgb", "depth_m", "alpha"):
        # Float32 against float64: a few units in the last place, summed over a ray.
        torch.testing.assert_close(
            getattr(drawn, field), getattr(expected, field).float(), atol=2e-5, rtol=2e-5
        )
    weighted_sum(drawn).backward()
    weighted_sum(expected).backward()
    for field in FIELDS:
        error = getattr(fast, field).grad - getattr(slow, field).grad
        assert error.norm() < 1e-4 * getattr(slow, field).grad.norm(), field


def test_median_depth_is_that_of_the_readable_twin() -> None:
    given = splats(1500)
    drawn = CpuRasterizer().median_depth(given, camera())
    expected = ReferenceRasterizer().median_depth(given, camera())
    assert 0.5 < (expected > 0).float().mean() < 1.0
    # A pixel whose light is halved within rounding may take the next splat.
    assert ((drawn - expected).abs() < 1e-4).float().mean() > 0.999


def test_gradients_are_finite_differences() -> None:
    """Three large, faint splats, far from every threshold where drawing is cut."""
    g = torch.Generator().manual_seed(3)
    small = camera(9, 7, 8.0)
    given = Gaussians(
        torch.randn(3, 3, generator=g) * 0.2 + torch.tensor([0.0, 0.0, 3.0]),
        torch.randn(3, 4, generator=g),
        torch.rand(3, 3, generator=g) * 0.3 + 0.9,
        torch.randn(3, generator=g) * 0.3 - 1,
        torch.randn(3, 4, 3, generator=g) * 0.1,
    )
    slow = with_gradients(given, torch.float64)

    def loss(*parameters: Tensor) -> Tensor:
        return weighted_sum(ReferenceRasterizer().render(Gaussians(*parameters), small))

    assert torch.autograd.gradcheck(loss, [getattr(slow, f) for f in FIELDS], eps=1e-6, atol=1e-6)
    fast = with_gradients(given, torch.float32)
    weighted_sum(CpuRasterizer().render(fast, small)).backward()
    loss(*(getattr(slow, f) for f in FIELDS)).backward()
    for field in FIELDS:
        torch.testing.assert_close(
            getattr(fast, field).grad, getattr(slow, field).grad.float(), atol=2e-5, rtol=1e-3
        )


@pytest.mark.parametrize("rasterizer", [CpuRasterizer(), ReferenceRasterizer()], ids=lambda r: r.name)
def test_one_splat_before_the_camera_is_a_bell_of_known_height_width_and_depth(
    rasterizer: CpuRasterizer | ReferenceRasterizer,
) -> None:
    size, focal, depth, sigma = 33, 40.0, 2.0, 0.1
    straight = Cameras(torch.eye(4)[None], intrinsics_from_focal(focal, size, size)[None], size, size)
    rgb = torch.tensor([0.9, 0.4, 0.1])
    one = Gaussians(
        torch.tensor([[0.0, 0.0, depth]]),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.full((1, 3), math.log(sigma)),
        torch.logit(torch.tensor([0.8])),
        ((rgb - 0.5) / 0.28209479)[None, None],
    )
    drawn = rasterizer.render(one, straight)
    variance = (focal * sigma / depth) ** 2 + 0.3
    for dx, dy in ((0, 0), (2, 0), (0, -3), (1, 1)):
        alpha = 0.8 * math.exp(-(dx * dx + dy * dy) / (2 * variance))
        assert drawn.alpha[16 + dy, 16 + dx].item() == pytest.approx(alpha, rel=1e-4)
        torch.testing.assert_close(drawn.rgb[:, 16 + dy, 16 + dx], alpha * rgb, rtol=1e-4, atol=1e-6)
        assert drawn.depth_m[16 + dy, 16 + dx].item() == pytest.approx(depth, rel=1e-5)
    assert rasterizer.median_depth(one, straight)[16, 16].item() == pytest.approx(depth, rel=1e-5)
    assert drawn.alpha[0, 0] == 0 and drawn.depth_m[0, 0] == 0


def test_the_nearer_splat_hides_the_farther_and_equal_depths_keep_their_order() -> None:
    size = 17
    straight = Cameras(torch.eye(4)[None], intrinsics_from_focal(20.0, size, size)[None], size, size)
    red, blue = torch.tensor([1.7, -1.7, -1.7]), torch.tensor([-1.7, -1.7, 1.7])
    for depths, first in (((2.0, 3.0), 0), ((3.0, 2.0), 2), ((2.0, 2.0), 0)):
        two = Gaussians(
            torch.tensor([[0.0, 0.0, depths[0]], [0.0, 0.0, depths[1]]]),
            torch.tensor([[1.0, 0, 0, 0]] * 2),
            torch.full((2, 3), -1.0),
            torch.full((2,), 3.0),
            torch.stack([red, blue])[:, None],
        )
        middle = CpuRasterizer().render(two, straight).rgb[:, 8, 8]
        assert middle[first] > 0.8 > 0.2 > middle[2 - first]


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    given, threads = splats(3000), numba.get_num_threads()
    results = []
    for count in (1, threads):
        numba.set_num_threads(count)
        fast = with_gradients(given, torch.float32)
        drawn = CpuRasterizer().render(fast, camera())
        weighted_sum(drawn).backward()
        results.append([drawn.rgb.detach(), *(getattr(fast, f).grad for f in FIELDS)])
    numba.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("rasterizer", [CpuRasterizer(), ReferenceRasterizer()], ids=lambda r: r.name)
def test_no_splats_and_splats_behind_the_camera_draw_black(
    rasterizer: CpuRasterizer | ReferenceRasterizer,
) -> None:
    behind = splats(50)
    behind.means[:, 2] = -9.0
    for given in (splats(40)[:0], behind):
        given = with_gradients(given, torch.float32)
        drawn = rasterizer.render(given, camera())
        assert not drawn.alpha.any() and not drawn.rgb.any() and not drawn.depth_m.any()
        weighted_sum(drawn).backward()
        assert all(torch.isfinite(getattr(given, f).grad).all() for f in FIELDS)


def test_several_cameras_and_skewed_pixels_are_refused() -> None:
    one = camera()
    skewed = one.intrinsics.clone()
    skewed[0, 0, 1] = 0.1
    with pytest.raises(ValueError, match="one camera"):
        CpuRasterizer().render(splats(5), one[[0, 0]])
    with pytest.raises(ValueError, match="skew"):
        CpuRasterizer().render(splats(5), Cameras(one.world_from_camera, skewed, 83, 61))


def test_the_factory_knows_its_devices() -> None:
    assert rasterizer_for("cpu").name == "numba"
    with pytest.raises(ValueError, match="mps"):
        rasterizer_for("mps")

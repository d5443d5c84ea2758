"""On a GPU, gsplat draws what the readable twin draws, fits, and grows splats."""

from dataclasses import replace

import pytest
import torch

from tests import scenes
from tests.splatting.test_rasterize import FIELDS, camera, splats, weighted_sum, with_gradients
from worldstereo_cli.errors import BackendError
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.progress import silent
from worldstereo_cli.splatting.densify import GrowthStrategy
from worldstereo_cli.splatting.fit import FitSettings, fit
from worldstereo_cli.splatting.initialize import Picture, SplatStyle, splats_from_picture
from worldstereo_cli.splatting.losses import psnr_db
from worldstereo_cli.splatting.parameters import PacedSplats
from worldstereo_cli.splatting.rasterize.cuda import CudaRasterizer
from worldstereo_cli.splatting.rasterize.factory import rasterizer_for
from worldstereo_cli.splatting.rasterize.reference import ReferenceRasterizer
from worldstereo_cli.splatting.targets import Beliefs, photo_target


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_remedy_is_said() -> None:
    with pytest.raises(BackendError, match="no CUDA device") as caught:
        rasterizer_for("cuda")
    assert "--device cpu" in caught.value.remedy


@pytest.mark.gpu
@pytest.mark.parametrize("sh_terms", [1, 16])
def test_gsplat_has_the_values_and_gradients_of_the_readable_twin(sh_terms: int) -> None:
    given = splats(1500, sh_terms)
    fast = with_gradients(given.to("cuda"), torch.float32)
    slow = with_gradients(given, torch.float64)
    drawn = CudaRasterizer.load().render(fast, camera().to("cuda"))
    expected = ReferenceRasterizer().render(slow, camera())
    for field in ("rgb", "depth_m", "alpha"):
        # gsplat ends a pixel one splat earlier, when 1e-4 of the light is left, and uses fast exponentials.
        error = (getattr(drawn, field).cpu() - getattr(expected, field).float()).abs()
        assert error.mean() < 1e-4 and error.quantile(0.999) < 5e-3, field
    weighted_sum(drawn).backward()
    weighted_sum(expected).backward()
    for field in FIELDS:
        error = getattr(fast, field).grad.cpu().double() - getattr(slow, field).grad
        assert error.norm() < 0.02 * getattr(slow, field).grad.norm(), field


@pytest.mark.gpu
def test_median_depth_is_found_band_by_band() -> None:
    given, tall = splats(1500), camera(height_px=150)
    drawn = CudaRasterizer.load().median_depth(given.to("cuda"), tall.to("cuda")).cpu()
    expected = ReferenceRasterizer().median_depth(given, tall)
    assert ((drawn - expected).abs() < 1e-3).float().mean() > 0.995


@pytest.mark.gpu
def test_a_fit_on_the_gpu_grows_splats_where_they_are_missing_and_keeps_the_limit() -> None:
    view = scenes.view_of(scenes.room(), scenes.camera(192, 128))
    picture = Picture(view.image, view.depth_m, view.valid, view.sky, view.camera)
    few = splats_from_picture(picture, SplatStyle(), 3000)
    start = PacedSplats.of(few.to("cuda"), SplatStyle().sigma_spacings, 1.0)
    rasterizer = CudaRasterizer.load()
    target = photo_target(picture, Beliefs()).to("cuda")
    growth = GrowthStrategy(rasterizer, 300, 6000, 3.0)
    done = fit(
        start, [target], FitSettings(300), rasterizer, growth=growth, seed=0, progress=silent
    ).splats.gaussians
    assert 3000 < len(done) < 12000
    values = [psnr_db(rasterizer.render(g, target.camera).rgb, target.image) for g in (few.to("cuda"), done)]
    assert values[1] > values[0] + 3


@pytest.mark.gpu
def test_the_optimiser_does_the_same_on_both_devices() -> None:
    view = scenes.view_of(scenes.room(), scenes.camera())
    picture = Picture(view.image, view.depth_m, view.valid, view.sky, view.camera)
    first = splats_from_picture(picture, SplatStyle())
    first = replace(first, sh=torch.zeros_like(first.sh))
    results: list[Gaussians] = []
    for device in ("cpu", "cuda"):
        start = PacedSplats.of(first.to(device), SplatStyle().sigma_spacings, 1.0)
        target = photo_target(picture, Beliefs()).to(device)
        done = fit(start, [target], FitSettings(20), rasterizer_for(device), seed=0, progress=silent)
        results.append(done.splats.gaussians.to("cpu"))
    pictures = [ReferenceRasterizer().render(g, picture.camera).rgb for g in results]
    assert psnr_db(pictures[0], pictures[1].clamp(0, 1)) > 35

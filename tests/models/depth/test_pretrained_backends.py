"""Depth Pro and Depth Anything, as real checkpoints of the library with tiny random weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.depth.tiny_models import write_depth_anything, write_depth_pro
from worldstereo_cli.errors import BackendError
from worldstereo_cli.models.depth.depth_anything import DepthAnything
from worldstereo_cli.models.depth.depth_pro import DepthPro
from worldstereo_cli.models.depth.factory import depth_backend


@pytest.fixture(scope="module")
def depth_pro_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth_pro(tmp_path_factory.mktemp("depth-pro"))


def photo(height: int = 48, width: int = 80) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, height, width, generator=generator)


def test_depth_pro_gives_metric_depth_and_its_own_focal_length(depth_pro_folder: Path) -> None:
    backend = DepthPro.load(str(depth_pro_folder), "cpu")
    estimate = backend.estimate(photo(), None)
    assert estimate.depth_m.shape == (48, 80)
    assert estimate.is_metric
    assert estimate.valid.all()
    assert estimate.focal_px is not None
    assert 20 < estimate.focal_px < 400


def test_depth_pro_depth_is_what_its_canonical_inverse_depth_says(depth_pro_folder: Path) -> None:
    from transformers.models.depth_pro.modeling_depth_pro import DepthProForDepthEstimation

    # A photo of the model's own size needs no resizing, so the formula can be read off.
    image = photo(128, 128)
    model = DepthProForDepthEstimation.from_pretrained(depth_pro_folder).eval()
    with torch.inference_mode():
        output = model(pixel_values=2 * image[None] - 1)
    focal = 100.0
    inverse = torch.nn.functional.interpolate(output.predicted_depth[None], (128, 128), mode="bilinear")
    wanted = 1 / (inverse[0, 0] * 128 / focal).clamp(1e-4, 1e4)
    got = DepthPro.load(str(depth_pro_folder), "cpu").estimate(image, focal)
    assert torch.allclose(got.depth_m[got.valid], wanted[got.valid], rtol=1e-4)


def test_a_longer_known_focal_length_makes_depth_pro_see_farther(depth_pro_folder: Path) -> None:
    backend = DepthPro.load(str(depth_pro_folder), "cpu")
    near, far = (backend.estimate(photo(), f) for f in (60.0, 120.0))
    # Inverse depth is cut at 1e-4 / m, and sky has none.
    both = near.valid & far.valid & (near.depth_m < 4000)
    assert both.float().mean() > 0.5
    assert torch.allclose(2 * near.depth_m[both], far.depth_m[both], rtol=1e-4)


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_depth_anything_gives_depth_of_the_kind_of_its_weights(tmp_path: Path, kind: str) -> None:
    from transformers.models.depth_anything.modeling_depth_anything import DepthAnythingForDepthEstimation

    folder = write_depth_anything(tmp_path, kind)
    # Of the trained size: 37 patches of 14 along the shorter side, here both.
    image = photo(518, 518)
    estimate = DepthAnything.load(str(folder), "cpu").estimate(image, None)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.inference_mode():
        model = DepthAnythingForDepthEstimation.from_pretrained(folder).eval()
        model.head.max_depth = 20 if kind == "metric" else 1
        raw = model(pixel_values=((image - mean) / std)[None]).predicted_depth[0]
    wanted = raw if kind == "metric" else raw.max() / raw.clamp_min(float(raw.max()) / 100)
    assert estimate.is_metric == (kind == "metric")
    assert estimate.focal_px is None
    assert torch.allclose(estimate.depth_m[estimate.valid], wanted[estimate.valid], rtol=1e-3)


def test_depth_anything_takes_any_size(tmp_path: Path) -> None:
    backend = DepthAnything.load(str(write_depth_anything(tmp_path, "relative")), "cpu")
    assert backend.estimate(photo(33, 50), None).depth_m.shape == (33, 50)


@pytest.mark.parametrize("name", ["depth-pro", "depth-anything"])
def test_without_weights_one_line_says_what_is_missing_and_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackendError) as caught:
        depth_backend(name, "cpu", weights="nobody/no-such-weights")
    assert "nobody/no-such-weights" in caught.value.problem
    assert "\n" not in caught.value.problem
    assert "hf download nobody/no-such-weights" in caught.value.remedy


def test_a_folder_of_another_model_is_refused(depth_pro_folder: Path) -> None:
    with pytest.raises(BackendError):
        DepthAnything.load(str(depth_pro_folder), "cpu")


def test_a_checkpoint_that_lacks_a_tensor_is_refused_and_not_filled_with_noise(tmp_path: Path) -> None:
    folder = write_depth_anything(tmp_path, "relative")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("head.conv2.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match="do not fit"):
        DepthAnything.load(str(folder), "cpu")


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = write_depth_anything(tmp_path, "relative")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BackendError):
        DepthAnything.load(str(folder), "cpu")

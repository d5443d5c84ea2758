"""What scenes are drawn from can be left out, one source at a time."""

import io
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from worldstereo_cli.training.assets.pack import AssetPack, Credit, PackedMesh
from worldstereo_cli.training.depth.batches import scene_source
from worldstereo_cli.training.scenes import CATEGORIES, SceneRenderer, SceneSettings
from worldstereo_cli.training.scenes.meshes import MESH_GROUPS

pytestmark = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="needs a C++ compiler"
)
WIDTH, HEIGHT = 40, 32
ROOMS = {name: float(name == "sensor") for name in CATEGORIES}


def _tile(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (256, 256, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> SceneRenderer:
    """A renderer with a pack of one block for every group of furniture, two pictures and a sky."""
    rng = np.random.default_rng(0)
    ends = np.array([[-1, -1], [1, -1], [0, 1]]) * 32000
    corners = np.array([[[x, y, z] for x, y in ends] for z in (-32000, 32000)], np.int16)
    meshes = [
        PackedMesh(
            group,
            np.array([0.5, 0.9, 0.5], np.float32),
            corners,
            np.zeros((2, 3, 2), np.float16),
            np.array([1, -1], np.int16),
            np.array([0x204080, 0x806040], np.uint32),
        )
        for group in MESH_GROUPS
        if group.startswith("pack_")
    ]
    panorama = rng.random((1, 128, 256, 3)).astype(np.float16) * np.array([2, 1, 0.2], np.float16)
    credits = [Credit("a", "b", "CC0-1.0", "c")]
    folder = tmp_path_factory.mktemp("pack")
    AssetPack(meshes, [_tile(rng), _tile(rng)], 1, panorama, credits).write(folder)
    return SceneRenderer("cpu", folder)


def test_pictures_and_skies_change_colours_and_no_shape(renderer: SceneRenderer) -> None:
    with_all = renderer.with_settings(SceneSettings(**ROOMS)).render(range(8), WIDTH, HEIGHT)
    for left_out in ("pictures", "panoramas"):
        settings = SceneSettings(**ROOMS, **{left_out: False})
        without = renderer.with_settings(settings).render(range(8), WIDTH, HEIGHT)
        assert torch.equal(without.depth_m, with_all.depth_m)
        changed = (without.rgb_linear - with_all.rgb_linear).abs().mean((1, 2, 3)) > 1e-4
        assert changed.sum() >= 3, left_out


def test_without_furniture_no_mesh_of_the_pack_is_there(renderer: SceneRenderer) -> None:
    # The pack's blocks are flat triangles: where one stands, a scene without it shows other depth.
    with_all = renderer.with_settings(SceneSettings(**ROOMS)).render(range(12), WIDTH, HEIGHT)
    settings = SceneSettings(**ROOMS, furniture=False, pictures=False, panoramas=False)
    without = renderer.with_settings(settings).render(range(12), WIDTH, HEIGHT)
    differs = (without.depth_m != with_all.depth_m).flatten(1).any(1)
    assert differs.sum() >= 4


@pytest.mark.parametrize("name", CATEGORIES)
def test_every_kind_of_scene_can_be_left_out(renderer: SceneRenderer, name: str) -> None:
    index = CATEGORIES.index(name)
    even = {other: 1.0 for other in CATEGORIES}
    seeds = range(60)
    there = renderer.with_settings(SceneSettings(**even)).render(seeds, 8, 8, samples=1)
    assert (there.category == index).any()
    without = renderer.with_settings(SceneSettings(**even | {name: 0.0}))
    gone = without.render(seeds, 8, 8, samples=1)
    assert not (gone.category == index).any()
    # The source that training reads obeys as well.
    assert scene_source(without)(list(range(4)), (8, 8)).depth_m.shape == (4, 8, 8)


def test_the_spread_of_cameras_is_narrow_or_wide(renderer: SceneRenderer) -> None:
    spreads = []
    for scale in (0.0, 0.5, 1.0, 1.5):
        settings = SceneSettings(camera_spread=scale)
        batch = renderer.with_settings(settings).render(range(150), 16, 12, samples=1)
        fov = 2 * torch.atan(8 / batch.intrinsics[:, 0, 0])
        roll = torch.asin(batch.world_from_camera[:, 1, 0].clamp(-1, 1))
        spreads.append((float(fov.std()), float(roll.std())))
    assert spreads[0] == (pytest.approx(0, abs=1e-5), pytest.approx(0, abs=1e-5))
    for narrow, wide in pairwise(spreads):
        assert wide[0] > 1.2 * narrow[0] and wide[1] > 1.2 * narrow[1]


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="shares >= 0, one above"):
        SceneSettings(**dict.fromkeys(CATEGORIES, 0.0))
    with pytest.raises(ValueError, match="a spread >= 0"):
        SceneSettings(camera_spread=-1.0)

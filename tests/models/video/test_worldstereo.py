"""The backend of WorldStereo's architecture makes clips from a weights folder alone."""

import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from released import KEYFRAMES, write_embedded, write_released
from safetensors.torch import load_file, save_file
from tiny import CONTROL

from worldstereo_cli.errors import BackendError, OutOfMemory
from worldstereo_cli.geometry.cameras import Cameras, intrinsics_from_focal
from worldstereo_cli.geometry.rigid import look_at
from worldstereo_cli.models.catalogue import RELEASES, find_weights
from worldstereo_cli.models.video import parts as parts_module
from worldstereo_cli.models.video import worldstereo
from worldstereo_cli.models.video.config import DistilledConfig
from worldstereo_cli.models.video.parts import VideoParts
from worldstereo_cli.models.video.protocol import ClipRequest, ClipSize, References
from worldstereo_cli.models.video.worldstereo import VideoSettings, WorldStereoBackend

HEIGHT, WIDTH = 32, 48


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"))


def backend(folder: Path, cache: Path, **settings) -> WorldStereoBackend:
    parts = VideoParts.open(find_weights(str(folder)), torch.device("cpu"))
    return WorldStereoBackend(parts, VideoSettings(prompt_cache=cache, **settings))


def path_of(num: int) -> Cameras:
    angle = torch.linspace(0, 0.4, num)
    centres = torch.stack([2 * angle.sin(), 0 * angle, 2 - 2 * angle.cos()], -1)
    pose = look_at(centres, torch.tensor([0.0, 0.0, 2.0]).expand(num, 3), torch.tensor([0.0, 1.0, 0.0]))
    return Cameras(pose, intrinsics_from_focal(40.0, WIDTH, HEIGHT).repeat(num, 1, 1), WIDTH, HEIGHT)


def request(seed: int = 0, prompt: str = "a room with chairs", references: int = 0) -> ClipRequest:
    generator = torch.Generator().manual_seed(3)
    control = torch.rand(KEYFRAMES, 3, HEIGHT, WIDTH, generator=generator)
    cameras = path_of(KEYFRAMES)
    remembered = None
    if references:
        images = torch.rand(references, 3, HEIGHT, WIDTH, generator=generator)
        index = torch.arange(references) % (KEYFRAMES - 1) + 1
        remembered = References(images, path_of(references), index)
    return ClipRequest(
        cameras=cameras,
        control=control,
        control_depth_m=torch.ones(KEYFRAMES, HEIGHT, WIDTH),
        hole=torch.rand(KEYFRAMES, HEIGHT, WIDTH, generator=generator) > 0.7,
        first_frame=torch.rand(3, HEIGHT, WIDTH, generator=generator),
        seen=None,
        prompt=prompt,
        seed=seed,
        references=remembered,
    )


def test_a_released_folder_makes_a_clip_that_its_seed_decides(released: Path, tmp_path: Path) -> None:
    made = backend(released, tmp_path)
    assert (made.name, made.num_references) == ("worldstereo-tiny", 8)
    assert made.clip_size(900, 600) == ClipSize(KEYFRAMES, 48, 32)
    assert made.clip_size(600, 900) == ClipSize(KEYFRAMES, 32, 48)
    first = made.generate(request(seed=1)).frames
    assert first.shape == (KEYFRAMES, 3, HEIGHT, WIDTH)
    assert 0 <= float(first.min()) < float(first.max()) <= 1
    assert torch.equal(backend(released, tmp_path).generate(request(seed=1)).frames, first)
    assert not torch.equal(made.generate(request(seed=2)).frames, first)


def test_everything_in_a_request_reaches_the_frames(released: Path, tmp_path: Path) -> None:
    made = backend(released, tmp_path)
    plain = request(references=2)
    frames = made.generate(plain).frames
    moved = plain.cameras.world_from_camera.clone()
    moved[1, 0, 3] += 0.5
    other_images = replace(plain.references, images=plain.references.images.flip(0))
    for changed in (
        replace(plain, prompt="blurred"),
        replace(plain, control=plain.control.flip(0)),
        replace(plain, hole=~plain.hole),
        replace(plain, first_frame=plain.first_frame.flip(0)),
        replace(plain, cameras=replace(plain.cameras, world_from_camera=moved)),
        replace(plain, references=other_images),
    ):
        assert float((made.generate(changed).frames - frames).abs().max()) > 1e-5


def test_the_first_frame_is_known_whatever_the_control_shows_there(released: Path, tmp_path: Path) -> None:
    made = backend(released, tmp_path)
    plain = request()
    control, hole = plain.control.clone(), plain.hole.clone()
    control[0], hole[0] = 0.5, True
    again = replace(plain, control=control, hole=hole)
    assert torch.equal(made.generate(again).frames, made.generate(plain).frames)


def test_shards_and_one_file_are_the_same_model(released: Path, tmp_path: Path) -> None:
    sharded = write_released(tmp_path / "sharded", sharded=True)
    expected = backend(released, tmp_path).generate(request()).frames
    assert torch.equal(backend(sharded, tmp_path).generate(request()).frames, expected)


def test_frozen_tensors_may_come_from_the_base(released: Path, tmp_path: Path) -> None:
    lacking = write_released(tmp_path / "lacking", lacking="attn2")
    expected = backend(released, tmp_path).generate(request()).frames
    assert torch.equal(backend(lacking, tmp_path).generate(request()).frames, expected)
    fetched = VideoParts.open(find_weights(str(lacking)), torch.device("cpu")).fetch_missing_tensors()
    assert len(fetched) == 2 and all(path.parent.name == "transformer" for path in fetched)
    assert VideoParts.open(find_weights(str(released)), torch.device("cpu")).fetch_missing_tensors() == []
    without_branch = write_released(tmp_path / "branch", lacking="controlnet.proj_in")
    with pytest.raises(BackendError, match=r"2 missing \(controlnet.proj_in"):
        backend(without_branch, tmp_path).generate(request())


def test_a_model_with_guidance_leads_away_from_its_negative_prompt(tmp_path: Path) -> None:
    folder = write_released(tmp_path / "guided", distilled=False)
    strong = backend(folder, tmp_path, num_steps=3, guidance=5.0).generate(request()).frames
    weak = backend(folder, tmp_path, num_steps=3, guidance=1.0).generate(request()).frames
    assert float((strong - weak).abs().max()) > 1e-4


def test_a_prompt_is_embedded_once_and_then_needs_no_encoder(released: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(released.parent, copy)
    cache = tmp_path / "cache"
    folder = copy / released.name
    expected = backend(folder, cache).generate(request()).frames
    assert len(list(cache.glob("*.safetensors"))) == 1
    weights = copy / "base/text_encoder/model.safetensors"
    emptied = weights.with_suffix(".moved")
    weights.rename(emptied)
    made = backend(folder, cache)
    with pytest.raises(BackendError, match=r"holds no model.safetensors"):
        made.generate(request())  # its size is needed for the memory plan
    emptied.rename(weights)
    shutil.rmtree(copy / "base/tokenizer")
    (copy / "base/tokenizer").mkdir()
    assert torch.equal(made.generate(request()).frames, expected)
    with pytest.raises(BackendError, match="tokenizer"):
        made.generate(request(prompt="a camera"))


def test_no_prompt_is_a_neutral_one(released: Path, tmp_path: Path) -> None:
    made = backend(released, tmp_path)
    neutral = made.generate(request(prompt="")).frames
    assert float((made.generate(request()).frames - neutral).abs().max()) > 1e-5


def test_a_small_model_needs_one_folder_and_no_encoders(tmp_path: Path) -> None:
    folder = write_embedded(tmp_path)
    made = backend(folder, tmp_path / "cache")
    frames = made.generate(request(references=1)).frames
    assert frames.shape == (KEYFRAMES, 3, HEIGHT, WIDTH)
    assert made.folder.licence == "Apache-2.0"
    assert not (tmp_path / "cache").exists()


def test_our_own_weights_see_the_right_ray_grid(tmp_path: Path) -> None:
    folder = write_embedded(tmp_path)
    right = backend(folder, tmp_path).generate(request()).frames
    config = json.loads((folder / "config.json").read_text())
    del config["quirks"]
    (folder / "config.json").write_text(json.dumps(config))
    assert float((backend(folder, tmp_path).generate(request()).frames - right).abs().max()) > 1e-6


def test_eight_bit_weights_make_nearly_the_same_clip(released: Path, tmp_path: Path) -> None:
    full = backend(released, tmp_path).generate(request()).frames
    packed = backend(released, tmp_path, tier="eight-bit").generate(request()).frames
    assert 0 < float((packed - full).abs().mean()) < 0.02


def test_a_clip_that_cannot_fit_is_refused_before_anything_is_loaded(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worldstereo, "available_bytes", lambda device: 1000)
    made = backend(released, tmp_path)
    with pytest.raises(OutOfMemory, match="even with eight-bit weights"):
        made.generate(request())
    assert list(tmp_path.iterdir()) == []


def test_a_backend_at_rest_holds_nothing_and_goes_on(released: Path, tmp_path: Path) -> None:
    made = backend(released, tmp_path)
    expected = made.generate(request()).frames
    held = [weakref.ref(part) for part in (made._transformer, *made._transformer.parameters(), made._codec)]
    gc.disable()
    try:
        made.rest()
        assert all(ref() is None for ref in held)
    finally:
        gc.enable()
    assert torch.equal(made.generate(request()).frames, expected)


def test_a_picture_that_begins_many_paths_is_encoded_once(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoded = parts_module.encode_image, []
    monkeypatch.setattr(
        parts_module, "encode_image", lambda *given: encoded.append(given[1]) or encode(*given)
    )
    made = backend(released, tmp_path)
    first = made.generate(request(seed=1)).frames
    made.generate(request(seed=2))
    assert len(encoded) == 1
    other = replace(request(seed=1), first_frame=request().first_frame.flip(0))
    assert not torch.equal(made.generate(other).frames, first)
    assert len(encoded) == 2


def test_what_the_transformer_lacks_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = write_released(tmp_path / "lacking", lacking="attn2")
    made = backend(folder, tmp_path)
    size = made.clip_size(480, 320)
    assert made.describe_needs(size).startswith("resident weights")
    shard = tmp_path / "lacking/base/transformer/diffusion_pytorch_model-00002-of-00002.safetensors"
    moved = shard.rename(shard.with_suffix(".moved"))
    with pytest.raises(
        BackendError, match=r"lacks \d+ tensors of its base, and transformer/.*00002"
    ) as caught:
        made.describe_needs(size)
    assert "Put the base model's transformer folder there" in caught.value.remedy
    moved.rename(shard)
    other = write_released(tmp_path / "branch", lacking="controlnet.proj_in")
    with pytest.raises(BackendError, match=r"2 missing \(controlnet.proj_in"):
        backend(other, tmp_path).describe_needs(size)
    of_films = changed(other, controlnet_cfg={**CONTROL.model_dump(), "mask_downsample": 4})
    with pytest.raises(BackendError, match="4 ray maps for each keyframe"):
        backend(of_films, tmp_path).describe_needs(size)


def test_an_autoencoder_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    folder = write_released(tmp_path)
    path = tmp_path / "base/vae/diffusion_pytorch_model.safetensors"
    state = load_file(path)
    del state["decoder.conv_in.weight"]
    save_file(state, path)
    with pytest.raises(BackendError, match=r"vae lacks 1 tensors, the first decoder.conv_in.weight"):
        backend(folder, tmp_path).generate(request())


def test_a_released_model_is_sampled_as_it_was_trained_whatever_its_config_kept(tmp_path: Path) -> None:
    """Configs are full of leftovers; which release is distilled, its name says."""

    def schedule(folder: Path, distilled: bool | None) -> DistilledConfig | None:
        found = replace(find_weights(str(folder)), distilled=distilled)
        return VideoParts.open(found, torch.device("cpu")).config.distilled

    with_steps = write_released(tmp_path / "a")
    without = write_released(tmp_path / "b", distilled=False)
    own = changed(with_steps, dmd_steps=3)
    assert schedule(own, None).num_steps == schedule(own, True).num_steps == 3
    assert schedule(own, False) is None
    assert schedule(without, None) is None
    assert schedule(without, True) == DistilledConfig(
        start_timestep=250, end_timestep=1000, num_steps=4, shift=5
    )
    assert {name: release.distilled for name, release in RELEASES.items()} == {
        "worldstereo-memory-dmd": True, "worldstereo-memory": False, "worldstereo-camera": False,
    }  # fmt: skip


def test_nulls_and_sizes_of_no_use_in_a_config_are_passed_over(released: Path, tmp_path: Path) -> None:
    shutil.copytree(released.parent, tmp_path / "copy")
    control = {**CONTROL.model_dump(), "interp": None, "ref_embedding": None}
    folder = changed(
        tmp_path / "copy" / released.name,
        negative_prompt=None, latent_cond_mode=None, controlnet_cfg=control, scale_map=[[600, 600], [32, 48]],
    )  # fmt: skip
    made = backend(folder, tmp_path)
    assert made.clip_size(100, 100) == ClipSize(KEYFRAMES, 48, 32)
    assert torch.equal(
        made.generate(request()).frames, backend(released, tmp_path).generate(request()).frames
    )


def changed(folder: Path, **fields) -> Path:
    """Change fields of a folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


def test_a_gpu_on_which_nothing_can_be_fused_is_told_what_that_costs(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU of 24 GB holds the release with fused steps only."""
    monkeypatch.setattr(worldstereo, "why_not_fused", lambda: "Triton is not installed")
    monkeypatch.setattr(worldstereo, "available_bytes", lambda device: 1000)
    monkeypatch.setattr(worldstereo, "matmul_flops_per_second", lambda device, dtype: 1e12)
    parts = VideoParts.open(find_weights(str(released)), torch.device("cuda"))
    made = WorldStereoBackend(parts, VideoSettings(prompt_cache=tmp_path))
    with pytest.raises(OutOfMemory, match="even with eight-bit weights") as caught:
        made.plan(made.clip_size(480, 320))
    assert "need more than 0.0 GiB: Triton is not installed. Use a larger GPU" in caught.value.remedy


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 33 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_memory_that_runs_out_in_any_library_names_the_tier_that_fits(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(worldstereo, "denoise", refuse)
    made = backend(released, tmp_path, tier="resident")
    if "shapes" in str(error):
        with pytest.raises(RuntimeError, match="shapes"):
            made.generate(request())
        return
    with pytest.raises(OutOfMemory, match="ran out of memory with resident weights") as caught:
        made.generate(request())
    assert "--set generate.weights=eight-bit" in caught.value.remedy


def test_a_request_that_does_not_fit_is_a_mistake_of_the_caller(released: Path, tmp_path: Path) -> None:
    made = backend(released, tmp_path)
    with pytest.raises(ValueError, match="Expected 3 cameras, got 2"):
        made.generate(replace(request(), cameras=path_of(2)))
    with pytest.raises(ValueError, match="at most 8 references, got 9"):
        made.generate(request(references=9))
    references = replace(request(references=1).references, target_index=torch.tensor([0]))
    with pytest.raises(ValueError, match="Expected targets 1 to 2"):
        made.generate(replace(request(), references=references))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nframe": "many"}, "nframe"),
        ({"scale_map": [[33, 48]]}, "multiples of 16"),
        ({"controlnet_cfg": {"dim": 4}}, "controlnet_cfg.conv_out_dim"),
        ({"latent_cond_mode": "other"}, "latent_cond_mode"),
    ],
)
def test_a_config_that_cannot_be_used_names_its_field(released: Path, tmp_path: Path, change, words) -> None:
    shutil.copytree(released, tmp_path / "w")
    config = {**json.loads((tmp_path / "w/config.json").read_text()), **change}
    (tmp_path / "w/config.json").write_text(json.dumps(config))
    with pytest.raises(BackendError, match=words):
        backend(tmp_path / "w", tmp_path)

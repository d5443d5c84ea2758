"""The whole river with a video model: tiny random weights in exactly the released layout."""

import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from released import write_released

from tests.journey.test_river import PHOTO
from worldstereo_cli.artifacts.scene import Generation, Round
from worldstereo_cli.cli.main import run
from worldstereo_cli.models.catalogue import list_weights
from worldstereo_cli.models.depth import embedded
from worldstereo_cli.models.fingerprint import depth_fingerprint
from worldstereo_cli.models.video import worldstereo
from worldstereo_cli.models.video.denoising import denoise
from worldstereo_cli.recipe import load_recipe


@pytest.fixture(scope="module")
def small_photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "path.png"
    with Image.open(PHOTO) as image:
        image.resize((96, 64)).save(path)
    return path


def find_weights_here(name):
    return next(status.folder for status in list_weights() if status.release.name == name)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_a_released_model_completes_the_frames_of_a_run(tmp_path, small_photo, sharded):
    weights = write_released(tmp_path / "weights", sharded=sharded)
    scene = tmp_path / "scene"
    arguments = ["run", str(small_photo), "--out", str(scene), "--recipe", "preview"]
    assert run([*arguments, "--set", f"generate.backend={weights}", "--trajectory", "right"]) == 0
    generation = Generation.read(scene / "generate")
    assert generation.manifest.facts["backend"] == "worldstereo-tiny"
    done = Round.read(generation.round_dirs[0])
    # The model made three small frames; what the cloud covers keeps the full-size render.
    assert done.frames.shape == (3, 3, 64, 96)
    covered = ~done.hole[:, None].expand_as(done.frames)
    assert (done.frames[covered] - done.control[covered]).abs().max() < 0.5 / 255 + 1e-6
    record = json.loads((scene / "scene.json").read_text())
    assert {entry["state"] for entry in record["stages"].values()} == {"done"}
    assert {"lift", "plan", "generate", "reconstruct"} <= set(record["stages"])
    assert (scene / "viewer.html").is_file() and (scene / "reconstruct" / "splats.ply").is_file()
    assert "worldstereo-tiny (licence not stated, revision local)" in record["stages"]["generate"]["summary"]


def test_a_run_that_ran_out_of_memory_goes_on_with_smaller_weights(tmp_path, small_photo, capsys):
    weights = write_released(tmp_path / "weights")
    scene = tmp_path / "scene"
    command = ["run", str(small_photo), "--out", str(scene), "--recipe", "preview", "--until", "generate"]
    command += ["--set", f"generate.backend={weights}", "--set", 'plan.trajectories=["right", "left"]']
    with pytest.MonkeyPatch.context() as patched:
        clips = itertools.count(1)

        def full_device(*args, **kwargs):
            if next(clips) == 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return denoise(*args, **kwargs)

        patched.setattr(worldstereo, "denoise", full_device)
        assert run(command) == 6
    said = capsys.readouterr().err
    assert "--set generate.weights=eight-bit" in said and "finished rounds are kept" in said
    first = scene / "generate/rounds/01-right/artifact.json"
    made = first.stat().st_mtime_ns
    assert not (scene / "generate/rounds/02-left").exists()
    assert run([*command, "--set", "generate.weights=eight-bit"]) == 0
    assert first.stat().st_mtime_ns == made
    assert [root.name for root in Generation.read(scene / "generate").round_dirs] == ["01-right", "02-left"]


@pytest.mark.slow
def test_a_dry_run_and_reuse_know_the_model(tmp_path, small_photo, capsys):
    weights = write_released(tmp_path / "weights", sharded=False)
    arguments = ["run", str(small_photo), "--out", str(tmp_path / "scene"), "--recipe", "preview"]
    arguments += ["--until", "generate", "--set", f"generate.backend={weights}", "--json", "-q"]

    def told() -> dict[str, dict]:
        assert run([*arguments, "--dry-run"]) == 0
        return {stage["name"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}

    cost = told()["generate"]["expected"]
    assert cost["seconds"] > 0
    assert cost["memory_mb"] > 0
    # The model makes as many frames as it makes.
    arguments += ["--set", "generate.num_frames=3"]
    assert told()["generate"]["expected"]["disk_mb"] == cost["disk_mb"]
    assert run(arguments) == 0
    capsys.readouterr()
    assert {stage["state"] for stage in told().values()} == {"reused"}
    # Weights that changed: a byte more in a file beside them.
    (weights / "note.txt").write_text("trained on")
    assert told()["generate"]["reason"] == "weights changed"


def test_other_depth_weights_are_noticed_where_the_photos_depth_was_given(
    tmp_path, small_photo, capsys, monkeypatch
):
    weights = write_released(tmp_path / "weights")
    np.save(tmp_path / "depth.npy", np.linspace(9, 2, 64 * 96, dtype=np.float32).reshape(64, 96))
    arguments = [
        "run",
        str(small_photo),
        "--out",
        str(tmp_path / "scene"),
        "--recipe",
        "preview",
        "-t",
        "right",
    ]
    arguments += ["--depth", str(tmp_path / "depth.npy"), "--until", "generate", "--json", "-q"]
    arguments += ["--set", f"generate.backend={weights}"]

    def told(*more: str) -> list[tuple[str, str]]:
        capsys.readouterr()
        assert run([*arguments, *more]) == 0
        return [(stage["state"], stage["reason"]) for stage in json.loads(capsys.readouterr().out)["stages"]]

    unchanged = ("reused", "unchanged")
    told()
    assert told() == [unchanged] * 3
    # This model has tokens of its own or reads the prompt: its weights say which.
    asked = told("--dry-run", "--prompt", "a path")
    assert asked == [unchanged, unchanged, ("planned", "prompt changed")]
    # Frames by themselves ask what the lift would have asked, not what the recipe of today says.
    scene = str(tmp_path / "scene")
    assert run(["generate", scene, "--set", "lift.depth=prior"]) == 0
    assert "generate      reused" in capsys.readouterr().err
    copy = shutil.copytree(
        embedded.WEIGHTS_ROOT / embedded.DEFAULT_WEIGHTS, tmp_path / "other" / embedded.DEFAULT_WEIGHTS
    )
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    monkeypatch.setattr(embedded, "WEIGHTS_ROOT", tmp_path / "other")
    assert told("--dry-run") == [unchanged, unchanged, ("planned", "depth weights changed")]


@pytest.mark.parametrize("recipe", ["fast", "quality", "camera"])
def test_a_recipe_without_its_weights_says_so_before_any_stage(tmp_path, small_photo, recipe, capsys):
    if find_weights_here(load_recipe(recipe).generate.backend):
        pytest.skip("the weights are on this machine")
    scene = tmp_path / "scene"
    assert run(["run", str(small_photo), "--out", str(scene), "--recipe", recipe]) == 5
    said = capsys.readouterr().err
    assert "are not here" in said
    assert "worldstereo weights pull worldstereo-" in said
    # Nobody is to learn after a download of 59 GB that a GPU is missing, too, or another network.
    assert "needs an NVIDIA GPU with 24 GB or more" in said
    if depth_fingerprint("depth-pro", "") is None:
        assert "hf download apple/DepthPro-hf" in said
    assert not scene.exists()


@pytest.mark.parametrize("of_frames", [False, True])
def test_a_depth_network_that_is_not_here_is_told_before_any_stage(tmp_path, small_photo, of_frames, capsys):
    if depth_fingerprint("depth-pro", "") is not None:
        pytest.skip("the weights are on this machine")
    scene, weights = tmp_path / "scene", write_released(tmp_path / "weights")
    chosen = (
        [f"generate.backend={weights}", "generate.depth=depth-pro"] if of_frames else ["lift.depth=depth-pro"]
    )
    arguments = ["run", str(small_photo), "--out", str(scene), "--device", "cpu"]
    assert run([*arguments, *(word for one in chosen for word in ("--set", one))]) == 5
    assert "hf download apple/DepthPro-hf" in capsys.readouterr().err
    assert not scene.exists()
    # A file that is given takes the network's place.
    depth = tmp_path / "depth.npy"
    np.save(depth, np.full((8, 12), 2.0, np.float32))
    if not of_frames:
        words = [*arguments, "--set", "lift.depth=depth-pro", "--depth", str(depth), "--until", "lift"]
        assert run(words) == 0


def test_a_model_that_a_cpu_would_take_hours_for_is_refused(tmp_path, small_photo, capsys, monkeypatch):
    weights, scene = write_released(tmp_path / "weights"), tmp_path / "scene"
    monkeypatch.setattr(worldstereo, "matmul_flops_per_second", lambda device, dtype: 1e3)
    arguments = ["run", str(small_photo), "--out", str(scene), "--set", f"generate.backend={weights}"]
    assert run([*arguments, "--device", "cpu"]) == 5
    said = capsys.readouterr().err
    assert "hours for each path on this CPU" in said and "NVIDIA GPU" in said
    assert not scene.exists()


def test_a_misspelt_backend_names_the_known_ones(tmp_path, small_photo, capsys):
    arguments = ["run", str(small_photo), "--out", str(tmp_path / "s"), "--set", "generate.backend=wrap"]
    assert run(arguments) == 5
    assert "worldstereo-memory-dmd" in capsys.readouterr().err

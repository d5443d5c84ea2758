"""The whole river on a real photograph: one run, then everything that must hold of its scene."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from worldstereo_cli.artifacts.scene import Generation, Lift, Plan, Round
from worldstereo_cli.artifacts.splats import read_splats
from worldstereo_cli.cli.main import run
from worldstereo_cli.pipeline.scene_file import SceneFile

PHOTO = Path(__file__).parents[1] / "data" / "photos" / "mountain_path.jpg"


@pytest.fixture(scope="module")
def small_photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "path.jpg"
    with Image.open(PHOTO) as image:
        image.resize((320, 240)).save(path, quality=95)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory, small_photo) -> Path:
    scene = tmp_path_factory.mktemp("river") / "scene"
    assert run(["run", str(small_photo), "--out", str(scene), "--recipe", "preview", "--quiet"]) == 0
    return scene


def test_every_stage_left_a_finished_artifact(scene):
    lift, plan = Lift.read(scene / "lift"), Plan.read(scene / "plan")
    generation = Generation.read(scene / "generate")
    assert lift.views[0].image.shape == (3, 240, 320)
    assert len(generation.round_dirs) == len(plan.paths)
    assert len(generation.cloud) >= len(lift.cloud)
    for root, path in zip(generation.round_dirs, plan.paths, strict=True):
        assert Round.read(root).name == path.name


def test_every_path_begins_at_the_photo(scene):
    photo_camera = Lift.read(scene / "lift").views[0].camera
    for path in Plan.read(scene / "plan").paths:
        assert torch.allclose(path.cameras.world_from_camera[0], photo_camera.world_from_camera[0], atol=1e-5)


def test_generated_frames_keep_what_the_cloud_covers(scene):
    for root in Generation.read(scene / "generate").round_dirs:
        done = Round.read(root)
        covered = ~done.hole[:, None].expand_as(done.frames)
        # Half a grey level: both went through 8 bits.
        assert torch.allclose(done.frames[covered], done.control[covered], atol=0.5 / 255 + 1e-6)


def test_the_splats_show_the_photo(scene):
    metrics = json.loads((scene / "reconstruct" / "metrics.json").read_text())
    assert metrics["num_splats"] == len(read_splats(scene / "reconstruct" / "splats.ply"))
    assert metrics["psnr_photo_db"] > 25
    assert metrics["psnr_reload_db"] > 45


def test_there_is_something_to_look_at(scene):
    page = (scene / "viewer.html").read_text(encoding="utf-8")
    assert len(page) > 100_000
    assert (scene / "flythrough.mp4").stat().st_size > 10_000
    assert (scene / "generate" / "preview.mp4").stat().st_size > 1_000


def test_the_record_names_photo_recipe_and_seconds(scene, small_photo):
    record = SceneFile.read(scene)
    assert record.input["path"] == str(small_photo)
    assert record.recipe.name == "preview"
    assert all(record.stages[name]["seconds"] >= 0 for name in ("lift", "plan", "generate", "reconstruct"))


def test_running_again_does_nothing(scene, small_photo, capsys):
    before = {p: p.stat().st_mtime_ns for p in scene.rglob("artifact.json")}
    assert run(["run", str(small_photo), "--out", str(scene), "--recipe", "preview", "--json"]) == 0
    states = [stage["state"] for stage in json.loads(capsys.readouterr().out)["stages"]]
    assert states == ["reused"] * 5
    assert {p: p.stat().st_mtime_ns for p in scene.rglob("artifact.json")} == before


def test_a_dry_run_says_what_a_new_seed_would_rebuild(scene, small_photo, capsys):
    command = [
        "run",
        str(small_photo),
        "--out",
        str(scene),
        "--recipe",
        "preview",
        "--seed",
        "5",
        "--dry-run",
    ]
    assert run(command) == 0
    assert "the seed changed from 0 to 5" in capsys.readouterr().out


def test_another_photo_is_not_mixed_into_a_scene(scene, tmp_path, capsys):
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64), (200, 30, 30)).save(other)
    assert run(["run", str(other), "--out", str(scene)]) == 4
    assert "was made from another photo" in capsys.readouterr().err


def test_one_stage_alone_uses_what_the_one_before_left(scene, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(scene, copy)
    assert run(["plan", str(copy), "--trajectory", "orbit"]) == 0
    assert [path.name for path in Plan.read(copy / "plan").paths] == ["orbit"]
    captured = capsys.readouterr()
    assert captured.out.strip() == str(copy / "plan")
    assert captured.err.strip().endswith(f"worldstereo generate {copy}")


def test_info_describes_the_scene(scene, capsys):
    assert run(["info", str(scene), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["lift"]["state"] == "done"
    assert facts["metrics"]["num_splats"] > 0


def test_a_folder_with_one_bad_photo_finishes_the_rest(tmp_path, small_photo, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "bad.jpg").write_bytes(b"not a photo")
    with Image.open(small_photo) as image:
        image.resize((96, 72)).save(folder / "good.png")
    arguments = [
        "run",
        str(folder),
        "--out",
        str(tmp_path / "scenes"),
        "--recipe",
        "preview",
        "--until",
        "plan",
    ]
    assert run([*arguments, "--json"]) == 1
    bad, good = json.loads(capsys.readouterr().out)
    assert bad["error"]["exit_code"] == 4
    assert [stage["state"] for stage in good["stages"]] == ["built", "built"]

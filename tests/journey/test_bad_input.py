"""What cannot work is refused in two lines with its exit code; nothing is lost, and nothing half done."""

import json
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.journey.whole_runs import TINY, Limits, contents, finish
from worldstereo_cli.cli.main import run

PHOTO = Path(__file__).parents[1] / "data" / "photos" / "mountain_path.jpg"

needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="limits a process as Linux does")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    with Image.open(PHOTO) as image:
        image.resize((128, 96)).save(path)
    return path


@pytest.fixture(scope="module")
def planned_once(tmp_path_factory, photo, tiny) -> Path:
    scene = tmp_path_factory.mktemp("scene") / "planned"
    assert run(["run", str(photo), "-o", str(scene), "-r", str(tiny), "--until", "plan"]) == 0
    return scene


@pytest.fixture
def planned(tmp_path, planned_once) -> Path:
    """A scene that is made as far as its plan."""
    return shutil.copytree(planned_once, tmp_path / "planned")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, photo, tiny) -> Path:
    """A scene that nothing disturbed."""
    place = tmp_path_factory.mktemp("whole")
    command = ["run", str(photo), "-o", str(place / "scene"), "-r", str(tiny)]
    assert finish(command, place / "log") == 0, (place / "log").read_text()
    return place / "scene"


def card(capsys) -> tuple[str, str]:
    """The two lines of an error: problem and remedy."""
    lines = capsys.readouterr().err.splitlines()[-2:]
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  try: ")
    return lines[0], lines[1]


def png_header(path: Path, width: int, height: int) -> None:
    """Write a PNG of a few bytes that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


BAD_PHOTOS = {
    "no picture": (lambda p: p.write_bytes(b"hello"), "not a picture"),
    "empty": (lambda p: p.write_bytes(b""), "is empty (0 bytes)"),
    "truncated": (lambda p: p.write_bytes(PHOTO.read_bytes()[:5000]), "is damaged"),
    "one pixel": (lambda p: Image.new("RGB", (1, 1)).save(p), "too small: 1x1"),
    "narrow": (lambda p: Image.new("RGB", (3000, 40)).save(p), "too small: 3000x40"),
    "bomb": (lambda p: png_header(p, 20_000, 15_000), "more than 200 megapixels"),
    "black": (lambda p: Image.new("RGB", (100, 80)).save(p), "is all black"),
    "white": (lambda p: Image.new("RGB", (100, 80), "white").save(p), "is a single colour"),
    "folder": (lambda p: p.mkdir(), "holds no photos"),
    "missing": (lambda p: None, "cannot be read: No such file"),
    "dangling link": (lambda p: p.symlink_to("nowhere"), "cannot be read: No such file"),
    "pipe": (os.mkfifo if hasattr(os, "mkfifo") else None, "is not a file"),
}


@pytest.mark.parametrize("name", BAD_PHOTOS)
def test_a_photo_that_cannot_be_used_is_refused_and_leaves_no_scene(name, tmp_path, tiny, capsys):
    make, words = BAD_PHOTOS[name]
    if make is None:
        pytest.skip("no pipes on this system")
    make(tmp_path / "bad.png")
    out = tmp_path / "scenes" / "scene"
    assert run(["run", str(tmp_path / "bad.png"), "-o", str(out), "-r", str(tiny)]) == 4
    assert words in card(capsys)[0]
    assert not out.parent.exists()


def test_a_photo_of_20000_pixels_is_made_smaller_and_said(tmp_path, tiny, capsys):
    stripes = np.tile(np.linspace(0, 255, 20_000, dtype=np.uint8), (2000, 1))
    Image.fromarray(stripes).save(tmp_path / "wide.jpg", quality=60)
    arguments = ["run", str(tmp_path / "wide.jpg"), "-o", str(tmp_path / "scene"), "-r", str(tiny)]
    assert run([*arguments, "--set", "lift.long_side_px=512", "--until", "lift"]) == 0
    assert "made smaller from 20000x2000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "words", "remedy"),
    [
        (["--set", "plan.sclae=2"], 3, "plan.sclae is not a recipe key (did you mean plan.scale?)", "recipe"),
        (["--set", "paln.scale=2"], 3, "paln is not a recipe key (did you mean plan?)", "recipe"),
        (["--set", "long_side_px=99"], 3, "(did you mean lift.long_side_px?)", "recipe"),
        (["--set", "plan=2"], 3, "plan is a section; its keys are plan.trajectories", "recipe"),
        (["--set", "plan.num_poses=many"], 3, "should be a whole number", "recipe"),
        (["--set", "plan.scale=inf"], 3, "should be a finite number", "recipe"),
        (["--set", "plan.trajectories=orbit"], 3, 'should be a list such as ["orbit"]', "recipe"),
        (["--set", "lift.depth=embeded"], 3, "should be 'prior', 'embedded'", "recipe"),
        (["--set", "generate.backend=wrap"], 5, "no weights 'wrap'", "Use warp"),
        (["--seed", "-5"], 3, "seed = -5", "recipe"),
        (["--seed", "99999999999999"], 3, "seed = 99999999999999", "recipe"),
        (["--recipe", "previw"], 3, "no recipe 'previw'", "Did you mean preview?"),
        (["--from", "recon"], 3, "'recon' is not a stage", "Did you mean reconstruct?"),
        (["--from", "generate", "--until", "plan"], 3, "comes after --until plan", "The order is lift"),
        (["--force", "generate", "--until", "plan"], 3, "not among the selected", "--from"),
        (["--from", "generate"], 4, "is not finished: it has no lift yet", "worldstereo run IMAGE --out"),
        (["--trajectory", "obrit"], 4, "'obrit' is neither", "Did you mean orbit?"),
        (["--trajectory", "orbit:nan"], 4, "'nan' is not an amount", "orbit:10"),
        (["--trajectory", ""], 4, "'' is neither a preset nor a file", "a preset"),
        (["--device", "gpu"], 4, "no such device", "auto, cpu, cuda"),
        (["--depth", "none.npy"], 4, "none.npy cannot be read", "Check the path"),
        (["--fov", "0"], 2, "--fov", "--help"),
        (["--fov", "400"], 2, "--fov", "--help"),
        (["--fov", "nan"], 2, "--fov", "--help"),
        (["--jobs", "0"], 2, "--jobs", "--help"),
        (["--depth", ""], 2, "the path is empty", "--help"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_before_anything_is_made(
    options, code, words, remedy, tmp_path, photo, tiny, capsys
):
    out = tmp_path / "scene"
    recipe = [] if "--recipe" in options else ["-r", str(tiny)]
    assert run(["run", str(photo), "-o", str(out), *recipe, *options]) == code
    problem, advice = card(capsys)
    assert words in problem
    assert remedy in advice
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "", "-o", "x"], "the path is empty"),
        (["run", "{photo}", "-o", ""], "the path is empty"),
        (["run", "{scene}", "-o", "x"], "is a scene, not a photo"),
        (["run", "{scene}/scene.json", "-o", "x"], "not a picture"),
        (["plan", "{photo}"], "is not a scene: it is a file"),
        (["info", "{photo}"], "is not a scene: it is a file"),
        (["info", "{scene}/none"], "There is no "),
        (["view", "nope"], "There is no nope."),
        (["plan", "nope"], "There is no nope."),
        (["export", "nope", "--to", "ply"], "There is no nope."),
        (["view", "{scene}/lift"], "is not a scene: it has no scene.json"),
        (["view", "{scene}"], "is not finished: it has no reconstruct yet"),
        (["view", "{photo}"], "is not a scene: it is a file"),
        (["run", "{photo}", "-o", "{photo}"], "is a file, so no scene can be made there"),
        (["run", "{photo}", "-o", "{photo}/below"], "cannot be written: Not a directory"),
        (["generate", "{scene}/lift"], "is not a scene: it has no scene.json"),
        (["reconstruct", "{scene}"], "is not finished: it has no generate yet"),
        (["export", "{scene}", "--to", "ply"], "is not finished: it has no reconstruct yet"),
        (["export", "{scene}", "--to", "obj"], "no export format 'obj'"),
    ],
)
def test_a_path_of_the_wrong_kind_is_told(arguments, words, photo, planned, capsys):
    before = contents(planned)
    code = run([a.format(photo=photo, scene=planned) for a in arguments])
    assert code == (2 if words == "the path is empty" else 4)
    assert words in card(capsys)[0]
    assert contents(planned) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place that not even root can write")
def test_a_place_that_cannot_be_written_is_told(photo, tiny, capsys):
    assert run(["run", str(photo), "-o", "/proc/self/scene", "-r", str(tiny)]) == 4
    assert "/proc/self/scene cannot be written" in card(capsys)[0]


def test_a_scene_that_cannot_be_written_is_told_without_an_option_that_is_not_there(planned, capsys):
    lock = planned / ".lock"
    lock.unlink()
    lock.mkdir()
    try:
        assert run(["plan", str(planned), "-t", "orbit"]) == 4
        assert "copy the scene" in card(capsys)[1]
    finally:
        lock.rmdir()


@pytest.mark.parametrize(
    "asked",
    [
        ["-t", "orbit:200"],
        ["-t", "roll:1e9"],
        ["--set", "seed=7", "-t", "zoom:0"],
        ["--force", "-t", "orbit:200"],
    ],
)
def test_a_refused_plan_loses_nothing_that_was_recorded_of_the_one_that_is_there(asked, planned, capsys):
    before, recorded = contents(planned), (planned / "scene.json").read_bytes()
    assert "seconds" in json.loads(recorded)["stages"]["plan"]
    assert run(["plan", str(planned), *asked]) in (3, 4)
    assert card(capsys)
    assert contents(planned) == before
    # Times and memory, too.
    assert (planned / "scene.json").read_bytes() == recorded


def test_what_fails_midway_is_recorded_as_far_as_it_came(planned, photo, tiny, capsys):
    before = json.loads((planned / "scene.json").read_text())
    changes = ["--set", "lift.long_side_px=112", "-t", "orbit:200", "--until", "plan"]
    assert run(["run", str(photo), "-o", str(planned), "-r", str(tiny), *changes]) == 4
    after = json.loads((planned / "scene.json").read_text())
    assert after["recipe"]["lift"]["long_side_px"] == 112
    assert after["recipe"]["plan"] == before["recipe"]["plan"]
    assert after["stages"]["plan"] == before["stages"]["plan"]
    assert after["stages"]["lift"] != before["stages"]["lift"]


def trajectory(path: Path, poses: np.ndarray) -> None:
    np.savez(path, c2w=poses)


@pytest.mark.parametrize(
    ("poses", "words"),
    [
        (np.full((4, 4, 4), np.nan), "64 values that are not finite"),
        (np.zeros((0, 4, 4)), "holds 0 poses"),
        (np.eye(4)[None], "holds 1 poses"),
        (np.zeros((4, 4, 4)), "no rigid motion"),
    ],
)
def test_a_trajectory_without_a_path_is_refused_and_the_lift_kept(
    poses, words, planned, photo, tiny, tmp_path, capsys
):
    before = contents(planned)
    trajectory(tmp_path / "path.npz", poses)
    arguments = ["run", str(photo), "-o", str(planned), "-r", str(tiny), "--until", "plan"]
    assert run([*arguments, "--trajectory", str(tmp_path / "path.npz")]) == 4
    assert words in card(capsys)[0]
    assert contents(planned) == before
    assert run(arguments) == 0
    assert contents(planned) == before


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (np.full((96, 128), np.nan), "holds no valid depth"),
        (np.zeros((0, 0)), "not one map"),
        (np.ones((96, 128, 3)), "not one map"),
        (np.ones((96, 128), dtype=np.int32), "cannot be read as depth"),
        (np.ones((300, 40)), "depth"),
    ],
)
def test_a_depth_file_that_does_not_fit_is_refused(depth, words, tmp_path, photo, tiny, capsys):
    np.save(tmp_path / "depth.npy", depth)
    out = tmp_path / "scene"
    arguments = ["run", str(photo), "-o", str(out), "-r", str(tiny), "--depth", str(tmp_path / "depth.npy")]
    assert run(arguments) == 4
    assert words in card(capsys)[0]
    assert not out.exists()


def test_a_scene_of_another_version_is_refused_and_left_alone(planned, photo, tiny, capsys):
    record = planned / "scene.json"
    record.write_text(record.read_text().replace('"schema": 1', '"schema": 7'))
    before = contents(planned)
    for arguments in (["run", str(photo), "-o", str(planned), "-r", str(tiny)], ["info", str(planned)]):
        assert run(arguments) == 4
        assert "has schema 7; this version reads schema 1" in card(capsys)[0]
    assert contents(planned) == before


@pytest.mark.parametrize(
    "content", ["{", "[]", "3", '{"kind": 3}', "\x00", '{"kind": "lift", "recipe": 0, "seed": 0}']
)
def test_a_corrupt_manifest_is_told_and_then_made_again(content, planned, photo, tiny, capsys):
    before = contents(planned)
    (planned / "lift" / "artifact.json").write_text(content)
    assert run(["plan", str(planned)]) == 4
    assert "is damaged" in card(capsys)[0]
    assert run(["run", str(photo), "-o", str(planned), "-r", str(tiny), "--until", "plan"]) == 0
    said = capsys.readouterr().err
    assert "lift        building: what is there cannot be used" in said
    assert contents(planned) == before


def test_a_file_that_is_gone_or_cut_short_is_noticed(planned, photo, tiny, capsys):
    before = contents(planned)
    (planned / "plan" / "paths.json").unlink()
    cloud = planned / "lift" / "cloud.ply"
    cloud.write_bytes(cloud.read_bytes()[:-5])
    assert run(["run", str(photo), "-o", str(planned), "-r", str(tiny), "--until", "plan"]) == 0
    said = capsys.readouterr().err
    assert "building: cloud.ply has" in said
    assert "building: paths.json is gone" in said
    assert contents(planned) == before


def test_a_second_run_on_a_scene_is_refused(planned, photo, tiny, capsys):
    with FileLock(planned / ".lock"):
        assert run(["run", str(photo), "-o", str(planned), "-r", str(tiny)]) == 4
        assert "Another run is working on" in card(capsys)[0]
    assert run(["run", str(photo), "-o", str(planned), "-r", str(tiny), "--until", "plan"]) == 0


@pytest.mark.parametrize("name", ["scene.json", ".lock"])
def test_a_directory_in_the_place_of_a_file_is_told(name, planned, photo, tiny, capsys):
    (planned / name).unlink(missing_ok=True)
    (planned / name).mkdir()
    assert run(["run", str(photo), "-o", str(planned), "-r", str(tiny), "--until", "plan"]) == 4
    assert "Is a directory" in card(capsys)[0]


@pytest.mark.parametrize("name", ["plan/thesis.txt", "viewer.html", "notes/thesis.txt", "thesis.txt"])
def test_a_directory_that_holds_other_things_is_refused_and_left_alone(name, tmp_path, photo, tiny, capsys):
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("years of work")
    (tmp_path / "zebra.txt").touch()
    before = contents(tmp_path)
    for command in ("run", "lift"):
        assert run([command, str(photo), "-o", str(tmp_path), "-r", str(tiny)]) == 4
        problem, remedy = card(capsys)
        assert f"is not a scene and not empty: it holds {Path(name).parts[0]} and 1 more." in problem
        assert f"--out {tmp_path}/scene" in remedy
    assert contents(tmp_path) == before
    assert not (tmp_path / ".lock").exists()


def test_what_a_run_killed_at_once_may_leave_is_no_hindrance(tmp_path, photo, tiny):
    place = tmp_path / "scene"
    (place / ".lift.draft-7").mkdir(parents=True)
    for name in (".lock", ".scene.draft-7.json", ".DS_Store"):
        (place / name).touch()
    assert run(["run", str(photo), "-o", str(place), "-r", str(tiny), "--until", "lift"]) == 0
    assert {path.name for path in place.iterdir()} == {".lock", ".DS_Store", "scene.json", "lift"}


def test_scenes_are_not_made_inside_a_scene(planned, photo, tiny, capsys):
    before = contents(planned)
    assert run(["run", str(photo.parent), "-o", str(planned), "-r", str(tiny)]) == 4
    assert "is a scene itself" in card(capsys)[0]
    assert contents(planned) == before


def test_another_photo_is_refused_but_an_edited_one_is_lifted_again(tmp_path, photo, tiny, capsys):
    mine, out = tmp_path / "mine.png", tmp_path / "scene"
    mine.write_bytes(photo.read_bytes())
    arguments = ["-o", str(out), "-r", str(tiny), "--until", "lift"]
    assert run(["run", str(mine), *arguments]) == 0
    with Image.open(photo) as image:
        image.rotate(180).save(mine)
    assert run(["run", str(mine), *arguments]) == 0
    assert "lift        building: photo changed" in capsys.readouterr().err
    assert run(["run", str(photo), *arguments]) == 4
    assert "was made from another photo" in card(capsys)[0]


@needs_limits
@pytest.mark.parametrize(
    "share", [pytest.param(s, marks=pytest.mark.slow) for s in (0.02, 0.3, 0.95)] + [0.7]
)
def test_a_full_disk_is_told_and_the_same_command_resumes(share, whole, tmp_path, photo, tiny):
    command = ["run", str(photo), "-o", str(tmp_path / "scene"), "-r", str(tiny)]
    largest = max(path.stat().st_size for path in whole.rglob("*"))
    assert finish(command, tmp_path / "log", Limits(file_bytes=int(share * largest))) == 4
    words = (tmp_path / "log").read_text().splitlines()
    assert "cannot be written: the " in words[-2]
    assert "Traceback" not in "".join(words)
    left = [path.name for path in (tmp_path / "scene").rglob(".*")] if (tmp_path / "scene").exists() else []
    assert left in ([".lock"], [])
    assert finish(command, tmp_path / "log") == 0
    assert contents(tmp_path / "scene") == contents(whole)


def larger(photo: Path, tmp_path: Path) -> list[str]:
    """A command whose stages need memory that can be told from that of the libraries."""
    with Image.open(PHOTO) as image:
        image.resize((640, 480)).save(tmp_path / "large.jpg", quality=95)
    return [
        "run",
        str(tmp_path / "large.jpg"),
        "-o",
        str(tmp_path / "scene"),
        "--set",
        "lift.long_side_px=640",
    ]


@needs_limits
@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [60, 260, 400])
def test_memory_that_runs_out_is_told_with_a_setting_that_fits(megabytes, tmp_path, photo, tiny):
    command = [*larger(photo, tmp_path), "-r", str(tiny)]
    # Kernels are compiled beforehand: the compiler takes more memory than they do.
    assert finish([*command, "--set", "lift.long_side_px=160"], tmp_path / "log") == 0
    shutil.rmtree(tmp_path / "scene")
    limits = Limits(more_memory=megabytes * 1_000_000)
    code = finish(command, tmp_path / "log", limits)
    words = (tmp_path / "log").read_text().splitlines()
    assert code == 6, words
    assert "ran out of memory; what is finished is kept." in words[-2]
    finished = {path.parent.name for path in (tmp_path / "scene").rglob("artifact.json")}
    assert (words[-2].split()[1] not in finished) or not finished
    if "--set" in words[-1]:
        named = words[-1].split("try: ")[1].split("  (")[0].split()
        assert finish([*command, *named], tmp_path / "log", limits) == 0, (tmp_path / "log").read_text()
    else:
        # No setting makes that little enough.
        assert megabytes == 60

"""Running again does nothing that is done; what changed is built anew, and what follows, nothing else."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.journey.finished import STEPS, built, command, states, times
from tests.journey.modes import obeying_modes
from tests.journey.whole_runs import contents
from worldstereo_cli.artifacts import manifest
from worldstereo_cli.cli.main import run
from worldstereo_cli.models.depth import embedded


def test_running_again_writes_nothing_but_the_record(made, scene, capsys):
    before = {p: p.stat().st_mtime_ns for p in scene.rglob("*") if p.is_file()}
    assert built(states(capsys, command(made, scene))) == []
    after = {p: p.stat().st_mtime_ns for p in scene.rglob("*") if p.is_file()}
    assert {p.name for p in after if after[p] != before.get(p)} <= {"scene.json", ".lock"}


@pytest.fixture
def read_only(scene) -> Iterator[Path]:
    """A finished scene in which nothing can be made, not even by root."""
    folders = [scene, *(path for path in scene.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with obeying_modes():
            yield scene
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_finished_scene_that_is_read_only_is_up_to_date(made, read_only, capsys):
    before = {p: p.stat().st_mtime_ns for p in read_only.rglob("*")}
    assert run(command(made, read_only)) == 0
    told = capsys.readouterr()
    assert told.out == f"{read_only / 'viewer.html'}\n"
    assert f"everything is up to date; {read_only} is read-only" in told.err
    assert "reused  unchanged" in told.err
    assert set(states(capsys, command(made, read_only))) == set(STEPS)
    # A stage by itself, too; what would be built is refused.
    assert run(["plan", str(read_only)]) == 0
    assert run([*command(made, read_only), "--seed", "3"]) == 4
    assert "cannot be written: Permission denied" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in read_only.rglob("*")} == before


THREE = ["-t", "right", "-t", "left", "-t", "orbit"]


def test_a_path_added_to_a_finished_scene_makes_one_round_and_what_follows(made, scene, tmp_path, capsys):
    before = times(scene)
    assert run([*command(made, scene), *THREE]) == 0
    said = capsys.readouterr().err
    assert 'plan.trajectories changed from ["right", "left"] to ["right", "left", "orbit"]' in said
    assert "3 rounds by warp" in said
    assert "(2 kept from before)" in said
    after = times(scene)
    assert {name for name in before if after[name] != before[name]} == {"plan", "generate", "reconstruct"}
    assert set(after) - set(before) == {"03-orbit"}
    # As if all three had been asked for at once.
    assert run([*command(made, tmp_path / "at_once" / "scene"), *THREE]) == 0
    assert contents(scene) == contents(tmp_path / "at_once" / "scene")


@pytest.mark.slow
def test_a_path_taken_away_takes_its_round_away(made, scene, tmp_path):
    assert run([*command(made, scene), *THREE]) == 0
    assert run(command(made, scene)) == 0
    assert contents(scene) == contents(made / "scene")


CHANGES = {
    "seed": (["--seed", "3"], list(STEPS), "the seed changed from 0 to 3"),
    "lift": (["--set", "lift.long_side_px=112"], list(STEPS), "lift.long_side_px changed from 128 to 112"),
    "focal length": (["--fov", "70"], list(STEPS), "--fov is given now"),
    "plan": (["--set", "plan.arc_deg=20"], list(STEPS[1:]), "plan.arc_deg changed from 25.0 to 20.0"),
    "frames": (
        ["--set", "generate.num_frames=2"],
        list(STEPS[2:]),
        "generate.num_frames changed from 3 to 2",
    ),
    "fit": (["--set", "reconstruct.iterations=2"], list(STEPS[3:]), "iterations changed from 4 to 2"),
    "video": (["--set", "view.flythrough_fps=6"], ["view"], "settings or version changed"),
    "nothing": ([], [], "unchanged"),
    "forced lift": (["--force", "lift"], list(STEPS), "forced"),
    "forced fit": (["--force", "reconstruct"], list(STEPS[3:]), "forced"),
    "forced all": (["--force", "all"], list(STEPS), "forced"),
}


QUICK = ("video", "nothing", "forced fit")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CHANGES]
)
def test_a_change_builds_what_it_concerns_as_the_dry_run_said(name, made, scene, capsys):
    options, steps, reason = CHANGES[name]
    before = contents(scene)
    foretold = states(capsys, [*command(made, scene), *options, "--dry-run"])
    assert contents(scene) == before
    told = states(capsys, [*command(made, scene), *options])
    assert built(told) == steps
    assert [told[step][1] for step in STEPS] == [foretold[step][1] for step in STEPS]
    assert reason in told[steps[0] if steps else "lift"][1]
    if "--force" not in options:
        assert built(states(capsys, [*command(made, scene), *options])) == []


def test_a_prompt_that_nothing_reads_is_told_and_makes_nothing_stale(made, scene, capsys):
    assert built(states(capsys, [*command(made, scene), "--prompt", "a path"])) == []
    assert run([*command(made, scene), "--prompt", "a path"]) == 0
    told = capsys.readouterr().err
    assert told.count("the prompt is ignored: warp does not read one") == 1
    assert run(command(made, scene)) == 0
    assert "is ignored" not in capsys.readouterr().err


@pytest.mark.slow
def test_forced_rounds_are_made_anew(made, scene):
    before = times(scene)
    assert run([*command(made, scene), "--force", "generate"]) == 0
    after = times(scene)
    assert {name for name in before if after[name] != before[name]} == {
        "01-right", "02-left", "generate", "reconstruct",
    }  # fmt: skip
    assert contents(scene) == contents(made / "scene")


def test_a_stage_whose_code_makes_something_else_is_built_anew(made, scene, capsys, monkeypatch):
    monkeypatch.setitem(manifest.CODE, "plan", manifest.CODE["plan"] + 1)
    told = states(capsys, command(made, scene))
    assert built(told) == list(STEPS[1:])
    assert told["plan"][1] == "this version of worldstereo makes plan in another way"
    assert built(states(capsys, command(made, scene))) == []


@pytest.mark.slow
def test_other_weights_lift_the_photo_anew(made, tmp_path, capsys, monkeypatch):
    arguments = [*command(made, tmp_path / "scene"), "--set", "lift.depth=embedded", "--until", "lift"]
    assert run(arguments) == 0
    assert built(states(capsys, arguments)) == []
    copy = tmp_path / "weights"
    shutil.copytree(embedded.WEIGHTS_ROOT / embedded.DEFAULT_WEIGHTS, copy / embedded.DEFAULT_WEIGHTS)
    monkeypatch.setattr(embedded, "WEIGHTS_ROOT", copy)
    assert built(states(capsys, arguments)) == []
    config = copy / embedded.DEFAULT_WEIGHTS / "config.json"
    config.write_text(config.read_text() + " ")
    assert states(capsys, [*arguments, "--dry-run"])["lift"] == ("planned", "weights changed")


def test_page_and_video_are_made_again_when_one_is_missing_or_a_run_was_cut_short(made, scene, capsys):
    (scene / "flythrough.mp4").unlink()
    told = states(capsys, command(made, scene))
    assert (built(told), told["view"][1]) == (["view"], "flythrough.mp4 is missing")
    record = json.loads((scene / "scene.json").read_text())
    record["stages"]["view"] = {"state": "waiting"}
    (scene / "scene.json").write_text(json.dumps(record))
    told = states(capsys, command(made, scene))
    assert (built(told), told["view"][1]) == (["view"], "the last run was cut short")


def test_a_moved_scene_is_reused_where_it_is(made, scene, tmp_path, capsys):
    moved = scene.rename(tmp_path / "elsewhere")
    assert built(states(capsys, command(made, moved))) == []


def test_a_dry_run_tells_costs_and_makes_nothing(made, tmp_path, capsys):
    assert run([*command(made, tmp_path / "none"), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(STEPS)
    assert all("GB" in line and "MB" in line and line.split()[1] == "build" for line in lines[1:-1])
    assert lines[-1].startswith("in all")
    assert not (tmp_path / "none").exists()


def told_to_keep(capsys, arguments: list[str]) -> str:
    """What a dry run says of the scene's own settings."""
    capsys.readouterr()
    assert run([*arguments, "--dry-run"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "made with other settings" in line]
    assert len(lines) <= 1
    return lines[0].partition("to keep them: ")[2] if lines else ""


def test_a_run_with_other_settings_says_what_keeps_those_of_the_scene(made, tmp_path, capsys):
    scene = tmp_path / "scene"
    bare = ["run", str(made / "photo.png"), "-o", str(scene)]
    small = ["--recipe", "preview", "--set", "lift.long_side_px=128", "-t", "orbit:9", "--until", "plan"]
    assert told_to_keep(capsys, [*bare, *small]) == "", "nothing is there that could be lost"
    assert run([*bare, *small]) == 0
    assert told_to_keep(capsys, [*bare, *small]) == ""
    kept = "--recipe preview --set lift.long_side_px=128 --trajectory orbit:9"
    assert told_to_keep(capsys, bare) == kept
    assert told_to_keep(capsys, [*bare, *kept.split()]) == ""
    # What is set on purpose is not held against the user.
    assert (
        told_to_keep(capsys, [*bare, "--set", "lift.long_side_px=96"])
        == "--recipe preview --trajectory orbit:9"
    )
    assert told_to_keep(capsys, [*bare, "--recipe", "preview", "-t", "up"]) == "--set lift.long_side_px=128"
    assert told_to_keep(capsys, [*bare, *kept.split(), "--seed", "4"]) == ""
    # A real run says so, too, and a stage by itself keeps the scene's settings.
    assert run([*bare, "--set", "lift.long_side_px=112", "--until", "lift"]) == 0
    assert "made with other settings; to keep them: --recipe preview" in capsys.readouterr().err
    assert run(["plan", str(scene)]) == 0
    assert "other settings" not in capsys.readouterr().err


def test_a_recipe_that_came_from_a_file_is_told_by_its_name(made, scene, capsys):
    bare = ["run", str(made / "photo.png"), "-o", str(scene)]
    assert told_to_keep(capsys, bare) == "--recipe tiny.toml"
    changed = [*command(made, scene), "--set", "generate.num_frames=2"]
    assert told_to_keep(capsys, changed) == ""


def test_a_lift_alone_keeps_the_rest_of_the_scenes_recipe(made, scene, capsys):
    assert run(["lift", str(made / "photo.png"), "-o", str(scene), "--set", "lift.long_side_px=112"]) == 0
    recipe = json.loads((scene / "scene.json").read_text())["recipe"]
    assert recipe["lift"]["long_side_px"] == 112
    assert recipe["generate"]["num_frames"] == 3


def test_info_tells_what_was_seen_and_what_it_cost(scene, capsys):
    assert run(["info", str(scene), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["made_by"] == {"depth": "prior (no weights)", "frames": "warp (no weights)"}
    assert 0 < facts["seen"]["frame_pixels_invented_percent"] < 60
    seen, invented = facts["seen"]["points_seen"], facts["seen"]["points_invented"]
    assert facts["seen"]["points_invented_percent"] == pytest.approx(
        100 * invented / (seen + invented), abs=0.1
    )
    for step in STEPS:
        assert facts[step]["state"] == "done"
        assert facts[step]["seconds"] >= 0
        assert facts[step]["peak_memory_mb"] > 50
    # Megabytes of the stages are those of their files.
    size = sum(path.stat().st_size for path in (scene / "generate").rglob("*") if path.is_file())
    assert facts["generate"]["megabytes"] == pytest.approx(size / 1e6, abs=0.06)
    assert run(["info", str(scene)]) == 0
    assert "invented" in capsys.readouterr().out


def test_info_of_an_unfinished_scene_tells_what_is_missing(scene, capsys):
    shutil.rmtree(scene / "reconstruct")
    (scene / "generate" / "artifact.json").unlink()
    assert run(["info", str(scene), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["generate"] == {"state": "not finished"}
    assert facts["reconstruct"] == {"state": "not there"}
    assert run(["info", str(scene)]) == 0


@pytest.mark.parametrize(
    ("depth", "word"), [("prior", "assumed"), ("embedded", "estimated"), ("file", "given")]
)
def test_the_scale_is_called_the_same_everywhere(depth, word, made, tmp_path, capsys):
    place = tmp_path / "scene"
    np.save(tmp_path / "depth.npy", np.linspace(9, 2, 96 * 128, dtype=np.float32).reshape(96, 128))
    how = ["--depth", str(tmp_path / "depth.npy")] if depth == "file" else ["--set", f"lift.depth={depth}"]
    assert run([*command(made, place), *how, "--until", "lift"]) == 0
    assert f" m, scale {word}" in capsys.readouterr().err
    assert run(["info", str(place)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "scale" in line]
    assert ["world", "scale", word] in lines
    assert not any("metric" in line or "measured" in line for line in lines)
    assert json.loads((place / "scene.json").read_text())["world"]["scale"] == word

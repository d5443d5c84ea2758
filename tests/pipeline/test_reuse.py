from pathlib import Path

import pytest

from worldstereo_cli.artifacts.manifest import Manifest
from worldstereo_cli.errors import ArtifactError, InputError, RecipeError
from worldstereo_cli.pipeline.folder import photos_in
from worldstereo_cli.pipeline.reuse import Expectation, Selection, reason_to_build
from worldstereo_cli.pipeline.run import RunOptions, run_scene
from worldstereo_cli.pipeline.scene_file import SceneFile
from worldstereo_cli.recipe import Recipe, load_recipe

EXPECTED = Expectation({"scale": 1.0, "trajectories": ["up"]}, 0, {"lift": "abc"})


def write(root, **changes):
    given = {"kind": "plan", "recipe": dict(EXPECTED.recipe), "seed": 0, "inputs": {"lift": "abc"}}
    root.mkdir(exist_ok=True)
    Manifest(**(given | changes)).write(root)


def test_an_unchanged_stage_is_reused(tmp_path):
    write(tmp_path / "plan")
    assert reason_to_build(tmp_path / "plan", "plan", EXPECTED, forced=False) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 5}, "the seed changed from 5 to 0"),
        ({"recipe": {"scale": 2.0, "trajectories": ["up"]}}, "plan.scale changed"),
        ({"recipe": {"scale": 1.0}}, "plan.trajectories changed"),
        ({"inputs": {"lift": "xyz"}}, "lift changed"),
        ({"inputs": {"lift": "abc", "file": "d"}}, "file is no longer given"),
        ({"inputs": {}}, "lift is given now"),
        ({"inputs": {"lift": "abc", "fov_deg": "65.0"}}, "--fov is no longer given"),
        ({"schema": 0}, "schema 0"),
    ],
)
def test_a_stale_stage_is_rebuilt_and_says_why(tmp_path, changes, reason):
    write(tmp_path / "plan", **changes)
    assert reason in (reason_to_build(tmp_path / "plan", "plan", EXPECTED, forced=False) or "")


def test_an_unfinished_stage_is_rebuilt(tmp_path):
    (tmp_path / "plan").mkdir()
    assert "not finished" in (reason_to_build(tmp_path / "plan", "plan", EXPECTED, forced=False) or "")


def test_force_rebuilds_what_is_up_to_date(tmp_path):
    write(tmp_path / "plan")
    assert reason_to_build(tmp_path / "plan", "plan", EXPECTED, forced=True) == "forced"


def test_a_selection_names_its_stages_in_order():
    assert Selection.parse("plan", "generate", []).names == ("plan", "generate")
    assert Selection.parse(None, None, ["all"]).forced == frozenset(Selection().names)


def test_a_selection_in_the_wrong_order_is_refused():
    with pytest.raises(RecipeError, match="comes after --until"):
        Selection.parse("reconstruct", "lift", [])


def test_photos_that_would_share_a_scene_are_refused_first(tmp_path):
    for name in ("a.jpg", "A.png", "b.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="would both become the scene"):
        photos_in(tmp_path)


def test_a_folder_without_photos_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no photos"):
        photos_in(tmp_path)


def test_the_record_of_a_scene_survives_its_file(tmp_path):
    record = SceneFile(
        {"path": "a.jpg", "sha256": "0"}, Recipe(seed=3), {"levelled": True}, {"lift": {"seconds": 1}}
    )
    record.write(tmp_path)
    assert SceneFile.read(tmp_path) == record


@pytest.mark.parametrize("content", ["{", "{}", '{"schema": 1}', '{"schema": 7}', "[]"])
def test_a_damaged_record_is_refused_in_words(tmp_path, content):
    (tmp_path / "scene.json").write_text(content)
    with pytest.raises(ArtifactError):
        SceneFile.read(tmp_path)


class Heard:
    """A reporter that remembers its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def run_planned(self, stages):
        pass

    def stage_started(self, name, reason):
        pass

    def progress(self, done, total, what):
        pass

    def note(self, text):
        self.notes.append(text)

    def stage_ended(self, report):
        pass


@pytest.mark.parametrize(("free_mb", "is_told"), [(50_000.0, False), (800.0, True)])
def test_what_is_not_expected_to_fit_is_said_beforehand(free_mb, is_told, tmp_path, monkeypatch):
    monkeypatch.setattr("worldstereo_cli.pipeline.run.memory_limit_mb", lambda: free_mb)
    photo = Path(__file__).parents[1] / "data" / "photos" / "mountain_path.jpg"
    recipe = load_recipe("default", ["lift.depth=prior", "lift.long_side_px=2000"])
    selection = Selection("lift", "reconstruct")
    monkeypatch.setattr("worldstereo_cli.pipeline.run._Run.built", lambda self, reporter: [])
    heard = Heard()
    run_scene(photo, tmp_path / "scene", recipe, RunOptions(selection), heard)
    assert bool(heard.notes) is is_told
    if is_told:
        assert "is expected to need" in heard.notes[0]
        assert "0.8 GB are free; what fits: --set" in heard.notes[0]

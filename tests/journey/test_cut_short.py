"""Finished scenes that are made anew and cut short, or whose parts no longer fit each other."""

import importlib
import json
import signal
from pathlib import Path

from tests.journey.finished import STEPS, built, command, states, times
from tests.journey.whole_runs import contents
from worldstereo_cli.cli.main import run
from worldstereo_cli.errors import InputError
from worldstereo_cli.viewer.export import TARGETS


class Cut:
    """Interrupts a run at a call of a function: the first call passes, the second does not."""

    def __init__(self, function, passing: int):
        self.function, self.passing = function, passing

    def __call__(self, *arguments, **options):
        if not self.passing:
            signal.raise_signal(signal.SIGINT)
        self.passing -= 1
        return self.function(*arguments, **options)


def cut_short(monkeypatch, arguments: list[str], place: str, passing: int = 0) -> None:
    """Run, and interrupt at a function."""
    with monkeypatch.context() as patch:
        module, _, name = place.rpartition(".")
        patch.setattr(place, Cut(getattr(importlib.import_module(module), name), passing))
        assert run(arguments) == 130


def visible(scene: Path) -> dict[str, object]:
    """What a scene holds, but for its record and what goes on below a dotted name."""
    return {
        name: content
        for name, content in contents(scene).items()
        if name != "scene.json" and not name.startswith(".")
    }


ROUND = "worldstereo_cli.stages.generate_cameras_to_frames.make_round"


def test_a_forced_run_that_is_cut_short_loses_nothing_and_goes_on_without_force(
    made, scene, capsys, monkeypatch
):
    before, whole = times(scene), visible(scene)
    cut_short(monkeypatch, [*command(made, scene), "--force", "generate"], ROUND, passing=1)
    assert "The same command without --force resumes." in capsys.readouterr().err
    assert visible(scene) == whole
    assert run(["info", str(scene), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [facts[step]["state"] for step in STEPS] == ["done"] * len(STEPS)
    first = (scene / ".generate.next" / "rounds" / "01-right" / "artifact.json").stat().st_mtime_ns
    told = states(capsys, command(made, scene))
    assert built(told) == ["generate", "reconstruct", "view"]
    assert told["generate"][1] == "forced before, and cut short"
    after = times(scene)
    assert after["01-right"] == first != before["01-right"]
    assert after["02-left"] != before["02-left"]
    assert contents(scene) == contents(made / "scene")
    assert built(states(capsys, command(made, scene))) == []


def test_what_follows_a_forced_stage_is_made_anew_even_after_a_break(made, scene, capsys, monkeypatch):
    cut_short(
        monkeypatch, [*command(made, scene), "--force", "lift"], "worldstereo_cli.pipeline.bindings.build", 3
    )
    assert visible(scene) == visible(made / "scene")
    told = states(capsys, command(made, scene))
    assert (built(told), told["reconstruct"][1]) == (["reconstruct", "view"], "forced before, and cut short")
    cut_short(
        monkeypatch,
        [*command(made, scene), "--force", "reconstruct"],
        "worldstereo_cli.pipeline.bindings.show",
    )
    assert run(["info", str(scene), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["view"] == {"state": "not finished"}
    told = states(capsys, command(made, scene))
    assert (built(told), told["view"][1]) == (["view"], "the last run was cut short")
    assert contents(scene) == contents(made / "scene")


def test_other_settings_that_are_tried_and_cut_short_cost_nothing(made, scene, capsys, monkeypatch):
    other = [*command(made, scene), "--set", "generate.num_frames=2"]
    cut_short(monkeypatch, other, ROUND, passing=1)
    assert visible(scene) == visible(made / "scene")
    assert built(states(capsys, command(made, scene))) == []
    # And those who go on with them have the round that was made.
    capsys.readouterr()
    assert run(other) == 0
    assert "(1 kept from before)" in capsys.readouterr().err
    assert not (scene / ".generate.next").exists()


def test_stages_that_no_longer_fit_each_other_are_not_taken_for_a_scene(made, scene, capsys, tmp_path):
    assert run(["lift", str(made / "photo.png"), "-o", str(scene), "--fov", "70"]) == 0
    capsys.readouterr()
    for arguments in (
        ["generate", str(scene)],
        ["reconstruct", str(scene)],
        ["view", str(scene), "--no-open"],
        *(["export", str(scene), "--to", name, "-o", str(tmp_path / "export")] for name in TARGETS),
    ):
        assert run(arguments) == 4
        assert "is not finished: its lift has changed since plan was made." in capsys.readouterr().err
    assert not (tmp_path / "export").exists()
    assert run(["info", str(scene), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    states_told = [facts[step]["state"] for step in STEPS[:4]]
    assert states_told == ["done", *["lift has changed since"] * 3]
    assert built(states(capsys, [*command(made, scene), "--fov", "70"])) == list(STEPS[1:])


def test_exports_are_told_apart_from_the_scene(made, scene, capsys):
    def megabytes() -> dict[str, float]:
        assert run(["info", str(scene), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        return {key: facts[key] for key in ("megabytes", "export_megabytes") if key in facts}

    capsys.readouterr()
    before = megabytes()
    assert run(["export", str(scene), "--to", "ply,colmap"]) == 0
    capsys.readouterr()
    after = megabytes()
    assert after["megabytes"] == before["megabytes"]
    assert after["export_megabytes"] > (scene / "export" / "splats.ply").stat().st_size / 1e6
    assert run(["info", str(scene)]) == 0
    assert "and its exports" in capsys.readouterr().out


def test_a_page_that_is_older_than_the_splats_is_not_exported(made, scene, tmp_path, monkeypatch, capsys):
    def refused(*_args: object) -> None:
        raise InputError("The page cannot be written.", remedy="None.")

    anew = ["reconstruct", str(scene), "--set", "reconstruct.iterations=5"]
    with monkeypatch.context() as broken:
        broken.setattr("worldstereo_cli.pipeline.bindings.show", refused)
        assert run(anew) == 4
    for formats, code in (("ply", 0), ("html", 4), ("spz,mp4", 4)):
        assert run(["export", str(scene), "--to", formats, "-o", str(tmp_path / formats)]) == code
    said = capsys.readouterr().err
    assert "do not show the splats that are there now" in said
    assert not (tmp_path / "html").exists()
    assert run(["reconstruct", str(scene)]) == 0
    assert run(["export", str(scene), "--to", "html,mp4", "-o", str(tmp_path / "html")]) == 0

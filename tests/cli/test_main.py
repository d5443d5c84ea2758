import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldstereo_cli.cli import main as door
from worldstereo_cli.errors import ArtifactError, BackendError, InputError, OutOfMemory, RecipeError
from worldstereo_cli.pipeline.scene_file import SceneFile
from worldstereo_cli.recipe import Recipe, override_recipe

PHOTO = Path(__file__).parents[1] / "data" / "photos" / "mountain_path.jpg"


def card(capsys) -> str:
    return capsys.readouterr().err


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from worldstereo_cli.cli.main import run; run(['run', '--help']);"
        "heavy = {'torch', 'numpy', 'open3d', 'numba', 'diffusers', 'pycolmap'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--trajectory" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", "a.jpg"], ["fly"], ["run", "a.jpg", "--out", "x", "--fov", "200"], ["export", "x"]],
)
def test_wrong_usage_is_two_lines_and_exit_2(arguments, capsys):
    assert door.run(arguments) == 2
    lines = card(capsys).strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  try: worldstereo")


def test_a_missing_photo_is_exit_4_and_makes_no_scene(tmp_path, capsys):
    assert door.run(["run", str(tmp_path / "no.jpg"), "--out", str(tmp_path / "scene")]) == 4
    assert "no.jpg cannot be read" in card(capsys)
    assert not (tmp_path / "scene").exists()


def test_a_misspelt_recipe_key_is_exit_3(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"x")
    arguments = ["run", str(tmp_path / "a.jpg"), "--out", str(tmp_path / "s"), "--set", "plan.sclae=2"]
    assert door.run(arguments) == 3
    assert "plan.sclae is not a recipe key" in card(capsys)


def test_an_unknown_stage_is_exit_3(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert door.run(["run", str(tmp_path / "a.jpg"), "--out", str(tmp_path / "s"), "--from", "lfit"]) == 3
    assert "'lfit' is not a stage" in card(capsys)


@pytest.mark.parametrize("command", ["plan", "generate", "reconstruct", "info"])
def test_a_stage_without_a_scene_is_exit_4_and_says_how_to_make_one(command, tmp_path, capsys):
    assert door.run([command, str(tmp_path / "none")]) == 4
    assert "worldstereo run photo.jpg --out" in card(capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["missing.jpg"], 4, "missing.jpg cannot be read: No such file"),
        ([str(PHOTO), "missing.jpg", "--recipes", "preview"], 4, "missing.jpg cannot be read"),
        ([str(PHOTO), "--recipes", "preview,defualt"], 3, "no recipe 'defualt'"),
    ],
)
def test_a_benchmark_refuses_what_was_typed_wrong_before_its_first_run(
    capsys, monkeypatch, arguments, code, problem
):
    monkeypatch.setattr("worldstereo_cli.evaluation.bench.bench_run", lambda *a, **k: pytest.fail("it ran"))
    assert door.run(["bench", *arguments]) == code
    assert problem in card(capsys)


@pytest.mark.parametrize(
    ("error", "code"),
    [(RecipeError, 3), (InputError, 4), (ArtifactError, 4), (BackendError, 5), (OutOfMemory, 6)],
)
def test_every_error_class_has_its_exit_code_and_card(error, code, capsys, monkeypatch):
    def fail(*_args, **_kwargs):
        raise error("It broke.", remedy="Mend it.")

    monkeypatch.setattr(door, "app", fail)
    assert door.run([]) == code
    assert card(capsys) == "error: It broke.\n  try: Mend it.\n"


def test_an_interrupt_is_exit_130_and_says_that_the_same_command_resumes(capsys, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "app", interrupt)
    assert door.run([]) == 130
    assert "The same command resumes." in card(capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("options", [[], ["--force", "lift"]])
def test_a_signal_within_a_command_is_told_through_the_parser(
    name, code, options, tmp_path, capsys, monkeypatch
):
    number = getattr(signal, name)

    def wait(*_args):
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr("worldstereo_cli.cli.running.run", wait)
    before = signal.getsignal(number)
    assert door.run(["run", "a.jpg", "--out", str(tmp_path), *options]) == code
    assert signal.getsignal(number) is before
    said = card(capsys)
    assert "Interrupted; what is finished is kept." in said
    assert ("without --force" in said) is bool(options)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_an_interrupt_that_compiled_code_wraps_in_an_error_of_its_own_is_an_interrupt(
    tmp_path, capsys, monkeypatch
):
    def wait(*_args):
        # What numba raises when a signal comes while it calls Python to compile.
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt as error:
            raise SystemError("a function returned a result with an exception set") from error

    monkeypatch.setattr("worldstereo_cli.cli.running.run", wait)
    assert door.run(["run", "a.jpg", "--out", str(tmp_path)]) == 143
    assert card(capsys).startswith("error: Interrupted; what is finished is kept.")


def test_a_live_view_has_the_scenes_settings_and_is_ended_by_an_interrupt(tmp_path, capsys, monkeypatch):
    served = []

    def serve(_scene, recipe, **_options):
        served.append(recipe)
        raise KeyboardInterrupt

    recipe = override_recipe(Recipe(), ["view.flythrough_max_unseen=0.4"])
    SceneFile({}, recipe).write(tmp_path)
    monkeypatch.setattr("worldstereo_cli.viewer.live.serve", serve)
    assert door.run(["view", str(tmp_path)]) == 0
    assert card(capsys) == ""
    assert served == [recipe.view]


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m worldstereo_cli recipe show default | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == 'name = "de'
    assert done.stderr == ""


def test_output_that_cannot_be_written_is_told():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "worldstereo_cli", "recipe", "show"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback(monkeypatch):
    def stumble(*_args, **_kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(door, "app", stumble)
    with pytest.raises(ZeroDivisionError):
        door.run([])


@pytest.mark.parametrize("arguments", [[], ["recipe"], ["weights"], ["eval"]])
def test_without_a_command_the_help_is_shown_and_no_empty_error(arguments, capsys):
    assert door.run(arguments) == 2
    told = capsys.readouterr()
    assert "Usage" in told.out + told.err
    assert "error:" not in told.err

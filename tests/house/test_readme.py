"""What the README says can be typed."""

import re
from pathlib import Path

import pytest
import torch

from tests import scenes
from worldstereo_cli.artifacts.trajectory import read_trajectory
from worldstereo_cli.cli.main import run
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import PlanRecipe
from worldstereo_cli.stages.plan_cloud_to_cameras import plan

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if line.startswith("worldstereo ")})


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_readme_exists_with_its_options(line, capsys):
    words = line.split()
    sub = [words[1], words[2]] if words[1] in ("recipe", "eval") else [words[1]]
    assert run([*sub, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+", line):
        assert option in shown, f"{option} is not an option of {sub}"


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`?make ([a-z-]+)", README))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def examples() -> dict[str, str]:
    """The trajectory files of the README, by the name that each gets; the last is written by its code."""
    section = README.partition("## A camera path of your own")[2].partition("\n## ")[0]
    blocks = re.findall(r"```(?:json|python)\n(.*?)```", section, re.DOTALL)
    return dict(zip(("camera.json", "transforms.json", "path.npz"), blocks, strict=True))


@pytest.mark.parametrize("name", examples())
def test_the_readmes_trajectory_files_are_read_and_move_to_the_right(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "path.npz":
        exec(examples()[name], {})
    else:
        Path(name).write_text(examples()[name])
    photo = scenes.camera(768, 512)
    cameras = read_trajectory(Path(name), photo).cameras
    assert (len(cameras), cameras.width_px, cameras.height_px) == (2, 768, 512)
    focal = float(photo.intrinsics[0, 0, 0]) if name == "path.npz" else 600.0
    assert cameras.intrinsics[:, 0, 0].tolist() == [focal, focal]
    scenes.write_lift(tmp_path / "lift", scenes.room(), photo)
    recipe = PlanRecipe(trajectories=(name,), num_poses=5)
    path = plan(tmp_path / "lift", tmp_path / "plan", recipe, seed=0, progress=silent).paths[0].cameras
    assert torch.allclose(path.centres[0], torch.zeros(3), atol=1e-6)
    assert torch.allclose(path.centres[-1], torch.tensor([0.3, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(path.world_from_camera[:, :3, :3], torch.eye(3).expand(len(path), 3, 3), atol=1e-6)


def test_nothing_tracked_names_a_machine():
    """Paths of one machine and registry hosts have no place in a project that others read."""
    bad = re.compile("|".join(["/wo" + "rk/", "/ro" + "ot/", "pypi" + r"\.org", "npm" + r"js\."]))
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.suffix in {".py", ".md", ".toml", ".json", ".h", ".cu", ".cpp"} and not parts[0].startswith(
            "."
        ):
            assert not bad.search(path.read_text(encoding="utf-8", errors="ignore")), path

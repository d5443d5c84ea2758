"""What the README says can be typed."""

import re
from pathlib import Path

import pytest

from worldstereo_cli.cli.main import run

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


def test_nothing_tracked_names_a_machine():
    """Paths of one machine and registry hosts have no place in a project that others read."""
    bad = re.compile("|".join(["/wo" + "rk/", "/ro" + "ot/", "pypi" + r"\.org", "npm" + r"js\."]))
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.suffix in {".py", ".md", ".toml", ".json", ".h", ".cu", ".cpp"} and not parts[0].startswith(
            "."
        ):
            assert not bad.search(path.read_text(encoding="utf-8", errors="ignore")), path

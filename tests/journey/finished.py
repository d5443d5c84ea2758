"""A tiny scene that is finished, and what running it again tells and touches."""

import json
from pathlib import Path

from worldstereo_cli.cli.main import run

STEPS = ("lift", "plan", "generate", "reconstruct", "view")


def command(made: Path, scene: Path | None = None) -> list[str]:
    place = made / "scene" if scene is None else scene
    return ["run", str(made / "photo.png"), "--out", str(place), "-r", str(made / "tiny.toml")]


def states(capsys, arguments: list[str]) -> dict[str, tuple[str, str]]:
    """Run, and return state and reason of every step."""
    capsys.readouterr()
    assert run([*arguments, "--json", "-q"]) == 0
    return {s["name"]: (s["state"], s["reason"]) for s in json.loads(capsys.readouterr().out)["stages"]}


def built(told: dict[str, tuple[str, str]]) -> list[str]:
    return [name for name, (state, _) in told.items() if state != "reused"]


def times(scene: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in scene.rglob("artifact.json")}

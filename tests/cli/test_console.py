import io
import re

import pytest

from worldstereo_cli.cli.console import Console
from worldstereo_cli.cli.tables import plan_table
from worldstereo_cli.cli.time_left import TimeLeft, spoken
from worldstereo_cli.pipeline.report import Estimate, StageReport


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def left(clock) -> TimeLeft:
    left = TimeLeft(clock)
    left.planned([("lift", 2.0), ("generate", 20.0), ("reconstruct", 30.0)])
    return left


def test_the_time_left_is_what_was_expected_until_something_is_known(left):
    assert left.seconds() == 52


def test_the_time_left_runs_down_within_a_stage(left, clock):
    left.started("lift")
    clock.now += 1.5
    assert left.seconds() == pytest.approx(50.5)


def test_a_slow_machine_makes_all_that_is_left_slower(left, clock):
    left.started("lift")
    clock.now += 4
    left.ended("lift", 4.0)
    assert left.seconds() == pytest.approx(100)
    left.started("generate")
    clock.now += 10
    assert left.seconds() == pytest.approx(90)


def test_a_stage_that_outlasts_its_time_is_measured_by_what_it_has_done(left, clock):
    left.planned([("reconstruct", 10.0)])
    left.started("reconstruct")
    left.progressed(0.5)
    clock.now += 20
    assert left.seconds() == pytest.approx(10)


def test_nothing_is_left_of_a_run_that_builds_nothing(clock):
    left = TimeLeft(clock)
    left.planned([])
    assert left.seconds() is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3599.7, "1 h 0 min"), (7300, "2 h 1 min")],
)
def test_times_are_spoken(seconds, words):
    assert spoken(seconds) == words


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def walk_through(console: Console, reason: str = "not made yet") -> None:
    with console:
        lines = console.scene()
        lines.run_planned([StageReport("lift", "planned", reason, expected=Estimate(2, 500, 10))])
        lines.stage_started("lift", reason)
        lines.progress(1, 2, "estimating depth")
        if console.bars is not None:
            console.bars.refresh()
        lines.stage_ended(StageReport("lift", "built", reason, 2.04, "640x480, [odd] summary"))
        lines.stage_ended(StageReport("plan", "reused", "unchanged", 0.0, "up, right"))


def test_without_a_terminal_there_are_plain_lines(monkeypatch, capsys):
    walk_through(Console())
    assert capsys.readouterr().err.splitlines() == [
        "lift        building",
        "lift           2.0 s  640x480, [odd] summary",
        "plan          reused  unchanged: up, right",
    ]


@pytest.mark.parametrize(("reason", "is_told"), [("not made yet", False), ("plan.scale changed", True)])
def test_a_terminal_shows_a_bar_and_tells_why_something_is_made_again(reason, is_told, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    walk_through(Console(), reason)
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "estimating depth" in said
    assert "1/2" in said
    assert "s left for the whole run" in said
    assert "lift           2.0 s  640x480, [odd] summary" in said
    assert (f"building: {reason}" in said) is is_told


def test_quiet_says_nothing(capsys):
    walk_through(Console(quiet=True))
    assert capsys.readouterr().err == ""


def test_of_many_scenes_one_that_is_done_is_passed_over(capsys):
    with Console() as console:
        lines = console.scene("a")
        lines.run_planned([StageReport("lift", "reused", "unchanged")])
        lines.stage_ended(StageReport("lift", "reused", "unchanged"))
        other = console.scene("b")
        other.run_planned([StageReport("lift", "planned", "forced", expected=Estimate(1, 1, 1))])
        other.stage_started("lift", "forced")
    assert capsys.readouterr().err == "b: lift        building: forced\n"


def test_the_plan_of_a_run_adds_up():
    stages = [
        StageReport("lift", "reused", "unchanged"),
        StageReport("plan", "planned", "plan.scale changed", expected=Estimate(65, 800, 1)),
        StageReport("generate", "planned", "plan changed", expected=Estimate(30, 1500, 40)),
    ]
    lines = list(plan_table(stages))
    assert "1 min 35 s" in lines[-1]
    assert "1.5 GB" in lines[-1]
    assert "41 MB" in lines[-1]
    assert [line.split()[1] for line in lines[1:4]] == ["reuse", "build", "build"]

"""Promises of generate: rounds, growth and resumption."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import scenes
from tests.stages.rounds import FAR_M, PHOTO, RECIPE, SURFACES, contents, run, sideways, write_plan
from worldstereo_cli.artifacts.cloud import read_cloud
from worldstereo_cli.artifacts.manifest import MANIFEST_NAME, clear_drafts, next_to
from worldstereo_cli.artifacts.scene import Generation, Lift, NamedPath, Round
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.paths import Anchor, orbit_left, orbit_right
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import GenerateRecipe
from worldstereo_cli.stages.generate_cameras_to_frames import GenerateOptions, generate
from worldstereo_cli.stages.one_round import sampled


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    root = tmp_path_factory.mktemp("scene")
    scenes.write_lift(root / "lift", SURFACES, PHOTO)
    write_plan(root / "plan", NamedPath("right", sideways(1)), NamedPath("left", sideways(-1)))
    run(root)
    return root


@pytest.fixture
def copy(scene, tmp_path):
    shutil.copytree(scene, tmp_path / "scene")
    return tmp_path / "scene"


def test_every_path_is_a_finished_round(scene):
    generation = Generation.read(scene / "generate")
    assert [root.name for root in generation.round_dirs] == ["01-right", "02-left"]
    for number, root in enumerate(generation.round_dirs, start=1):
        done = Round.read(root)
        assert done.frames.shape == (4, 3, 80, 120)
        numbers = json.loads((root / "round.json").read_text())
        assert numbers["backend"] == "warp"
        assert numbers["hole_frac"][0] == 0 < numbers["hole_frac"][3]
        assert max(numbers["unfilled_frac"]) < 0.01
        added = read_cloud(root / "added.ply")
        assert sum(numbers["added_points"]) == len(added) > 0
        assert (added.round_index == number).all()
    assert generation.manifest.facts["backend"] == "warp"


def test_every_added_point_lies_on_the_wall(scene):
    cloud = Generation.read(scene / "generate").cloud
    invented = cloud.points[cloud.round_index > 0]
    assert len(invented) > 2000
    # A pixel is 4 cm on the wall; depth is continued by planes that are exact to a part in a thousand.
    assert (invented[:, 2] - FAR_M).abs().max() < 0.03
    assert int((cloud.round_index == 0).sum()) == len(Lift.read(scene / "lift").cloud)


def test_the_first_frame_is_the_photo_itself(scene):
    photo = Lift.read(scene / "lift").views[0]
    first = Round.read(scene / "generate" / "rounds" / "01-right")
    assert torch.equal(first.frames[0], photo.image)
    assert torch.equal(first.depth_m[0], photo.depth_m)
    assert not first.hole[0].any()


def test_frames_differ_from_the_control_in_holes_only(scene):
    done = Round.read(scene / "generate" / "rounds" / "02-left")
    for channel in range(3):
        assert torch.equal(done.frames[:, channel][~done.hole], done.control[:, channel][~done.hole])
    assert (done.control.permute(0, 2, 3, 1)[done.hole] - 0.5).abs().max() < 0.01
    assert (done.frames.permute(0, 2, 3, 1)[done.hole] - 0.5).abs().amax(1).mean() > 0.05


def test_a_second_round_sees_what_the_first_invented(scene, tmp_path):
    shutil.copytree(scene / "lift", tmp_path / "lift")
    write_plan(tmp_path / "plan", NamedPath("right", sideways(1)), NamedPath("again", sideways(1)))
    run(tmp_path)
    again = Round.read(tmp_path / "generate" / "rounds" / "02-again")
    first = Round.read(tmp_path / "generate" / "rounds" / "01-right")
    assert first.hole[3].float().mean() > 0.1
    assert again.hole[3].float().mean() < 0.01
    shown = first.hole[3] & ~again.hole[3]
    difference = (again.control[3] - first.frames[3])[:, shown].abs().amax(0)
    assert torch.quantile(difference, 0.95) < 0.05


def test_a_killed_run_resumes_and_ends_as_an_undisturbed_one(scene, copy):
    rounds = copy / "generate" / "rounds"
    shutil.rmtree(rounds / "02-left")
    (copy / "generate" / MANIFEST_NAME).unlink()
    (rounds / ".02-left.draft-1").mkdir()
    kept = (rounds / "01-right" / MANIFEST_NAME).stat().st_mtime_ns
    run(copy)
    assert contents(copy / "generate") == contents(scene / "generate")
    assert (rounds / "01-right" / MANIFEST_NAME).stat().st_mtime_ns == kept
    assert sorted(p.name for p in rounds.iterdir()) == ["01-right", "02-left"]


def test_a_damaged_round_is_made_again(scene, copy):
    manifest = copy / "generate" / "rounds" / "01-right" / MANIFEST_NAME
    manifest.write_text("{")
    run(copy)
    assert contents(copy / "generate") == contents(scene / "generate")


def test_an_added_path_leaves_the_rounds_before_it(copy):
    before = {p: p.stat().st_mtime_ns for p in (copy / "generate").rglob(MANIFEST_NAME) if "rounds" in str(p)}
    up = sideways(1)
    up = replace(up, world_from_camera=up.world_from_camera[:, [0, 1, 2, 3]].clone())
    up.world_from_camera[:, 1, 3] = -up.world_from_camera[:, 0, 3]
    paths = [NamedPath("right", sideways(1)), NamedPath("left", sideways(-1)), NamedPath("up/1 b", up)]
    write_plan(copy / "plan", *paths)
    generation = run(copy)
    assert [root.name for root in generation.round_dirs] == ["01-right", "02-left", "03-up_1_b"]
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_another_seed_or_path_makes_rounds_anew(copy):
    before = (copy / "generate" / "rounds" / "01-right" / MANIFEST_NAME).stat().st_mtime_ns
    write_plan(copy / "plan", NamedPath("right", sideways(0.8)))
    generation = run(copy)
    after = (copy / "generate" / "rounds" / "01-right" / MANIFEST_NAME).stat().st_mtime_ns
    assert after != before
    assert [root.name for root in generation.round_dirs] == ["01-right"]
    assert not (copy / "generate" / "rounds" / "02-left").exists()
    run(copy, seed=1)
    assert (copy / "generate" / "rounds" / "01-right" / MANIFEST_NAME).stat().st_mtime_ns != after


def cut_short(root: Path, *, anew: bool = False) -> None:
    """Interrupt a run after its first round."""

    def interrupted(done: int, total: int, what: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(
            root / "lift", root / "plan", root / "generate", RECIPE, GenerateOptions(anew=anew), seed=0,
            progress=interrupted,
        )  # fmt: skip


def made(root: Path) -> int:
    """When a round was made."""
    return (root / MANIFEST_NAME).stat().st_mtime_ns


def test_a_first_run_that_fails_leaves_nothing_that_looks_done(scene, copy):
    shutil.rmtree(copy / "generate")
    cut_short(copy)
    with pytest.raises(ArtifactError, match="not finished"):
        Generation.read(copy / "generate")
    first = made(copy / "generate" / "rounds" / "01-right")
    run(copy)
    assert made(copy / "generate" / "rounds" / "01-right") == first
    assert contents(copy / "generate") == contents(scene / "generate")


def test_what_is_finished_stays_until_what_replaces_it_is_complete(copy):
    old = contents(copy / "generate")
    write_plan(copy / "plan", NamedPath("left", sideways(-1)), NamedPath("other", sideways(0.7)))
    cut_short(copy)
    assert contents(copy / "generate") == old
    assert Generation.read(copy / "generate").manifest.damage(copy / "generate") is None
    first = made(next_to(copy / "generate") / "rounds" / "01-left")
    # Whoever thinks better of it has lost nothing, and whoever goes on has the round that was made.
    run(copy)
    assert made(copy / "generate" / "rounds" / "01-left") == first
    assert not next_to(copy / "generate").exists()
    made_in_two = contents(copy / "generate")
    shutil.rmtree(copy / "generate")
    run(copy)
    assert contents(copy / "generate") == made_in_two


def test_rounds_that_are_made_anew_replace_the_old_ones_all_at_once(scene, copy):
    rounds = copy / "generate" / "rounds"
    before = {name: made(rounds / name) for name in ("01-right", "02-left")}
    # A fault that no size tells: who forces does not trust what is there.
    (rounds / "02-left" / "round.json").write_bytes((rounds / "02-left" / "round.json").read_bytes()[::-1])
    old = contents(copy / "generate")
    cut_short(copy, anew=True)
    assert contents(copy / "generate") == old
    assert {name: made(rounds / name) for name in before} == before
    first = made(next_to(copy / "generate") / "rounds" / "01-right")
    assert first != before["01-right"]
    generate(
        copy / "lift", copy / "plan", copy / "generate", RECIPE, GenerateOptions(anew=True), seed=0,
        progress=silent,
    )  # fmt: skip
    assert contents(copy / "generate") == contents(scene / "generate")
    assert made(rounds / "01-right") == first
    assert made(rounds / "02-left") != before["02-left"]


def test_a_kill_just_before_the_last_renames_costs_no_round(copy):
    beside = next_to(copy / "generate")
    shutil.copytree(copy / "generate", beside)
    times = {name: made(beside / "rounds" / name) for name in ("01-right", "02-left")}
    # Between the two: the old one is out of the way, the new one not in its place.
    (copy / "generate").rename(copy / ".generate.draft-old-7")
    clear_drafts(copy)
    assert Generation.read(copy / "generate").manifest.damage(copy / "generate") is None
    run(copy)
    assert {name: made(copy / "generate" / "rounds" / name) for name in times} == times
    assert sorted(path.name for path in copy.iterdir()) == ["generate", "lift", "plan"]


def test_the_memory_names_photo_and_kept_frames(scene):
    views = json.loads((scene / "generate" / "memory.json").read_text())["views"]
    names = [view["name"] for view in views]
    assert names == ["photo", *(f"{r}/000{i}" for r in ("01-right", "02-left") for i in (1, 2, 3))]
    assert all((scene / "generate" / "rounds" / n.replace("/", "/frames/")).with_suffix(".png").is_file()
               for n in names[1:])  # fmt: skip


def test_paths_are_sampled_evenly_from_end_to_end():
    assert sampled(81, 21) == list(range(0, 81, 4))
    assert sampled(81, 2) == [0, 80]
    assert sampled(3, 5) == [0, 0, 1, 2, 2]


def test_a_round_without_references_keeps_none(scene):
    assert not (scene / "generate" / "rounds" / "02-left" / "references.safetensors").exists()
    assert (
        json.loads((scene / "generate" / "rounds" / "02-left" / "round.json").read_text())["references"] == []
    )


def test_facts_tell_seen_from_invented(scene):
    facts = Generation.read(scene / "generate").manifest.facts
    assert sum(facts["points_by_round"]) == facts["num_points"]
    assert facts["points_by_round"][0] == facts["num_seen_points"] == 120 * 80
    assert 5 < facts["invented_area_percent"] < 60
    assert facts["mean_confidence"]["seen"] == 1.0 > facts["mean_confidence"]["invented"] > 0


@pytest.mark.slow
def test_orbits_about_a_room_leave_few_pixels_open(tmp_path):
    photo = scenes.camera(192, 128)
    scenes.write_lift(tmp_path / "lift", scenes.room(), photo)
    progress = torch.linspace(0, 1, 41)
    anchor = Anchor(photo, 4.0)
    paths = [
        NamedPath(name, orbit(anchor, math.radians(25), progress))
        for name, orbit in (("right", orbit_right), ("left", orbit_left))
    ]
    write_plan(tmp_path / "plan", *paths)
    generation = run(tmp_path, recipe=GenerateRecipe(num_frames=6))
    farthest = scenes.view_of(scenes.room(), photo).depth_m.max()
    for root in generation.round_dirs:
        done = Round.read(root)
        truth = torch.stack([scenes.render(scenes.room(), done.cameras[i])[1] for i in range(6)])
        # Nothing is continued beyond the farthest thing known.
        known = done.hole & (done.depth_m > 0) & (truth < farthest)
        error = ((done.depth_m - truth).abs() / truth)[known]
        # What lies behind the ball and beyond the photo is floor and wall, which are planes.
        assert error.median() < 0.02
        assert float((done.hole & (done.depth_m == 0)).float().mean()) < 0.01

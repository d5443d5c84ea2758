"""Planned paths are measured against true geometry, and uncover more of it than fixed ones."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import scenes
from tests.furnished import CORRIDOR, LIVING_ROOM, Furnished
from worldstereo_cli.artifacts.scene import Plan
from worldstereo_cli.cli.main import run
from worldstereo_cli.errors import InputError
from worldstereo_cli.evaluation.planning import (
    FIXED_PATHS,
    PlanScore,
    Uncovered,
    cut_pieces,
    evaluate_planning,
    missed_beside,
    new_points,
    summarise,
)
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.paths import Anchor, preset_path
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import PlanRecipe
from worldstereo_cli.stages.plan_cloud_to_cameras import plan


def test_auto_uncovers_half_as_much_again_with_each_frame() -> None:
    rooms = [Furnished("living room", LIVING_ROOM), Furnished("tilted", LIVING_ROOM, scenes.camera(128, 128))]
    scores = evaluate_planning(rooms, PlanRecipe())
    for score in scores:
        assert score.per_frame("behind_cells") > 1.5, score
        assert score.auto.blocked_rays == 0
        assert score.auto.num_frames == 8 * score.auto.num_paths
        assert score.auto.missed_beside_frac < 0.03, "a look to the side finds what some frame shows"
        assert score.fixed.num_paths == 4, "the fixed paths are all flown"
    means = summarise(scores).per_frame
    assert min(means.values()) > 1.5, means


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param(LIVING_ROOM, id="living room"),
        pytest.param(CORRIDOR, id="corridor", marks=pytest.mark.slow),
    ],
)
def test_no_camera_is_in_or_behind_anything(boxes: list, tmp_path: Path) -> None:
    scene = Furnished("scene", boxes)
    scene.write_lift(tmp_path / "lift")
    recipe = PlanRecipe(max_paths=6, min_gain_frac=0.0)
    made = plan(tmp_path / "lift", tmp_path / "plan", recipe, seed=0, progress=silent)
    assert len(made.paths) >= 2
    for path in made.paths:
        centres = path.cameras.centres
        assert scene.cuts(centres) == 0, path.name
        # In unseen places a continued wall may be off by what rounding does to its plane.
        assert float(scene.distance(centres).min()) > 0.09, path.name


def test_what_a_frame_shows_anew_is_what_true_rays_say() -> None:
    # A wall at 5 m with a board at 2 m that covers a quarter of the photo's height and width.
    room = [((-9.0, -9.0, 5.0), (9.0, 9.0, 5.1)), ((-0.5, -0.5, 2.0), (0.5, 0.5, 2.001))]
    scene = Furnished("board", room, scenes.camera(192, 128))
    photo_depth = scene.depth(scene.camera)[0]
    same, hidden, outside = new_points(scene, scene.camera, photo_depth)
    assert len(same) == 192 * 128
    assert not (hidden | outside).any()
    pose = torch.eye(4)
    pose[0, 3] = 1.0
    aside = replace(scene.camera, world_from_camera=pose[None])
    points, hidden, outside = new_points(scene, aside, photo_depth)
    # From 1 m to the right the board hides x in [-2.75, -0.25]; of the photo's [-1.25, 1.25] the rest is new.
    new = points[hidden]
    assert float(new[:, 0].min()) == pytest.approx(-0.25, abs=0.05)
    assert float(new[:, 0].max()) == pytest.approx(1.25, abs=0.05)
    assert float(new[:, 1].abs().max()) == pytest.approx(1.25, abs=0.05)
    beyond = points[outside]
    assert float(beyond[:, 0].min()) == pytest.approx(5 * 0.57735, abs=0.05)


def test_what_a_look_to_the_side_misses_is_what_no_frame_shows() -> None:
    wall = Furnished("wall", [((-9.0, -9.0, 5.0), (9.0, 9.0, 5.1))], scenes.camera(192, 128))
    anchor = Anchor(wall.camera, 5.0)
    photo_only = missed_beside(wall, anchor, [wall.camera])
    # From 10 degrees to the right, and turned back by as much; the other side is its mirror image.
    tangent = math.tan(math.radians(30))
    across = torch.linspace(-tangent, tangent, 385).double()
    x, y = torch.meshgrid(across, across[64:-64], indexing="xy")
    sine, cosine = math.sin(math.radians(10)), math.cos(math.radians(10))
    way = 5 * cosine / (cosine + x * sine)
    on_wall = torch.stack([5 * sine + way * (x * cosine - sine), way * y])
    photo_shows = (on_wall[0].abs() < 5 * tangent) & (on_wall[1].abs() < 5 * tangent * 2 / 3)
    assert photo_only == pytest.approx(1 - float(photo_shows.double().mean()), abs=0.01)
    sway = preset_path("orbit", anchor, 12.0, 9)
    assert missed_beside(wall, anchor, [wall.camera, sway]) < 0.002
    right = preset_path("right", anchor, 12.0, 9)
    assert missed_beside(wall, anchor, [wall.camera, right]) == pytest.approx(photo_only / 2, abs=0.005)


def test_a_path_through_something_is_found_out() -> None:
    scene = Furnished("living room", LIVING_ROOM)
    anchor = Anchor(scene.camera, 3.0)
    assert cut_pieces(scene, preset_path("forward", anchor, 0.4, 21)) == []
    assert cut_pieces(scene, preset_path("strafe", anchor, 1.0, 21)) == [12], "3 m, and the wall at 2.2 m"
    assert cut_pieces(scene, preset_path("rise", anchor, -0.6, 21)) == [12], "1.8 m, and the floor at 1.2 m"
    assert cut_pieces(scene, preset_path("pan", anchor, 20.0, 21)) == [], "a camera that stays hits nothing"


def test_ratios_are_of_frames_and_their_means_geometric() -> None:
    ours, theirs = Uncovered(2, 16, 100, 200, 1.0, 0, 0.01), Uncovered(4, 32, 100, 100, 4.0, 1, 0.5)
    score = PlanScore("a", ours, theirs)
    assert score.per_frame("behind_cells") == 2.0
    assert score.total("all_cells") == 2.0
    other = PlanScore("b", replace(ours, behind_cells=25), theirs)
    summary = summarise([score, other])
    assert summary.per_frame["behind_cells"] == pytest.approx(1.0)
    assert summary.total["area_m2"] == pytest.approx(0.25)
    assert summary.auto_frames == 16
    assert summary.missed_beside_frac == pytest.approx(0.01)
    with pytest.raises(InputError, match="Nothing is hidden"):
        summarise([PlanScore("c", replace(ours, behind_cells=0), theirs)])


@pytest.mark.slow
@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="needs a C++ compiler"
)
def test_the_command_measures_generated_scenes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "plan", "--scenes", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["scenes"]) == 5
    # One scene of each of five kinds.
    assert report["summary"]["per_frame"]["behind_cells"] > 1.5
    assert report["summary"]["per_frame"]["all_cells"] > 1.5


def test_the_fixed_paths_are_those_of_worldstereo() -> None:
    assert [text.partition(":")[0] for text in FIXED_PATHS] == ["eloop", "up", "right", "left"]


@pytest.mark.slow
def test_no_camera_of_the_eight_photos_is_in_or_behind_a_surface(eval_dir: Path, tmp_path: Path) -> None:
    from tests.lifted_mesh import LiftedMesh
    from worldstereo_cli.artifacts.scene import Lift
    from worldstereo_cli.recipe import LiftRecipe
    from worldstereo_cli.stages.lift_image_to_cloud import LiftOptions, lift

    folders = sorted((eval_dir / "data").glob("single_*"))
    assert len(folders) >= 8
    for folder in folders:
        photo = next(p for p in sorted(folder.iterdir()) if p.suffix in (".jpg", ".png"))
        root = tmp_path / folder.name
        lift(photo, root / "lift", LiftRecipe(), LiftOptions(), seed=0, device="cpu", progress=silent)
        plan(root / "lift", root / "plan", PlanRecipe(), seed=0, progress=silent)
        mesh = LiftedMesh(Lift.read(root / "lift").views[0])
        for path in Plan.read(root / "plan").paths:
            assert mesh.cuts_along(path.cameras.centres) == 0, (folder.name, path.name)
            assert mesh.hidden_from_photo(path.cameras.centres) == 0, (folder.name, path.name)


def test_truth_of_generated_scenes_agrees_between_cameras() -> None:
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        pytest.skip("needs a C++ compiler")
    from worldstereo_cli.training.scenes.posed import posed_scenes

    scene = posed_scenes(1, ("tabletop",), 96, 64)[0]
    photo = scene.depth(scene.camera)[0]
    pose = scene.camera.world_from_camera.clone()
    pose[0, :3, 3] += 0.02 * pose[0, :3, 0]
    moved = Cameras(pose, scene.camera.intrinsics, 96, 64)
    points = scene.camera.unproject(photo.nan_to_num(posinf=1.0)[None])[0][photo.isfinite()]
    pixels, z = moved.project(points)
    u, v = pixels[0].long().unbind(-1)
    inside = (u >= 0) & (v >= 0) & (u < 96) & (v < 64)
    error = (scene.depth(moved)[0][v[inside], u[inside]] / z[0, inside] - 1).abs()
    assert float(error.median()) < 0.01

"""Planning keeps its promises on disk: clear paths, honest facts, refusals in words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import scenes
from worldstereo_cli.artifacts.scene import Plan
from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.clearance import SurfaceDistance
from worldstereo_cli.geometry.rigid import invert_rigid
from worldstereo_cli.pipeline.summaries import summary
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import PlanRecipe
from worldstereo_cli.stages.plan_cloud_to_cameras import plan


@pytest.fixture(scope="module")
def lift_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scene") / "lift"
    scenes.write_lift(root, scenes.room(), scenes.camera(96, 64))
    return root


def run(lift_dir: Path, out: Path, *trajectories: str, **knobs: float) -> Plan:
    recipe = PlanRecipe.model_validate({"trajectories": trajectories, **knobs})
    return plan(lift_dir, out, recipe, seed=3, progress=silent)


def test_the_default_plan_is_read_back_as_written(lift_dir: Path, tmp_path: Path) -> None:
    recipe = PlanRecipe()
    told: list[tuple[int, int, str]] = []
    made = plan(lift_dir, tmp_path / "plan", recipe, seed=3, progress=lambda *step: told.append(step))
    read = Plan.read(tmp_path / "plan")
    assert 1 <= len(read.paths) <= recipe.max_paths
    assert all(f["requested"].startswith("auto: ") for f in read.manifest.facts["paths"])
    assert all(len(p.cameras) == 81 for p in read.paths)
    for ours, theirs in zip(made.paths, read.paths, strict=True):
        assert torch.equal(ours.cameras.world_from_camera, theirs.cameras.world_from_camera)
    assert read.manifest == made.manifest
    assert read.manifest.recipe == recipe.model_dump(mode="json")
    assert told[-1] == (1, 1, "planning paths")


def test_planning_twice_gives_the_same_bytes(lift_dir: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(lift_dir, tmp_path / name, "spiral", "pan")
    assert (tmp_path / "a/paths.json").read_bytes() == (tmp_path / "b/paths.json").read_bytes()


def test_a_walk_into_the_ball_is_shrunk_until_it_stops_before_it(lift_dir: Path, tmp_path: Path) -> None:
    made = run(lift_dir, tmp_path / "plan", "forward:0.6")
    fact = made.manifest.facts["paths"][0]
    required = made.manifest.facts["required_clearance_m"]
    assert 0 < fact["kept"] < 1
    assert "shrunk" in fact["note"]
    view = scenes.view_of(scenes.room(), scenes.camera(96, 64))
    # Checked against the closed form: the ball's middle is 0.6 m inside its surface.
    to_ball = (made.paths[0].cameras.centres - torch.tensor([0.3, 0.2, 3.0])).norm(dim=-1) - 0.6
    assert float(to_ball.min()) > required * 0.9
    assert SurfaceDistance(scenes.cloud_of(view)).along(made.paths[0].cameras.centres, 0.01) >= required * 0.9


def test_a_path_with_no_clear_version_is_left_out_with_its_reason(lift_dir: Path, tmp_path: Path) -> None:
    # Sixty times the clearance of the recipe: even a short walk ends too near.
    made = run(lift_dir, tmp_path / "plan", "forward:9", "pan", clearance_m=1.0, clearance_frac=1.0)
    assert [p.name for p in made.paths] == ["pan"]
    left_out = made.manifest.facts["paths"][0]
    assert left_out["kept"] == 0
    assert "comes within" in left_out["note"]
    told = summary(made.manifest)
    assert told.startswith("pan; forward: "), "what is not flown is not named among the paths"
    with pytest.raises(InputError, match="forward:9 comes within") as caught:
        run(lift_dir, tmp_path / "none", "forward:9", clearance_m=1.0, clearance_frac=1.0)
    assert "pan" in caught.value.remedy
    assert not (tmp_path / "none").exists()


def test_a_macro_photo_can_still_be_flown(tmp_path: Path) -> None:
    scenes.write_lift(tmp_path / "lift", scenes.wall(0.05), scenes.camera())
    made = run(tmp_path / "lift", tmp_path / "plan", "right", "left")
    assert [p.name for p in made.paths] == ["right", "left"]
    assert made.manifest.facts["median_depth_m"] == pytest.approx(0.05)


def test_amounts_may_be_named_and_equal_names_are_told_apart(lift_dir: Path, tmp_path: Path) -> None:
    made = run(lift_dir, tmp_path / "plan", "orbit", "orbit:5", "strafe:-0.1")
    assert [p.name for p in made.paths] == ["orbit", "orbit-2", "strafe"]
    widest = [float(p.cameras.centres[:, 0].max()) for p in made.paths]
    assert widest[0] > 3 * widest[1]
    assert float(made.paths[2].cameras.centres[-1, 0]) < 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("orbitt", "neither a preset nor a file"),
        ("orbit:far", "'far' is not an amount"),
        ("orbit:nan", "'nan' is not an amount"),
        ("orbit:720", "the largest is 180"),
        ("zoom:-1", "the largest is 10"),
    ],
)
def test_what_cannot_be_flown_is_refused_in_words(
    lift_dir: Path, tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        run(lift_dir, tmp_path / "plan", text)
    assert "orbit" in caught.value.remedy or "zoom" in caught.value.remedy
    assert not (tmp_path / "plan").exists()


def test_a_photo_of_nothing_but_sky_is_refused(tmp_path: Path) -> None:
    scenes.write_lift(tmp_path / "lift", [scenes.Sphere((0.0, 0.0, -9.0), 1.0)], scenes.camera())
    with pytest.raises(InputError, match="shows no surface"):
        run(tmp_path / "lift", tmp_path / "plan", "right")


def test_a_file_is_flown_from_the_photo_with_its_own_lens_cropped(tmp_path: Path) -> None:
    photo = scenes.camera(96, 64)
    scenes.write_lift(tmp_path / "lift", scenes.room(), photo)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [5.0, 5.5, 6.0]
    poses[:, 2, 3] = [-1.0, -1.0, -1.5]
    file = tmp_path / "dolly.npz"
    # 4:3 at twice the height of the 3:2 photo: scale 96/160, then 8 rows of 72 are cut away.
    np.savez(
        file, c2w=poses, intrinsics=np.array([[150.0, 0, 80], [0, 150, 60], [0, 0, 1]]), width=160, height=120
    )
    made = run(tmp_path / "lift", tmp_path / "plan", str(file), scale=2.0)
    cameras = made.paths[0].cameras
    assert made.paths[0].name == "dolly"
    assert (cameras.width_px, cameras.height_px) == (96, 64)
    assert torch.equal(cameras.world_from_camera[0], photo.world_from_camera[0])
    assert cameras.centres.tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, -1]]
    expected = torch.tensor([[90.0, 0, 48], [0, 90, 32], [0, 0, 1]])
    assert torch.allclose(cameras.intrinsics, expected.expand(3, 3, 3))
    assert set(made.manifest.inputs) == {"lift", f"trajectory {file}"}


def test_a_file_is_flown_as_it_is_and_the_facts_say_when_it_hits(tmp_path: Path, lift_dir: Path) -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 2, 3] = 8.0
    file = tmp_path / "through.json"
    file.write_text(json.dumps({"c2w": poses.tolist()}))
    made = run(lift_dir, tmp_path / "plan", str(file))
    assert made.paths[0].cameras.centres[-1].tolist() == [0, 0, 8]
    assert "flown as it is" in made.manifest.facts["paths"][0]["note"]


def test_a_file_in_the_grid_of_a_map_keeps_its_centimetres(tmp_path: Path, lift_dir: Path) -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, 3] = [[691_234.5, 5_334_000.25, 520.0]] * 3
    poses[1:, 0, 3] += [0.01, 0.03]
    file = tmp_path / "surveyed.json"
    file.write_text(json.dumps({"c2w": poses.tolist()}))
    made = run(lift_dir, tmp_path / "plan", str(file))
    expected = torch.tensor([[0.0, 0, 0], [0.01, 0, 0], [0.03, 0, 0]])
    assert torch.allclose(made.paths[0].cameras.centres, expected, atol=1e-6)


@pytest.mark.parametrize(("way", "scale"), [(1e300, 1.0), (3e6, 1.0), (1.0, 1e300)])
def test_a_file_that_leads_out_of_sight_is_refused_and_asked_for_its_unit(
    way: float, scale: float, tmp_path: Path, lift_dir: Path
) -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = way
    file = tmp_path / "away.json"
    file.write_text(json.dumps({"c2w": poses.tolist()}))
    with pytest.raises(InputError, match="away from the photo") as caught:
        run(lift_dir, tmp_path / "plan", str(file), scale=scale)
    assert "plan.scale" in caught.value.remedy


def test_a_file_of_worldstereo_keeps_its_motion(eval_dir: Path, lift_dir: Path, tmp_path: Path) -> None:
    file = eval_dir / "data/ws_image_indoor_dining_spaces_030/camera.json"
    made = run(lift_dir, tmp_path / "plan", str(file))
    data = json.loads(file.read_text())
    world_to_camera = torch.tensor(data["extrinsic"], dtype=torch.float64)
    ours = invert_rigid(made.paths[0].cameras.world_from_camera.double())
    expected = world_to_camera @ invert_rigid(world_to_camera[:1])
    assert torch.allclose(ours, expected, atol=1e-5)
    # 1080x720 has the aspect of the photo, so that the lens is scaled and nothing is cut.
    assert float(made.paths[0].cameras.intrinsics[0, 0, 0]) == pytest.approx(
        data["intrinsic"][0][0][0] * 96 / 1080, rel=1e-5
    )


def test_the_preview_shows_the_cloud_in_its_colours_and_the_paths(lift_dir: Path, tmp_path: Path) -> None:
    run(lift_dir, tmp_path / "plan", "right", "up")
    picture = np.array(Image.open(tmp_path / "plan/preview.png")).astype(int)
    above = picture[:, :760]
    green = (above[..., 1] > above[..., 0] + 25) & (above[..., 1] > above[..., 2] + 25) & (above[..., 1] > 60)
    orange = abs(above - np.array([230, 159, 0])).max(-1) < 12
    assert green.sum() > 1500, "the floor, seen from above"
    rows, columns = np.nonzero(orange)
    floor_rows, floor_columns = np.nonzero(green)
    legend = (rows < 60) & (columns < 80)
    assert rows[~legend].mean() > floor_rows.mean(), "the camera is at the bottom, what it looks at above it"
    assert columns[~legend].mean() > floor_columns.mean(), "the path to the right is drawn to the right"


def test_coverage_says_what_each_path_adds_and_why_others_were_refused(
    lift_dir: Path, tmp_path: Path
) -> None:
    made = run(lift_dir, tmp_path / "plan", "auto", max_paths=2, min_gain_frac=0.0)
    account = json.loads((tmp_path / "plan/coverage.json").read_text())
    assert [row["name"] for row in account["paths"]] == [p.name for p in made.paths]
    assert len(made.paths) == 2
    added = [row["added_frac"] for row in account["paths"]]
    assert 1 > added[0] > added[1] > 0
    assert sum(added) == pytest.approx(account["uncovered_frac"], abs=1e-3)
    parts = [account["uncovered_for_visitors_frac"], account["uncovered_surface_frac"]]
    halves = account["worth_of_visitors_frac"]
    assert halves * parts[0] + (1 - halves) * parts[1] == pytest.approx(account["uncovered_frac"], abs=1e-3)
    assert sum(row["added_to_visitors_frac"] for row in account["paths"]) == pytest.approx(parts[0], abs=1e-3)
    verdicts = {c["verdict"] for c in account["candidates"]}
    assert {"chosen", "adds less than the chosen ones"} < verdicts
    assert any("comes too near" in verdict for verdict in verdicts), "the ball is in the way of some"


def test_auto_fills_in_what_named_paths_leave(lift_dir: Path, tmp_path: Path) -> None:
    alone = run(lift_dir, tmp_path / "alone", "auto", max_paths=1)
    after = run(lift_dir, tmp_path / "after", "right", "auto", max_paths=1)
    assert after.paths[0].name == "right"
    assert len(after.paths) == 2
    gain = {
        name: json.loads((tmp_path / name / "coverage.json").read_text())["paths"][-1]["added_frac"]
        for name in ("alone", "after")
    }
    assert 0 < gain["after"] < gain["alone"]
    assert "auto: " in alone.manifest.facts["paths"][0]["requested"]


def test_usual_amounts_follow_the_foreground_and_named_ones_do_not(tmp_path: Path) -> None:
    # A field 1.5 m under the camera and a mountain face at 60 m, which is the median.
    field = [scenes.Plane((0.0, 1.0, 0.0), 1.5), scenes.Plane((0.0, 0.0, 1.0), 60.0)]
    scenes.write_lift(tmp_path / "lift", field, scenes.camera())
    made = run(tmp_path / "lift", tmp_path / "plan", "right", "right:25")
    facts = made.manifest.facts
    assert facts["median_depth_m"] > 40
    assert facts["near_depth_m"] < 15
    usual, named = (float(p.cameras.centres[-1, 0]) for p in made.paths)
    assert named == pytest.approx(facts["median_depth_m"] * np.sin(np.radians(25)), rel=1e-3)
    assert usual < 0.35 * named


def test_where_nothing_is_hidden_there_is_nothing_to_choose(tmp_path: Path) -> None:
    # A bare wall has no edge to look behind, and beyond its border no frame may look here.
    scenes.write_lift(tmp_path / "lift", scenes.wall(), scenes.camera())
    with pytest.raises(InputError, match=r"auto found none: .*not seen in one frame") as caught:
        run(tmp_path / "lift", tmp_path / "none", "auto", max_hole_frac=1e-4, sway_deg=0)
    assert "pan" in caught.value.remedy


def test_auto_begins_with_a_sway_unless_a_path_comes_before_it(tmp_path: Path) -> None:
    scenes.write_lift(tmp_path / "lift", scenes.room(), scenes.camera())

    def requests(out: str, *trajectories: str, **changes: float) -> list[str]:
        facts = run(tmp_path / "lift", tmp_path / out, *trajectories, **changes).manifest.facts
        return [path["requested"] for path in facts["paths"]]

    assert requests("auto", "auto", max_paths=2)[0] == "auto: sway:16"
    assert len(requests("two", "auto", max_paths=2)) <= 2, "the sway is one of auto's paths"
    assert "auto: sway:16" not in requests("named", "right", "auto")
    assert not any("sway" in text for text in requests("none", "auto", sway_deg=0))


def test_the_sway_says_how_far_to_each_side_there_is_room(tmp_path: Path) -> None:
    # A wall 0.5 m to the right that comes towards the camera out of the view; nothing to the left.
    street = [scenes.Plane((0.0, 0.0, 1.0), 8.0), scenes.Plane((1.0, 0.0, 0.0), 0.5)]
    scenes.write_lift(tmp_path / "lift", street, scenes.camera())
    made = run(tmp_path / "lift", tmp_path / "plan", "auto", max_paths=1)
    (fact,) = made.manifest.facts["paths"]
    assert 0.5 < fact["kept"] < 1
    assert re.search(r"room for \d{1,2}% of it to the right and 100% to the left", fact["note"])
    (path,) = made.paths
    assert path.name == "sway"
    way = path.cameras.centres[:, 0]
    assert 0.3 < float(way.max()) <= 0.4 + 1e-3, "0.1 m before the wall"
    assert float(way.min()) < -2 * float(way.max())


def test_in_a_shaft_the_sway_stays_between_the_walls_and_heads_are_turned(tmp_path: Path) -> None:
    # A shaft: walls close to all sides, and the camera keeps half of the distance that it has.
    shaft = [
        scenes.Plane((0.0, 0.0, 1.0), 1.5),
        *(scenes.Plane(normal, 0.25) for normal in ((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0))),
        *(scenes.Plane(normal, 0.2) for normal in ((0.0, 1.0, 0.0), (0.0, -1.0, 0.0))),
    ]
    scenes.write_lift(tmp_path / "lift", shaft, scenes.camera())
    made = run(tmp_path / "lift", tmp_path / "plan", "auto", clearance_m=0.2, clearance_frac=1.0)
    assert "look-around" in [p.name for p in made.paths]
    assert "sway" in [p.name for p in made.paths]
    assert 0 < made.manifest.facts["paths"][0]["kept"] < 0.5, "that there is little room is told"
    for path in made.paths:
        away = torch.tensor([0.25, 0.2]) - path.cameras.centres[:, :2].abs()
        assert float(away.min()) > 0.5 * made.manifest.facts["required_clearance_m"]

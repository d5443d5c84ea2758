"""Paths start at the photo, go where their names say, and stay rigid."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests import scenes
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.clearance import SurfaceDistance
from worldstereo_cli.geometry.paths import (
    PRESETS,
    Anchor,
    arc_towards,
    preset_path,
    rebased,
    scaled_translations,
    scene_median_depth,
    waypoint_tour,
)
from worldstereo_cli.geometry.rigid import invert_rigid, rotation_about

DEPTH_M = 2.5
AMOUNTS = {"deg": 25.0, "depths": 0.3, "factor": 1.5}


def tilted_anchor(pitch_deg: float = 20.0) -> Anchor:
    """A photo that looks down a little (positive pitch) in a level world, away from the origin."""
    photo = scenes.camera()
    down = rotation_about(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(-math.radians(pitch_deg)))
    pose = torch.eye(4)
    pose[:3, :3] = down
    pose[:3, 3] = torch.tensor([0.3, -1.2, 0.5])
    return Anchor(Cameras(pose[None], photo.intrinsics, photo.width_px, photo.height_px), DEPTH_M)


@pytest.mark.parametrize("name", PRESETS)
def test_every_path_starts_with_the_photo_and_stays_rigid(name: str) -> None:
    anchor = tilted_anchor()
    path = preset_path(name, anchor, AMOUNTS[PRESETS[name].unit], 33)
    assert torch.equal(path.world_from_camera[0], anchor.camera.world_from_camera[0])
    assert torch.equal(path.intrinsics[0], anchor.camera.intrinsics[0])
    rotation = path.world_from_camera[:, :3, :3]
    identity = rotation @ rotation.transpose(1, 2)
    # float32 rounding of poses that were computed in float64.
    assert torch.allclose(identity, torch.eye(3).expand(33, 3, 3), atol=3e-7)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(33), atol=1e-6)
    step = (path.centres[1:] - path.centres[:-1]).norm(dim=-1)
    assert float(step.max()) < 0.2 * DEPTH_M, "the second pose is next to the first, not somewhere else"


@pytest.mark.parametrize("pitch_deg", [0.0, 20.0])
def test_names_mean_directions(pitch_deg: float) -> None:
    anchor = tilted_anchor(pitch_deg)
    start = anchor.camera.centres[0]

    def way(name: str, amount: float) -> list[float]:
        path = preset_path(name, anchor, amount, 9)
        return [round(v, 5) for v in (path.centres[-1] - start).tolist()]

    assert way("strafe", 0.2) == pytest.approx([0.2 * DEPTH_M, 0, 0], abs=1e-5)
    assert way("rise", 0.2) == pytest.approx([0, -0.2 * DEPTH_M, 0], abs=1e-5)
    assert way("forward", 0.2) == pytest.approx([0, 0, 0.2 * DEPTH_M], abs=1e-5), "level, not into the floor"
    assert way("backward", 0.2) == pytest.approx([0, 0, -0.2 * DEPTH_M], abs=1e-5)
    assert way("right", 25)[0] > 0.5
    assert way("left", 25)[0] < -0.5
    assert way("right", 25)[1] == pytest.approx(0, abs=1e-5)
    assert way("up", 20)[1] < -0.5
    assert way("strafe", -0.2) == pytest.approx([-0.2 * DEPTH_M, 0, 0], abs=1e-5)


def test_orbits_keep_the_pivot_in_the_middle_of_the_frame() -> None:
    anchor = tilted_anchor()
    middle = torch.tensor([anchor.camera.width_px / 2, anchor.camera.height_px / 2])
    for name in ("left", "right", "up", "orbit", "eloop", "spiral"):
        path = preset_path(name, anchor, AMOUNTS[PRESETS[name].unit], 17)
        pixels, _ = path.project(anchor.pivot.float()[None])
        assert torch.allclose(pixels[:, 0], middle.expand(17, 2), atol=2e-3), name


def test_turns_have_the_angle_that_was_asked() -> None:
    anchor = tilted_anchor()
    for name, amount in {"left": 40.0, "right": 40.0, "up": 30.0, "pan": 15.0, "tilt": 10.0}.items():
        rotation = preset_path(name, anchor, amount, 5).world_from_camera[:, :3, :3].double()
        cosine = 0.5 * (torch.trace(rotation[0].T @ rotation[-1]) - 1)
        assert math.degrees(math.acos(float(cosine))) == pytest.approx(amount, abs=1e-3), name
    right = preset_path("pan", anchor, 15.0, 5).world_from_camera[-1, :3, 2]
    up = preset_path("tilt", anchor, 10.0, 5).world_from_camera[-1, :3, 2]
    assert right[0] > 0.2, "a pan turns to the right"
    assert up[1] < anchor.camera.world_from_camera[0, 1, 2], "a tilt looks up"


def test_loops_come_home_and_zoom_changes_only_the_focal_length() -> None:
    anchor = tilted_anchor()
    for name in ("eloop", "orbit", "spiral"):
        path = preset_path(name, anchor, AMOUNTS[PRESETS[name].unit], 9)
        assert torch.allclose(path.world_from_camera[-1], path.world_from_camera[0], atol=1e-6), name
    loop = preset_path("eloop", anchor, 0.3, 101)
    in_camera = (loop.centres - anchor.camera.centres) @ anchor.camera.world_from_camera[0, :3, :3]
    assert float(-in_camera[:, 1].min()) == pytest.approx(0.3 * DEPTH_M, abs=1e-4)
    assert float(in_camera[:, 1].max()) == pytest.approx(0, abs=1e-5)
    zoomed = preset_path("zoom", anchor, 2.0, 5)
    assert torch.equal(zoomed.world_from_camera, anchor.camera.world_from_camera.expand(5, 4, 4))
    ratio = zoomed.intrinsics[:, 0, 0] / anchor.camera.intrinsics[0, 0, 0]
    assert torch.allclose(ratio, 2 ** torch.linspace(0, 1, 5), rtol=1e-6)
    assert torch.equal(zoomed.intrinsics[:, :2, 2], anchor.camera.intrinsics[:, :2, 2].expand(5, 2))


def test_a_view_straight_down_orbits_instead_of_spinning() -> None:
    anchor = tilted_anchor(pitch_deg=90.0)
    path = preset_path("right", anchor, 25.0, 9)
    assert float((path.centres[-1] - path.centres[0]).norm()) > 0.4 * DEPTH_M


def test_amounts_of_worldstereo_give_the_paths_that_worldstereo_ships(eval_dir: Path) -> None:
    def peer(name: str) -> Cameras:
        data = json.loads((eval_dir / f"data/ws_recon_kitchen/renders/traj_{name}/camera.json").read_text())
        poses = invert_rigid(torch.tensor(data["extrinsic"], dtype=torch.float64)).float()
        return Cameras(poses, torch.tensor(data["intrinsic"]), data["width"], data["height"])

    half_turn = peer("right")
    radius = 0.5 * float((half_turn.centres[-1] - half_turn.centres[0]).norm())
    # The optical axis is pitched, the orbit level: the pivot lies farther along the axis than the radius.
    anchor = Anchor(half_turn[0], radius / float(half_turn.world_from_camera[0, 2, 2]))
    for name, amount in {"right": 180.0, "left": 180.0, "eloop": 0.8}.items():
        ours = preset_path(name, anchor, amount, 21)
        assert torch.allclose(ours.world_from_camera, peer(name).world_from_camera, atol=1e-5), name
    # Its `up` turns alike, about a point 1.3 medians ahead at the height of the camera; ours about the pivot.
    ours = preset_path("up", anchor, 45.0, 21)
    assert torch.allclose(
        ours.world_from_camera[:, :3, :3], peer("up").world_from_camera[:, :3, :3], atol=1e-5
    )


def test_median_depth_is_that_of_the_surface_near_the_centre() -> None:
    depth = torch.full((40, 60), 9.0)
    depth[10:30, 15:45] = 2.0
    surface = torch.ones(40, 60, dtype=torch.bool)
    assert scene_median_depth(depth, surface) == 2.0
    surface[10:30, 15:45] = False
    assert scene_median_depth(depth, surface) == 9.0, "where the centre is sky, the rest decides"
    depth[0, 0] = math.nan
    assert scene_median_depth(depth, surface) == 9.0
    with pytest.raises(ValueError, match="got none among 2400"):
        scene_median_depth(depth, torch.zeros_like(surface))


def test_rebasing_moves_the_start_and_keeps_the_shape() -> None:
    anchor = tilted_anchor()
    path = preset_path("up", anchor, 30.0, 7)
    first = preset_path("left", anchor, 50.0, 3).world_from_camera[-1]
    moved = rebased(path, first)
    assert torch.equal(moved.world_from_camera[0], first)
    inner = invert_rigid(path.world_from_camera[:1]) @ path.world_from_camera
    assert torch.allclose(invert_rigid(first[None]) @ moved.world_from_camera, inner, atol=1e-6)
    doubled = scaled_translations(path, 2.0)
    assert torch.allclose(doubled.centres, 2 * path.centres)
    assert torch.equal(doubled.world_from_camera[:, :3, :3], path.world_from_camera[:, :3, :3])


def test_distance_to_a_wall_is_seen_between_poses() -> None:
    cloud = scenes.cloud_of(scenes.view_of(scenes.wall(4.0), scenes.camera()))
    surface = SurfaceDistance(cloud)
    spacing = float(cloud.spacing_m.max())
    at = surface.at(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 3.5], [0.0, 0.0, 7.0]]))
    assert torch.allclose(at, torch.tensor([3.0, 0.5, 3.0]), atol=spacing)
    through = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 6.0]])
    assert surface.along(through, step_m=0.05) < 0.05, (
        "both ends are 2 m away; the way leads through the wall"
    )
    beside = torch.tensor([[-1.0, 0.0, 2.0], [1.0, 0.0, 2.0]])
    assert surface.along(beside, step_m=0.05) == pytest.approx(2.0, abs=spacing)


def test_an_eight_crosses_at_the_photo_and_looks_at_the_pivot() -> None:
    anchor = tilted_anchor()
    path = preset_path("lemniscate", anchor, 0.2, 81)
    local = (path.centres - anchor.camera.centres) @ anchor.camera.world_from_camera[0, :3, :3]
    assert torch.allclose(path.world_from_camera[40], path.world_from_camera[0], atol=1e-6)
    assert torch.allclose(path.world_from_camera[80], path.world_from_camera[0], atol=1e-6)
    assert float(local[:, 0].max()) == pytest.approx(0.2 * DEPTH_M, abs=1e-4)
    assert float(local[:, 0].min()) == pytest.approx(-0.2 * DEPTH_M, abs=1e-4)
    assert float(local[:, 1].abs().max()) == pytest.approx(0.1 * DEPTH_M, abs=1e-4)
    assert float(local[10, 1]) < 0 < float(local[30, 1]), "up first, then down, on the right"
    middle = torch.tensor([48.0, 32.0])
    assert torch.allclose(path.project(anchor.pivot.float()[None])[0][:, 0], middle.expand(81, 2), atol=2e-3)


def test_a_roll_turns_the_picture_and_nothing_else() -> None:
    anchor = tilted_anchor()
    path = preset_path("roll", anchor, 30.0, 5)
    assert torch.equal(path.centres, anchor.camera.centres.expand(5, 3))
    assert torch.allclose(
        path.world_from_camera[:, :3, 2], anchor.pose[:3, 2].float().expand(5, 3), atol=1e-6
    )
    right = path.world_from_camera[-1, :3, 0].double()
    across, below = anchor.pose[:3, 0], anchor.pose[:3, 1]
    assert float(right @ across) == pytest.approx(math.cos(math.radians(30)), abs=1e-5)
    assert float(right @ below) == pytest.approx(0.5, abs=1e-5), "the camera's right side goes down"


def test_a_dolly_zoom_keeps_the_size_of_what_is_at_the_pivot() -> None:
    anchor = tilted_anchor()
    board = anchor.pivot.float() + 0.4 * torch.stack([-anchor.pose[:3, 0], anchor.pose[:3, 0]]).float()
    behind = board + 2 * anchor.pose[:3, 2].float()
    for amount in (0.4, -0.4):
        path = preset_path("dolly-zoom", anchor, amount, 9)
        assert float((path.centres[-1] - path.centres[0]).norm()) == pytest.approx(0.4 * DEPTH_M, rel=1e-5)
        at_pivot, beyond = (path.project(points)[0] for points in (board, behind))
        width = (at_pivot[:, 1] - at_pivot[:, 0]).norm(dim=-1)
        assert torch.allclose(width, width[:1].expand(9), rtol=1e-4)
        far_width = (beyond[:, 1] - beyond[:, 0]).norm(dim=-1)
        assert (float(far_width[-1]) < float(far_width[0])) == (amount > 0), (
            "what is behind shrinks on the way in"
        )
    with pytest.raises(ValueError, match="pivot"):
        preset_path("dolly-zoom", anchor, 1.0, 9)


def test_looking_around_stays_and_sees_both_sides() -> None:
    anchor = tilted_anchor(0.0)
    path = preset_path("look-around", anchor, 20.0, 81)
    assert torch.equal(path.centres, anchor.camera.centres.expand(81, 3))
    gaze = path.world_from_camera[:, :3, 2]
    yaw = torch.rad2deg(torch.atan2(gaze[:, 0], gaze[:, 2]))
    assert float(yaw.max()) == pytest.approx(20.0, abs=0.1)
    assert float(yaw.min()) == pytest.approx(-20.0, abs=0.1)
    assert float(yaw[20]) > 0 > float(yaw[60]), "to the right first"
    assert float(gaze[:, 1].min()) == pytest.approx(-math.sin(math.radians(20 / 3)), abs=1e-3)
    assert torch.allclose(path.world_from_camera[-1], path.world_from_camera[0], atol=1e-6)


def test_arcs_to_the_sides_are_the_orbits_of_those_names() -> None:
    anchor = tilted_anchor()
    progress = torch.linspace(0, 1, 5, dtype=torch.float64)
    for heading, name in ((0.0, "right"), (0.5 * math.pi, "up"), (math.pi, "left")):
        arc = arc_towards(anchor, heading, math.radians(20), progress)
        named = preset_path(name, anchor, 20.0, 5)
        assert torch.allclose(arc.world_from_camera, named.world_from_camera, atol=1e-6), name


def test_a_tour_passes_through_its_places_without_a_jerk() -> None:
    anchor = tilted_anchor()
    places = torch.tensor([[0.5, 0.0, 0.0], [0.0, -0.4, 0.2], [-0.5, 0.0, 0.1]])
    for closed in (False, True):
        path = waypoint_tour(anchor, places, torch.linspace(0, 1, 401, dtype=torch.float64), closed=closed)
        local = (path.centres - anchor.camera.centres) @ anchor.camera.world_from_camera[0, :3, :3]
        for place in places:
            assert float((local - place).norm(dim=-1).min()) < 5e-3
        step = (local[1:] - local[:-1]).norm(dim=-1)
        assert float(step.max()) < 1.02 * float(step.min()), "even speed"
        turn = ((local[2:] - 2 * local[1:-1] + local[:-2]).norm(dim=-1) / step.mean() ** 2).max()
        assert float(turn) < 25, "curves have a radius of 4 cm at least, a few percent of the way"
        assert torch.allclose(local[-1], torch.zeros(3) if closed else places[-1], atol=1e-5)
    with pytest.raises(ValueError, match="apart"):
        waypoint_tour(anchor, places[[0, 0]], torch.linspace(0, 1, 5))

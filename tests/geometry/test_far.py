"""The far field keeps order, meets the reference numbers, and puts sky behind everything."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from worldstereo_cli.geometry.cameras import Cameras, intrinsics_from_focal
from worldstereo_cli.geometry.far import contract_far, far_field, shell_depth
from worldstereo_cli.geometry.rigid import rotation_about


def camera(width: int = 48, height: int = 32, focal: float = 30.0) -> Cameras:
    return Cameras(torch.eye(4)[None], intrinsics_from_focal(focal, width, height)[None], width, height)


def test_contraction_leaves_near_depth_alone_keeps_order_and_stays_under_twice_the_bound() -> None:
    depth = torch.logspace(-1, 6, 2000, dtype=torch.float64)
    contracted = contract_far(depth, 20.0)
    assert torch.equal(contracted[depth <= 20], depth[depth <= 20])
    assert (contracted.diff() >= 0).all()
    assert contracted.max() < 40


def test_contraction_is_smooth_at_the_bound() -> None:
    around = torch.tensor([19.999, 20.0, 20.001], dtype=torch.float64)
    slopes = contract_far(around, 20.0).diff() / around.diff()
    assert slopes == pytest.approx([1.0, 1.0], abs=1e-3)


def test_contraction_equals_the_reference(goldens_dir: Path) -> None:
    with safe_open(goldens_dir / "depth_lift.safetensors", "pt") as file:
        factor = float(json.loads(file.metadata()["contraction_factor"]))
        cases = {key.split("/")[0] for key in file.keys()}
        assert len(cases) >= 4
        for case in sorted(cases):
            depth = file.get_tensor(f"{case}/depth").float()
            if f"{case}/valid" in file.keys():
                depth = torch.where(file.get_tensor(f"{case}/valid").bool(), depth, torch.zeros(()))
            bound = factor * float(depth[depth > 0].median())
            wanted = file.get_tensor(f"{case}/contracted_depth")
            assert torch.allclose(contract_far(depth, bound), wanted, rtol=1e-6, atol=1e-6), case


def test_the_shell_is_behind_all_contracted_depth_in_every_corner() -> None:
    cam = camera(focal=16.0)
    depth = torch.full((32, 48), 2.0)
    depth[0, 0] = 1e9
    far = far_field(depth, torch.ones_like(depth, dtype=torch.bool), cam, 8.0)
    assert far.bound_m == 16
    assert (shell_depth(cam, far.shell_m) > contract_far(depth, far.bound_m)).all()


def test_shell_points_lie_on_the_sphere_for_a_camera_that_moved_and_turned() -> None:
    cam = camera()
    pose = torch.eye(4)
    pose[:3, :3] = rotation_about(torch.tensor([0.2, 1.0, -0.3]), torch.tensor(0.7))
    pose[:3, 3] = torch.tensor([3.0, -1.0, 2.0])
    moved = cam.moved_by(pose)
    points = moved.unproject(shell_depth(moved, 10.0)[None])
    assert torch.allclose(points.norm(dim=-1), torch.full((1, 32, 48), 10.0), rtol=1e-5)


def test_a_camera_outside_the_shell_is_refused() -> None:
    pose = torch.eye(4)
    pose[0, 3] = 11.0
    with pytest.raises(ValueError, match="10 m"):
        shell_depth(camera().moved_by(pose), 10.0)


def test_no_known_depth_is_refused() -> None:
    depth = torch.full((32, 48), math.nan)
    with pytest.raises(ValueError, match="known"):
        far_field(depth, torch.isfinite(depth), camera(), 8.0)

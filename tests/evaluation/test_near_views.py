import math
from dataclasses import replace

import pytest
import torch

from tests import scenes
from worldstereo_cli.evaluation.near_views import ViewScore, score_scene, summarise
from worldstereo_cli.evaluation.triangulate import triangulated_depths
from worldstereo_cli.evaluation.view_cases import ViewCase, read_view_cases
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.rigid import rotation_about


def speckled(view: Cameras, depth_m: float) -> torch.Tensor:
    """A wall at z = depth_m with blobs of many sizes, fixed in the world, seen by one camera."""
    pose = view.world_from_camera[0]
    direction = view.rays()[0] @ pose[:3, :3].T
    points = pose[:3, 3] + direction * ((depth_m - pose[2, 3]) / direction[..., 2])[..., None]
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(500, 2, generator=generator) * 8 - 4
    sizes = torch.rand(500, generator=generator) * 0.1 + 0.03
    value = torch.full(points.shape[:2], 0.5)
    for centre, size, sign in zip(
        centres, sizes, torch.randint(0, 2, (500,), generator=generator), strict=True
    ):
        distance = ((points[..., :2] - centre) ** 2).sum(-1)
        value = value + (float(sign) - 0.5) * torch.exp(-distance / (2 * size**2))
    return value.clamp(0, 1).expand(3, -1, -1)


def moved(view: Cameras, x_m: float, yaw_deg: float) -> Cameras:
    pose = view.world_from_camera.clone()
    pose[0, :3, :3] = rotation_about(torch.tensor([0.0, 1, 0]), torch.tensor(math.radians(yaw_deg)))
    pose[0, 0, 3] = x_m
    return replace(view, world_from_camera=pose)


def test_triangulated_points_lie_on_the_wall():
    here = scenes.camera(320, 240)
    there = [moved(here, 0.3, -4.0), moved(here, -0.25, 3.0)]
    pixels, depths = triangulated_depths(
        speckled(here, 4.0), here, [speckled(camera, 4.0) for camera in there], there
    )
    assert len(depths) > 100
    assert pixels.min() >= 0
    # SIFT is good to a fraction of a pixel; 0.3 m of baseline at 4 m turns 0.3 px into about 2 %.
    assert float((depths / 4.0 - 1).abs().median()) < 0.02


def test_views_without_parallax_give_no_depth():
    here = scenes.camera(320, 240)
    picture = speckled(here, 4.0)
    pixels, depths = triangulated_depths(picture, here, [picture], [here])
    assert len(pixels) == len(depths) == 0


def test_scores_average_by_source_and_gain_is_splats_over_warp():
    def score(source, splat, warp):
        return ViewScore("c", source, "t", 0.5, splat, warp, 10.0)

    rows = summarise([score("A", 20, 19), score("A", 22, 20), score("B", 15, 16)])
    assert [(r.source, r.num_views) for r in rows] == [("A", 2), ("B", 1)]
    assert rows[0].gain_db == pytest.approx(1.5)
    assert rows[1].gain_db == pytest.approx(-1.0)


def test_every_case_of_the_folder_reads_with_square_centred_pixels(eval_dir):
    cases = list(read_view_cases(eval_dir))
    assert {case.source for case in cases} == {"7-Scenes", "Strecha", "RE10K"}
    for case in cases:
        k = case.camera.intrinsics[0]
        assert torch.allclose(k[0, 0], k[1, 1], rtol=0.01), case.name
        assert abs(float(k[0, 2]) - case.camera.width_px / 2) < 1.0, case.name
        assert len(case.targets) == len(case.target_cameras) == len(case.target_names) > 0


def test_triangulation_agrees_with_the_sensor(eval_dir):
    case = next(iter(read_view_cases(eval_dir)))
    assert case.depth is not None
    pixels, depths = triangulated_depths(case.image, case.camera, case.targets, case.target_cameras)
    known = case.depth[pixels[:, 1].long(), pixels[:, 0].long()]
    ratio = depths[known > 0] / known[known > 0]
    # Ten centimetres of baseline at two metres: single points are rough, their median is not.
    assert float(ratio.median()) == pytest.approx(1.0, abs=0.05)


def test_a_true_scene_scores_high_in_a_view_beside_it(tmp_path):
    """Exact lift of an exact room: warped points must match the room seen from the side."""
    here = scenes.camera(192, 144)
    there = moved(here, 0.1, -1.0)
    scenes.write_scene(tmp_path, scenes.wall(), here)
    truth = scenes.view_of(scenes.wall(), there)
    photo = scenes.view_of(scenes.wall(), here)
    pictures = ([truth.image], ["beside"], [there])
    case = ViewCase("room", "synthetic", photo.image, here, *pictures, photo.depth_m)
    (score,) = score_scene(tmp_path, case, "cpu")
    assert score.warp_psnr_db > 35
    assert score.warp_psnr_db > score.copy_psnr_db + 5

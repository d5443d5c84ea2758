"""A photo becomes a finished lift whose facts say where everything in it is from."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests import scenes
from tests.models.depth.tiny_models import write_depth_pro
from worldstereo_cli.artifacts.scene import Lift
from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.rigid import rotation_about
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import LiftRecipe
from worldstereo_cli.stages.lift_image_to_cloud import EYE_HEIGHT_M, LiftOptions, lift


def saved(
    path: Path, surfaces: list, pitch_deg: float = 0.0, exif: Image.Exif | None = None
) -> tuple[Path, Path]:
    """Save the photo of a scene, taken with 60 degrees across, and its true depth."""
    camera = scenes.camera(192, 128)
    pose = torch.eye(4)
    pose[:3, :3] = rotation_about(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(-math.radians(pitch_deg)))
    image, depth = scenes.render(surfaces, camera.moved_by(pose))
    image = torch.where(depth.isfinite(), image, torch.tensor([0.55, 0.7, 0.95])[:, None, None])
    array = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(array).save(path / "photo.png", exif=b"" if exif is None else exif.tobytes())
    np.save(path / "depth.npy", depth.numpy())
    return path / "photo.png", path / "depth.npy"


def run(photo: Path, out: Path, options: LiftOptions | None = None, **recipe: object) -> Lift:
    chosen = LiftRecipe(**{"depth": "prior", **recipe})
    return lift(photo, out, chosen, options or LiftOptions(), seed=3, device="cpu", progress=silent)


def test_true_depth_gives_the_true_scene_in_a_level_world(tmp_path: Path) -> None:
    photo, depth = saved(tmp_path, scenes.room(), pitch_deg=20)
    lifted = run(photo, tmp_path / "lift", LiftOptions(depth, 60.0))
    world = lifted.manifest.facts["world"]
    assert world["is_level"]
    assert world["tilt_deg"] == pytest.approx(20, abs=0.2)
    assert world["camera_height_m"] == pytest.approx(1.0, rel=0.01)
    assert world["scale"] == "given"
    # The floor of the room is level again, one metre under the camera, which stays at the origin.
    points = lifted.cloud.points
    assert lifted.views[0].camera.centres[0].tolist() == [0, 0, 0]
    assert (points[:, 1] > 0.99).float().mean() > 0.3
    assert points[:, 1].max() == pytest.approx(1.0, abs=0.02)
    # Heading is kept: the wall six metres ahead is still ahead.
    assert points[:, 2].max() == pytest.approx(6.0, abs=0.05)


def test_what_is_written_is_what_is_returned(tmp_path: Path) -> None:
    photo, depth = saved(tmp_path, scenes.room())
    lifted = run(photo, tmp_path / "lift", LiftOptions(depth, 60.0))
    again = Lift.read(tmp_path / "lift")
    assert again.manifest == lifted.manifest
    assert torch.equal(again.views[0].depth_m, lifted.views[0].depth_m)
    assert torch.equal(again.views[0].valid, lifted.views[0].valid)
    assert torch.allclose(again.views[0].image, lifted.views[0].image, atol=1e-6)
    assert torch.allclose(again.cloud.points, lifted.cloud.points)
    assert len(again.cloud) == int(again.views[0].valid.sum())
    assert {p.name for p in (tmp_path / "lift").iterdir()} == {"views", "cloud.ply", "artifact.json"}
    assert not list(tmp_path.glob(".*"))


def test_the_cloud_projects_back_onto_the_photo(tmp_path: Path) -> None:
    photo, depth = saved(tmp_path, scenes.room(), pitch_deg=10)
    lifted = run(photo, tmp_path / "lift", LiftOptions(depth, 60.0))
    view = lifted.views[0]
    pixel, z = view.camera.project(lifted.cloud.points)
    rows, columns = torch.nonzero(view.valid, as_tuple=True)
    assert torch.allclose(pixel[0], torch.stack([columns, rows], -1) + 0.5, atol=2e-3)
    assert torch.allclose(z[0], view.depth_m[view.valid], rtol=1e-4)


def test_every_input_is_recorded_by_digest(tmp_path: Path) -> None:
    photo, depth = saved(tmp_path, scenes.room())
    plain = run(photo, tmp_path / "a").manifest
    given = run(photo, tmp_path / "b", LiftOptions(depth, 60.0)).manifest
    assert set(plain.inputs) == {"photo"}
    assert set(given.inputs) == {"photo", "depth", "fov_deg"}
    assert given.inputs["photo"] == plain.inputs["photo"]
    assert len(given.inputs["depth"]) == 64
    assert given.seed == 3
    assert given.recipe["long_side_px"] == 768


def test_the_focal_length_is_the_users_then_exif_then_the_default(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 50
    (tmp_path / "plain").mkdir()
    with_exif, depth = saved(tmp_path, scenes.room(), exif=exif)
    without, _ = saved(tmp_path / "plain", scenes.room())
    cases = [
        (with_exif, LiftOptions(depth, 60.0), "user", 192 / 2 / math.tan(math.radians(30))),
        (with_exif, LiftOptions(depth), "exif", 50 / math.hypot(36, 24) * math.hypot(192, 128)),
        (without, LiftOptions(depth), "default", 192 / 2 / math.tan(math.radians(25))),
    ]
    for number, (photo, options, source, focal) in enumerate(cases):
        lifted = run(photo, tmp_path / f"lift{number}", options, default_fov_deg=50.0)
        assert lifted.manifest.facts["focal_source"] == source
        assert float(lifted.views[0].camera.intrinsics[0, 0, 0]) == pytest.approx(focal, rel=1e-5)


def test_a_model_that_finds_a_focal_length_is_asked_before_the_default(tmp_path: Path) -> None:
    photo, _ = saved(tmp_path, scenes.room())
    weights = write_depth_pro(tmp_path / "weights")
    lifted = run(photo, tmp_path / "lift", depth="depth-pro", weights=str(weights))
    assert lifted.manifest.facts["focal_source"] == "model"
    assert lifted.manifest.facts["depth_backend"] == "depth-pro"
    assert lifted.manifest.facts["fov_deg"] == pytest.approx(55, abs=10)


def test_sky_is_recorded_and_lies_on_the_shell(tmp_path: Path) -> None:
    street = [scenes.Plane((0.0, 1.0, 0.0), 1.5, (0.0, 1.5, 0.0), 20.0, (0.4, 0.4, 0.4))]
    photo, depth = saved(tmp_path, street)
    lifted = run(photo, tmp_path / "lift", LiftOptions(depth, 60.0))
    facts, view = lifted.manifest.facts, lifted.views[0]
    assert facts["sky_frac"] == pytest.approx(float(view.sky.float().mean()))
    assert 0.5 < facts["sky_frac"] < 0.6
    shell = facts["world"]["sky_shell_m"]
    assert shell > 2 * facts["world"]["far_bound_m"] == pytest.approx(16 * facts["median_depth_m"], rel=0.1)
    assert torch.allclose(lifted.cloud.points[lifted.cloud.sky].norm(dim=-1), torch.tensor(shell), rtol=1e-3)


def test_depth_without_a_scale_is_given_one_and_says_so_and_tilts_nothing(tmp_path: Path) -> None:
    photo, _ = saved(tmp_path, scenes.room(), pitch_deg=20)
    lifted = run(photo, tmp_path / "lift")
    facts = lifted.manifest.facts
    assert facts["depth_backend"] == "prior"
    assert not facts["is_metric"]
    assert facts["world"]["scale"] == "assumed"
    assert not facts["world"]["is_level"]
    assert torch.equal(lifted.views[0].camera.world_from_camera[0], torch.eye(4))
    height = facts["world"]["camera_height_m"]
    assert (
        height == pytest.approx(EYE_HEIGHT_M)
        if height
        else facts["median_depth_m"] == pytest.approx(4, rel=0.2)
    )


def test_holes_in_a_depth_file_are_filled_and_counted(tmp_path: Path) -> None:
    photo, depth_path = saved(tmp_path, scenes.room())
    depth = np.load(depth_path)
    depth[40:60, 100:130] = np.nan
    np.save(depth_path, depth)
    lifted = run(photo, tmp_path / "lift", LiftOptions(depth_path, 60.0))
    assert lifted.manifest.facts["filled_frac"] == pytest.approx(600 / (192 * 128))
    assert lifted.views[0].valid[40:60, 100:130].all()
    assert (lifted.views[0].depth_m > 0).all()


def test_a_large_photo_is_made_smaller_and_says_so(tmp_path: Path) -> None:
    photo, depth = saved(tmp_path, scenes.room())
    lifted = run(photo, tmp_path / "lift", LiftOptions(depth, 60.0), long_side_px=96)
    facts = lifted.manifest.facts
    assert facts["size_px"] == [96, 64]
    assert facts["photo_size_px"] == [192, 128]
    assert "made smaller from 192x128" in facts["photo_notes"]
    assert facts["fov_deg"] == pytest.approx(60)


def test_lifting_twice_gives_the_same_files(tmp_path: Path) -> None:
    photo, _ = saved(tmp_path, scenes.room())
    for name in ("a", "b"):
        run(photo, tmp_path / name)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


@pytest.mark.parametrize("fov", [0.0, 175.0, math.nan])
def test_an_impossible_field_of_view_is_refused(tmp_path: Path, fov: float) -> None:
    photo, _ = saved(tmp_path, scenes.room())
    with pytest.raises(InputError, match="field of view"):
        run(photo, tmp_path / "lift", LiftOptions(None, fov))


def test_a_failed_lift_leaves_nothing_and_keeps_the_old_one(tmp_path: Path) -> None:
    photo, _ = saved(tmp_path, scenes.room())
    with pytest.raises(InputError):
        run(photo, tmp_path / "new", LiftOptions(tmp_path / "no-depth.npy"))
    assert not (tmp_path / "new").exists()
    run(photo, tmp_path / "lift")
    before = (tmp_path / "lift" / "artifact.json").read_bytes()
    photo.write_bytes(b"no photo any more")
    with pytest.raises(InputError):
        run(photo, tmp_path / "lift")
    assert (tmp_path / "lift" / "artifact.json").read_bytes() == before


def test_progress_runs_from_start_to_end(tmp_path: Path) -> None:
    photo, _ = saved(tmp_path, scenes.room())
    seen: list[tuple[int, int]] = []
    lift(
        photo, tmp_path / "lift", LiftRecipe(depth="prior"), LiftOptions(), seed=0, device="cpu",
        progress=lambda done, total, what: seen.append((done, total)),
    )  # fmt: skip
    assert [done for done, _ in seen] == list(range(seen[-1][1] + 1))

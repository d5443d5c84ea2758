"""The flythrough moves smoothly, shows what is there, and plays anywhere."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from tests import scenes
from worldstereo_cli.artifacts.scene import NamedPath
from worldstereo_cli.artifacts.video import write_video
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.paths import Anchor, preset_path
from worldstereo_cli.geometry.rigid import rotation_about
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import ViewRecipe
from worldstereo_cli.viewer.contents import SceneContents
from worldstereo_cli.viewer.flights import Shown, UnseenShare, paths_to_fly
from worldstereo_cli.viewer.flythrough import Leg, film, plan_legs, write_flythrough

ANCHOR = Anchor(scenes.camera(96, 65), 4.0)
PATHS = [
    NamedPath("right", preset_path("right", ANCHOR, 30.0, 41)),
    NamedPath("eloop", preset_path("eloop", ANCHOR, 0.4, 41)),
]


def shown(leg: Leg) -> Cameras:
    return leg.cameras[leg.order]


def test_open_paths_return_and_loops_run_once() -> None:
    right, loop = plan_legs(PATHS, ViewRecipe(flythrough_fps=10, flythrough_seconds=8))
    assert len(right.order) == len(loop.order) == 40
    assert len(right.cameras) == 20, "there and back show the same views"
    assert len(loop.cameras) == 40
    for leg in (right, loop):
        poses = shown(leg).world_from_camera
        assert torch.allclose(poses[0], ANCHOR.camera.world_from_camera[0], atol=1e-6)
        assert torch.allclose(poses[-1], ANCHOR.camera.world_from_camera[0], atol=1e-5)
    farthest = shown(right).centres[:, 0].max()
    assert float(farthest) > 0.99 * float(PATHS[0].cameras.centres[:, 0].max())


def test_motion_eases_in_and_out_without_jerks() -> None:
    for leg in plan_legs(PATHS, ViewRecipe(flythrough_fps=24, flythrough_seconds=16)):
        centres = shown(leg).centres.double()
        speed = (centres[1:] - centres[:-1]).norm(dim=-1)
        assert float(speed[0]) < 0.1 * float(speed.max())
        assert float(speed[-1]) < 0.1 * float(speed.max())
        velocity = centres[1:] - centres[:-1]
        change = (velocity[1:] - velocity[:-1]).norm(dim=-1)
        assert float(change.max()) < 0.15 * float(speed.max())


def test_sides_are_even_and_the_lens_follows() -> None:
    leg = plan_legs(PATHS, ViewRecipe(flythrough_long_side_px=64))[0]
    assert (leg.cameras.width_px, leg.cameras.height_px) == (64, 44)
    scale = max(64 / 96, 44 / 65)
    expected = ANCHOR.camera.intrinsics[0, 0, 0] * scale
    assert torch.allclose(leg.cameras.intrinsics[:, 0, 0], expected.expand(len(leg.cameras)))


def test_every_view_is_drawn_once_and_told() -> None:
    legs = plan_legs(PATHS, ViewRecipe(flythrough_fps=5, flythrough_seconds=4))
    drawn: list[float] = []
    told: list[tuple[int, int, str]] = []

    def render(camera: Cameras) -> torch.Tensor:
        drawn.append(float(camera.centres[0, 0]))
        return torch.full((3, 4, 4), len(drawn) / 100)

    frames = list(film(legs, render, lambda *step: told.append(step)))
    assert len(frames) == 20
    assert len(drawn) == sum(len(leg.cameras) for leg in legs) == 15
    assert told[-1] == (15, 15, "drawing the flythrough")
    assert torch.equal(frames[0], frames[9]), "the way back is the way there"


@pytest.fixture
def unseen(scene_dir: Path) -> UnseenShare:
    return UnseenShare(View.read(scene_dir / "lift" / "views" / "000"))


def test_the_unseen_share_is_what_the_photo_cannot_show(unseen: UnseenShare) -> None:
    camera = scenes.camera(96, 64)
    assert unseen.most(camera) == 0
    aside = camera.world_from_camera.clone()
    aside[:, :3, :3] = rotation_about(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.4]))
    turned = replace(camera, world_from_camera=aside)
    # Of a camera that only turns, what the frame does not hold is unseen, and nothing else.
    half_rad = math.atan(0.5 * 96 / float(camera.intrinsics[0, 0, 0]))
    outside = (math.tan(half_rad) - math.tan(half_rad - 0.4)) / (2 * math.tan(half_rad))
    assert unseen.most(turned) == pytest.approx(outside, abs=0.05)


def test_a_path_is_flown_as_far_as_the_photo_fills_the_picture(unseen: UnseenShare) -> None:
    path = preset_path("right", Anchor(scenes.camera(96, 64), 4.0), 40.0, 41)
    assert unseen.most(path) > 0.3
    short = unseen.shortened(path, 0.15)
    assert 0.1 < unseen.most(short) <= 0.15
    assert unseen.shortened(path, 1.0) is path
    little = unseen.shortened(path, 0.0).centres
    moved = (little - little[:1]).norm(dim=-1).max() / (path.centres - path.centres[:1]).norm(dim=-1).max()
    assert 0 < moved <= 0.051, "it moves a little, whatever is asked"


def test_what_was_asked_for_is_flown_whole_and_what_auto_chose_is_not(
    scene_dir: Path, tmp_path: Path
) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(scene_dir, scene)
    manifest = json.loads((scene / "plan" / "artifact.json").read_text())
    right, loop = manifest["facts"]["paths"]
    right["requested"] = "auto: right-40"
    (scene / "plan" / "artifact.json").write_text(json.dumps(manifest))
    contents = SceneContents.read(scene)
    assert contents.chosen == {right["name"]}
    flown = paths_to_fly(contents, 0.02)
    assert [p.name for p in flown] == [right["name"], loop["name"]]
    assert flown[1] is contents.paths[1]
    assert float(extent(flown[0])) < 0.6 * float(extent(contents.paths[0]))


def extent(path: NamedPath) -> torch.Tensor:
    return (path.cameras.centres - path.cameras.centres[:1]).norm(dim=-1).max()


def read(path: Path) -> tuple[dict[str, object], list[np.ndarray]]:
    """Decode a video with ffmpeg; returns its description and frames (h w 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, [np.frombuffer(f, np.uint8).reshape(height, width, 3).astype(int) for f in reader]


def test_video_keeps_colours_and_can_be_streamed(tmp_path: Path) -> None:
    colours = [(200, 40, 30), (30, 160, 60), (40, 60, 190), (250, 250, 250), (12, 12, 12)]
    frames = [torch.tensor(c, dtype=torch.uint8)[:, None, None].expand(3, 48, 64) for c in colours]
    path = tmp_path / "a.mp4"
    write_video(path, frames, (64, 48), 12)
    about, decoded = read(path)
    assert about["codec"] == "h264"
    assert str(about["pix_fmt"]).startswith("yuv420p(tv, bt709")
    assert about["fps"] == 12
    assert about["size"] == (64, 48)
    assert len(decoded) == 5
    for frame, colour in zip(decoded, colours, strict=True):
        # 8-bit limited-range YCbCr is good to about two levels; the wrong matrix would be ten off.
        assert np.abs(frame[24, 32] - np.array(colour)).max() <= 4
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_what_drawing_raises_is_not_blamed_on_the_encoder(tmp_path: Path) -> None:
    def frames() -> object:
        yield torch.zeros(3, 48, 64, dtype=torch.uint8)
        raise RuntimeError("out of paint")

    with pytest.raises(RuntimeError, match="out of paint"):
        write_video(tmp_path / "a.mp4", frames(), (64, 48), 12)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="even sides"):
        write_video(tmp_path / "a.mp4", [], (63, 48), 12)


def test_the_flythrough_of_a_scene_opens_on_the_photo(scene_dir: Path, tmp_path: Path) -> None:
    recipe = ViewRecipe(flythrough_fps=6, flythrough_seconds=1, flythrough_long_side_px=96)
    path = tmp_path / "flythrough.mp4"
    write_flythrough(Shown.read(scene_dir, recipe), path, recipe, device="cpu", progress=silent)
    about, decoded = read(path)
    assert about["size"] == (96, 64)
    assert len(decoded) == 6
    truth, _ = scenes.render(scenes.room(), scenes.camera(96, 64))
    error = decoded[0] / 255 - truth.permute(1, 2, 0).numpy()
    psnr = -10 * np.log10((error**2).mean())
    # One splat a pixel blurs by about a pixel, and the video halves the resolution of colour.
    assert psnr > 24
    assert np.abs(decoded[1] - decoded[0]).mean() > 1, "it moves"
    assert not list(tmp_path.glob(".*")), "no draft stays behind"

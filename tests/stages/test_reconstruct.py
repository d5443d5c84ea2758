"""Reconstruct: the photo comes back, its sides are closed, and the file holds what was fitted."""

import json
from pathlib import Path

import pytest
import torch

from tests import scenes
from worldstereo_cli.artifacts.cloud import write_cloud
from worldstereo_cli.artifacts.manifest import Manifest, draft_directory
from worldstereo_cli.artifacts.scene import Generation, Round
from worldstereo_cli.artifacts.splats import Reconstruction, read_splats
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.cloud import Cloud
from worldstereo_cli.geometry.paths import Anchor, orbit_left, orbit_right
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import ReconstructRecipe
from worldstereo_cli.splatting.losses import psnr_db
from worldstereo_cli.splatting.rasterize.cpu import CpuRasterizer
from worldstereo_cli.stages.reconstruct_frames_to_splats import reconstruct

PHOTO = scenes.camera(128, 96)
RECIPE = ReconstructRecipe(iterations=12, frames_per_path=2)


def perfect_round(name: str, cameras: Cameras, cloud: Cloud) -> tuple[Round, list[Cloud]]:
    """What a backend that knows the scene would make: true frames, and a point for every hidden pixel."""
    frames, depths, holes, added = [], [], [], []
    for i in range(len(cameras)):
        image, depth = scenes.render(scenes.room(), cameras[i])
        points = cameras[i].unproject(depth[None])[0]
        pixels, z = PHOTO.project(points.reshape(-1, 3))
        u, v = pixels[0].floor().long().unbind(-1)
        inside = (u >= 0) & (u < PHOTO.width_px) & (v >= 0) & (v < PHOTO.height_px)
        photo_depth = scenes.render(scenes.room(), PHOTO)[1]
        seen = photo_depth[v.clamp(0, PHOTO.height_px - 1), u.clamp(0, PHOTO.width_px - 1)]
        hole = ~(inside & (z[0] < 1.02 * seen)).reshape(depth.shape)
        spacing = depth / cameras.intrinsics[0, 0, 0]
        count = int(hole.sum())
        added.append(
            Cloud(
                points[hole],
                image.permute(1, 2, 0)[hole],
                torch.full((count,), 0.5),
                torch.ones(count, dtype=torch.int32),
                spacing[hole],
                torch.zeros(count, dtype=torch.bool),
            )
        )
        frames.append(image)
        depths.append(depth)
        holes.append(hole)
    stacked = torch.stack(frames), torch.stack(depths), torch.stack(holes)
    control = torch.where(stacked[2][:, None], 0.5, stacked[0])
    return Round(name, cameras, control, stacked[2], stacked[0], stacked[1]), added


def write_generation(root: Path, cloud: Cloud, arc_rad: float = 0.35, dropped: str = "") -> None:
    """A finished generation of the room with one path to each side; all frames of one may be dropped."""
    anchor = Anchor(PHOTO, 4.0)
    progress = torch.linspace(0, 1, 4)
    names, clouds = [], [cloud]
    with draft_directory(root) as draft:
        for number, orbit in enumerate((orbit_right, orbit_left), start=1):
            made, added = perfect_round(orbit.__name__, orbit(anchor, arc_rad, progress), cloud)
            names.append(f"{number:02d}-{made.name}")
            folder = draft / "rounds" / names[-1]
            folder.mkdir(parents=True)
            made.write(folder)
            facts = {"path": made.name, "dropped_frames": [0, 1, 2, 3] if made.name == dropped else []}
            Manifest(Round.kind, {}, 0, facts=facts).write(folder)
            # One frame's points suffice: the farthest, which uncovers most.
            clouds.append(added[-1])
        write_cloud(draft / "cloud.ply", Cloud.joined(clouds))
        Manifest(Generation.kind, {}, 0, facts={"rounds": names}).write(draft)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reconstruction]:
    """A room, lifted and generated perfectly, and reconstructed."""
    root = tmp_path_factory.mktemp("scene")
    lift = scenes.write_lift(root / "lift", scenes.room(), PHOTO)
    write_generation(root / "generate", lift.cloud)
    made = reconstruct(
        root / "lift", root / "generate", root / "reconstruct", RECIPE,
        seed=3, device="cpu", progress=silent,
    )  # fmt: skip
    return root, made


def test_the_photo_comes_back_and_its_sides_are_closed(room: tuple[Path, Reconstruction]) -> None:
    metrics = room[1].metrics
    assert metrics["psnr_photo_db"] > 33
    assert metrics["psnr_reload_db"] > 60
    assert metrics["depth_abs_rel"] < 0.02
    assert metrics["hole_percent_photo"] == 0
    assert max(metrics["hole_percent_orbit_10deg"].values()) < 3
    assert min(metrics["psnr_rounds_db"].values()) > 25
    assert metrics["loss_last"] < metrics["loss_first"]


def test_a_view_from_beside_shows_the_scene_as_it_is(room: tuple[Path, Reconstruction]) -> None:
    side = orbit_right(Anchor(PHOTO, 4.0), 0.15, torch.ones(1))
    truth, depth = scenes.render(scenes.room(), side)
    drawn = CpuRasterizer().render(room[1].splats, side)
    assert psnr_db(drawn.rgb, truth) > 25
    assert ((drawn.depth_m - depth).abs() / depth).median() < 0.02


def test_the_artifact_is_complete_and_says_what_it_was_made_from(
    room: tuple[Path, Reconstruction],
) -> None:
    root, made = room
    back = Reconstruction.read(root / "reconstruct")
    assert torch.equal(back.splats.means, made.splats.means)
    assert back.metrics == json.loads(json.dumps(made.metrics))
    assert back.metrics["num_splats"] == len(back.splats)
    assert back.manifest.inputs == {
        "lift": Manifest.read(root / "lift", "lift").digest,
        "generate": Manifest.read(root / "generate", "generate").digest,
    }
    names = {path.name for path in (root / "reconstruct" / "renders").iterdir()}
    assert names == {"photo.png", "right_10.png", "left_10.png", "right_15.png", "left_15.png"}


def test_the_same_seed_makes_the_same_splats(room: tuple[Path, Reconstruction]) -> None:
    root, made = room
    again = reconstruct(
        root / "lift", root / "generate", root / "again", RECIPE, seed=3, device="cpu", progress=silent
    )
    assert torch.equal(again.splats.means, made.splats.means)
    assert torch.equal(again.splats.sh, made.splats.sh)


def test_a_generation_without_rounds_gives_the_photo_alone(tmp_path: Path) -> None:
    lift = scenes.write_lift(tmp_path / "lift", scenes.two_planes(), scenes.camera(96, 64))
    with draft_directory(tmp_path / "generate") as draft:
        write_cloud(draft / "cloud.ply", lift.cloud)
        Manifest(Generation.kind, {}, 0, facts={"rounds": []}).write(draft)
    made = reconstruct(
        tmp_path / "lift", tmp_path / "generate", tmp_path / "reconstruct",
        ReconstructRecipe(iterations=4, max_splats=4000), seed=0, device="cpu", progress=silent,
    )  # fmt: skip
    assert len(made.splats) <= 4000 < 96 * 64
    assert made.metrics["psnr_photo_db"] > 30 and made.metrics["psnr_rounds_db"] == {}
    assert len(read_splats(tmp_path / "reconstruct" / "splats.ply")) == made.metrics["num_splats"]


def test_an_unfinished_neighbour_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    scenes.write_lift(tmp_path / "lift", scenes.wall(), scenes.camera(32, 24))
    with pytest.raises(ArtifactError, match="generate"):
        reconstruct(
            tmp_path / "lift", tmp_path / "generate", tmp_path / "reconstruct", RECIPE,
            seed=0, device="cpu", progress=silent,
        )  # fmt: skip
    assert not (tmp_path / "reconstruct").exists()


def test_frames_that_contradict_the_cloud_are_not_fitted(tmp_path: Path) -> None:
    lift = scenes.write_lift(tmp_path / "lift", scenes.room(), PHOTO)
    write_generation(tmp_path / "generate", lift.cloud, dropped="orbit_left")
    made = reconstruct(
        tmp_path / "lift", tmp_path / "generate", tmp_path / "out", ReconstructRecipe(iterations=2),
        seed=0, device="cpu", progress=silent,
    )  # fmt: skip
    assert set(made.metrics["psnr_rounds_db"]) == {"01-orbit_right"}


def test_on_a_gpu_the_stage_makes_what_it_makes_on_a_cpu(cuda: str, tmp_path: Path) -> None:
    lift = scenes.write_lift(tmp_path / "lift", scenes.room(), PHOTO)
    write_generation(tmp_path / "generate", lift.cloud)
    recipe = ReconstructRecipe(iterations=4, frames_per_path=1, max_splats=4000)
    made = [
        reconstruct(
            tmp_path / "lift", tmp_path / "generate", tmp_path / device, recipe,
            seed=3, device=device, progress=silent,
        )
        for device in ("cpu", cuda)
    ]  # fmt: skip
    assert [m.metrics["rasterizer"] for m in made] == ["numba", "gsplat"]
    # A splat that hardly shows may be pruned on one of them alone.
    assert len(made[1].splats) == pytest.approx(len(made[0].splats), rel=0.005)
    for name in ("psnr_photo_db", "psnr_reload_db"):
        assert made[1].metrics[name] == pytest.approx(made[0].metrics[name], abs=0.1), name
    assert made[1].metrics["hole_percent_orbit_10deg"] == pytest.approx(
        made[0].metrics["hole_percent_orbit_10deg"], abs=0.1
    )

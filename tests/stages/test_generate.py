"""Promises of generate: rounds, growth, resumption, and frames that come without depth."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from tests import scenes
from worldstereo_cli.artifacts.cloud import read_cloud, write_removed
from worldstereo_cli.artifacts.images import read_depth, write_depth
from worldstereo_cli.artifacts.manifest import MANIFEST_NAME, Manifest, draft_directory, write_json
from worldstereo_cli.artifacts.references import ReferenceRecord
from worldstereo_cli.artifacts.scene import Generation, Lift, NamedPath, Plan, Round
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.paths import Anchor, orbit_left, orbit_right
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.models.video.protocol import Clip, ClipSize
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import GenerateRecipe, MemoryRecipe
from worldstereo_cli.stages import generate_cameras_to_frames as stage
from worldstereo_cli.stages.generate_cameras_to_frames import GenerateOptions, generate
from worldstereo_cli.stages.one_round import Makers, make_round, sampled
from worldstereo_cli.stages.recorded import bank_digest, read_bank, read_done
from worldstereo_cli.stages.world import DoneRound, after_round, as_u8, first_world

FAR_M = 5.0
SURFACES = scenes.two_planes(2.0, FAR_M)
PHOTO = scenes.camera(120, 80)
RECIPE = GenerateRecipe(num_frames=4)


def sideways(sign: float) -> Cameras:
    """A path of 21 poses to one side, without turning."""
    pose = PHOTO.world_from_camera.repeat(21, 1, 1)
    pose[:, 0, 3] = sign * torch.linspace(0, 0.5, 21)
    return Cameras(pose, PHOTO.intrinsics.repeat(21, 1, 1), 120, 80)


def write_plan(root, *paths: NamedPath) -> None:
    with draft_directory(root) as draft:
        write_json(draft / "paths.json", Plan.paths_to_json(list(paths)))
        Manifest(Plan.kind, {}, 0, {"paths": ",".join(p.name for p in paths)}).write(draft)


def run(scene, seed=0, recipe=RECIPE) -> Generation:
    return generate(
        scene / "lift",
        scene / "plan",
        scene / "generate",
        recipe,
        GenerateOptions(),
        seed=seed,
        progress=silent,
    )


def contents(root) -> dict[str, bytes]:
    """Every file but manifests, which tell seconds, and the video, which nobody reads back."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name not in (MANIFEST_NAME, "preview.mp4")]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


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


def test_a_run_that_fails_leaves_nothing_that_looks_done(copy):
    write_plan(copy / "plan", NamedPath("right", sideways(1)), NamedPath("other", sideways(-0.7)))

    def interrupted(done: int, total: int, what: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(
            copy / "lift", copy / "plan", copy / "generate", RECIPE, GenerateOptions(), seed=0,
            progress=interrupted,
        )  # fmt: skip
    with pytest.raises(ArtifactError, match="not finished"):
        Generation.read(copy / "generate")


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


class Perfect:
    """A video model that knows the scene, makes pictures only, and smaller ones of another aspect."""

    name = "perfect"
    num_references = 2
    control_style = "surface"
    credits = {"licence": "none", "revision": "none"}  # noqa: RUF012

    def clip_size(self, width_px: int, height_px: int) -> ClipSize:
        return ClipSize(3, 72, 64)

    def generate(self, request) -> Clip:
        self.request = request
        pictures = [scenes.render(SURFACES, request.cameras[i])[0] for i in range(len(request.cameras))]
        return Clip(torch.stack(pictures), None)


class Scaled:
    """A depth model that knows the scene up to scale and shift in inverse depth."""

    name = "scaled"

    def __init__(self, cameras: Cameras, shift: float):
        self.poses = iter(range(1, len(cameras)))
        self.cameras, self.shift = cameras, shift

    def estimate(self, image, focal_px) -> DepthEstimate:
        assert image.shape[1:] == (80, 120)
        assert focal_px == pytest.approx(float(PHOTO.intrinsics[0, 0, 0]))
        depth = 1 / (0.5 / scenes.render(SURFACES, self.cameras[next(self.poses)])[1] + self.shift)
        everywhere = torch.ones_like(depth, dtype=torch.bool)
        return DepthEstimate(depth, everywhere, ~everywhere, None, False)


def fly(tmp_path, shift: float):
    scenes.write_lift(tmp_path / "lift", SURFACES, PHOTO)
    world = first_world(Lift.read(tmp_path / "lift"))
    path = NamedPath("right", sideways(1))
    video, depth = Perfect(), Scaled(path.cameras[sampled(21, 3)], shift)
    made = make_round(path, 1, world, Makers(video, lambda: depth, "a board", 5, "cpu"))
    return made, video


def test_frames_without_depth_are_aligned_and_grow_the_cloud(tmp_path):
    made, video = fly(tmp_path, shift=0.2)
    assert video.request.prompt == "a board"
    assert video.request.control.shape == (3, 3, 64, 72)
    assert [a["problem"] for a in made.numbers["depth_alignment"]] == ["", ""]
    assert len(made.growth.added) > 500
    # The estimate is exact up to the line, and the line is fitted on thousands of pixels.
    assert (made.growth.added.points[:, 2] - FAR_M).abs().max() < 0.05
    # The backend's crop shows the middle of the frame; holes beside it stay open, and say so.
    hole = made.round.hole[2]
    assert (made.round.depth_m[2][hole] > 0).any()
    image, _ = scenes.render(SURFACES, made.round.cameras[2])
    filled = hole & (made.round.frames[2] - 0.5).abs().amax(0).gt(0.02)
    assert (made.round.frames[2] - image)[:, filled].abs().max() < 0.05


def test_depth_that_does_not_fit_the_cloud_adds_nothing(tmp_path):
    # 0.5 / z - 0.2 turns negative beyond 2.5 m: near and far are exchanged there.
    made, _ = fly(tmp_path, shift=-0.35)
    assert len(made.growth.added) == 0
    assert all(a["problem"] for a in made.numbers["depth_alignment"])


def test_past_views_go_to_a_backend_that_looks_at_them(tmp_path):
    _, video = fly(tmp_path, shift=0.0)
    references = video.request.references
    # Only the photo is known before the first round.
    assert references.images.shape == (1, 3, 64, 72)
    assert references.target_index.tolist() == [1]


class Known(Perfect):
    """A model that knows the depth of what it makes, as it is or by a factor."""

    num_references = 0

    def __init__(self, factor: float):
        self.factor = factor

    def clip_size(self, width_px: int, height_px: int) -> ClipSize:
        return ClipSize(3, width_px, height_px)

    def generate(self, request) -> Clip:
        depth = [scenes.render(SURFACES, request.cameras[i])[1] for i in range(3)]
        return Clip(super().generate(request).frames, self.factor * torch.stack(depth))


def known_round(tmp_path, video):
    scenes.write_lift(tmp_path / "lift", SURFACES, PHOTO)
    world = first_world(Lift.read(tmp_path / "lift"))

    def no_depth():
        raise AssertionError

    return make_round(NamedPath("right", sideways(1)), 1, world, Makers(video, no_depth, "", 5, "cpu"))


def test_given_depth_that_does_not_fit_the_cloud_is_dropped_and_said(tmp_path):
    right = known_round(tmp_path / "a", Known(1.0))
    assert right.numbers["dropped_frames"] == []
    assert len(right.growth.added) > 500
    wrong = known_round(tmp_path / "b", Known(1.3))
    assert wrong.numbers["dropped_frames"] == [0, 1, 2]
    assert {entry["problem"] for entry in wrong.numbers["depth_alignment"]} == {
        "its depth does not fit the cloud"
    }
    assert len(wrong.growth.added) == 0
    assert (wrong.round.depth_m[wrong.round.hole] == 0).all()


class Noise(Perfect):
    """A model of which one frame fails."""

    def generate(self, request) -> Clip:
        frames = super().generate(request).frames
        frames[2] = torch.rand(frames[2].shape, generator=torch.Generator().manual_seed(1))
        return Clip(frames, None)


def test_a_picture_of_something_else_takes_no_part(tmp_path):
    scenes.write_lift(tmp_path / "lift", SURFACES, PHOTO)
    world = first_world(Lift.read(tmp_path / "lift"))
    path = NamedPath("right", sideways(1))
    depth = Scaled(path.cameras[sampled(21, 3)], 0.2)
    made = make_round(path, 1, world, Makers(Noise(), lambda: depth, "", 5, "cpu"))
    assert made.numbers["dropped_frames"] == [2]
    assert made.numbers["added_points"][2] == 0 < made.numbers["added_points"][1]
    done = DoneRound(
        "01-right", made.round.cameras, as_u8(made.round.frames), made.evidence_m, made.growth.added,
        made.growth.removed, made.numbers["dropped_frames"],
    )  # fmt: skip
    assert after_round(world, done).bank.names == ("photo", "01-right/0001")


@pytest.fixture
def estimating(monkeypatch, tmp_path):
    """A scene whose frames come without depth, from models that know the truth."""
    scenes.write_lift(tmp_path / "lift", SURFACES, PHOTO)
    # The second path comes back, so that the bank has much of it.
    write_plan(tmp_path / "plan", NamedPath("right", sideways(1)), NamedPath("again", sideways(0.9)))

    class Truth:
        name = "truth"

        def estimate(self, image, focal_px) -> DepthEstimate:
            candidates = [
                c[i] for c in (sideways(1)[sampled(21, 3)], sideways(0.9)[sampled(21, 3)]) for i in range(3)
            ]
            made = [scenes.render(SURFACES, c) for c in candidates]
            best = min(made, key=lambda m: float((m[0] - image).abs().median()))
            everywhere = torch.ones(80, 120, dtype=torch.bool)
            return DepthEstimate(2 * best[1], everywhere, ~everywhere, None, False)

    monkeypatch.setattr(stage, "make_video_backend", lambda *_: Perfect())
    monkeypatch.setattr(stage, "depth_backend", lambda *_, **__: Truth())
    return tmp_path


def generated(scene, **options) -> Generation:
    recipe = GenerateRecipe(num_frames=3, depth="prior")
    return generate(
        scene / "lift", scene / "plan", scene / "generate", recipe, GenerateOptions(**options), seed=0,
        progress=silent,
    )  # fmt: skip


def test_a_resumed_run_with_estimated_depth_equals_an_undisturbed_one(estimating, tmp_path):
    generated(estimating)
    before = contents(estimating / "generate")
    assert "rounds/01-right/removed.npy" in before
    assert "rounds/02-again/references.safetensors" in before
    assert json.loads(before["rounds/01-right/round.json"])["dropped_frames"] == []
    shutil.rmtree(estimating / "generate" / "rounds" / "02-again")
    (estimating / "generate" / MANIFEST_NAME).unlink()
    generated(estimating)
    assert contents(estimating / "generate") == before


def test_what_a_round_removes_is_removed_again_when_it_is_read(estimating):
    generated(estimating)
    root = estimating / "generate" / "rounds" / "01-right"
    world = first_world(Lift.read(estimating / "lift"))
    before = after_round(world, read_done(root)).cloud
    write_removed(root / "removed.npy", torch.tensor([0, 5, 7]))
    after = after_round(world, read_done(root)).cloud
    assert len(after) == len(before) - 3
    assert torch.equal(after.points[:2], before.points[[1, 2]])


def test_the_bank_is_read_back_to_the_bit(estimating):
    generated(estimating)
    bank = read_bank(estimating / "lift", estimating / "generate")
    assert bank.names == ("photo", "01-right/0001", "01-right/0002", "02-again/0001", "02-again/0002")
    assert json.loads((estimating / "generate" / "memory.json").read_text())["digest"] == bank_digest(bank)
    depth = estimating / "generate" / "rounds" / "01-right" / "depth" / "0002.npy"
    changed = read_depth(depth)
    changed[0, 0] += 1e-3
    write_depth(depth, changed)
    with pytest.raises(ArtifactError, match="not those"):
        read_bank(estimating / "lift", estimating / "generate")


def test_equal_references_are_equal_files(estimating):
    root = generated(estimating).round_dirs[1] / "references.safetensors"
    first, record = root.read_bytes(), ReferenceRecord.read(root)
    for _ in range(8):
        record.write(root)
        assert root.read_bytes() == first


@pytest.mark.parametrize("rule", ["visible", "frustum"])
def test_references_and_where_frames_lie_in_them_are_kept(estimating, rule):
    generation = generated(estimating, memory=MemoryRecipe(overlap=rule))
    record = ReferenceRecord.read(generation.round_dirs[1] / "references.safetensors")
    assert record.rule == rule
    assert 1 <= len(record.names) <= 2
    assert set(record.names) <= {"photo", "01-right/0001", "01-right/0002"}
    assert record.correspondence.pixels.shape == (3, len(record.names), 4, 5, 2)
    assert record.correspondence.visible.float().mean() > 0.5
    assert torch.equal(record.ranked, record.scores.argsort(dim=1, descending=True, stable=True))
    # At the clip's size, the wall that the photo shows lies where its camera puts it.
    clip = Round.read(generation.round_dirs[1]).cameras.cropped_to(72, 64)
    views = {"photo": PHOTO} | {f"01-right/000{i}": sideways(1)[sampled(21, 3)][i] for i in (1, 2)}
    for r, name in enumerate(record.names):
        view = views[name].cropped_to(72, 64)
        for t in range(3):
            places = clip[t].unproject(scenes.render(SURFACES, clip[t])[1][None])[0][8::16][
                :, [8, 24, 40, 56, 71]
            ]
            pixel, _ = view.project(places.reshape(-1, 3))
            seen = record.correspondence.visible[t, r].reshape(-1)
            off = (record.correspondence.pixels[t, r].reshape(-1, 2) - pixel[0])[seen].norm(dim=-1)
            # Depth of the clip's size is looked up in that of the scene's; outlines may differ by a pixel.
            assert off.median() < 0.05


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

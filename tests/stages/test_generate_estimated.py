"""Promises of rounds whose frames come without depth, or with one that is wrong, and of what they record."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from tests import scenes
from tests.stages.rounds import FAR_M, PHOTO, SURFACES, contents, sideways, write_plan
from worldstereo_cli.artifacts.cloud import write_removed
from worldstereo_cli.artifacts.images import read_depth, write_depth
from worldstereo_cli.artifacts.manifest import MANIFEST_NAME
from worldstereo_cli.artifacts.references import ReferenceRecord
from worldstereo_cli.artifacts.scene import Generation, Lift, NamedPath, Round
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.models.video.protocol import Clip, ClipSize
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import GenerateRecipe, MemoryRecipe
from worldstereo_cli.stages import generate_cameras_to_frames as stage
from worldstereo_cli.stages import one_round
from worldstereo_cli.stages.frame_depth import given_depth
from worldstereo_cli.stages.generate_cameras_to_frames import GenerateOptions, generate
from worldstereo_cli.stages.one_round import Makers, make_round, sampled
from worldstereo_cli.stages.recorded import bank_digest, read_bank, read_done
from worldstereo_cli.stages.world import DoneRound, after_round, as_u8, first_world


class Perfect:
    """A video model that knows the scene, makes pictures only, and smaller ones of another aspect."""

    name = "perfect"
    num_references = 2
    reads_prompt = False
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


class Crowding(Perfect):
    """A model that leaves no room on its device for anything else until it rests."""

    holds = False
    rests = 0

    def generate(self, request) -> Clip:
        self.holds = True
        return super().generate(request)

    def rest(self) -> None:
        self.holds = False
        self.rests += 1


@pytest.mark.parametrize("full", ["loading", "estimating", "for good"])
def test_depth_takes_the_place_of_a_video_model_beside_which_it_has_no_room(tmp_path, full):
    """A GPU of 24 GB holds the released video model or Depth Pro, not both."""
    expected, _ = fly(tmp_path / "roomy", shift=0.2)
    scenes.write_lift(tmp_path / "lift", SURFACES, PHOTO)
    world, path = first_world(Lift.read(tmp_path / "lift")), NamedPath("right", sideways(1))
    video = Crowding()

    class Large(Scaled):
        def estimate(self, image, focal_px) -> DepthEstimate:
            if full == "for good" or (full == "estimating" and video.holds):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().estimate(image, focal_px)

    def load() -> Large:
        if full == "loading" and video.holds:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return Large(path.cameras[sampled(21, 3)], 0.2)

    makers = Makers(video, load, "a board", 5, "cpu")
    if full == "for good":
        with pytest.raises(torch.OutOfMemoryError):
            make_round(path, 1, world, makers)
        return
    made = make_round(path, 1, world, makers)
    assert video.rests == 1
    assert torch.equal(made.round.depth_m, expected.round.depth_m)
    assert torch.equal(made.growth.added.points, expected.growth.added.points)


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
    reads_prompt = False

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


def true_colours(points: torch.Tensor) -> torch.Tensor:
    """What the board and the wall behind it look like at points on them."""
    tints = torch.tensor([surface.tint for surface in SURFACES])
    return tints[(points[:, 2] > 3.5).long()] * scenes.texture(points.double())[:, None].float()


HALF_A_STEP = 0.5 / 255 + 1e-4
"""Pictures and clouds on disk have 256 values."""


def test_frames_and_cloud_have_the_scenes_own_colours_on_disk_and_in_the_bank(tmp_path, monkeypatch):
    scenes.write_lift(tmp_path / "lift", SURFACES, PHOTO)
    write_plan(tmp_path / "plan", NamedPath("right", sideways(1)), NamedPath("left", sideways(-1)))
    monkeypatch.setattr(stage, "make_video_backend", lambda *_: Known(1.0))
    generation = generated(tmp_path)
    assert min(generation.manifest.facts["points_by_round"]) > 500
    assert (generation.cloud.colors - true_colours(generation.cloud.points)).abs().max() < HALF_A_STEP
    bank = read_bank(tmp_path / "lift", tmp_path / "generate")
    shown = [bank.images_u8[[bank.names.index(f"{r.name}/0002")]] for r in generation.round_dirs]
    for root, remembered, sign in zip(generation.round_dirs, shown, (1, -1), strict=True):
        done = Round.read(root)
        expected = sideways(sign)[sampled(21, 3)]
        for i in range(3):
            image, depth = scenes.render(SURFACES, expected[i])
            made = done.hole[i]
            assert ((done.frames[i] - image)[:, made].abs() < HALF_A_STEP).all()
            assert torch.equal(done.depth_m[i][made], depth[made])
            # Elsewhere the cloud is drawn: blurred by a pixel, and of the board on its rim.
            assert (done.frames[i] - image).abs().amax(0).quantile(0.9) < 0.05
        assert int(made.sum()) > 500
        assert torch.equal(remembered[0], as_u8(done.frames[2]))


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


def test_a_frame_that_is_to_be_dropped_gives_no_points_however_good_its_depth_is(tmp_path, monkeypatch):
    right = known_round(tmp_path / "a", Known(1.0))
    assert right.numbers["added_points"][2] > 0

    def doubted(clip, depth_m):
        return replace(given_depth(clip, depth_m), dropped=[2])

    monkeypatch.setattr(one_round, "given_depth", doubted)
    made = known_round(tmp_path / "b", Known(1.0))
    assert made.numbers["dropped_frames"] == list(made.round.dropped) == [2]
    assert made.numbers["added_points"][2] == 0 < made.numbers["added_points"][1]
    assert len(made.growth.added) == sum(made.numbers["added_points"])
    # All that the other frames show lies in their own views.
    pixel, _ = made.round.cameras[1].project(made.growth.added.points)
    assert ((pixel[0] > -0.01) & (pixel[0] < torch.tensor([120.01, 80.01]))).all()
    pixel, _ = made.round.cameras[1].project(right.growth.added.points)
    assert not ((pixel[0] > -0.01) & (pixel[0] < torch.tensor([120.01, 80.01]))).all()


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


def test_a_dropped_frame_enters_neither_bank_nor_references_after_a_break_either(estimating, monkeypatch):
    class FirstFails(Noise):
        def generate(self, request) -> Clip:
            return Noise.generate(self, request) if request.seed == 1 else Perfect.generate(self, request)

    monkeypatch.setattr(stage, "make_video_backend", lambda *_: FirstFails())
    roots = generated(estimating).round_dirs
    names = ("photo", "01-right/0001", "02-again/0001", "02-again/0002")
    for _ in range(2):
        assert Round.read(roots[0]).dropped == (2,)
        assert Round.read(roots[1]).dropped == ()
        assert read_bank(estimating / "lift", estimating / "generate").names == names
        views = json.loads((estimating / "generate" / "memory.json").read_text())["views"]
        assert tuple(view["name"] for view in views) == names
        assert "01-right/0002" not in ReferenceRecord.read(roots[1] / "references.safetensors").names
        shutil.rmtree(roots[1])
        (estimating / "generate" / MANIFEST_NAME).unlink()
        generated(estimating)


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

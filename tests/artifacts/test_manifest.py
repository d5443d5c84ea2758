import json

import pytest
import torch

from worldstereo_cli.artifacts.cloud import read_cloud, write_cloud
from worldstereo_cli.artifacts.manifest import (
    CODE,
    MANIFEST_NAME,
    Manifest,
    clear_drafts,
    draft_directory,
    draft_file,
)
from worldstereo_cli.artifacts.scene import Round
from worldstereo_cli.artifacts.views import View
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cameras import Cameras, intrinsics_from_focal
from worldstereo_cli.geometry.cloud import Cloud


def manifest(**changes) -> Manifest:
    return Manifest(**({"kind": "plan", "recipe": {"scale": 1.0}, "seed": 0} | changes))


def test_a_written_manifest_reads_back_equal(tmp_path):
    written = manifest(inputs={"lift": "abc"}, facts={"frames": 81})
    written.write(tmp_path)
    assert Manifest.read(tmp_path, "plan") == written


def test_a_killed_write_leaves_no_artifact(tmp_path):
    root = tmp_path / "plan"
    with pytest.raises(KeyboardInterrupt), draft_directory(root) as draft:
        (draft / "paths.json").write_text("half")
        raise KeyboardInterrupt
    assert not root.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rebuild_keeps_the_old_artifact(tmp_path):
    root = tmp_path / "plan"
    with draft_directory(root) as draft:
        manifest(seed=1).write(draft)
    with pytest.raises(ValueError, match="boom"), draft_directory(root) as draft:
        raise ValueError("boom")
    assert Manifest.read(root, "plan").seed == 1


def test_a_rebuild_replaces_the_old_artifact_whole(tmp_path):
    root = tmp_path / "plan"
    with draft_directory(root) as draft:
        (draft / "old.txt").write_text("old")
        manifest(seed=1).write(draft)
    with draft_directory(root) as draft:
        manifest(seed=2).write(draft)
    assert Manifest.read(root, "plan").seed == 2
    assert not (root / "old.txt").exists()


def test_leftovers_of_a_killed_run_are_cleared_by_the_next(tmp_path):
    leftover = tmp_path / ".plan.draft-12345"
    leftover.mkdir()
    with draft_directory(tmp_path / "plan") as draft:
        manifest().write(draft)
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not finished"),
        ("{", "is damaged"),
        ('{"kind": "plan"}', "is damaged"),
        ('{"kind": "lift", "recipe": {}, "seed": 0}', "holds lift, but plan was expected"),
        ('{"kind": "plan", "recipe": {}, "seed": 0, "schema": 99}', "has schema 99"),
    ],
)
def test_what_is_not_a_finished_artifact_is_refused_in_words(tmp_path, content, words):
    if content is not None:
        (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(ArtifactError) as caught:
        Manifest.read(tmp_path, "plan")
    assert words in caught.value.problem
    assert caught.value.remedy


def test_the_digest_tells_what_an_artifact_was_made_from():
    base = manifest()
    assert manifest(facts={"seconds": 3}).digest == base.digest
    assert manifest(seed=1).digest != base.digest
    assert manifest(recipe={"scale": 2.0}).digest != base.digest
    assert manifest(inputs={"lift": "x"}).digest != base.digest


def cloud(count: int = 50) -> Cloud:
    generator = torch.Generator().manual_seed(0)
    return Cloud(
        torch.randn(count, 3, generator=generator),
        (torch.rand(count, 3, generator=generator) * 255).round() / 255,
        torch.rand(count, generator=generator),
        torch.randint(0, 5, (count,), generator=generator, dtype=torch.int32),
        torch.rand(count, generator=generator),
        torch.rand(count, generator=generator) < 0.3,
    )


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_cloud_survives_its_file(tmp_path, count):
    written = cloud(count)
    write_cloud(tmp_path / "cloud.ply", written)
    read = read_cloud(tmp_path / "cloud.ply")
    for name in ("points", "colors", "confidence", "round_index", "spacing_m", "sky"):
        assert torch.equal(getattr(read, name), getattr(written, name)), name


def test_open3d_reads_the_cloud_without_us(tmp_path):
    from worldstereo_cli.viewer.open3d_import import import_open3d

    written = cloud()
    write_cloud(tmp_path / "cloud.ply", written)
    read = import_open3d().io.read_point_cloud(str(tmp_path / "cloud.ply"))
    assert torch.allclose(torch.tensor(read.points).float(), written.points)
    assert torch.allclose(torch.tensor(read.colors).float(), written.colors, atol=1e-6)


def test_a_truncated_cloud_is_refused(tmp_path):
    write_cloud(tmp_path / "cloud.ply", cloud())
    data = (tmp_path / "cloud.ply").read_bytes()
    (tmp_path / "cloud.ply").write_bytes(data[:-7])
    with pytest.raises(ArtifactError, match="not a whole cloud"):
        read_cloud(tmp_path / "cloud.ply")


def camera(width: int, height: int, count: int = 1) -> Cameras:
    poses = torch.eye(4).repeat(count, 1, 1)
    return Cameras(poses, intrinsics_from_focal(30, width, height).repeat(count, 1, 1), width, height)


def test_a_view_survives_its_files(tmp_path):
    generator = torch.Generator().manual_seed(1)
    image = (torch.rand(3, 6, 8, generator=generator) * 255).round() / 255
    depth = torch.rand(6, 8, generator=generator) + 1
    valid, sky = depth > 1.3, depth > 1.8
    View(image, depth, valid, sky, camera(8, 6)).write(tmp_path / "000")
    read = View.read(tmp_path / "000")
    assert torch.equal(read.image, image)
    assert torch.equal(read.depth_m, depth)
    assert torch.equal(read.valid, valid)
    assert torch.equal(read.sky, sky)
    assert torch.equal(read.camera.intrinsics, camera(8, 6).intrinsics)


def test_a_view_with_a_damaged_picture_is_refused(tmp_path):
    View(
        torch.rand(3, 6, 8), torch.ones(6, 8), torch.ones(6, 8) > 0, torch.ones(6, 8) < 0, camera(8, 6)
    ).write(tmp_path / "000")
    (tmp_path / "000" / "image.png").write_bytes(b"\x89PNG")
    with pytest.raises(ArtifactError, match=r"image\.png cannot be read"):
        View.read(tmp_path / "000")


def test_a_round_survives_its_files(tmp_path):
    generator = torch.Generator().manual_seed(2)
    pictures = (torch.rand(2, 3, 6, 8, generator=generator) * 255).round() / 255
    hole = torch.rand(2, 6, 8, generator=generator) < 0.5
    depth = torch.rand(2, 6, 8, generator=generator)
    Round("right", camera(8, 6, 2), pictures, hole, pictures.flip(0), depth).write(tmp_path)
    Manifest("round", {}, 0, facts={"path": "right"}).write(tmp_path)
    read = Round.read(tmp_path)
    assert torch.equal(read.control, pictures)
    assert torch.equal(read.frames, pictures.flip(0))
    assert torch.equal(read.hole, hole)
    assert torch.equal(read.depth_m, depth)
    assert read.name == "right"


def test_the_manifest_is_plain_json(tmp_path):
    manifest().write(tmp_path)
    assert json.loads((tmp_path / MANIFEST_NAME).read_text())["kind"] == "plan"


def finished(root, **changes) -> None:
    root.mkdir(parents=True)
    (root / "paths.json").write_text("{}")
    manifest(**changes).write(root)


def test_a_kill_between_the_two_renames_of_a_rebuild_loses_nothing(tmp_path):
    finished(tmp_path / ".plan.draft-7", seed=2)
    finished(tmp_path / ".plan.draft-old-7", seed=1)
    clear_drafts(tmp_path)
    assert Manifest.read(tmp_path / "plan", "plan").seed == 2
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_the_old_artifact_comes_back_when_the_new_one_is_gone(tmp_path):
    finished(tmp_path / ".plan.draft-old-7", seed=1)
    clear_drafts(tmp_path)
    assert Manifest.read(tmp_path / "plan", "plan").seed == 1


def test_drafts_that_are_not_complete_are_cleared_away(tmp_path):
    finished(tmp_path / "plan", seed=1)
    finished(tmp_path / ".plan.draft-old-7", seed=0)
    (tmp_path / ".lift.draft-7" / "views").mkdir(parents=True)
    (tmp_path / ".scene.draft-7.json").write_text("{")
    clear_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]
    assert Manifest.read(tmp_path / "plan", "plan").seed == 1


def test_a_draft_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), draft_file(path) as draft:
        draft.write_text("half")
        assert draft.suffix == ".html"
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with draft_file(path) as draft:
        draft.write_text("new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_whatever_is_in_the_place_of_an_artifact_is_replaced(tmp_path, kind):
    elsewhere = tmp_path / "elsewhere"
    finished(elsewhere, seed=1)
    if kind == "file":
        (tmp_path / "plan").write_text("no directory")
    else:
        (tmp_path / "plan").symlink_to(elsewhere)
    with draft_directory(tmp_path / "plan") as draft:
        manifest(seed=2).write(draft)
    assert Manifest.read(tmp_path / "plan", "plan").seed == 2
    assert Manifest.read(elsewhere, "plan").seed == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "plan"]


def test_damage_names_the_file_that_changed_since(tmp_path):
    finished(tmp_path / "generate" / "rounds" / "01-up", kind="round")
    (tmp_path / "generate" / "cloud.ply").write_bytes(b"12345")
    manifest(kind="generate").write(tmp_path / "generate")
    read = Manifest.read(tmp_path / "generate", "generate")
    assert set(read.files) == {"cloud.ply", "rounds/01-up/artifact.json"}
    assert read.damage(tmp_path / "generate") is None
    inner = tmp_path / "generate" / "rounds" / "01-up" / "paths.json"
    inner.write_text("{ }")
    assert read.damage(tmp_path / "generate") == "01-up: paths.json has 3 bytes instead of 2"
    inner.unlink()
    assert read.damage(tmp_path / "generate") == "01-up: paths.json is gone"
    inner.write_text("{}")
    (inner.parent / "artifact.json").write_text("{")
    assert read.damage(tmp_path / "generate") == "01-up: artifact.json is damaged"
    (tmp_path / "generate" / "cloud.ply").write_bytes(b"1")
    assert read.damage(tmp_path / "generate") == "cloud.ply has 1 bytes instead of 5"


def test_a_manifest_of_other_code_has_another_digest(monkeypatch):
    before = manifest().digest
    monkeypatch.setitem(CODE, "plan", CODE["plan"] + 1)
    assert manifest().digest != before


@pytest.mark.parametrize(
    "content",
    ["[]", "3", "null", '{"kind": 3, "recipe": {}, "seed": 0}', '{"kind": "plan", "recipe": [], "seed": 0}',
     '{"kind": "plan", "recipe": {}, "seed": "0"}', '{"kind": "plan", "recipe": {}, "seed": 0, "more": 1}',
     "[" * 100_000],
)  # fmt: skip
def test_json_that_is_no_manifest_is_told_as_damage(tmp_path, content):
    (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        Manifest.read(tmp_path, "plan")

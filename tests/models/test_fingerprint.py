import json

from worldstereo_cli.models.fingerprint import depth_fingerprint, generate_fingerprints, video_fingerprint


def test_backends_without_weights_have_no_fingerprint():
    assert depth_fingerprint("prior", "") is None
    assert video_fingerprint("warp") is None
    assert generate_fingerprints("warp", "embedded") == {}


def test_shipped_weights_are_told_by_their_content():
    assert depth_fingerprint("embedded", "") == depth_fingerprint("embedded", "")
    assert len(depth_fingerprint("embedded", "") or "") == 64


def test_a_folder_of_weights_is_told_apart_when_a_byte_changes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    (tmp_path / "model.safetensors").write_bytes(b"0123")
    before = depth_fingerprint("depth-pro", str(tmp_path)), video_fingerprint(str(tmp_path))
    assert before == (depth_fingerprint("depth-pro", str(tmp_path)), video_fingerprint(str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"0124")
    after = depth_fingerprint("depth-pro", str(tmp_path)), video_fingerprint(str(tmp_path))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_weights_in_the_hubs_cache_are_told_by_their_commit(tmp_path):
    repository = tmp_path / "models--some--model"
    (repository / "snapshots" / "abc123").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    assert depth_fingerprint("depth-anything", "some/model", tmp_path) == "some/model@abc123"
    assert depth_fingerprint("depth-anything", "other/model", tmp_path) is None

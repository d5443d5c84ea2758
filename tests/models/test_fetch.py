"""Models come from the hub completely, checked, and no file more than is needed."""

import errno
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from worldstereo_cli.cli.main import run
from worldstereo_cli.errors import BackendError
from worldstereo_cli.models import fetch
from worldstereo_cli.models.catalogue import RELEASES, cached_repo, find_weights, list_weights
from worldstereo_cli.models.fetch import fetch_base_shards, pull_weights

NAME = "worldstereo-memory-dmd"
RELEASE = RELEASES[NAME]
INDEX = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-2.safetensors"}})
OWN = {
    f"{NAME}/config.json": b"{}",
    f"{NAME}/model.safetensors": b"own weights",
    f"{NAME}/preview.mp4": b"not needed",
    "worldstereo-camera/model.safetensors": b"another model",
}
BASE = {
    "transformer/config.json": b"{}",
    "transformer/diffusion_pytorch_model.safetensors.index.json": INDEX.encode(),
    "transformer/m-1.safetensors": b"sixty gigabytes",
    "transformer/m-2.safetensors": b"of the base",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"vae",
    "text_encoder/config.json": b"{}",
    "text_encoder/model.safetensors": b"umt5",
    "image_encoder/config.json": b"{}",
    "image_encoder/model.safetensors": b"clip",
    "image_processor/preprocessor_config.json": b"{}",
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/tokenizer.json": b"{}",
    "assets/film.mp4": b"not needed",
}


@dataclass
class Hub:
    """A server with the part of the hub's interface that downloading uses."""

    repos: dict[tuple[str, str], dict[str, bytes]]
    damaged: set[str] = field(default_factory=set)
    served: list[str] = field(default_factory=list)
    address: str = ""


def _etag(name: str, content: bytes) -> str:
    if name.endswith(".safetensors"):
        return sha256(content).hexdigest()
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def _running(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            for (repo, revision), files in hub.repos.items():
                if path == f"/api/models/{repo}/revision/{revision}":
                    siblings = [{"rfilename": n, "size": len(c)} for n, c in files.items()]
                    self._send(
                        json.dumps({"id": repo, "sha": revision, "siblings": siblings}).encode(),
                        {},
                        body=body,
                    )
                    return
                start = f"/{repo}/resolve/{revision}/"
                if path.startswith(start) and path[len(start) :] in files:
                    name = path[len(start) :]
                    headers = {"ETag": f'"{_etag(name, files[name])}"', "X-Repo-Commit": revision}
                    content = files[name]
                    if name in hub.damaged:
                        content = content[:-1] + b"?"
                    if body:
                        hub.served.append(name)
                    self._send(content, headers, body=body)
                    return
            self.send_error(404)

        def _send(self, content: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    sources = (RELEASE.own, RELEASE.base)
    repos = {(s.repo, s.revision): dict(f) for s, f in zip(sources, (OWN, BASE), strict=True)}
    with _running(Hub(repos)) as running:
        yield running


def test_pulling_brings_what_is_needed_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    told: list[str] = []
    folder = pull_weights(
        NAME, tmp_path, endpoint=hub.address, progress=lambda done, total, what: told.append(what)
    )
    assert (folder.model / "model.safetensors").read_bytes() == b"own weights"
    assert (folder.part("vae") / "diffusion_pytorch_model.safetensors").read_bytes() == b"vae"
    assert (folder.licence, folder.revision) == ("MIT", RELEASE.own.revision)
    unneeded = {"preview.mp4", "film.mp4", "m-1.safetensors", "m-2.safetensors"}
    assert not any(name.split("/")[-1] in unneeded or "camera" in name for name in hub.served)
    assert told[0] == f"MB of {RELEASE.own.repo}"
    assert find_weights(NAME, tmp_path) == folder
    status = next(s for s in list_weights(tmp_path) if s.release.name == NAME)
    assert status.folder == folder and status.cached_bytes == sum(
        len(c) for f in (OWN, BASE) for n, c in f.items() if n in hub.served
    )

    before = list(hub.served)
    assert pull_weights(NAME, tmp_path, endpoint=hub.address) == folder
    assert hub.served == before


def test_a_damaged_file_is_removed_and_fetched_again(hub: Hub, tmp_path: Path) -> None:
    broken = "vae/diffusion_pytorch_model.safetensors"
    hub.damaged.add(broken)
    with pytest.raises(BackendError, match="arrived damaged"):
        pull_weights(NAME, tmp_path, endpoint=hub.address)
    with pytest.raises(BackendError, match="not here"):
        find_weights(NAME, tmp_path)
    hub.damaged.clear()
    pull_weights(NAME, tmp_path, endpoint=hub.address)
    assert hub.served.count(broken) == 2
    assert hub.served.count(f"{NAME}/model.safetensors") == 1


def test_of_the_base_only_shards_with_missing_tensors_are_fetched(hub: Hub, tmp_path: Path) -> None:
    folder = pull_weights(NAME, tmp_path, endpoint=hub.address)
    shards = fetch_base_shards(folder, ["b", "c"], tmp_path, endpoint=hub.address)
    assert [s.read_bytes() for s in shards] == [b"of the base"]
    assert "transformer/m-1.safetensors" not in hub.served


def test_without_a_network_the_error_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        pull_weights(NAME, tmp_path, endpoint="http://127.0.0.1:9")
    assert caught.value.problem.startswith(f"{RELEASE.own.repo} cannot be reached: ")
    assert "\n" not in caught.value.problem


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(
        len(content) for name, content in OWN.items() if name.startswith(f"{NAME}/") and "mp4" not in name
    )
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda place: usage._replace(free=needed - 1))
    with pytest.raises(BackendError, match=r"needs 0\.0 GB more, and .* has 0\.0 GB free") as caught:
        pull_weights(NAME, tmp_path, endpoint=hub.address)
    assert "HF_HOME" in caught.value.remedy and hub.served == []
    # A part that arrived before takes no more room.
    blobs = cached_repo(RELEASE.own.repo, tmp_path) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "0123.incomplete").write_bytes(b"o")
    with pytest.raises(BackendError, match=RELEASE.base.repo):
        pull_weights(NAME, tmp_path, endpoint=hub.address)
    assert f"{NAME}/model.safetensors" in hub.served


def test_a_disk_that_fills_on_the_way_is_not_taken_for_a_network_that_is_down(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(BackendError, match="cannot be kept here: No space left on device"):
        pull_weights(NAME, tmp_path, endpoint=hub.address)


def test_an_unknown_name_is_refused_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no weights 'wan'"):
        pull_weights("wan", tmp_path, endpoint=hub.address)
    assert hub.served == []


def test_the_list_tells_files_size_licence_and_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert run(["weights", "list"]) == 0
    said = capsys.readouterr().out
    for release in RELEASES.values():
        assert f"{release.name:<24}{release.approximate_gb:>5.0f} GB" in said
        assert release.needs in said
        for source in (release.own, release.base):
            assert f"{source.repo} at {source.revision[:8]}, {source.licence}: " in said
            assert ", ".join(source.patterns) in said
    assert said.count(f"0.0 GB of it in {tmp_path}") == len(RELEASES)

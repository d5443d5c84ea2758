"""The viewer page: whole, sealed, and within its limit."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import zstandard

from tests.viewer.pages import chosen_by_auto, page_of, reach, with_invented
from worldstereo_cli.artifacts.scene import Plan
from worldstereo_cli.artifacts.splats import read_splats
from worldstereo_cli.errors import ArtifactError, InputError
from worldstereo_cli.pipeline.bindings import show
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import Recipe, ViewRecipe, override_recipe
from worldstereo_cli.viewer.contents import About, SceneContents
from worldstereo_cli.viewer.flights import Shown, paths_to_fly
from worldstereo_cli.viewer.flythrough import plan_legs
from worldstereo_cli.viewer.live import fill, serve, unit_m, viser_server
from worldstereo_cli.viewer.overlay import overlay
from worldstereo_cli.viewer.page import write_page


@dataclass
class Embedded:
    """The data of a page, unpacked without viser."""

    messages: list[dict[str, Any]]
    buffers: list[bytes]

    @staticmethod
    def of(page: str) -> Embedded:
        data = base64.b64decode(re.search(r'__VISER_EMBED_DATA__="([^"]*)"', page)[1])  # type: ignore[index]
        size = int.from_bytes(data[:8], "little")
        raw = zstandard.ZstdDecompressor().decompress(data[8:], max_output_size=size)
        end = 8 + int.from_bytes(raw[:8], "little")
        head = msgspec.msgpack.decode(raw[8:end])
        buffers = []
        for length in head["binaryBufferLengths"]:
            end += -end % 8
            buffers.append(raw[end : end + length])
            end += length
        return Embedded([message for _, message in head["messages"]], buffers)

    def one(self, kind: str) -> dict[str, Any]:
        found = [m for m in self.messages if m["type"] == kind]
        assert len(found) == 1, f"{len(found)} {kind}"
        return found[0]

    def splats(self, name: str = "/splats/seen") -> np.ndarray[Any, Any]:
        """Rows of centre (3 floats), one word, six half floats of covariance, and colour."""
        found = [m for m in self.messages if m["type"] == "GaussianSplatsMessage" and m["name"] == name]
        assert len(found) == 1, f"{len(found)} {name}"
        props = found[0]["props"]
        words = np.frombuffer(self.buffers[props["buffer"]["__binary_index"]], "<u4").reshape(-1, 8)
        centres = words[:, :3].copy().view("<f4") * props["scale"]
        triangle = words[:, 4:7].copy().view("<f2").astype(np.float32) * props["scale"] ** 2
        colours = words[:, 7:].copy().view("u1") / 255
        return np.concatenate([centres, triangle, colours], axis=1)


def fit_blur(contents: SceneContents) -> torch.Tensor:
    """What 0.3 square pixels of the photo are at each splat, square metres."""
    focal = float(contents.camera.intrinsics[0, 0, 0])
    return (0.3 * (contents.gaussians.means.norm(dim=-1) / focal) ** 2)[:, None]


def test_the_page_holds_the_splats_where_and_as_they_are(scene_dir: Path, tmp_path: Path) -> None:
    facts = write_page(Shown.read(scene_dir, ViewRecipe()), tmp_path / "viewer.html")
    page = (tmp_path / "viewer.html").read_text()
    splats = read_splats(scene_dir / "reconstruct/splats.ply")
    assert facts.num_splats == len(splats) == 96 * 64
    assert facts.size_bytes == (tmp_path / "viewer.html").stat().st_size
    rows = Embedded.of(page).splats()
    contents = SceneContents.read(scene_dir)
    metre = 1 / unit_m(contents)
    assert np.allclose(rows[:, :3], metre * splats.means.numpy(), atol=1e-5)
    variance = metre**2 * (splats.scales_m**2 + fit_blur(contents)).numpy()
    # Half floats carry eleven bits.
    assert np.allclose(rows[:, [3, 6, 8]], variance, rtol=1e-3)
    assert np.allclose(rows[:, [4, 5, 7]], 0, atol=1e-9)
    colours = (0.5 + 0.28209479 * splats.sh[:, 0]).clamp(0, 1).numpy()
    assert np.abs(rows[:, 9:12] - colours).max() < 1.01 / 255
    assert np.abs(rows[:, 12] - splats.opacities.numpy()).max() < 1.01 / 255


def test_tiny_and_huge_scenes_keep_the_shape_of_their_splats(scene_dir: Path) -> None:
    contents = SceneContents.read(scene_dir)
    for factor in (1e-3, 1e3):
        gaussians = contents.gaussians
        scaled = type(gaussians)(
            gaussians.means * factor,
            gaussians.quaternions,
            gaussians.log_scales + float(np.log(factor)),
            gaussians.opacity_logits,
            gaussians.sh,
        )
        photo = replace(contents.photo, depth_m=contents.photo.depth_m * factor)
        depth_m = contents.median_depth_m * factor
        moved = replace(contents, gaussians=scaled, photo=photo, median_depth_m=depth_m, paths=[])
        page, _ = page_of(moved)
        rows = Embedded.of(page.decode()).splats()
        # Four units are the median depth, whatever the scene's size.
        variance = (4 / depth_m) ** 2 * (scaled.scales_m**2 + fit_blur(moved))
        assert np.allclose(rows[:, [3, 6, 8]], variance.numpy(), rtol=1e-3), factor


def test_the_page_opens_at_the_photo_and_draws_the_paths(scene_dir: Path, tmp_path: Path) -> None:
    write_page(Shown.read(scene_dir, ViewRecipe()), tmp_path / "viewer.html")
    embedded = Embedded.of((tmp_path / "viewer.html").read_text())
    contents = SceneContents.read(scene_dir)
    assert np.allclose(embedded.one("SetCameraPositionMessage")["position"], 0)
    assert np.allclose(embedded.one("SetCameraLookAtMessage")["look_at"], [0, 0, 4])
    assert np.allclose(embedded.one("SetCameraUpDirectionMessage")["position"], [0, -1, 0])
    fov = embedded.one("SetCameraFovMessage")["fov"]
    assert 32 / np.tan(fov / 2) == pytest.approx(float(contents.camera.intrinsics[0, 1, 1]), rel=1e-5)
    assert embedded.one("SetCameraNearMessage")["near"] < 0.01 * 4
    assert embedded.one("SetCameraFarMessage")["far"] > 100 * 4
    names = {m["name"] for m in embedded.messages if "name" in m}
    for path in Plan.read(scene_dir / "plan").paths:
        assert f"/paths/{path.name}/line" in names
        assert any(re.fullmatch(rf"/paths/{path.name}/\d+", n) for n in names), "a frustum"
    lines = [m for m in embedded.messages if m["type"] == "LineSegmentsMessage"]
    points = np.frombuffer(embedded.buffers[lines[0]["props"]["points"]["__binary_index"]], "<f4")
    centres = contents.paths[0].cameras.centres.numpy() / unit_m(contents)
    assert np.allclose(points.reshape(-1, 2, 3), np.stack([centres[:-1], centres[1:]], 1), atol=1e-6)


def test_the_page_is_sealed_against_the_network(scene_dir: Path, tmp_path: Path) -> None:
    write_page(Shown.read(scene_dir, ViewRecipe()), tmp_path / "viewer.html")
    page = (tmp_path / "viewer.html").read_text()
    assert "<title>ball &amp; wall - worldstereo</title>" in page
    policy = re.search(r'<head><meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy, "first thing in the head, before anything could be loaded"
    for directive in policy[1].split(";"):
        # Nothing that names a host or a scheme with hosts: only what the page itself carries.
        assert set(directive.split()[1:]) <= {"'none'", "'unsafe-inline'", "'unsafe-eval'", "blob:", "data:"}
    assert "default-src 'none'" in policy[1]
    bare = re.sub(r'__VISER_EMBED_DATA__="[^"]*"', "", page)
    addresses = set(re.findall(r"(?:https?|wss?)://[\w.-]+", bare))
    assert addresses <= {"http://www.w3.org"}, "XML namespaces are names, not addresses"
    assert not re.search(r"""(?:src|href)\s*=\s*["']//""", bare)


def test_what_shows_least_is_left_out_of_a_page_that_would_be_too_large(scene_dir: Path) -> None:
    contents = SceneContents.read(scene_dir)
    faint = torch.zeros(len(contents.gaussians), dtype=torch.bool)
    faint[::3] = True
    logits = torch.where(faint, -5.0, contents.gaussians.opacity_logits)
    g = contents.gaussians
    dimmed = type(g)(g.means, g.quaternions, g.log_scales, logits, g.sh)
    contents = replace(contents, gaussians=dimmed)
    whole, count = page_of(contents)
    assert count == 96 * 64
    empty = len(page_of(replace(contents, gaussians=dimmed[:1], paths=[]))[0])
    limit = empty + int(0.75 * (len(whole) - empty))
    page, shown = page_of(contents, limit)
    assert len(page) <= limit
    assert 0.5 * count < shown < 0.8 * count
    opacities = Embedded.of(page.decode()).splats()[:, 12]
    dropped_bright = int((~faint).sum()) - int((opacities > 0.5).sum())
    assert dropped_bright <= max(0, int((~faint).sum()) - shown), "faint ones go first"
    with pytest.raises(ValueError, match="size of the viewer"):
        page_of(contents, 1000)


def test_an_unfinished_scene_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="reconstruct"):
        show(tmp_path, Recipe(), "cpu", silent)
    assert not (tmp_path / "viewer.html").exists()


def test_the_live_server_answers_on_loopback_and_says_nothing_on_stdout(
    scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = SceneContents.read(scene_dir)
    with viser_server() as server:
        fill(server, contents, contents.gaussians)
        port = server.get_port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.status == 200
            assert "shaderSource" in answer.read().decode(), "the mended client"
        with pytest.raises(InputError, match=f"Port {port} is taken") as caught:
            serve(scene_dir, ViewRecipe(), port=port, open_browser=False, announce=print)
        assert "--port" in caught.value.remedy
    assert capsys.readouterr().out == ""


def test_requests_that_are_not_a_browsers_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    with viser_server() as server:
        address = ("127.0.0.1", server.get_port())
        for method in ("HEAD", "POST"):
            connection = http.client.HTTPConnection(*address, timeout=10)
            connection.request(method, "/")
            with pytest.raises(http.client.RemoteDisconnected):
                connection.getresponse()
            connection.close()
        with socket.create_connection(address, timeout=10) as scan:
            scan.sendall(b"\x16\x03\x01\n")
            assert scan.recv(100) == b""
        with urllib.request.urlopen(f"http://127.0.0.1:{address[1]}/", timeout=10) as answer:
            assert answer.status == 200
    assert caplog.records == []


def overlaid(contents: SceneContents) -> dict[str, Any]:
    """The data of the overlay."""
    text = overlay(contents, contents.paths, unit_m(contents))
    found = re.search(r"const scene = (\{.*\});\n", text)
    assert found
    return dict(json.loads(found[1]))


def test_the_page_tells_how_to_move_what_was_invented_and_by_what(scene_dir: Path, tmp_path: Path) -> None:
    write_page(Shown.read(scene_dir, ViewRecipe()), tmp_path / "viewer.html")
    page = (tmp_path / "viewer.html").read_text()
    for words in ("W A S D", "wheel", "one finger", "pinch", "Photo view", 'id="ws-invented"'):
        assert words in page, words
    contents = SceneContents.read(scene_dir)
    told = " ".join(overlaid(contents)["about"])
    assert "100 % of the points come from the photo. 0 % are invented" in told
    assert "by warp, which continues visible surfaces and uses no model" in told
    assert "Depth by a depth file; scale given." in told
    guessed = replace(
        contents, about=About("depth-pro", "worldstereo-memory", 600, 300, "assumed"), name="</script>"
    )
    told = " ".join(overlaid(guessed)["about"])
    assert "67 % of the points come from the photo. 33 % are invented" in told
    assert "by worldstereo-memory" in told
    assert "Depth by depth-pro" in told
    assert "scale assumed" in told
    assert overlay(guessed, [], 1.0).count("</script>") == 1


def test_the_overlay_flies_the_planned_paths_from_the_photo(scene_dir: Path) -> None:
    contents = SceneContents.read(scene_dir)
    data = overlaid(contents)
    assert [(path["name"], path["is_loop"]) for path in data["paths"]] == [("right", False), ("eloop", True)]
    for told, path in zip(data["paths"], contents.paths, strict=True):
        poses = torch.tensor(told["poses"])
        assert torch.allclose(poses[0], torch.tensor(data["photo"]), atol=1e-4)
        assert torch.allclose(poses[:, 2:5], path.cameras.centres / unit_m(contents), atol=1e-4)
        ahead = torch.nn.functional.normalize(poses[:, 5:8] - poses[:, 2:5], dim=-1)
        assert torch.allclose(ahead, path.cameras.world_from_camera[:, :3, 2], atol=1e-4)
        assert torch.allclose(poses[:, 8:], -path.cameras.world_from_camera[:, :3, 1], atol=1e-4)
    across, upright = data["photo"][:2]
    assert across / upright == pytest.approx(96 / 64, abs=1e-3)


def test_the_page_flies_as_far_as_the_video(scene_dir: Path, tmp_path: Path) -> None:
    root = chosen_by_auto(scene_dir, tmp_path / "scene")
    recipe = override_recipe(
        Recipe(),
        [f"view.flythrough_{word}" for word in ("max_unseen=0.02", "fps=3", "seconds=1", "long_side_px=64")],
    )
    show(root, recipe, "cpu", silent)
    found = re.search(r"const scene = (\{.*\});\n", (root / "viewer.html").read_text())
    assert found
    told = json.loads(found[1])
    contents = SceneContents.read(root)
    flown = paths_to_fly(contents, 0.02)
    assert float(reach(flown[0].cameras)) < 0.6 * float(reach(contents.paths[0].cameras))
    for path, leg, page in zip(flown, plan_legs(flown, recipe.view), told["paths"], strict=True):
        assert page["name"] == path.name
        places = torch.tensor(page["poses"])[:, 2:5] * unit_m(contents)
        assert torch.allclose(places, path.cameras.centres, atol=1e-4)
        # Of three frames there and back, the middle one is the far end.
        if not page["is_loop"]:
            assert float((places - places[:1]).norm(dim=-1).max()) == pytest.approx(
                float(reach(leg.cameras)), abs=1e-3
            )
    assert "as far as the photo still fills most" in told["about"][-1]
    assert "as far as the photo" not in overlaid(SceneContents.read(scene_dir))["about"][-1]


def test_splats_that_the_photo_does_not_show_are_told_apart(scene_dir: Path) -> None:
    contents = SceneContents.read(scene_dir)
    assert bool(contents.shown_by_photo(contents.gaussians).all())
    assert overlaid(contents)["has_invented"] is False
    invented = with_invented(contents)
    shown = invented.shown_by_photo(invented.gaussians)
    assert bool(shown[: 96 * 64].all())
    assert not bool(shown[96 * 64 :].any())
    assert overlaid(invented)["has_invented"] is True
    embedded = Embedded.of(page_of(invented)[0].decode())
    assert len(embedded.splats("/splats/seen")) == 96 * 64
    assert len(embedded.splats("/splats/invented")) == 3 * 81

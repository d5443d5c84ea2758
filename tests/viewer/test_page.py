"""The viewer page: whole, sealed, within its limit, and right in a real browser."""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
import shutil
import socket
import subprocess
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import zstandard
from PIL import Image

from tests import scenes
from worldstereo_cli.artifacts.scene import Plan
from worldstereo_cli.artifacts.splats import read_splats
from worldstereo_cli.errors import ArtifactError, InputError
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.pipeline.bindings import show
from worldstereo_cli.progress import silent
from worldstereo_cli.recipe import Recipe, ViewRecipe, override_recipe
from worldstereo_cli.viewer.contents import About, SceneContents
from worldstereo_cli.viewer.flights import paths_to_fly
from worldstereo_cli.viewer.flythrough import plan_legs
from worldstereo_cli.viewer.live import fill, serve, unit_m, viser_server
from worldstereo_cli.viewer.overlay import overlay
from worldstereo_cli.viewer.page import page_within, write_page


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


def page_of(contents: SceneContents, max_bytes: int = 40_000_000) -> tuple[bytes, int]:
    return page_within(contents, overlay(contents, contents.paths, unit_m(contents)), max_bytes)


def fit_blur(contents: SceneContents) -> torch.Tensor:
    """What 0.3 square pixels of the photo are at each splat, square metres."""
    focal = float(contents.camera.intrinsics[0, 0, 0])
    return (0.3 * (contents.gaussians.means.norm(dim=-1) / focal) ** 2)[:, None]


def test_the_page_holds_the_splats_where_and_as_they_are(scene_dir: Path, tmp_path: Path) -> None:
    facts = write_page(scene_dir, tmp_path / "viewer.html", ViewRecipe())
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
    write_page(scene_dir, tmp_path / "viewer.html", ViewRecipe())
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
    write_page(scene_dir, tmp_path / "viewer.html", ViewRecipe())
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
        write_page(tmp_path, tmp_path / "viewer.html", ViewRecipe())
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
    write_page(scene_dir, tmp_path / "viewer.html", ViewRecipe())
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


def chosen_by_auto(scene_dir: Path, root: Path) -> Path:
    """A copy of a scene whose first path `auto` chose; what was made for it stays."""
    shutil.copytree(scene_dir, root)
    manifest = json.loads((root / "plan" / "artifact.json").read_text())
    manifest["facts"]["paths"][0]["requested"] = "auto: right-40"
    (root / "plan" / "artifact.json").write_text(json.dumps(manifest))
    return root


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


def reach(path: Cameras) -> torch.Tensor:
    """How far a path goes from its start, metres."""
    return (path.centres - path.centres[:1]).norm(dim=-1).max()


def with_invented(contents: SceneContents) -> SceneContents:
    """The same scene with red splats left of the photo's view, behind the ball, and behind the camera."""
    places = torch.tensor([[-2.6, 0.0, 2.5], [0.3, 0.2, 4.5], [0.0, 0.0, -3.0]])
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-0.25, 0.25, 9)] * 2, indexing="ij"), -1).reshape(
        -1, 2
    )
    means = (places[:, None] + torch.nn.functional.pad(grid, (0, 1))).reshape(-1, 3)
    g, count = contents.gaussians, len(means)
    red = torch.tensor([0.5, -0.5, -0.5]) / 0.28209479
    extra = [
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        torch.full((count, 3), math.log(0.05)),
        torch.full((count,), 4.0),
        red.expand(count, 1, 3),
    ]
    own = [g.means, g.quaternions, g.log_scales, g.opacity_logits, g.sh]
    return replace(contents, gaussians=type(g)(*[torch.cat(pair) for pair in zip(own, extra, strict=True)]))


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


def at(root: Path, position: tuple[float, ...], target: tuple[float, ...]) -> str:
    """The query that opens a page elsewhere, given in metres."""
    unit = unit_m(SceneContents.read(root))
    place, towards = (",".join(f"{x / unit:.4f}" for x in xyz) for xyz in (position, target))
    return f"?initialCameraPosition={place}&initialCameraLookAt={towards}"


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("there is no Chromium on this machine")


def screenshot(
    page: Path, query: str, out: Path, budget_ms: int = 40_000, size: tuple[int, int] = (480, 320)
) -> tuple[np.ndarray[Any, Any], str]:
    """Open a page from disk in headless Chromium; returns the picture (h w 3) and the console."""
    result = subprocess.run(
        [
            chromium(), "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-background-networking",
            f"--user-data-dir={out.with_suffix('.profile')}", f"--virtual-time-budget={budget_ms}",
            f"--window-size={size[0]},{size[1]}", "--enable-logging=stderr", f"--screenshot={out}",
            f"{page.as_uri()}{query}",
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    console = "\n".join(line for line in result.stderr.splitlines() if "CONSOLE" in line)
    return np.array(Image.open(out).convert("RGB")).astype(float), console


@pytest.mark.slow
def test_a_browser_shows_the_photo_at_first_and_near_things_in_front_from_the_side(tmp_path: Path) -> None:
    photo = scenes.camera(240, 160)
    root = tmp_path / "scene"
    scenes.write_scene(root, scenes.room(), photo)
    write_page(root, root / "viewer.html", ViewRecipe())
    truth, _ = scenes.render(scenes.room(), scenes.camera(480, 320))
    expected = truth.permute(1, 2, 0).numpy() * 255
    # viser says at the top left that it draws in software, and has a button at the top right.
    shown = np.ones(expected.shape[:2], dtype=bool)
    shown[:150, :300] = False
    shown[:60, -60:] = False
    # The page's own bar and hint are at the bottom left.
    shown[-110:, :440] = False
    # viser fades the splats in, over a number of frames that a busy machine is slow to draw.
    for budget_ms in (40_000, 160_000, 640_000):
        picture, console = screenshot(root / "viewer.html", "", tmp_path / "front.png", budget_ms)
        if abs(np.median((picture - expected)[shown])) < 4:
            break
    for channel in range(3):
        ours, theirs = picture[shown][:, channel], expected[shown][:, channel]
        assert np.corrcoef(ours, theirs)[0, 1] > 0.95
        assert abs(np.median(ours - theirs)) < 4, "sRGB comes out as it went in"
    assert "Content Security Policy" not in console
    assert "Refused" not in console
    # From the right: the ball hides a part of the floor that comes later in the file.
    side, console = screenshot(
        root / "viewer.html",
        at(root, (2.5, -1.5, 1), (0.3, 0.2, 3)),
        tmp_path / "side.png",
    )
    red, green, _ = side[175:215, 185:245].reshape(-1, 3).mean(0)
    assert red > 1.5 * green, "the ball is in front of the floor"
    floor_red, floor_green, _ = side[250:290, 230:330].reshape(-1, 3).mean(0)
    assert floor_green > 1.3 * floor_red
    assert "Refused" not in console
    # From ten times as far, every splat is a small part of a pixel, and the wall still a wall.
    far, _ = screenshot(root / "viewer.html", at(root, (0, 0, -30), (0, 0, 3)), tmp_path / "far.png")
    red, _, blue = far[140:158, 215:232].reshape(-1, 3).mean(0)
    assert blue > 1.2 * red
    assert blue > 80


@pytest.mark.slow
def test_splats_of_a_small_photo_stay_closed_in_a_large_window(tmp_path: Path) -> None:
    root = tmp_path / "scene"
    gaussians = scenes.write_scene(root, scenes.wall(), scenes.camera(96, 64))
    # As narrow as the fit starts: the blur of the rasteriser closes what is between them.
    narrow = replace(gaussians, log_scales=gaussians.log_scales + math.log(0.45 / 0.75))
    contents = replace(SceneContents.read(root), gaussians=narrow, paths=[])
    (root / "viewer.html").write_bytes(page_of(contents)[0])
    truth, _ = scenes.render(scenes.wall(), scenes.camera(960, 640))
    expected = truth.permute(1, 2, 0).numpy() * 255
    for budget_ms in (40_000, 160_000):
        picture, _ = screenshot(root / "viewer.html", "", tmp_path / "large.png", budget_ms, (960, 640))
        middle = (slice(200, 440), slice(340, 900))
        if abs((picture - expected)[middle].mean()) < 4:
            break
    # Gaps between splats would show as dots ten pixels apart, darker by tens of grey levels.
    off = np.abs(picture - expected)[middle]
    assert off.mean() < 4
    assert np.percentile(off, 99) < 12


@pytest.mark.slow
def test_buttons_hide_what_was_invented_and_return_to_the_photo(tmp_path: Path) -> None:
    root = tmp_path / "scene"
    scenes.write_scene(root, scenes.room(), scenes.camera(96, 64))
    contents = replace(with_invented(SceneContents.read(root)), paths=[])
    page = page_of(contents)[0].decode()

    def red_after(name: str, actions: str) -> int:
        """Press buttons once the scene is there, and count red pixels."""
        script = f"""<script>
            const ready = () => window.__viserSceneTree?.getState()["/splats/invented"]
              ? setTimeout(() => {{ const id = (name) => document.getElementById(name); {actions} }}, 3000)
              : setTimeout(ready, 100);
            addEventListener("load", ready);</script>"""
        path = tmp_path / f"{name}.html"
        path.write_text(page.replace("</title>", f"</title>{script}", 1))
        query = at(root, (-1.5, 0, 0), (-1.5, 0, 4))
        picture, console = screenshot(path, query, tmp_path / f"{name}.png", 60_000)
        assert "Uncaught" not in console
        red, green, blue = picture[:, :, 0], picture[:, :, 1], picture[:, :, 2]
        return int(((red > 150) & (green < 60) & (blue < 60)).sum())

    assert red_after("as_it_opens", "") > 200
    assert red_after("hidden", "id('ws-invented').click();") == 0
    assert red_after("photo", "id('ws-photo').click();") == 0, "there the photo's own view is shown"


@pytest.mark.slow
def test_a_browser_flies_along_a_path_as_far_as_the_video_and_back(scene_dir: Path, tmp_path: Path) -> None:
    root = chosen_by_auto(scene_dir, tmp_path / "scene")
    contents = SceneContents.read(root)
    flown = paths_to_fly(contents, 0.02)
    write_page(root, root / "viewer.html", ViewRecipe(flythrough_max_unseen=0.02))
    page = (root / "viewer.html").read_text()
    # What the page tells the client, until it is back at the photo for half a second.
    script = """<script>
        const ready = () => window.__viserSceneTree?.getState()["/paths"] ? start() : setTimeout(ready, 100);
        const start = () => {
          const places = [], queue = window.__viserMutable.messageQueue, push = queue.push.bind(queue);
          queue.push = (...messages) => {
            for (const m of messages) if (m.type === "SetCameraPositionMessage") places.push(m.position);
            return push(...messages);
          };
          // Virtual time goes on without frames that a busy machine has not drawn, but not without timers.
          window.requestAnimationFrame = (step) => setTimeout(() => step(performance.now()), 100);
          const paths = document.getElementById("ws-paths");
          paths.selectedIndex = 1;
          paths.dispatchEvent(new Event("change", { bubbles: true }));
          const hidden = document.getElementById("ws-hint").hidden;
          setTimeout(() => console.log("FLOWN " + JSON.stringify({ places, hidden }) + " END"), 9000);
        };
        addEventListener("load", ready);</script>"""
    path = tmp_path / "flight.html"
    path.write_text(page.replace("</title>", f"</title>{script}", 1))
    _, console = screenshot(path, "", tmp_path / "flight.png", 40_000, (240, 160))
    found = re.search(r"FLOWN (\{.*\}) END", console)
    assert found, console
    told = json.loads(found[1])
    assert told["hidden"], "the hint is out of the way"
    places = torch.tensor(told["places"]) * unit_m(contents)
    away = (places - contents.camera.centres).norm(dim=-1)
    assert float(away.max()) == pytest.approx(float(reach(flown[0].cameras)), rel=0.02)
    assert float(away[-1]) < 1e-5, "it lands at the photo's view"
    assert float(reach(flown[0].cameras)) < 0.6 * float(reach(contents.paths[0].cameras))

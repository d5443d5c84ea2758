"""The viewer page in a real browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import scenes
from tests.viewer.pages import chosen_by_auto, page_of, reach, with_invented
from worldstereo_cli.recipe import ViewRecipe
from worldstereo_cli.viewer.contents import SceneContents
from worldstereo_cli.viewer.flights import Shown, paths_to_fly
from worldstereo_cli.viewer.live import unit_m
from worldstereo_cli.viewer.page import write_page


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
    write_page(Shown.read(root, ViewRecipe()), root / "viewer.html")
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
    write_page(Shown.read(root, ViewRecipe(flythrough_max_unseen=0.02)), root / "viewer.html")
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

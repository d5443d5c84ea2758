"""The scene in viser: what the page holds, and what `view` serves on this machine."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import math
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.cameras import Cameras, fov_from_focal
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.geometry.rigid import quaternion_from_rotation, rotation_from_quaternion
from worldstereo_cli.recipe import ViewRecipe
from worldstereo_cli.splatting.rasterize.limits import DILATION_PX2
from worldstereo_cli.viewer.client import mended_client
from worldstereo_cli.viewer.contents import SceneContents
from worldstereo_cli.viewer.flights import Shown
from worldstereo_cli.viewer.overlay import overlay

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""
_UNITS_PER_DEPTH = 4.0
"""See `unit_m`."""
_FINE_UNITS_PER_DEPTH = 100.0
"""viser keeps covariances as half floats, which lose everything below 6e-8. In units of a hundredth of
the median depth, a splat as large as a pixel (about 1/700 of its depth) has 2e-2, and splats from a
hundredth to a hundred median depths stay within the format's range."""
_PATH_COLOURS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167)]
_FRUSTA_PER_PATH = 4
_FRUSTUM_DEPTHS = 0.06
"""Length of a drawn frustum in median depths."""
_LOOPBACK = "127.0.0.1"


def serve(
    scene_dir: Path, recipe: ViewRecipe, *, port: int, open_browser: bool, announce: Callable[[str], None]
) -> None:
    """Serve a scene to browsers on this machine until interrupted.

    Args:
        scene_dir: A finished scene.
        recipe: How far paths are flown, as in the flythrough.
        port: The port of the loopback address; 0 takes any that is free.
        open_browser: Open the page in the default browser.
        announce: Told the address in one line.

    Raises:
        ArtifactError: The scene is not finished.
        InputError: The port is taken or not allowed.
    """
    shown = Shown.read(scene_dir, recipe)
    contents = shown.contents
    over = overlay(contents, shown.flown, unit_m(contents))

    def client(page: str) -> str:
        return mended_client(page, contents.name, overlay=over)

    with viser_server(port, client) as server:
        fill(server, contents, contents.gaussians)
        address = f"http://{_LOOPBACK}:{server.get_port()}"
        announce(f"{address}  (Ctrl-C ends)")
        if open_browser:
            webbrowser.open(address)
        # Interrupting the wait is how this ends; `cli.main` turns that into its exit code.
        threading.Event().wait()


def _bare_client(page: str) -> str:
    return mended_client(page, "scene")


@contextmanager
def viser_server(port: int = 0, client: Callable[[str], str] = _bare_client) -> Iterator[Any]:
    """Run a viser server on the loopback address; it says nothing on stdout.

    Args:
        port: 0 takes any that is free.
        client: Makes the page that browsers get from viser's own.

    Raises:
        InputError: The port is taken or not allowed.
    """
    _require_port(port)
    import viser

    with tempfile.TemporaryDirectory(prefix="worldstereo-") as folder:
        # viser greets on stdout, which belongs to results.
        with contextlib.redirect_stdout(io.StringIO()), _client_served_from(Path(folder), client):
            server = viser.ViserServer(host=_LOOPBACK, port=port, verbose=False)
        log = logging.getLogger("websockets.server")
        log.addFilter(_is_no_odd_request)
        try:
            yield server
        finally:
            with contextlib.redirect_stdout(io.StringIO()):
                server.stop()
            log.removeFilter(_is_no_odd_request)


def _is_no_odd_request(record: logging.LogRecord) -> bool:
    """Pass over what is not a browser's GET: a HEAD, or a port scan.

    The library hangs up on these, as it should, and logs a traceback for each.
    """
    return record.getMessage() != "opening handshake failed"


@contextmanager
def _client_served_from(folder: Path, client: Callable[[str], str]) -> Iterator[None]:
    """Let the viser servers that start in this block serve another client; they take no such option."""
    from viser import infra

    original = infra.WebsockServer

    def mended(*, http_server_root: Path, **options: Any) -> Any:  # noqa: ANN401
        page = (http_server_root / "index.html").read_text(encoding="utf-8")
        (folder / "index.html").write_text(client(page), encoding="utf-8", errors="replace")
        return original(http_server_root=folder, **options)

    infra.WebsockServer = mended
    try:
        yield
    finally:
        infra.WebsockServer = original


def unit_m(contents: SceneContents) -> float:
    """Return how many metres are one unit of length for viser.

    Its keys move the camera by two units a second, and its wheel stops a hundredth of a unit away: with
    four units to the median depth, a macro and a mountain are walked through alike.
    """
    return contents.median_depth_m / _UNITS_PER_DEPTH


def fill(server: Any, contents: SceneContents, gaussians: Gaussians) -> None:  # noqa: ANN401
    """Put splats, paths and the opening view into a viser server, in units of `unit_m`.

    Args:
        server: A `viser.ViserServer` (the library has no types that mypy reads).
        contents: The scene; its paths are drawn as lines with a frustum here and there.
        gaussians: What is shown of it, all or a part. What the photo shows and what was invented can be
            hidden one by one. viser has one colour for a splat, so view-dependent colour is left out.
    """
    server.scene.set_up_direction("-y")
    seen = contents.shown_by_photo(gaussians)
    for name, chosen in (("seen", seen), ("invented", ~seen)):
        if bool(chosen.any()):
            _add_splats(server, f"/splats/{name}", gaussians[chosen], contents)
    server.scene.add_frame("/paths", show_axes=False)
    for number, path in enumerate(contents.paths):
        colour = _PATH_COLOURS[number % len(_PATH_COLOURS)]
        _add_path(server, f"/paths/{path.name}", path.cameras, colour, contents)
    _open_at(server, contents)


def _require_port(port: int) -> None:
    """Check that a port is free; viser would take another one without a word."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A port that a closed server left a moment ago is free, as it is for viser.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            raise InputError(
                f"Port {port} {'is taken' if taken else 'cannot be used'}.",
                remedy="Pass another one, or --port 0 for any that is free.",
            ) from error


def _add_splats(server: Any, name: str, gaussians: Gaussians, contents: SceneContents) -> None:  # noqa: ANN401
    fine_m = contents.median_depth_m / _FINE_UNITS_PER_DEPTH
    # Beyond the largest half float a covariance would become infinite, and its splat vanish.
    covariance = (_widened(gaussians, contents.camera) / fine_m**2).clamp(-65504, 65504)
    server.scene.add_gaussian_splats(
        name,
        centers=_numpy(gaussians.means / fine_m),
        covariances=_numpy(covariance),
        rgbs=_numpy((0.5 + SH_C0 * gaussians.sh[:, 0]).clamp(0, 1)),
        opacities=_numpy(gaussians.opacities[:, None]),
        scale=fine_m / unit_m(contents),
    )


def _widened(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "n 3 3"]:
    """Return the covariances with the blur under which the splats were fitted.

    Every rasteriser blurs splats by 0.3 square pixels of its own picture. In a window three times as large
    that is a ninth of what closed the gaps between them, and dots show. Here each splat takes along what
    the blur was at its distance from the photo's camera, so that it is magnified with the splat.

    Source: Yu et al., Mip-Splatting, CVPR 2024, section 4.1 (3D smoothing filter).
    """
    spread = rotation_from_quaternion(gaussians.quaternions) * gaussians.scales_m[:, None, :]
    away_m = (gaussians.means - camera.centres[0].to(gaussians.means)).norm(dim=-1)
    variance = DILATION_PX2 * (away_m / float(camera.intrinsics[0, 0, 0])) ** 2
    widened: Tensor = spread @ spread.transpose(1, 2) + variance[:, None, None] * torch.eye(3)
    return widened


def _add_path(
    server: Any,  # noqa: ANN401
    name: str,
    cameras: Cameras,
    colour: tuple[int, int, int],
    contents: SceneContents,
) -> None:
    metre = 1 / unit_m(contents)
    centres = _numpy(cameras.centres * metre)
    server.scene.add_line_segments(
        f"{name}/line",
        points=np.stack([centres[:-1], centres[1:]], axis=1),
        colors=colour,
        thickness=2.0,
        thickness_units="screen",
    )
    quaternions = _numpy(quaternion_from_rotation(cameras.world_from_camera[:, :3, :3]))
    size_m = _FRUSTUM_DEPTHS * contents.median_depth_m
    for index in np.unique(np.linspace(0, len(cameras) - 1, _FRUSTA_PER_PATH + 1).round().astype(int)):
        if _in_the_way(cameras[int(index)], size_m, contents):
            continue
        half_height = 0.5 * cameras.height_px / float(cameras.intrinsics[index, 1, 1])
        aspect = cameras.width_px / cameras.height_px
        # viser draws frusta of one volume; this makes one of a known length instead.
        scale = size_m * (half_height * half_height * aspect / 3) ** (1 / 3)
        server.scene.add_camera_frustum(
            f"{name}/{index:03d}",
            fov=2 * math.atan(half_height),
            aspect=aspect,
            scale=scale * metre,
            thickness=1.5,
            thickness_units="screen",
            color=colour,
            wxyz=quaternions[index],
            position=centres[index],
        )


def _in_the_way(camera: Cameras, size_m: float, contents: SceneContents) -> bool:
    """Say whether a line of a frustum would hang before the opening view, near the photo's camera."""
    w, h = camera.width_px, camera.height_px
    corners = torch.tensor([[0.0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]])
    rays = size_m * corners @ torch.linalg.inv(camera.intrinsics[0]).T
    ends = torch.cat([rays.roll(1, 0), torch.zeros(4, 3)])
    along = torch.linspace(0, 1, 33)[:, None, None]
    places = torch.lerp(torch.cat([rays, rays]), ends, along).reshape(-1, 3)
    pixels, depth = contents.camera.project(
        places @ camera.world_from_camera[0, :3, :3].T + camera.world_from_camera[0, :3, 3]
    )
    size = torch.tensor([contents.camera.width_px, contents.camera.height_px])
    # A window wider than the photo shows more to the sides: half as much again counts as seen.
    seen = ((pixels[0] - 0.5 * size).abs() < 0.75 * size).all(-1)
    return bool((seen & (depth[0] > 0) & (depth[0] < 0.25 * contents.median_depth_m)).any())


def _open_at(server: Any, contents: SceneContents) -> None:  # noqa: ANN401
    """Open at the photo's own view, and turn about the point at median depth."""
    camera = contents.camera
    pose = camera.world_from_camera[0].detach().cpu().double()
    position = pose[:3, 3] / unit_m(contents)
    opening = server.initial_camera
    opening.position = tuple(position.tolist())
    opening.look_at = tuple((position + _UNITS_PER_DEPTH * pose[:3, 2]).tolist())
    opening.up = tuple((-pose[:3, 1]).tolist())
    opening.fov = fov_from_focal(float(camera.intrinsics[0, 1, 1]), camera.height_px)
    # The defaults, a hundredth and a thousand units, would cut what is close and a mountain behind.
    opening.near = 2e-3 * _UNITS_PER_DEPTH
    opening.far = 1e4 * _UNITS_PER_DEPTH


def _numpy(values: torch.Tensor) -> Any:  # noqa: ANN401
    return values.detach().cpu().float().numpy()

"""The scene as one HTML file that opens from disk and asks nothing of the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from worldstereo_cli.artifacts.manifest import draft_file
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.viewer.client import mended_client
from worldstereo_cli.viewer.contents import SceneContents
from worldstereo_cli.viewer.flights import Shown
from worldstereo_cli.viewer.live import fill, unit_m, viser_server
from worldstereo_cli.viewer.overlay import overlay

MAX_PAGE_BYTES = 40_000_000
"""Mail, phones and repositories still take a page of this size. It holds some 1.6 million splats."""

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline';"
    " worker-src blob: data:; connect-src blob: data:; img-src blob: data:; font-src data:"
)
"""What the browser lets the page load: what is inside it, and nothing from any network."""


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What a written page holds."""

    num_splats: int
    """Splats in the page; fewer than the scene has where the size limit bites."""
    size_bytes: int


def write_page(shown: Shown, path: Path, *, max_bytes: int = MAX_PAGE_BYTES) -> PageFacts:
    """Write a scene as a self-contained viewer page.

    It opens at the photo's own view, and says how to move and what was invented. Where all splats do
    not fit into the limit, the ones that show least are left out.

    Args:
        shown: A finished scene, and what the page flies along.
        path: The HTML file; replaced if it exists.
        max_bytes: Upper bound of its size.

    Raises:
        BackendError: viser is of a version that writes another kind of page.
        ValueError: The viewer alone is larger than `max_bytes`.
    """
    over = overlay(shown.contents, shown.flown, unit_m(shown.contents))
    page, num_splats = page_within(shown.contents, over, max_bytes)
    with draft_file(path) as draft:
        draft.write_bytes(page)
    return PageFacts(num_splats, len(page))


def page_within(contents: SceneContents, over: str, max_bytes: int) -> tuple[bytes, int]:
    """Build the page with as many splats as fit.

    Args:
        contents: A finished scene.
        over: What lies over the picture: see `overlay`.
        max_bytes: Upper bound of the page's size.

    Returns:
        The page, and how many splats it shows.

    Raises:
        ValueError: Not even one splat fits.
    """
    gaussians = contents.gaussians
    order: torch.Tensor | None = None
    keep = len(gaussians)
    while True:
        shown = gaussians if order is None else gaussians[order[:keep].sort().values]
        page = _page(contents, shown, over)
        if len(page) <= max_bytes:
            return page, keep
        if order is None:
            order = _by_visibility(gaussians, contents.camera.centres[0])
        # Compression varies a little with what is left, hence the margin.
        keep = int(0.97 * keep * max_bytes / len(page))
        if keep < 1:
            raise ValueError(f"Expected a limit above the size of the viewer, got {max_bytes} bytes.")


def _by_visibility(gaussians: Gaussians, viewpoint: torch.Tensor) -> torch.Tensor:
    """Order splats by what they show from the photo's place: opacity times the area that they cover."""
    largest_two = gaussians.log_scales.sort(-1, descending=True).values[:, :2].sum(-1)
    distance = (gaussians.means - viewpoint).norm(dim=-1).clamp_min(1e-6)
    shown = gaussians.opacities.log() + largest_two - 2 * distance.log()
    order: torch.Tensor = shown.argsort(descending=True, stable=True)
    return order


def _page(contents: SceneContents, gaussians: Gaussians, over: str) -> bytes:
    with viser_server() as server:
        fill(server, contents, gaussians)
        page: str = server.get_scene_serializer().as_html(dark_mode=True)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    sealed = mended_client(page, contents.name, policy, over)
    # A directory's name may hold bytes that are no text.
    return sealed.encode(errors="replace")

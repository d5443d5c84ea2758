"""One generated scene that can be looked at from anywhere, with exact depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.training.scenes.renderer import SceneCameras, SceneRenderer, preview_srgb

PHOTOGRAPHED = ("room", "handheld", "tabletop", "street", "nature")
"""What people take photos of, among the categories."""
_MOST_SKY = 0.9


@dataclass(frozen=True, slots=True)
class PosedScene:
    """A seed of one category, and the camera that the grammar put there."""

    renderer: SceneRenderer
    name: str
    category: str
    seed: int
    camera: Cameras
    """A path of one."""
    image: Float[Tensor, "3 h w"]
    """sRGB in [0, 1]."""

    def depth(self, cameras: Cameras) -> Float[Tensor, "n h w"]:
        """Return exact depth for every camera, metres along the optical axis, infinite in the sky."""
        batch = self.renderer.render(
            [self.seed] * len(cameras),
            cameras.width_px,
            cameras.height_px,
            samples=1,
            mixture={self.category: 1.0},
            cameras=SceneCameras(cameras.world_from_camera, cameras.intrinsics),
        )
        return batch.depth_m


def posed_scenes(
    count: int,
    categories: Sequence[str] = PHOTOGRAPHED,
    width_px: int = 384,
    height_px: int = 256,
    first_seed: int = 1,
) -> list[PosedScene]:
    """Make scenes in which the grammar found a free place for its camera, and surface in front of it.

    Args:
        count: Of each category, the first seeds that serve.
        categories: Of `renderer.CATEGORIES`.
        width_px: Of the photos.
        height_px: Of the photos.
        first_seed: Where to begin.

    Raises:
        BackendError: There is no C++ compiler.
    """
    renderer = SceneRenderer()
    found = []
    for category in categories:
        seed, wanted = first_seed - 1, count
        while wanted:
            seed += 1
            batch = renderer.render([seed], width_px, height_px, samples=1, mixture={category: 1.0})
            if not bool(batch.valid[0]) or bool(batch.sky[0].float().mean() > _MOST_SKY):
                continue
            camera = Cameras(batch.world_from_camera, batch.intrinsics, width_px, height_px)
            image = preview_srgb(batch.rgb_linear)[0]
            found.append(PosedScene(renderer, f"{category} {seed}", category, seed, camera, image))
            wanted -= 1
    return found

"""Synthetic scenes with exact depth: a grammar, a ray tracer, and their assets.

`source/` holds one C++ program for GPU and CPU; read `source/generate.h` first, then `street.h`,
`indoor.h`, `furniture.h`, `things.h`. `renderer.py` runs it, `build.py` compiles it, `shapes.py` and
`plants.py` make meshes (`meshes.py`), `library.py` packs them with textures and skies, `settings.py` says
what is drawn how often.
"""

from worldstereo_cli.training.scenes.renderer import (
    SceneBatch,
    SceneCameras,
    SceneRenderer,
    preview_srgb,
)
from worldstereo_cli.training.scenes.settings import CATEGORIES, SceneSettings

__all__ = ["CATEGORIES", "SceneBatch", "SceneCameras", "SceneRenderer", "SceneSettings", "preview_srgb"]

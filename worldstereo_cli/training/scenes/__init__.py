"""Synthetic scenes with exact depth: a grammar, a ray tracer, and their assets.

`source/` holds one C++ program for GPU and CPU; read `source/generate.h` first, then `street.h`,
`indoor.h`, `furniture.h`, `things.h`. `renderer.py` runs it, `build.py` compiles it, `shapes.py` and
`plants.py` make meshes (`meshes.py`), `library.py` packs them with textures and skies.
"""

from worldstereo_cli.training.scenes.renderer import (
    CATEGORIES,
    DEFAULT_MIXTURE,
    SceneBatch,
    SceneCameras,
    SceneRenderer,
    preview_srgb,
)

__all__ = ["CATEGORIES", "DEFAULT_MIXTURE", "SceneBatch", "SceneCameras", "SceneRenderer", "preview_srgb"]

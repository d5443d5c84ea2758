"""Cut texture tiles out of pictures, and read high dynamic range panoramas."""

import base64
import re
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from worldstereo_cli.errors import BackendError
from worldstereo_cli.training.assets.pack import PANORAMA_SHAPE, TILE_SIZE, encode_tile

CROPS_PER_TEXTURE = 3
CROPS_PER_PHOTO = 24


def texture_tiles(path: Path, kind: str, rng: np.random.Generator) -> list[bytes]:
    """The whole picture as a tile, and random crops of it.

    Args:
        path: A picture file.
        kind: "texture", or "photo" which gives more crops.
        rng: Chooses the crops.
    """
    with Image.open(path) as image:
        picture = image.convert("RGB")
    tiles = [encode_tile(picture)]
    short = min(picture.size)
    for _ in range(CROPS_PER_PHOTO if kind == "photo" else CROPS_PER_TEXTURE):
        edge = int(short * rng.uniform(0.25, 0.9))
        if edge < TILE_SIZE // 2:
            continue
        x, y = (int(rng.integers(0, n - edge + 1)) for n in picture.size)
        tiles.append(encode_tile(picture.crop((x, y, x + edge, y + edge))))
    return tiles


def read_panorama(path: Path) -> npt.NDArray[np.float16]:
    """An equirectangular map at the pack's size, scaled to mean luminance 1.

    Args:
        path: An .exr file, or a JavaScript module that holds one in base64 (.exr.js).

    Raises:
        BackendError: The OpenEXR package is missing.
    """
    try:
        import OpenEXR  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise BackendError("Panoramas are OpenEXR files.", remedy="pip install OpenEXR") from error
    with tempfile.TemporaryDirectory() as folder:
        source = path
        if path.suffix == ".js":
            match = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text())
            if match is None:
                raise ValueError(f"Expected base64 data in {path}, got none")
            source = Path(folder) / "panorama.exr"
            source.write_bytes(base64.b64decode(match[1]))
        pixels = np.asarray(OpenEXR.File(str(source)).channels()["RGB"].pixels, np.float64)
    height, width = PANORAMA_SHAPE
    blocks = pixels.reshape(height, pixels.shape[0] // height, width, pixels.shape[1] // width, 3).mean(
        (1, 3)
    )
    area = np.sin((np.arange(height) + 0.5) / height * np.pi)[:, None]
    luminance = (blocks.mean(-1) * area).sum() / (area.sum() * width)
    scaled: npt.NDArray[np.float16] = (blocks / luminance).clip(0, 6e4).astype(np.float16)
    return scaled

"""Any photograph as sRGB pixels, with the focal length that its EXIF tells.

What is done to a picture, in this order: decoded (the first frame of several), made smaller,
16 bits rounded to 8, its colour profile applied, laid over white where it is transparent, turned
upright.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from worldstereo_cli.artifacts.exif import focal_from_exif, orientation_of
from worldstereo_cli.artifacts.panorama import is_panorama
from worldstereo_cli.errors import InputError
from worldstereo_cli.geometry.images import fit_within

MAX_PIXELS = 200_000_000
"""A picture of more pixels is refused before it is decoded: a few bytes can claim any size."""

MIN_SIDE_PX = 32
"""Below this, after fitting, there is nothing to lift."""

_RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")
"""Some of these are TIFF inside and would silently give their thumbnail."""

_FORMATS = "Use JPEG, PNG, WebP, HEIC or TIFF."
_DEPTHS = "Export it with 8 or 16 bits."

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What undoes each EXIF orientation."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph ready to be lifted."""

    image: Float[Tensor, "3 h w"]
    """sRGB in [0, 1], upright."""
    focal_px: float | None
    """From EXIF, in pixels of `image`; None if EXIF has none that can be trusted."""
    original_width_px: int
    """Of the file, upright."""
    original_height_px: int
    notes: tuple[str, ...]
    """What was done to it that its owner may want to know, in words."""


def read_photo(path: Path, long_side_px: int) -> Photo:
    """Read a photograph of any common kind, no larger than asked for.

    Args:
        path: JPEG, PNG, WebP, HEIC, TIFF or anything else that Pillow reads; 8 or 16 bits; grey,
            palette, RGB or CMYK; with or without transparency, colour profile and EXIF.
        long_side_px: A larger picture is made this large, a smaller one is left alone.

    Raises:
        InputError: It cannot be read, is not a picture, is damaged, too large, too small, too
            narrow, or shows a single colour.
    """
    if path.suffix.lower() in _RAW_SUFFIXES:
        raise InputError(f"{path} is a raw camera file.", remedy="Export it as TIFF or JPEG first.")
    notes: list[str] = []
    with _opened(path) as picture:
        width, height = picture.size
        size = _fitted(path, width, height, long_side_px)
        focal, focal_note = focal_from_exif(picture, width, height)
        notes += focal_note
        # JPEG can decode at a half, a quarter or an eighth; twice the wanted size keeps it sharp.
        picture.draft(None, (2 * size[0], 2 * size[1]))
        picture.load()
        orientation = orientation_of(picture)
        upright = _turned(_srgb(picture, size, notes), orientation)
    if focal is not None:
        focal *= max(size) / max(width, height)
    # A decoder may have turned the picture itself: the wanted size says which way it came.
    swapped = (upright.width < upright.height) != (width < height)
    original = (height, width) if swapped else (width, height)
    if max(size) < max(original):
        notes.append(f"made smaller from {original[0]}x{original[1]}")
    pixels = np.asarray(upright)
    _refuse_flat(path, pixels)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    return Photo(image, focal, *original, tuple(notes))


def photo_size(path: Path, long_side_px: int) -> tuple[int, int]:
    """Look at the header of a photograph only.

    Returns:
        Width and height that `read_photo` will make of it, before EXIF turns it upright.

    Raises:
        InputError: It is not a picture, or too large, too small or too narrow.
    """
    with _opened(path) as picture:
        return _fitted(path, *picture.size, long_side_px)


def shows_panorama(path: Path) -> bool:
    """Tell whether a file holds a full panorama, which is no perspective picture.

    Raises:
        InputError: It is not a picture that can be read.
    """
    with _opened(path) as picture:
        return is_panorama(picture)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; put whatever goes wrong inside the block into words."""
    import pi_heif

    pi_heif.register_heif_opener()
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2  # Pillow refuses twice this
    try:
        with warnings.catch_warnings():
            # Of large pictures, which are welcome, and of damaged EXIF, which counts as none.
            warnings.simplefilter("ignore")
            if path.stat().st_size == 0:
                raise InputError(f"{path} is empty (0 bytes).", remedy="Copy the photo again.")
            with Image.open(path) as picture:
                yield picture
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} has more than {MAX_PIXELS // 1_000_000} megapixels.", remedy="Make it smaller first."
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture that can be read.", remedy=_FORMATS) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", remedy="Check the path.") from error
    # Pillow's decoders report damage by any of these.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise InputError(f"{path} is damaged: {error}.", remedy="Copy or export the photo again.") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _fitted(path: Path, width: int, height: int, long_side_px: int) -> tuple[int, int]:
    size = fit_within(width, height, long_side_px)
    if min(size) < MIN_SIDE_PX:
        shrunk = f", {size[0]}x{size[1]} after fitting" if max(width, height) > long_side_px else ""
        raise InputError(
            f"{path} is too small: {width}x{height} pixels{shrunk}.",
            remedy=f"Use a photo of at least {MIN_SIDE_PX} pixels on its shorter side.",
        )
    return size


def _srgb(picture: Image.Image, size: tuple[int, int], notes: list[str]) -> Image.Image:
    """Bring any mode to 8-bit sRGB of a size."""
    profile = picture.info.get("icc_profile")
    picture = _eight_bits(picture, notes)
    if picture.size != size:
        # Where a decoder has turned the picture already, its sides are swapped.
        if (picture.width < picture.height) != (size[0] < size[1]):
            size = size[::-1]
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    alpha = None
    if picture.mode in ("RGBA", "LA"):
        alpha = picture.getchannel("A")
        picture = picture.convert(picture.mode[:-1])
    picture = _through_profile(picture, profile, notes)
    if alpha is not None and alpha.getextrema() != (255, 255):
        picture = Image.composite(picture, Image.new("RGB", picture.size, "white"), alpha)
        notes.append("transparent parts laid over white")
    return picture


def _eight_bits(picture: Image.Image, notes: list[str]) -> Image.Image:
    """Bring a picture to L, LA, RGB, RGBA, CMYK or LAB.

    Raises:
        InputError: Its numbers are not those of a photograph.
    """
    mode = picture.mode
    if mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise InputError("The photo holds numbers beyond 16 bits.", remedy=_DEPTHS)
        notes.append("16 bits rounded to 8")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8), "L")
    if mode == "F":
        raise InputError(
            "The photo holds floating-point numbers, which have no agreed brightness.", remedy=_DEPTHS
        )
    if mode in ("P", "PA") or "transparency" in picture.info:
        return picture.convert("RGBA")
    if mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        return picture
    return picture.convert("RGBA" if mode == "RGBa" else "LA" if mode == "La" else "RGB")


def _through_profile(picture: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Convert to sRGB, through the embedded colour profile if there is a usable one."""
    if picture.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        except (ImageCms.PyCMSError, OSError):
            notes.append("damaged colour profile ignored")
            return picture.convert("RGB")
    else:
        if picture.mode == "CMYK":
            notes.append("CMYK without a colour profile, converted without one")
        return picture.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(
            picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except ImageCms.PyCMSError:
        notes.append("colour profile of another kind of picture ignored")
        return picture.convert("RGB")
    return converted if converted is not None else picture


def _turned(picture: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return picture if method is None else picture.transpose(method)


def _refuse_flat(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    low, high = pixels.min((0, 1)), pixels.max((0, 1))
    # A compressed flat picture wavers by a count or two.
    if int((high.astype(int) - low).max()) <= 3:
        colour = "all black" if high.max() <= 3 else "a single colour"
        raise InputError(f"{path} is {colour}: there is nothing to lift.", remedy="Use another photo.")

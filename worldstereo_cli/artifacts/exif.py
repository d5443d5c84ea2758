"""What EXIF says about the camera of a photograph: orientation and focal length."""

from __future__ import annotations

import math
import struct

from PIL import Image

FULL_FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)
"""35 mm equivalents are by the diagonal: the only length that cameras of all aspects share.

Source: CIPA DCG-001, definition of the 35 mm film equivalent focal length.
"""

_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
_FOCAL_MM, _FOCAL_35MM, _ZOOM = 0x920A, 0xA405, 0xA404
_WIDTH, _HEIGHT = 0xA002, 0xA003
_PLANE_X, _PLANE_UNIT = 0xA20E, 0xA210
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}

_SAME_ASPECT = 0.02
"""Aspects closer than this are the same: resizing rounds to pixels."""

_PLAUSIBLE = (0.25, 20.0)
"""Focal length over longer side: 127 degrees of a fisheye-like lens to a 1000 mm telephoto."""


def orientation_of(picture: Image.Image) -> int:
    """Return the EXIF orientation that is still to be undone, 1 to 8; 1 if there is none.

    Ask after the picture is loaded: some decoders turn it themselves and then drop the tag.
    """
    value = _tags(picture)[0].get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def focal_from_exif(picture: Image.Image, width_px: int, height_px: int) -> tuple[float | None, list[str]]:
    """Work out the focal length of a photograph from its EXIF.

    The 35 mm equivalent comes first (cameras include digital zoom in it), then the focal length in
    millimetres with the resolution of the sensor (times the digital zoom). A picture made smaller
    keeps its angle. One that was cropped (its aspect differs from the one the camera recorded) is
    still good if one side is whole; else the scale of the crop is unknown and EXIF is not trusted.

    Args:
        picture: An opened picture.
        width_px: Its size as stored.
        height_px: Its size as stored.

    Returns:
        The focal length in pixels of the stored picture, or None; and notes in words.

    Source: CIPA DC-008 (Exif 3.0), section 4.6.6, tags by name.
    """
    tags = _tags(picture)[1]
    recorded = (_number(tags.get(_WIDTH)), _number(tags.get(_HEIGHT)))
    shot = recorded if min(recorded) > 0 else (float(width_px), float(height_px))
    focal_of_shot = _focal_of_shot(tags, *shot)
    if focal_of_shot is None:
        return None, []
    scale = _scale_of_shot(shot, (width_px, height_px))
    if scale is None:
        return None, ["EXIF focal length ignored: the photo was cropped after it was taken"]
    focal = focal_of_shot * scale
    if not _PLAUSIBLE[0] < focal / max(width_px, height_px) < _PLAUSIBLE[1]:
        return None, [f"EXIF focal length ignored: {focal:.0f} pixels is not plausible"]
    return focal, []


def _focal_of_shot(tags: dict[int, object], width: float, height: float) -> float | None:
    """Return the focal length in pixels of the picture as the camera recorded it."""
    equivalent = _number(tags.get(_FOCAL_35MM))
    if equivalent > 0:
        return equivalent * math.hypot(width, height) / FULL_FRAME_DIAGONAL_MM
    focal_mm, per_unit = _number(tags.get(_FOCAL_MM)), _number(tags.get(_PLANE_X))
    unit = _MM_PER_UNIT.get(int(_number(tags.get(_PLANE_UNIT))) or 2)  # absent means inches
    if focal_mm > 0 and per_unit > 0 and unit is not None:
        return focal_mm * per_unit / unit * max(_number(tags.get(_ZOOM)), 1.0)
    return None


def _scale_of_shot(shot: tuple[float, float], now: tuple[int, int]) -> float | None:
    """Return the factor from pixels as shot to pixels of the file; None if it cannot be told."""
    # Turned by an editor, the recorded size may name the sides the other way round.
    if (shot[0] < shot[1]) != (now[0] < now[1]):
        shot = (shot[1], shot[0])
    ratios = (now[0] / shot[0], now[1] / shot[1])
    if abs(ratios[0] / ratios[1] - 1) < _SAME_ASPECT:
        return math.sqrt(ratios[0] * ratios[1])
    whole = [r for r in ratios if abs(r - 1) < 1e-3]
    return 1.0 if whole and max(ratios) < 1 + 1e-3 else None


def _tags(picture: Image.Image) -> tuple[dict[int, object], dict[int, object]]:
    """Return the tags of the picture and of its camera; EXIF that cannot be parsed holds none."""
    try:
        exif = picture.getexif()
        return dict(exif), dict(exif.get_ifd(_EXIF_IFD))
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error):
        return {}, {}


def _number(value: object) -> float:
    """Read a tag as a finite positive number; 0 if it is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0

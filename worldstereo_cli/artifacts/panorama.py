"""Whether a picture is a full panorama: all directions about a point, as longitude and latitude."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

_SAID_IN_XMP = re.compile(rb"ProjectionType\s*(?:=\s*[\"']|>)\s*equirectangular", re.IGNORECASE)
"""GPano:ProjectionType, as an attribute or as an element.

Source: Google, Photo Sphere XMP Metadata, https://developers.google.com/streetview/spherical-metadata
"""

_LOOKED_AT_PX = (512, 256)
"""Pictures are compared at this size: noise and the blocks of JPEG are gone, edges are not."""

_SEAM_STEPS = 2.0
"""The ends of a panorama differ as two neighbouring columns do; those of a photo, by many times that."""

_COMPRESSED = 2.0
"""And by what compression leaves, of 255."""

_LEAST_CONTRAST = 4.0
"""Standard deviation along an end, of 255: ends of one colour (frames, studio walls) match in any picture."""


def is_panorama(picture: Image.Image) -> bool:
    """Tell whether a picture is equirectangular: its metadata say so, or it is 2:1 and its ends meet.

    Args:
        picture: Opened, not yet loaded; is loaded at a small size where that has to be looked at.
    """
    # Readers of PNG may keep it as the text that it is stored as.
    told = [picture.info.get(key, b"") for key in ("xmp", "XML:com.adobe.xmp")]
    if any(_SAID_IN_XMP.search(xmp.encode() if isinstance(xmp, str) else xmp or b"") for xmp in told):
        return True
    if picture.width != 2 * picture.height:
        return False
    picture.draft("RGB", _LOOKED_AT_PX)
    small = picture.convert("RGB").resize(_LOOKED_AT_PX, Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32)
    first, last = pixels[:, 0], pixels[:, -1]
    if min(first.std(0).max(), last.std(0).max()) < _LEAST_CONTRAST:
        return False
    step = float(np.abs(np.diff(pixels, axis=1)).mean())
    return float(np.abs(first - last).mean()) <= _SEAM_STEPS * step + _COMPRESSED

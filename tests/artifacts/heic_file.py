"""Writes a small real HEIC file: one HEVC still in the boxes of ISO/IEC 23008-12.

The decoder that the package uses cannot write, so the picture is encoded by ffmpeg and boxed here.
"""

import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def _encoded(pixels: np.ndarray) -> tuple[list[bytes], bytes]:
    """Return the parameter sets and the length-prefixed picture."""
    height, width, _ = pixels.shape
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{width}x{height}", "-i", "-", "-frames:v", "1", "-pix_fmt", "yuv420p", "-c:v", "libx265",
        "-x265-params", "log-level=none:info=0:qp=10", "-f", "hevc", "-",
    ]  # fmt: skip
    stream = subprocess.run(command, input=pixels.tobytes(), capture_output=True, check=True).stdout
    units = [u.rstrip(b"\0") for u in stream.split(b"\0\0\1") if u.strip(b"\0")]
    kinds = [(u[0] >> 1) & 63 for u in units]
    headers = [u for u, kind in zip(units, kinds, strict=True) if kind in (32, 33, 34)]
    picture = next(u for u, kind in zip(units, kinds, strict=True) if kind < 32)
    return headers, struct.pack(">I", len(picture)) + picture


def write_heic(path: Path, pixels: np.ndarray, rotations_ccw: int = 0) -> None:
    """Write an RGB array (h w 3) as HEIC, optionally with a rotation property for the reader."""
    headers, picture = _encoded(pixels)
    height, width, _ = pixels.shape
    arrays = b"".join(struct.pack(">BHH", 0x80 | ((u[0] >> 1) & 63), 1, len(u)) + u for u in headers)
    configuration = (
        struct.pack(">BBIHIB", 1, 1, 0x60000000, 0x9000, 0, 30)
        + struct.pack(">HBBBBHBB", 0xF000, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0x0F, len(headers))
        + arrays
    )
    properties = [_box(b"hvcC", configuration), _full(b"ispe", struct.pack(">II", width, height))]
    properties += [_box(b"irot", bytes([rotations_ccw]))] if rotations_ccw else []
    links = b"".join(bytes([0x80 | (i + 1)]) for i in range(len(properties)))
    start = _box(b"ftyp", b"heic", struct.pack(">I", 0), b"mif1heic")

    def meta(offset: int) -> bytes:
        return _full(
            b"meta",
            _full(b"hdlr", struct.pack(">I", 0), b"pict", bytes(13)),
            _full(b"pitm", struct.pack(">H", 1)),
            _full(b"iloc", struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, offset, len(picture))),
            _full(
                b"iinf", struct.pack(">H", 1), _box(b"infe", struct.pack(">IHH", 2 << 24, 1, 0), b"hvc1\0")
            ),
            _box(
                b"iprp",
                _box(b"ipco", *properties),
                _full(b"ipma", struct.pack(">IHB", 1, 1, len(properties)), links),
            ),
        )

    offset = len(start) + len(meta(0)) + 8
    path.write_bytes(start + meta(offset) + _box(b"mdat", picture))

"""One channel of an OpenEXR file: what depth maps need of the format, and no more.

Scan lines without compression or with RLE, ZIPS or ZIP (what Blender and most renderers write for
depth). Tiles, several parts, deep data and lossy compression are refused by name.

Source: "OpenEXR File Layout", openexr.com, sections on the header, scan-line blocks and compression.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

_MAGIC = 20000630
_COMPRESSIONS = ("none", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
_LINES_PER_BLOCK = {0: 1, 1: 1, 2: 1, 3: 16}
_TYPES: tuple[np.dtype[np.generic], ...] = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
_DEPTH_NAMES = ("z", "depth", "v", "y", "r")
"""Last part of a channel's name, in order of preference."""
_MAX_PIXELS = 200_000_000


class ExrError(ValueError):
    """The file is damaged, or uses what is not read here."""


@dataclass(frozen=True, slots=True)
class _Header:
    channels: list[tuple[str, np.dtype[np.generic]]]
    compression: int
    first_line: int
    width: int
    height: int
    blocks_at: int


def read_exr_channel(path: Path) -> Float[np.ndarray, "h w"]:
    """Read the depth channel: named Z or depth (with any layer before it), else V, Y or R.

    Raises:
        OSError: The file cannot be read.
        ExrError: It is damaged, has no such channel, or is of a kind that is not read here.
    """
    data = path.read_bytes()
    try:
        header = _header(data)
        return _lines(data, header, _depth_channel(header))
    except (struct.error, IndexError, UnicodeDecodeError, zlib.error) as error:
        raise ExrError(f"damaged ({error})") from error


def _header(data: bytes) -> _Header:
    magic, version = struct.unpack_from("<II", data)
    if magic != _MAGIC:
        raise ExrError("not an OpenEXR file")
    if version & 0xFFFFFF00 & ~0x400:
        raise ExrError("tiles, parts and deep pixels are not read")
    at = 8
    attributes: dict[str, bytes] = {}
    while data[at]:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        if size < 0 or at + 4 + size > len(data):
            raise ExrError("damaged (an attribute is longer than the file)")
        attributes[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    missing = {"channels", "compression", "dataWindow"} - attributes.keys()
    if missing:
        raise ExrError(f"damaged (no {', '.join(sorted(missing))})")
    left, top, right, bottom = struct.unpack("<iiii", attributes["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    if width < 1 or height < 1 or width * height > _MAX_PIXELS:
        raise ExrError(f"a size of {width}x{height}")
    compression = attributes["compression"][0]
    if compression not in _LINES_PER_BLOCK:
        name = _COMPRESSIONS[compression] if compression < len(_COMPRESSIONS) else str(compression)
        raise ExrError(f"{name} compression is not read, save it with ZIP")
    return _Header(_channels(attributes["channels"]), compression, top, width, height, at + 1)


def _channels(data: bytes) -> list[tuple[str, np.dtype[np.generic]]]:
    channels: list[tuple[str, np.dtype[np.generic]]] = []
    at = 0
    while data[at]:
        name, at = _text(data, at)
        kind, _, across, down = struct.unpack_from("<iIii", data, at)
        if not 0 <= kind < len(_TYPES) or (across, down) != (1, 1):
            raise ExrError(f"channel {name} is subsampled or of an unknown type")
        channels.append((name, _TYPES[kind]))
        at += 16
    return channels


def _depth_channel(header: _Header) -> int:
    names = [name.rsplit(".", 1)[-1].lower() for name, _ in header.channels]
    if len(names) == 1:
        return 0
    for wanted in _DEPTH_NAMES:
        if wanted in names:
            return names.index(wanted)
    raise ExrError(f"no depth among its channels ({', '.join(name for name, _ in header.channels)})")


def _lines(data: bytes, header: _Header, channel: int) -> Float[np.ndarray, "h w"]:
    """Unpack all scan-line blocks; channels lie one after the other within each line."""
    sizes = [header.width * kind.itemsize for _, kind in header.channels]
    start, line_size = sum(sizes[:channel]), sum(sizes)
    per_block = _LINES_PER_BLOCK[header.compression]
    count = -(-header.height // per_block)
    image = np.zeros((header.height, header.width))
    for (offset,) in struct.iter_unpack("<Q", data[header.blocks_at : header.blocks_at + 8 * count]):
        line, packed = struct.unpack_from("<ii", data, offset)
        line -= header.first_line
        lines = min(per_block, header.height - line)
        if line < 0 or lines < 1:
            raise ExrError("damaged (a block lies outside the picture)")
        raw = _unpacked(data[offset + 8 : offset + 8 + packed], header.compression, lines * line_size)
        rows = np.frombuffer(raw, np.uint8).reshape(lines, line_size)[:, start : start + sizes[channel]]
        image[line : line + lines] = np.ascontiguousarray(rows).view(header.channels[channel][1])
    return image


def _unpacked(block: bytes, compression: int, size: int) -> bytes:
    """Undo compression, the running difference of bytes, and the split into even and odd bytes."""
    if compression == 0 or len(block) == size:
        raw = block
    else:
        packed = _undo_runs(block) if compression == 1 else zlib.decompressobj().decompress(block, size)
        codes = np.frombuffer(packed, np.uint8).astype(np.int64)
        codes[1:] -= 128
        values = (np.cumsum(codes) % 256).astype(np.uint8)
        joined = np.empty_like(values)
        half = (len(values) + 1) // 2
        joined[0::2], joined[1::2] = values[:half], values[half:]
        raw = joined.tobytes()
    if len(raw) != size:
        raise ExrError("damaged (a block is too short)")
    return raw


def _undo_runs(block: bytes) -> bytes:
    out, at = bytearray(), 0
    while at < len(block):
        length = struct.unpack_from("b", block, at)[0]
        if length < 0:
            out += block[at + 1 : at + 1 - length]
            at += 1 - length
        else:
            out += block[at + 1 : at + 2] * (length + 1)
            at += 2
    return bytes(out)


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise ExrError("damaged (a name does not end)")
    return data[at:end].decode(), end + 1

"""Depth files of every kind give the same metres; anything else is refused in words."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from worldstereo_cli.artifacts.depth_map import read_depth_map
from worldstereo_cli.errors import InputError

HEIGHT, WIDTH = 37, 20


def truth() -> np.ndarray:
    depth = np.linspace(0.5, 9.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.float32)
    depth[3, 4] = np.nan
    depth[5, 6] = 0.0
    return depth


def _pack(rows: bytes, compression: int) -> bytes:
    """OpenEXR's own order of bytes, running differences, then zlib or run lengths."""
    values = np.frombuffer(rows, np.uint8)
    split = np.concatenate([values[0::2], values[1::2]]).astype(np.int64)
    codes = np.concatenate([split[:1], (np.diff(split) + 128) % 256]).astype(np.uint8).tobytes()
    if compression == 1:
        packed = b"".join(
            struct.pack("b", -len(codes[i : i + 100])) + codes[i : i + 100] for i in range(0, len(codes), 100)
        )
        # One true run at the end as well.
        return packed if len(packed) < len(rows) else rows
    packed = zlib.compress(codes)
    return packed if len(packed) < len(rows) else rows


def write_exr(path: Path, channels: dict[str, np.ndarray], compression: int, first_line: int = 0) -> Path:
    """A scan-line OpenEXR file, written from the format's description."""
    kinds = {"uint32": 0, "float16": 1, "float32": 2}
    names = sorted(channels)
    listed = b"".join(
        n.encode() + b"\0" + struct.pack("<iIii", kinds[channels[n].dtype.name], 0, 1, 1) for n in names
    )
    window = struct.pack("<iiii", 0, first_line, WIDTH - 1, first_line + HEIGHT - 1)
    attributes = [
        ("channels", "chlist", listed + b"\0"), ("compression", "compression", bytes([compression])),
        ("dataWindow", "box2i", window), ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"), ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", bytes(8)), ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ]  # fmt: skip
    header = struct.pack("<II", 20000630, 2) + b"".join(
        n.encode() + b"\0" + k.encode() + b"\0" + struct.pack("<i", len(v)) + v for n, k, v in attributes
    )
    header += b"\0"
    per_block = 16 if compression == 3 else 1
    blocks = []
    for line in range(0, HEIGHT, per_block):
        lines = range(line, min(line + per_block, HEIGHT))
        rows = b"".join(channels[n][y].tobytes() for y in lines for n in names)
        packed = rows if compression == 0 else _pack(rows, compression)
        blocks.append(struct.pack("<ii", line + first_line, len(packed)) + packed)
    offsets, at = [], len(header) + 8 * len(blocks)
    for block in blocks:
        offsets.append(at)
        at += len(block)
    path.write_bytes(header + struct.pack(f"<{len(offsets)}Q", *offsets) + b"".join(blocks))
    return path


def written(path: Path, depth: np.ndarray) -> Path:
    match path.name:
        case "d.npy":
            np.save(path, depth)
        case "d.png":
            Image.fromarray(np.nan_to_num(depth * 1000).round().astype(np.uint16)).save(path)
        case "d.tiff":
            Image.fromarray(depth).save(path)
        case _:
            write_exr(path, {"Z": depth}, int(path.stem[-1]))
    return path


@pytest.mark.parametrize("name", ["d.npy", "d.png", "d.tiff", "d0.exr", "d1.exr", "d2.exr", "d3.exr"])
def test_every_kind_of_file_gives_the_same_metres(tmp_path: Path, name: str) -> None:
    read = read_depth_map(written(tmp_path / name, truth()))
    wanted = torch.from_numpy(truth())
    valid = wanted.isfinite() & (wanted > 0)
    assert torch.equal(read.valid, valid)
    assert not read.sky.any()
    assert torch.allclose(read.depth_m[valid], wanted[valid], atol=6e-4 if name == "d.png" else 0)
    assert (read.depth_m[~valid] == 0).all()


def test_half_floats_other_channels_and_a_window_that_starts_elsewhere_are_read(tmp_path: Path) -> None:
    depth = truth().astype(np.float16)
    colour = np.zeros((HEIGHT, WIDTH), np.float32)
    channels = {"R": colour, "A": colour, "View.Depth.Z": depth}
    read = read_depth_map(write_exr(tmp_path / "d.exr", channels, 3, first_line=-5))
    assert np.array_equal(read.depth_m[read.valid].numpy(), depth[read.valid.numpy()].astype(np.float32))


def test_infinity_and_absurd_distances_are_sky(tmp_path: Path) -> None:
    depth = truth()
    depth[0, 0], depth[0, 1] = np.inf, 1e10
    read = read_depth_map(written(tmp_path / "d.npy", depth))
    assert read.sky.nonzero().tolist() == [[0, 0], [0, 1]]
    assert not read.valid[0, :2].any()


def test_the_largest_count_of_a_png_is_unknown(tmp_path: Path) -> None:
    counts = np.full((HEIGHT, WIDTH), 1500, np.uint16)
    counts[0, 0] = 65535
    Image.fromarray(counts).save(tmp_path / "d.png")
    read = read_depth_map(tmp_path / "d.png")
    assert not read.valid[0, 0]
    assert read.depth_m[1, 1] == 1.5


def bad_file(folder: Path, name: str) -> Path:
    path = folder / {"other": "d.txt", "damaged npy": "d.npy"}.get(name, "d.exr")
    if name in ("other", "not exr", "damaged npy"):
        path.write_bytes(b"nothing of the kind, long enough to look at")
    elif name == "pickle":
        path = folder / "p.npy"
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    elif name == "whole numbers":
        path = folder / "i.npy"
        np.save(path, np.ones((4, 4), np.int32))
    elif name == "three channels":
        path = folder / "c.npy"
        np.save(path, np.ones((4, 4, 3), np.float32))
    elif name == "8 bits":
        path = folder / "c.png"
        Image.fromarray(np.ones((4, 4), np.uint8)).save(path)
    elif name == "all unknown":
        path = folder / "u.npy"
        np.save(path, np.full((4, 4), np.nan))
    elif name == "truncated":
        data = write_exr(path, {"Z": truth()}, 0).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif name == "lossy":
        data = bytearray(write_exr(path, {"Z": truth()}, 0).read_bytes())
        at = data.index(b"compression\0compression\0") + 24 + 4
        data[at] = 4
        path.write_bytes(data)
    elif name == "no depth":
        write_exr(path, {"A": truth(), "B": truth()}, 0)
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other", "no depth file"), ("not exr", "not an OpenEXR file"), ("damaged npy", "cannot be read"),
        ("pickle", "cannot be read"), ("whole numbers", "floating-point metres"),
        ("three channels", "not one map"), ("8 bits", "8-bit"), ("all unknown", "no valid depth"),
        ("truncated", "cannot be read"), ("lossy", "PIZ compression"), ("no depth", "no depth among"),
        ("missing", "No such file"),
    ],
)  # fmt: skip
def test_a_file_without_depth_is_refused_in_words(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_depth_map(bad_file(tmp_path, name))
    assert words in caught.value.problem
    assert caught.value.remedy

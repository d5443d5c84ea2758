"""Any photograph that people have comes in right, or is refused in words."""

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from tests.artifacts.heic_file import write_heic
from worldstereo_cli.artifacts.photo import MAX_PIXELS, read_photo, shows_panorama
from worldstereo_cli.errors import InputError

RED, BLUE, GREEN, SAND = (220, 40, 40), (40, 60, 220), (30, 200, 60), (210, 190, 140)


def quarters(width: int = 96, height: int = 64) -> np.ndarray:
    """Red top left, blue top right, green bottom left, sand bottom right."""
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 2, : width // 2] = RED
    array[: height // 2, width // 2 :] = BLUE
    array[height // 2 :, : width // 2] = GREEN
    array[height // 2 :, width // 2 :] = SAND
    return array


def corners(image: torch.Tensor) -> np.ndarray:
    """The colours a little inside the four corners, clockwise from the top left."""
    inside = image[:, [6, 6, -7, -7], [6, -7, -7, 6]]
    return (inside.T * 255).numpy()


def saved(path: Path, array: np.ndarray | None = None, mode: str = "RGB", **options: object) -> Path:
    Image.fromarray(quarters() if array is None else array).convert(mode).save(path, **options)
    return path


def png16(path: Path, array: np.ndarray) -> Path:
    """A 16-bit PNG by hand, since Pillow cannot write 16-bit colour."""
    height, width = array.shape[:2]
    kind = 2 if array.ndim == 3 else 0

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp", "gif", "heic"])
def test_every_common_format_keeps_its_colours(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    if suffix == "heic":
        write_heic(path, quarters())
    else:
        saved(path, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    photo = read_photo(path, 768)
    assert photo.image.shape == (3, 64, 96)
    # Lossy formats waver by a few counts.
    assert corners(photo.image) == pytest.approx(np.array([RED, BLUE, SAND, GREEN]), abs=6)
    assert photo.focal_px is None
    assert (photo.original_width_px, photo.original_height_px) == (96, 64)


def test_a_heic_that_says_it_is_turned_is_turned_once(tmp_path: Path) -> None:
    write_heic(tmp_path / "p.heic", quarters(), rotations_ccw=1)
    photo = read_photo(tmp_path / "p.heic", 768)
    assert corners(photo.image) == pytest.approx(np.array([BLUE, SAND, GREEN, RED]), abs=6)


def test_sixteen_bits_are_rounded_not_cut(tmp_path: Path) -> None:
    colour = png16(tmp_path / "c.png", quarters().astype(np.uint16) * 257)
    assert corners(read_photo(colour, 768).image) == pytest.approx(np.array([RED, BLUE, SAND, GREEN]), abs=1)
    ramp = np.linspace(0, 65535, 96)[None].repeat(64, 0).astype(np.uint16)
    grey = read_photo(png16(tmp_path / "g.png", ramp), 768)
    assert torch.equal(grey.image[0], grey.image[2])
    assert grey.image[0, 10].numpy() == pytest.approx(ramp[10] / 65535, abs=0.5 / 255 + 1e-6)
    assert "16 bits rounded to 8" in grey.notes


@pytest.mark.parametrize("mode", ["L", "LA", "P", "I", "I;16", "CMYK", "YCbCr"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / (
        "photo.jpg" if mode in ("CMYK", "YCbCr") else "photo.tiff" if mode == "I" else "photo.png"
    )
    if mode in ("I", "I;16"):
        values = quarters()[..., 0].astype(np.int32 if mode == "I" else np.uint16) * 257
        Image.fromarray(values).save(path)
    else:
        saved(path, mode=mode)
    image = read_photo(path, 768).image
    assert image.shape == (3, 64, 96)
    assert image[:, 6, 6].mean() != pytest.approx(float(image[:, 6, -7].mean()), abs=0.02)


def test_transparent_parts_are_laid_over_white(tmp_path: Path) -> None:
    array = np.dstack([quarters(), np.full((64, 96), 255, np.uint8)])
    array[:32, :48, 3] = 0
    array[:32, 48:, 3] = 128
    Image.fromarray(array).save(tmp_path / "p.png")
    photo = read_photo(tmp_path / "p.png", 768)
    half = np.array(BLUE) * 128 / 255 + 255 * 127 / 255
    assert corners(photo.image) == pytest.approx(np.array([(255, 255, 255), half, SAND, GREEN]), abs=1)
    assert "transparent parts laid over white" in photo.notes


def test_shrinking_does_not_let_hidden_colours_bleed_out_of_transparent_parts(tmp_path: Path) -> None:
    array = np.zeros((256, 256, 4), np.uint8)
    array[:, :127] = (255, 255, 255, 255)
    array[0, 0] = (0, 0, 0, 255)
    Image.fromarray(array).save(tmp_path / "p.png")
    image = read_photo(tmp_path / "p.png", 64).image
    assert image[:, 8:, 20:40].min() > 0.99


def swapped_channels_profile() -> bytes:
    """The sRGB profile with the primaries of red and green exchanged: an effect nobody can miss."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = data[132 : 132 + 12 * struct.unpack(">I", data[128:132])[0]]
    data[132 : 132 + len(tags)] = (
        tags.replace(b"rXYZ", b"tmp1").replace(b"gXYZ", b"rXYZ").replace(b"tmp1", b"gXYZ")
    )
    return bytes(data)


def test_an_embedded_profile_is_applied(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.png", icc_profile=swapped_channels_profile())
    exchanged = [(c[1], c[0], c[2]) for c in (RED, BLUE, SAND, GREEN)]
    assert corners(read_photo(path, 768).image) == pytest.approx(np.array(exchanged), abs=2)


def test_a_damaged_profile_is_ignored_and_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.png", icc_profile=b"no profile at all")
    photo = read_photo(path, 768)
    assert corners(photo.image) == pytest.approx(np.array([RED, BLUE, SAND, GREEN]), abs=1)
    assert "damaged colour profile ignored" in photo.notes


def test_the_profile_of_another_kind_of_picture_is_ignored_and_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.jpg", mode="L", icc_profile=swapped_channels_profile(), quality=95)
    assert "colour profile of another kind of picture ignored" in read_photo(path, 768).notes


def with_exif(orientation: int = 1, **tags: object) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    for name, value in tags.items():
        inner[ExifTags.Base[name]] = value
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "tiff", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    # The inverse of what a viewer must do, so that upright is always `quarters`.
    to_stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    picture = Image.fromarray(quarters(192, 128))
    if orientation in to_stored:
        picture = picture.transpose(to_stored[orientation])
    # As bytes, since Pillow's TIFF writer drops the inner directory of an Exif object.
    exif = with_exif(orientation, FocalLengthIn35mmFilm=26).tobytes()
    picture.save(tmp_path / f"p.{suffix}", exif=exif)
    photo = read_photo(tmp_path / f"p.{suffix}", 96)
    assert photo.image.shape == (3, 64, 96)
    assert corners(photo.image) == pytest.approx(np.array([RED, BLUE, SAND, GREEN]), abs=12)
    assert (photo.original_width_px, photo.original_height_px) == (192, 128)
    assert "made smaller from 192x128" in photo.notes, "as people see it, not as it is stored"
    assert photo.focal_px == pytest.approx(26 / math.hypot(36, 24) * math.hypot(96, 64), rel=1e-6)


def test_the_sensor_resolution_serves_where_there_is_no_equivalent(tmp_path: Path) -> None:
    # 5 mm with 100 px/mm is 500 px as shot; the file is half that size; zoomed digitally by 1.5.
    exif = with_exif(
        FocalLength=5.0, FocalPlaneXResolution=1000.0, FocalPlaneResolutionUnit=3, ExifImageWidth=192,
        ExifImageHeight=128, DigitalZoomRatio=1.5,
    )  # fmt: skip
    path = saved(tmp_path / "p.jpg", exif=exif)
    assert read_photo(path, 768).focal_px == pytest.approx(500 / 2 * 1.5, rel=1e-4)
    assert read_photo(path, 48).focal_px == pytest.approx(500 / 4 * 1.5, rel=1e-4)


def test_a_crop_with_one_whole_side_keeps_the_focal_length_of_the_shot(tmp_path: Path) -> None:
    exif = with_exif(FocalLengthIn35mmFilm=30, ExifImageWidth=200, ExifImageHeight=64)
    photo = read_photo(saved(tmp_path / "p.jpg", exif=exif), 768)
    assert photo.focal_px == pytest.approx(30 / math.hypot(36, 24) * math.hypot(200, 64), rel=1e-6)


def test_a_crop_of_unknown_scale_is_not_trusted_and_said(tmp_path: Path) -> None:
    exif = with_exif(FocalLengthIn35mmFilm=30, ExifImageWidth=4000, ExifImageHeight=2000)
    photo = read_photo(saved(tmp_path / "p.jpg", exif=exif), 768)
    assert photo.focal_px is None
    assert any("cropped" in note for note in photo.notes)


@pytest.mark.parametrize(
    "tags",
    [
        {"FocalLengthIn35mmFilm": 0},
        {"FocalLength": 5.0},
        {"FocalLength": TiffImagePlugin.IFDRational(1, 0), "FocalPlaneXResolution": 100.0},
        {"FocalLengthIn35mmFilm": 60000},
    ],
)
def test_exif_that_tells_no_plausible_focal_length_gives_none(
    tmp_path: Path, tags: dict[str, object]
) -> None:
    path = saved(tmp_path / "p.jpg", exif=with_exif(**tags))
    assert read_photo(path, 768).focal_px is None


def test_damaged_exif_does_not_stop_a_photo(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_photo(path, 768).focal_px is None


def test_a_very_wide_picture_is_made_smaller_and_said(tmp_path: Path) -> None:
    array = np.zeros((1000, 20000, 3), np.uint8)
    array[:, ::50] = 255
    Image.fromarray(array).save(tmp_path / "p.png", compress_level=1)
    photo = read_photo(tmp_path / "p.png", 768)
    assert photo.image.shape == (3, 38, 768)
    assert "made smaller from 20000x1000" in photo.notes


@pytest.fixture
def bad_files(tmp_path: Path) -> dict[str, Path]:
    whole = saved(
        tmp_path / "whole.jpg", np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    )
    files = {name: tmp_path / f"{name}.jpg" for name in ("text", "truncated", "empty", "folder", "missing")}
    files["text"].write_text("this is no picture")
    files["truncated"].write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    files["empty"].write_bytes(b"")
    files["folder"].mkdir()
    buffer = io.BytesIO()
    Image.fromarray(quarters()).save(buffer, "PNG")
    files["truncated png"] = tmp_path / "t.png"
    files["truncated png"].write_bytes(buffer.getvalue()[:-60])
    files["pixel"] = saved(tmp_path / "pixel.png", quarters(2, 2)[:1, :1])
    files["thread"] = saved(tmp_path / "thread.png", quarters(20000, 100))
    files["black"] = saved(tmp_path / "black.jpg", np.zeros((64, 96, 3), np.uint8))
    files["grey"] = saved(tmp_path / "grey.jpg", np.full((64, 96, 3), 128, np.uint8))
    files["raw"] = saved(tmp_path / "p.tiff").rename(tmp_path / "p.DNG")
    files["float"] = tmp_path / "f.tiff"
    Image.fromarray(np.random.default_rng(0).random((64, 96)).astype(np.float32)).save(files["float"])
    return files


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text", "not a picture"), ("truncated", "damaged"), ("truncated png", "damaged"),
        ("empty", "empty"), ("folder", "cannot be read"), ("missing", "cannot be read"),
        ("pixel", "too small: 1x1"), ("thread", "768x4 after fitting"), ("black", "all black"),
        ("grey", "a single colour"), ("raw", "raw camera file"), ("float", "floating-point"),
    ],
)  # fmt: skip
def test_a_picture_that_cannot_be_lifted_is_refused_in_words(
    bad_files: dict[str, Path], name: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_photo(bad_files[name], 768)
    assert words in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize("side", [14143, 60000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    # The header alone claims the size: decoding would fail, so the message shows what came first.
    png16(tmp_path / "bomb.png", np.zeros((1, 1), np.uint16))
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(InputError, match="more than 200 megapixels"):
        read_photo(tmp_path / "bomb.png", 768)


def test_reading_a_photo_leaves_the_limits_of_pillow_as_they_were(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    read_photo(saved(tmp_path / "p.png"), 768)
    assert before == Image.MAX_IMAGE_PIXELS


def around(width: int = 640, seed: int = 3) -> np.ndarray:
    """A panorama of smooth hills: waves of whole numbers of periods about the horizon."""
    height = width // 2
    longitude = np.linspace(0, 2 * np.pi, width, endpoint=False)
    ridge = sum(np.sin(n * longitude + seed * n) / n for n in range(1, 9))
    rows = np.arange(height)[:, None]
    light = 140 + 60 * np.tanh((rows - height / 2 + 20 * ridge) / 6) + 15 * np.sin(5 * longitude + rows / 9)
    return np.repeat(light.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


GPANO = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" %s</rdf:RDF></x:xmpmeta>'
)
ATTRIBUTE = GPANO % b'GPano:ProjectionType="equirectangular"/>'
ELEMENT = GPANO % b"><GPano:ProjectionType>equirectangular</GPano:ProjectionType></rdf:Description>"
CYLINDER = GPANO % b'GPano:ProjectionType="cylindrical"/>'


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_picture_whose_ends_meet_is_a_panorama(ending, tmp_path):
    whole = around()
    assert shows_panorama(saved(tmp_path / f"a.{ending}", whole))
    # The same hills, of which a part is missing; and of another shape.
    assert not shows_panorama(saved(tmp_path / f"b.{ending}", whole[80:-80, :320]))
    assert not shows_panorama(saved(tmp_path / f"c.{ending}", whole[8:]))


@pytest.mark.parametrize("name", ["mountain_path.jpg", "living_room.jpg"])
def test_a_photo_of_the_shape_of_a_panorama_is_none(name, tmp_path):
    with Image.open(Path(__file__).parents[1] / "data" / "photos" / name) as photo:
        width = photo.width // 2 * 2
        cut = photo.convert("RGB").crop((0, 0, width, width // 2))
        cut.save(tmp_path / "cut.jpg")
        framed = Image.new("RGB", (cut.width + 200, cut.height + 100), "white")
        framed.paste(cut, (100, 50))
        framed.save(tmp_path / "framed.jpg")
    assert not shows_panorama(tmp_path / "cut.jpg")
    assert not shows_panorama(tmp_path / "framed.jpg")


@pytest.mark.parametrize(("xmp", "told"), [(ATTRIBUTE, True), (ELEMENT, True), (CYLINDER, False)])
@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_metadata_tell_a_panorama_whatever_it_shows(xmp, told, ending, tmp_path):
    assert shows_panorama(saved(tmp_path / f"a.{ending}", xmp=xmp)) is told

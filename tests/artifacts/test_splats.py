"""Splat files are the standard layout to the byte, survive a round trip, and damage is refused in words."""

import math
import struct
from pathlib import Path

import gsply
import numpy as np
import pytest
import torch

from worldstereo_cli.artifacts.manifest import Manifest, draft_directory, write_json
from worldstereo_cli.artifacts.splats import Reconstruction, read_splats, write_splats
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.gaussians import Gaussians

FIELDS = ("means", "quaternions", "log_scales", "opacity_logits", "sh")


def splats(count: int = 7, terms: int = 4) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(count, 3, generator=g),
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        torch.randn(count, 3, generator=g) - 4,
        torch.randn(count, generator=g),
        torch.randn(count, terms, 3, generator=g),
    )


@pytest.mark.parametrize("terms", [1, 4, 9, 16])
def test_a_round_trip_keeps_every_value(tmp_path: Path, terms: int) -> None:
    given = splats(terms=terms)
    assert write_splats(tmp_path / "splats.ply", given) == 7
    back = read_splats(tmp_path / "splats.ply")
    for field in FIELDS:
        torch.testing.assert_close(getattr(back, field), getattr(given, field), rtol=1e-6, atol=1e-6)


def test_the_bytes_are_those_of_the_standard_layout(tmp_path: Path) -> None:
    sh = torch.zeros(1, 4, 3)
    sh[0, 0] = torch.tensor([0.1, 0.2, 0.3])
    sh[0, 1:] = torch.tensor([[1.0, 4.0, 7.0], [2.0, 5.0, 8.0], [3.0, 6.0, 9.0]])
    one = Gaussians(
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([[2.0, 0.0, 0.0, 0.0]]),
        torch.tensor([[-1.0, -2.0, -3.0]]),
        torch.tensor([0.5]),
        sh,
    )
    write_splats(tmp_path / "splats.ply", one)
    header, body = (tmp_path / "splats.ply").read_bytes().split(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert [line for line in lines if line.startswith("element")] == ["element vertex 1"]
    assert [line.split()[-1] for line in lines if line.startswith("property")] == (
        "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2".split()
        + [f"f_rest_{i}" for i in range(9)]
        + "opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
    )
    # Red's three higher harmonics come first, then green's, then blue's; the quaternion is of length one.
    expected = [1, 2, 3, 0, 0, 0, 0.1, 0.2, 0.3, *range(1, 10), 0.5, -1, -2, -3, 1, 0, 0, 0]
    assert struct.unpack("<26f", body) == pytest.approx(expected)


def test_an_independent_reader_sees_the_same_splats(tmp_path: Path) -> None:
    given = splats(terms=1)
    write_splats(tmp_path / "splats.ply", given)
    seen = gsply.plyread(str(tmp_path / "splats.ply"))
    np.testing.assert_allclose(seen.means, given.means, rtol=1e-6)
    np.testing.assert_allclose(seen.scales, given.log_scales, rtol=1e-6)
    np.testing.assert_allclose(seen.quats, given.quaternions, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.opacities, given.opacity_logits, rtol=1e-6)
    np.testing.assert_allclose(seen.sh0, given.sh[:, 0], rtol=1e-6)


def test_splats_that_are_not_numbers_are_left_out(tmp_path: Path) -> None:
    given = splats()
    given.means[1, 2] = math.nan
    given.log_scales[3, 0] = math.inf
    given.quaternions[5] = 0
    assert write_splats(tmp_path / "splats.ply", given) == 4
    torch.testing.assert_close(read_splats(tmp_path / "splats.ply").means, given.means[[0, 2, 4, 6]])


def test_files_without_normals_and_with_other_order_are_read(tmp_path: Path) -> None:
    names = "rot_0 rot_1 rot_2 rot_3 x y z opacity scale_0 scale_1 scale_2 f_dc_0 f_dc_1 f_dc_2".split()
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
    header += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    (tmp_path / "other.ply").write_bytes(header.encode() + struct.pack("<14f", *range(14)))
    back = read_splats(tmp_path / "other.ply")
    assert back.quaternions.tolist() == [[0, 1, 2, 3]] and back.means.tolist() == [[4, 5, 6]]
    assert back.opacity_logits.tolist() == [7] and back.log_scales.tolist() == [[8, 9, 10]]
    assert back.sh.tolist() == [[[11, 12, 13]]]


def test_damage_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "splats.ply"
    write_splats(path, splats())
    whole = path.read_bytes()
    for damaged, words in (
        (whole[:-3], "promises"),
        (whole.replace(b"scale_2", b"scale_7"), "lacks scale_2"),
        (whole.replace(b"float f_rest_8", b"double f_rest8"), "one element of float"),
        (whole.replace(b"end_header\n", b"element extrinsic 16\nend_header\n"), "one element"),
        (whole[:-4] + struct.pack("<f", math.nan), "not finite"),
        (b"\x89PNG\r\n", "not a binary little-endian PLY"),
        (b"", "not a binary little-endian PLY"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=words):
            read_splats(path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_splats(tmp_path / "nothing.ply")


def test_a_reconstruction_is_read_with_its_metrics(tmp_path: Path) -> None:
    with draft_directory(tmp_path / "reconstruct") as draft:
        write_splats(draft / "splats.ply", splats())
        write_json(draft / "metrics.json", {"num_splats": 7})
        Manifest(Reconstruction.kind, {}, 0).write(draft)
    back = Reconstruction.read(tmp_path / "reconstruct")
    assert len(back.splats) == back.metrics["num_splats"] == 7
    with pytest.raises(ArtifactError, match="is not finished: it has no reconstruct yet"):
        Reconstruction.read(tmp_path / "other")

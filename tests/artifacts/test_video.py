import errno
import subprocess
import sys

import imageio.v3 as iio
import pytest
import torch

from worldstereo_cli.artifacts.video import write_video
from worldstereo_cli.errors import BackendError


def frames(count: int = 6):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.randint(0, 255, (3, 48, 64), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", ["v.mp4", "-v.mp4", "a:b.mp4", "ü 1.mp4"])
def test_a_video_has_all_its_frames_whatever_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / name, frames(), (64, 48), 8)
    assert iio.imread(tmp_path / name, extension=".mp4").shape == (6, 48, 64, 3)


def test_what_drawing_a_frame_raises_passes_through(tmp_path):
    def broken():
        yield from frames(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "v.mp4", broken(), (64, 48), 8)


def test_an_encoder_that_fails_is_told_in_its_own_words(tmp_path):
    with pytest.raises(BackendError, match="No such file or directory"):
        write_video(tmp_path / "none" / "v.mp4", frames(), (64, 48), 8)


def test_frames_of_another_size_than_said_do_not_pass_for_a_video(tmp_path):
    with pytest.raises(ValueError, match="even sides"):
        write_video(tmp_path / "v.mp4", frames(), (63, 48), 8)


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process as Linux does")
def test_a_full_disk_is_not_taken_for_a_broken_encoder(tmp_path):
    code = (
        "import resource, sys, torch; from pathlib import Path;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "from worldstereo_cli.artifacts.video import write_video;"
        "frames = (torch.randint(0, 255, (3, 48, 64), dtype=torch.uint8) for _ in range(99));\n"
        "try: write_video(Path(sys.argv[1]), frames, (64, 48), 8)\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "v.mp4")], capture_output=True, text=True, check=False
    )
    assert done.returncode == errno.EFBIG, done.stderr
    assert done.stderr == ""

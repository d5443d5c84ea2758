"""Frames to an H.264 video that browsers, phones and messengers play."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from jaxtyping import UInt8
from torch import Tensor

from worldstereo_cli.errors import BackendError

_REMEDY = "pip install --force-reinstall imageio-ffmpeg"
_DISK_WORDS = {"no space left": errno.ENOSPC, "file too large": errno.EFBIG, "quota exceeded": errno.EDQUOT}
"""What the encoder says, in lower case, when the disk does not take its file."""


def write_video(
    path: Path, frames: Iterable[UInt8[Tensor, "3 h w"]], size: tuple[int, int], fps: int
) -> None:
    """Encode frames as H.264 with 4:2:0 colour, playable before it is loaded to the end.

    Args:
        path: The .mp4 to write.
        frames: sRGB, 8 bit, all of `size`.
        size: Width and height in pixels, both even.
        fps: Frames in a second.

    Raises:
        BackendError: There is no ffmpeg, or it failed.
        OSError: The disk is full.
        ValueError: An odd side.
    """
    width, height = size
    if width % 2 or height % 2:
        raise ValueError(f"Expected even sides, got {width}x{height}.")
    with tempfile.TemporaryFile() as words:
        encoder = _started(_command(path, size, fps), words)
        try:
            for frame in frames:
                if not _sent(encoder, frame.permute(1, 2, 0).contiguous().numpy().tobytes()):
                    break
        except BaseException:
            encoder.kill()
            raise
        finally:
            if encoder.stdin is not None:
                _close(encoder.stdin)
            code = encoder.wait()
        if code != 0:
            words.seek(0)
            raise _failure(path, code, words.read().decode(errors="replace"))


def _command(path: Path, size: tuple[int, int], fps: int) -> list[str]:
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise BackendError(f"There is no video encoder: {error}", remedy=_REMEDY) from error
    # Players take untagged video for BT.709 or BT.601 by its size; ffmpeg converts by BT.601 unless told.
    colour = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-color_range", "tv"]
    colour += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", str(fps), "-i", "-"]
    encoding = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", "-preset", "fast"]
    # `file:` keeps a path that begins with a dash, or holds a colon, a path.
    return [
        program, "-y", "-v", "error", *source, *encoding, *colour, "-movflags", "+faststart", f"file:{path}",
    ]  # fmt: skip


def _started(command: list[str], words: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the encoder apart from the terminal: Ctrl-C is for us, who then end it.

    The signal of a file that grows too large stays ignored, so that it comes back as an error in words.
    """
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=words,
            start_new_session=True,
            restore_signals=False,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except FileNotFoundError as error:
        raise BackendError(f"The video encoder cannot be started: {error}", remedy=_REMEDY) from error


def _sent(encoder: subprocess.Popen[bytes], frame: bytes) -> bool:
    """Hand a frame over; false once the encoder takes none any more."""
    if encoder.stdin is None:
        raise ValueError("Expected an encoder with an open input.")
    try:
        encoder.stdin.write(frame)
    except BrokenPipeError:
        return False
    return True


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        # It has ended; its exit code tells more.
        return


def _failure(path: Path, code: int, words: str) -> Exception:
    for phrase, number in _DISK_WORDS.items():
        if phrase in words.lower():
            return OSError(number, phrase, str(path))
    last = words.strip().splitlines()[-1:] or [f"it ended with {code}"]
    return BackendError(f"The video encoder failed: {last[0]}", remedy=_REMEDY)

"""Frames to an H.264 video that browsers, phones and messengers play."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from worldstereo_cli.errors import BackendError


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
        ValueError: An odd side.
    """
    width, height = size
    if width % 2 or height % 2:
        raise ValueError(f"Expected even sides, got {width}x{height}.")
    import imageio_ffmpeg

    # Players take untagged video for BT.709 or BT.601 by its size; ffmpeg converts by BT.601 unless told.
    colour = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-color_range", "tv"]
    colour += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    with _encoder_errors():
        writer = imageio_ffmpeg.write_frames(
            str(path),
            size,
            fps=fps,
            codec="libx264",
            pix_fmt_in="rgb24",
            pix_fmt_out="yuv420p",
            macro_block_size=2,
            quality=None,
            output_params=["-crf", "18", "-preset", "fast", "-movflags", "+faststart", *colour],
        )
        writer.send(None)
    try:
        for frame in frames:
            # Only the encoder's own errors are translated: what drawing a frame raises passes through.
            with _encoder_errors():
                writer.send(frame.permute(1, 2, 0).contiguous().numpy())
    finally:
        with _encoder_errors():
            writer.close()


@contextmanager
def _encoder_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise BackendError(
            f"The video encoder failed: {error}", remedy="pip install --force-reinstall imageio-ffmpeg"
        ) from error

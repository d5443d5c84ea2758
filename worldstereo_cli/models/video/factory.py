"""From the name in a recipe to a frame backend."""

from worldstereo_cli.errors import BackendError
from worldstereo_cli.models.video.protocol import VideoBackend


def make_video_backend(name: str, *, num_frames: int) -> VideoBackend:
    """Make the backend of that name.

    Args:
        name: As in `generate.backend`.
        num_frames: Frames for each path, for backends that are free to choose.

    Raises:
        BackendError: There is none of that name, or a library or weights of it are missing.
    """
    match name:
        case "warp":
            from worldstereo_cli.models.video.warp import WarpBackend

            return WarpBackend(num_frames)
        case _:
            raise BackendError(f"There is no frame backend {name!r}.", remedy="--set generate.backend=warp")

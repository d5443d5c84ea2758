"""Which weights a backend would use, as strings that change when the weights do.

Weights that ship are told by their content, released ones by their commit, and a user's folder by
the names, sizes and times of its files: to read gigabytes would take longer than to use them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from worldstereo_cli.models.catalogue import cached_commit, find_weights
from worldstereo_cli.models.video.factory import WARP

_READ_UP_TO = 100_000_000
"""Files up to this size are told by their content: a tenth of a second."""


def depth_fingerprint(backend: str, weights: str, cache: Path | None = None) -> str | None:
    """Tell the weights of a depth backend.

    Args:
        backend: As `depth_backend` takes it.
        weights: A name on the hub or a folder; empty is the backend's usual one.
        cache: huggingface_hub's cache; None for the usual one.

    Returns:
        None for a backend without weights, and for weights that are not here (loading says so).
    """
    match backend:
        case "embedded":
            from worldstereo_cli.models.depth.embedded import DEFAULT_WEIGHTS, WEIGHTS_ROOT

            return _folder(WEIGHTS_ROOT / DEFAULT_WEIGHTS, ("config.json", "model.safetensors"))
        case "depth-pro" | "depth-anything":
            from worldstereo_cli.models.depth.factory import usual_depth_weights

            return _named(weights or usual_depth_weights(backend), cache)
        case _:
            return None


def video_fingerprint(backend: str, cache: Path | None = None) -> str | None:
    """Tell the weights of a frame backend; None for `warp`, which has none.

    Raises:
        BackendError: The weights are not here.
    """
    if backend == WARP:
        return None
    found = find_weights(backend, cache)
    if found.revision != "local":
        return f"{found.name}@{found.revision}"
    parts = [_folder(folder) for folder in dict.fromkeys((found.model, found.base))]
    return "+".join(part for part in parts if part)


def generate_fingerprints(backend: str, depth: str, depth_weights: str = "") -> dict[str, str]:
    """Tell all weights that complete frames, by role.

    Args:
        backend: The frame backend; `warp` knows the depth of what it makes.
        depth: What estimates depth for one that does not, as `depth_backend` takes it.
        depth_weights: Its weights, likewise.

    Raises:
        BackendError: The weights are not here.
    """
    video = video_fingerprint(backend)
    estimated = None if video is None else depth_fingerprint(depth, depth_weights)
    found = {"weights": video, "depth weights": estimated}
    return {role: weights for role, weights in found.items() if weights is not None}


def _named(weights: str, cache: Path | None) -> str | None:
    if Path(weights).is_dir():
        return _folder(Path(weights))
    commit = cached_commit(weights, cache)
    return None if commit is None else f"{weights}@{commit}"


def _folder(root: Path, names: tuple[str, ...] | None = None) -> str | None:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    if names is not None:
        paths = [path for path in paths if path.name in names]
    if not paths:
        return None
    seen = hashlib.sha256()
    for path in paths:
        status = path.stat()
        told = _content(path) if status.st_size <= _READ_UP_TO else str(status.st_mtime_ns)
        seen.update(f"{path.relative_to(root)} {status.st_size} {told}\n".encode())
    return seen.hexdigest()


def _content(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

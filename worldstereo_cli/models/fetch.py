"""Files of released models from the hub to the cache: resumed, checked, and nothing more than is needed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from hashlib import sha1, sha256
from pathlib import Path

from worldstereo_cli.errors import BackendError, storage_error
from worldstereo_cli.models.catalogue import (
    RELEASES,
    Source,
    WeightsFolder,
    base_files,
    base_shards,
    base_source,
    cached_files,
    cached_repo,
    complete_folder,
)
from worldstereo_cli.progress import Progress, silent

_BLOCK_BYTES = 1 << 24


def pull_weights(
    name: str, cache: Path | None = None, *, endpoint: str | None = None, progress: Progress = silent
) -> WeightsFolder:
    """Fetch what a model needs and is not here yet, and check every file's digest.

    Fetching goes on where it stopped. Base tensors that the model's file lacks are fetched too.

    Args:
        name: A name of `RELEASES`.
        cache: huggingface_hub's cache; None for the usual one.
        endpoint: Another server with the hub's interface.
        progress: Told after every file, in megabytes.

    Raises:
        BackendError: No such model, no network, or a damaged file.
    """
    if name not in RELEASES:
        raise BackendError(f"There are no weights {name!r}.", remedy=f"Use one of {', '.join(RELEASES)}.")
    release = RELEASES[name]
    for source in (release.own, release.base):
        _fetch(source, cache, endpoint, progress)
    folder = complete_folder(release, cache)
    if folder is None:
        raise BackendError(
            f"{release.own.repo} at {release.own.revision[:8]} does not hold all of {name}.",
            remedy="Update worldstereo; the release may have moved.",
        )
    return folder


def fetch_base_shards(
    folder: WeightsFolder, missing: list[str], cache: Path | None = None, *, endpoint: str | None = None
) -> list[Path]:
    """Return the files of the base transformer that hold some tensors, fetching those that are not here.

    Args:
        folder: The model whose own file lacks them.
        missing: Names of tensors.
        cache: huggingface_hub's cache; None for the usual one.
        endpoint: Another server with the hub's interface.

    Raises:
        BackendError: They are not here and cannot be fetched, or the base has no such tensors.
    """
    base = base_source(folder)
    # Twice, because the index, which comes first, tells which files hold the tensors.
    for _ in range(2 if base is not None else 0):
        files = [file for file in base_files(folder, missing) if not file.is_file()]
        if base is not None and files:
            absent = tuple(file.relative_to(folder.base).as_posix() for file in files)
            _fetch(Source(base.repo, base.revision, absent, base.licence), cache, endpoint, silent)
    return base_shards(folder, missing)


def _fetch(source: Source, cache: Path | None, endpoint: str | None, progress: Progress) -> None:
    """Fetch the files of a source that are not here, and check them."""
    from huggingface_hub import HfApi, hf_hub_download

    with _network(source.repo):
        info = HfApi(endpoint=endpoint).model_info(source.repo, revision=source.revision, files_metadata=True)
    files = {
        f.rfilename: f.size or 0
        for f in info.siblings or []
        if any(fnmatch(f.rfilename, pattern) for pattern in source.patterns)
    }
    known = set(cached_files(source, cache))
    _require_space(source, cache, sum(files.values()) - sum(path.stat().st_size for path in known))
    total, done = sum(files.values()) // 10**6, 0
    for name, size in files.items():
        with _network(source.repo):
            path = Path(
                hf_hub_download(
                    source.repo, name, revision=source.revision, cache_dir=cache, endpoint=endpoint
                )
            )
        if path not in known:
            check_digest(path)
        done += size
        progress(done // 10**6, total, f"MB of {source.repo}")


def _require_space(source: Source, cache: Path | None, missing_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold; parts that arrived before are there already."""
    root = cached_repo(source.repo, cache)
    begun = sum(part.stat().st_size for part in root.glob("blobs/*.incomplete"))
    needed = missing_bytes - begun
    free = shutil.disk_usage(next(place for place in (root, *root.parents) if place.is_dir())).free
    if needed > free:
        raise BackendError(
            f"{source.repo} needs {needed / 1e9:.1f} GB more, and {root.parent} has {free / 1e9:.1f} GB "
            "free.",
            remedy="Free some space, or set HF_HOME to a folder on a larger disk.",
        )


def check_digest(path: Path) -> None:
    """Check a cached file against its name: the cache calls files by the hub's digest of them.

    Args:
        path: In a snapshot, a link to the file.

    Raises:
        BackendError: The content is another. The file is removed, so that it is fetched again.
    """
    blob = path.resolve()
    if len(blob.name) == 64:
        digest = sha256()
    elif len(blob.name) == 40:
        # Small files are called as git calls them.
        digest = sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return
    with blob.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise BackendError(
            f"{path.name} arrived damaged and was removed.", remedy="Pull again; only it is fetched."
        )


@contextmanager
def _network(repo: str) -> Iterator[None]:
    """Turn what can go wrong on the way into one line."""
    from huggingface_hub import errors

    # The first base of the hub's own error is that of its HTTP library, which changes with its version.
    transport_error: type[BaseException] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise BackendError(
            f"{repo} is not here, and the network is off.",
            remedy="Unset HF_HUB_OFFLINE, or give a local folder.",
        ) from error
    except (transport_error, OSError) as error:
        if isinstance(error, OSError) and storage_error(error) is not None:
            raise BackendError(
                f"{repo} cannot be kept here: {error.strerror}.",
                remedy="Free some space, or set HF_HOME to another folder; what has arrived is kept.",
            ) from error
        # The library's own words first; they name the reason and, at times, run over many lines.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackendError(
            f"{repo} cannot be reached: {reason}",
            remedy="Check the network, or copy the files from another machine and give their folder.",
        ) from error

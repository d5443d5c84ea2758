"""The released models: what of them is needed, and whether it is here. No network (`fetch` has it)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from worldstereo_cli.errors import BackendError

_SHIPPED = Path(__file__).parent.parent / "weights"
_BASE_REPO = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
_BASE_REVISION = "b184e23a8a16b20f108f727c902e769e873ffc73"
_RELEASE_REPO = "hanshanxue/WorldStereo"
_RELEASE_REVISION = "ac2ad97ecb043fe80c2f19cd1898006becb9d66e"
_BASE_TRANSFORMER = "transformer/diffusion_pytorch_model"
_BASE_PATTERNS = (
    "transformer/config.json", "scheduler/scheduler_config.json", "tokenizer/*",
    "vae/config.json", "vae/*.safetensors",
    "text_encoder/config.json", "text_encoder/*.safetensors", "text_encoder/*.index.json",
    "image_encoder/config.json", "image_encoder/*.safetensors", "image_processor/*.json",
)  # fmt: skip
_NO_RELEASE = "Put it there, or let base_model in config.json name a folder or a cached model that has it."


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one repository at one commit."""

    repo: str
    revision: str
    patterns: tuple[str, ...]
    licence: str


@dataclass(frozen=True, slots=True)
class Release:
    """A model that can be pulled by name."""

    name: str
    what: str
    own: Source
    base: Source
    subfolder: str
    approximate_gb: float
    """Everything that is needed, in 10^9 bytes."""
    needs: str
    """The machine that it runs on."""
    distilled: bool
    """Whether it was distilled to a few steps, and is sampled without guidance."""


@dataclass(frozen=True, slots=True)
class WeightsFolder:
    """A model whose files are all here."""

    name: str
    model: Path
    """Holds config.json and the transformer."""
    base: Path
    """Holds what the model shares with its base; the same folder if it shares nothing."""
    licence: str
    revision: str
    distilled: bool | None = None
    """Whether the model was distilled to a few steps; None where its config alone says so. Configs of the
    release keep what training left in them, and may lack what the releasing code has by heart."""

    def has(self, part: str) -> bool:
        """Tell whether a part such as `vae` or `text_encoder` is there."""
        return (self.model / part).exists() or (self.base / part).exists()

    def part(self, part: str) -> Path:
        """Return a part such as `vae`, from the model's own folder or else from its base.

        Raises:
            BackendError: It is not there.
        """
        for folder in (self.model, self.base):
            if (folder / part).exists():
                return folder / part
        places = f"neither in {self.model} nor in {self.base}"
        if self.base == self.model:
            places = f"not in {self.model}"
        pull = f"worldstereo weights pull {self.name}"
        raise BackendError(
            f"{self.name} needs {part}, which is {places}.",
            remedy=pull if self.name in RELEASES else _NO_RELEASE,
        )


@dataclass(frozen=True, slots=True)
class WeightsStatus:
    """What `weights list` says of one model."""

    release: Release
    cached_bytes: int
    """Of the needed files, those that are here."""
    cache: Path
    """Where they are, or will be."""
    folder: WeightsFolder | None
    """None until everything is here."""


def _release(name: str, what: str, approximate_gb: float, needs: str, *, distilled: bool) -> Release:
    patterns = tuple(f"{name}/{p}" for p in ("config.json", "*.safetensors", "*.index.json"))
    return Release(
        name,
        what,
        Source(_RELEASE_REPO, _RELEASE_REVISION, patterns, "MIT"),
        Source(_BASE_REPO, _BASE_REVISION, _BASE_PATTERNS, "Apache-2.0"),
        name,
        approximate_gb,
        needs,
        distilled,
    )


_NEEDS = "an NVIDIA GPU with 24 GB or more"
RELEASES = {
    release.name: release
    for release in (
        _release(
            "worldstereo-memory-dmd",
            "memory of past views, 4 steps",
            59.3,
            _NEEDS,
            distilled=True,
        ),
        _release("worldstereo-memory", "memory of past views, 40 steps", 59.3, _NEEDS, distilled=False),
        _release("worldstereo-camera", "camera control only, 40 steps", 59.2, _NEEDS, distilled=False),
    )
}
"""Every model by its name. Sizes beyond memory-dmd's are estimates."""


def list_weights(cache: Path | None = None) -> list[WeightsStatus]:
    """Tell of every released model what is here, without a network.

    Args:
        cache: huggingface_hub's cache; None for the usual one.
    """
    statuses = []
    for release in RELEASES.values():
        files = {
            path.resolve() for source in (release.own, release.base) for path in cached_files(source, cache)
        }
        size = sum(path.stat().st_size for path in files)
        place = cached_repo(release.own.repo, cache).parent
        statuses.append(WeightsStatus(release, size, place, complete_folder(release, cache)))
    return statuses


def find_weights(name: str, cache: Path | None = None) -> WeightsFolder:
    """Find a model by its name or its folder, without a network.

    A folder holds config.json and model.safetensors; the config's `base_model` is a folder (relative
    to it), a repository in the cache, or absent when everything lies in the folder itself.

    Args:
        name: A name of `RELEASES`, a model that this package ships, or a path.
        cache: huggingface_hub's cache; None for the usual one.

    Raises:
        BackendError: It is not here, or not completely.
    """
    for folder in (Path(name).expanduser(), _SHIPPED / name):
        if (folder / "config.json").is_file():
            base, licence = _base_and_licence(folder, cache)
            return WeightsFolder(folder.name, folder, base, licence, "local")
    if name not in RELEASES:
        raise BackendError(
            f"There are no weights {name!r}.",
            remedy=f"Use warp, which has none, one of {', '.join(RELEASES)}, or a folder with config.json.",
        )
    release = RELEASES[name]
    found = complete_folder(release, cache)
    if found is None:
        raise BackendError(
            f"The weights {name} are not here. Besides them, the model needs {release.needs}.",
            remedy=f"worldstereo weights pull {name}  ({release.approximate_gb:.0f} GB).",
        )
    return found


def _base_and_licence(folder: Path, cache: Path | None) -> tuple[Path, str]:
    """Read what a folder's config.json says of its base and of its licence."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        base, licence = config.get("base_model"), str(config.get("licence", "not stated"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise BackendError(
            f"{folder / 'config.json'} cannot be read: {error}", remedy="Give a folder that holds a model."
        ) from error
    if base is None:
        return folder, licence
    local = folder / str(base)
    if local.is_dir():
        return local, licence
    revision = _BASE_REVISION if base == _BASE_REPO else "main"
    found = _snapshot(Source(str(base), revision, (), ""), cache)
    # Parts that lie in the folder itself need no base; one that does not is missed by its name.
    return found or folder, licence


def complete_folder(release: Release, cache: Path | None) -> WeightsFolder | None:
    """Return a release's folders if everything that it needs is in the cache."""
    snapshot, base = _snapshot(release.own, cache), _snapshot(release.base, cache)
    if snapshot is None or base is None:
        return None
    folder = snapshot / release.subfolder
    needed = [
        folder / "config.json", base / "transformer/config.json", base / "vae/config.json",
        base / "scheduler/scheduler_config.json", base / "image_processor/preprocessor_config.json",
        base / "tokenizer/tokenizer.json", base / "text_encoder/config.json",
        base / "image_encoder/config.json",
    ]  # fmt: skip
    weights = [
        (folder, "model"), (base / "vae", "diffusion_pytorch_model"),
        (base / "text_encoder", "model"), (base / "image_encoder", "model"),
    ]  # fmt: skip
    if not all(path.exists() for path in needed) or not all(_whole(*weight) for weight in weights):
        return None
    own = release.own
    return WeightsFolder(release.name, folder, base, own.licence, own.revision, release.distilled)


def base_files(folder: WeightsFolder, tensors: list[str]) -> list[Path]:
    """Name the files of the base transformer that hold some tensors, whether they are here or not.

    Returns:
        The index alone where it is missing: it tells the others.
    """
    single = folder.base / f"{_BASE_TRANSFORMER}.safetensors"
    index = single.with_name(f"{single.name}.index.json")
    if single.is_file():
        return [single]
    if not index.is_file():
        return [index]
    shard_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    return sorted({index.with_name(shard_of[name]) for name in tensors if name in shard_of})


def base_shards(folder: WeightsFolder, tensors: list[str]) -> list[Path]:
    """Return the files of the base transformer that hold some tensors.

    Raises:
        BackendError: One is not here; the remedy gets it.
    """
    files = base_files(folder, tensors)
    absent = [file.relative_to(folder.base).as_posix() for file in files if not file.is_file()]
    if not absent:
        return files
    base = base_source(folder)
    if folder.name in RELEASES:
        remedy = f"worldstereo weights pull {folder.name}"
    elif base is not None:
        remedy = f"hf download {base.repo} --revision {base.revision} {' '.join(absent)}"
    else:
        remedy = "Put the base model's transformer folder there."
    raise BackendError(
        f"{folder.name} lacks {len(tensors)} tensors of its base, and {absent[0]} is not in {folder.base}.",
        remedy=remedy,
    )


def base_source(folder: WeightsFolder) -> Source | None:
    """Tell which pinned repository a base folder is a snapshot of."""
    sources = (release.base for release in RELEASES.values())
    return next((source for source in sources if folder.base.name == source.revision), None)


def _whole(folder: Path, stem: str) -> bool:
    """Tell whether a checkpoint, in one file or several, is all there."""
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return (folder / f"{stem}.safetensors").is_file()
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((folder / name).is_file() for name in names)


def _snapshot(source: Source, cache: Path | None) -> Path | None:
    """Return the folder that holds a repository's commit, if any of it is here."""
    root = cached_repo(source.repo, cache)
    reference = root / "refs" / source.revision
    commit = reference.read_text().strip() if reference.is_file() else source.revision
    folder = root / "snapshots" / commit
    return folder if folder.is_dir() else None


def cached_repo(repo: str, cache: Path | None) -> Path:
    """Return the folder that the hub's cache keeps a repository in, whether it is there or not."""
    from huggingface_hub import constants

    return Path(cache or constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def cached_commit(repo: str, cache: Path | None = None) -> str | None:
    """Return the commit of a repository's main branch that is in the cache, if one is."""
    folder = _snapshot(Source(repo, "main", (), ""), cache)
    return None if folder is None else folder.name


def cached_files(source: Source, cache: Path | None) -> Iterator[Path]:
    """Yield the files of a source that are in the cache."""
    folder = _snapshot(source, cache)
    for path in sorted(folder.rglob("*")) if folder else ():
        relative = path.relative_to(folder).as_posix() if folder else ""
        if path.is_file() and any(fnmatch(relative, pattern) for pattern in source.patterns):
            yield path

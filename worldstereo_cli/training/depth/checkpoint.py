"""A training run on disk, in files small enough to carry anywhere.

On disk, each file at most `MAX_SHARD_BYTES`:
    weights-<i>.safetensors    float32 weights, stored as float16
    average-<i>.safetensors    their moving average, eight bits
    momentum-<i>.safetensors   running means of the gradients, eight bits
    best-<i>.safetensors       the average that scored best on the development cases, eight bits
    state.json                 `RunState`; written last, so what it names is complete
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.models.depth.eight_bit import from_eight_bit, to_eight_bit
from worldstereo_cli.models.depth.network import DepthNetworkShape

MAX_SHARD_BYTES = 15_000_000
"""Under the limits of common file transfer and of code hosting without large-file storage."""


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run has come."""

    step: int
    num_images: int
    trained_s: float
    best_score: float
    """Infinite until the first evaluation."""
    num_skipped: int
    """Steps left out because a gradient was not finite."""
    shape: DepthNetworkShape
    """Sizes of the network's layers."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that a run needs to go on."""

    state: RunState
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    momentum: dict[str, Tensor]


def write_shards(folder: Path, name: str, tensors: Mapping[str, Tensor], step: int) -> list[Path]:
    """Write tensors to as few files of at most `MAX_SHARD_BYTES` as go in order.

    Raises:
        ValueError: One tensor alone is larger than a file may be.
    """
    groups: list[dict[str, Tensor]] = [{}]
    room = MAX_SHARD_BYTES - 100_000  # the header of names and shapes
    for key, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > MAX_SHARD_BYTES - 100_000:
            raise ValueError(f"Expected tensors of at most {MAX_SHARD_BYTES} bytes, got {key} of {size}.")
        if size > room:
            groups.append({})
            room = MAX_SHARD_BYTES - 100_000
        groups[-1][key] = tensor.contiguous()
        room -= size
    paths = []
    for index, group in enumerate(groups):
        path = folder / f"{name}-{index}.safetensors"
        draft = path.with_suffix(".draft")
        save_file(group, draft, metadata={"step": str(step), "shards": str(len(groups))})
        draft.replace(path)
        paths.append(path)
    return paths


def read_shards(folder: Path, name: str) -> tuple[dict[str, Tensor], int]:
    """Read tensors that `write_shards` wrote, and their step.

    Raises:
        ArtifactError: A file is missing, damaged or of another step.
    """
    remedy = "Resume from another checkpoint, or start anew."
    tensors: dict[str, Tensor] = {}
    steps: set[int] = set()
    count = index = 0
    try:
        while index == 0 or index < count:
            with safe_open(folder / f"{name}-{index}.safetensors", framework="pt") as file:
                metadata = file.metadata()
                count = int(metadata["shards"])
                steps.add(int(metadata["step"]))
                tensors.update({key: file.get_tensor(key) for key in file.keys()})
            index += 1
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtifactError(f"{folder} holds no whole {name}: {error}", remedy=remedy) from error
    if len(steps) != 1:
        raise ArtifactError(f"{folder} mixes {name} of steps {sorted(steps)}.", remedy=remedy)
    return tensors, steps.pop()


def write_checkpoint(
    folder: Path,
    state: RunState,
    *,
    weights: Iterable[tuple[str, Tensor]],
    average: Iterable[tuple[str, Tensor]],
    momentum: Iterable[tuple[str, Tensor]],
) -> None:
    """Write a run, replacing an earlier checkpoint in the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: value.detach().half().cpu() for name, value in weights}
    write_shards(folder, "weights", halves, state.step)
    write_shards(folder, "average", to_eight_bit(dict(average)), state.step)
    write_shards(folder, "momentum", to_eight_bit(dict(momentum)), state.step)
    draft = folder / "state.draft"
    draft.write_text(json.dumps(asdict(state)))
    draft.replace(folder / "state.json")


def write_best(folder: Path, average: Iterable[tuple[str, Tensor]], step: int) -> None:
    """Write the average that scored best so far."""
    folder.mkdir(parents=True, exist_ok=True)
    write_shards(folder, "best", to_eight_bit(dict(average)), step)


def read_best(folder: Path, shape: DepthNetworkShape) -> dict[str, Tensor]:
    """Read the average that scored best, in float32.

    Raises:
        ArtifactError: The folder holds none, or one of a network of other sizes.
    """
    _require_shape(folder, read_state(folder), shape)
    return from_eight_bit(read_shards(folder, "best")[0])


def read_start(folder: Path, shape: DepthNetworkShape) -> dict[str, Tensor]:
    """Read weights to start from, in float32: a folder of exported weights, or the best average of a run.

    Raises:
        ArtifactError: The folder holds neither, or a network of other sizes.
    """
    if not (folder / "config.json").exists():
        return read_best(folder, shape)
    remedy = "Pass a folder of weights that export wrote, or the folder of a run."
    try:
        stored = DepthNetworkShape(**json.loads((folder / "config.json").read_text())["shape"])
        weights = from_eight_bit(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(f"{folder} holds no whole weights: {error}", remedy=remedy) from error
    if stored != shape:
        raise ArtifactError(f"{folder} holds a network of other sizes: {stored}.", remedy=remedy)
    return weights


def read_state(folder: Path) -> RunState:
    """Read how far a run has come.

    Raises:
        ArtifactError: The folder holds no run.
    """
    try:
        fields = json.loads((folder / "state.json").read_text())
        return RunState(**fields | {"shape": DepthNetworkShape(**fields["shape"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder} holds no checkpoint.", remedy="Pass the folder of a run.") from error


def _require_shape(folder: Path, state: RunState, shape: DepthNetworkShape) -> None:
    if state.shape != shape:
        raise ArtifactError(
            f"{folder} holds a network of other sizes: {state.shape}.",
            remedy="Pass the --shape that the run was started with.",
        )


def read_checkpoint(folder: Path, shape: DepthNetworkShape) -> Checkpoint:
    """Read a run to go on with.

    Raises:
        ArtifactError: A file is missing, damaged or of another step than `state.json`, or the run is
            of a network of other sizes.
    """
    state = read_state(folder)
    _require_shape(folder, state, shape)
    parts = {}
    for name in ("weights", "average", "momentum"):
        tensors, step = read_shards(folder, name)
        if step != state.step:
            raise ArtifactError(
                f"{folder} holds {name} of step {step}, but the run is at {state.step}.",
                remedy="The last write was cut off: resume from an earlier copy.",
            )
        parts[name] = tensors
    return Checkpoint(
        state=state,
        weights={name: value.float() for name, value in parts["weights"].items()},
        average=from_eight_bit(parts["average"]),
        momentum=from_eight_bit(parts["momentum"]),
    )

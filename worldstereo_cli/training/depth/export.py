"""From a run to a folder of weights that the embedded backend reads."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from worldstereo_cli.models.depth.eight_bit import from_eight_bit, to_eight_bit
from worldstereo_cli.models.depth.embedded import EmbeddedDepthConfig
from worldstereo_cli.models.depth.network import DepthNetwork, DepthNetworkShape
from worldstereo_cli.training.depth.batches import BatchSource
from worldstereo_cli.training.depth.checkpoint import read_shards, read_state
from worldstereo_cli.training.depth.recentre import log_scale_bias

CAMERA_BIAS = "camera.2.bias"
"""The last layer of `DepthNetwork.camera`: log focal length, log scale. Biases are stored as they are."""


@dataclass(frozen=True, slots=True)
class Recentring:
    """Rendered scenes on which the metric scale is freed of its bias."""

    source: BatchSource
    num_scenes: int
    size: tuple[int, int] = (288, 384)
    """Height and width, pixels."""


def export_weights(
    run: Path,
    out: Path,
    config: EmbeddedDepthConfig,
    *,
    last_share: float,
    recentring: Recentring | None = None,
) -> None:
    """Write `config.json` and `model.safetensors`.

    Args:
        run: Folder of a training run.
        out: Folder of weights; made if it is not there.
        config: How the network will be used.
        last_share: Of the last average, from 0 to 1; the rest is that of the one that scored best on the
            development cases. Both lie on one path and begin the same, so what lies between them may well
            be better than either (Wortsman et al. 2022, "Model soups", section 3).
        recentring: None leaves the scale as it was learned.

    Raises:
        ArtifactError: The run has no such average.
    """
    stored, step = _between(run, last_share)
    shape = read_state(run).shape
    if recentring is not None:
        stored[CAMERA_BIAS] = _recentred(stored, shape, recentring)
    out.mkdir(parents=True, exist_ok=True)
    settings = {"shape": asdict(shape), "inference": asdict(config), "step": step}
    (out / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    save_file(stored, out / "model.safetensors")


def _between(run: Path, last_share: float) -> tuple[dict[str, Tensor], int]:
    """Return weights between the best average and the last one, eight bits each, and the nearer's step."""
    name = "average" if last_share > 0.5 else "best"
    stored, step = read_shards(run, name)
    if last_share in (0.0, 1.0):
        return stored, step
    best, last = (from_eight_bit(read_shards(run, which)[0]) for which in ("best", "average"))
    return to_eight_bit({key: value.lerp(last[key], last_share) for key, value in best.items()}), step


def _recentred(stored: dict[str, Tensor], shape: DepthNetworkShape, recentring: Recentring) -> Tensor:
    network = DepthNetwork(shape).eval()
    network.load_state_dict(from_eight_bit(stored))
    bias = stored[CAMERA_BIAS].clone()
    bias[1] -= log_scale_bias(network, recentring.source, recentring.num_scenes, recentring.size)
    return bias

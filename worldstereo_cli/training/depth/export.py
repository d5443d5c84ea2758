"""From a run to a folder of weights that the embedded backend reads."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from worldstereo_cli.models.depth.eight_bit import from_eight_bit
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
    use_best: bool,
    recentring: Recentring | None = None,
) -> None:
    """Write `config.json` and `model.safetensors`.

    Args:
        run: Folder of a training run.
        out: Folder of weights; made if it is not there.
        config: How the network will be used.
        use_best: The average that scored best on the development cases; else the last one.
        recentring: None leaves the scale as it was learned.

    Raises:
        ArtifactError: The run has no such average.
    """
    stored, step = read_shards(run, "best" if use_best else "average")
    shape = read_state(run).shape
    if recentring is not None:
        stored[CAMERA_BIAS] = _recentred(stored, shape, recentring)
    out.mkdir(parents=True, exist_ok=True)
    settings = {"shape": asdict(shape), "inference": asdict(config), "step": step}
    (out / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    save_file(stored, out / "model.safetensors")


def _recentred(stored: dict[str, Tensor], shape: DepthNetworkShape, recentring: Recentring) -> Tensor:
    network = DepthNetwork(shape).eval()
    network.load_state_dict(from_eight_bit(stored))
    bias = stored[CAMERA_BIAS].clone()
    bias[1] -= log_scale_bias(network, recentring.source, recentring.num_scenes, recentring.size)
    return bias

"""From a run to a folder of weights that the embedded backend reads."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from worldstereo_cli.models.depth.embedded import EmbeddedDepthConfig
from worldstereo_cli.training.depth.checkpoint import read_shards, read_state


def export_weights(run: Path, out: Path, *, longest_px: int, mirrored: bool, use_best: bool) -> None:
    """Write `config.json` and `model.safetensors`.

    Args:
        run: Folder of a training run.
        out: Folder of weights; made if it is not there.
        longest_px: Longer side at which the network will work.
        mirrored: Whether it will average a picture and its mirror image.
        use_best: The average that scored best on the development cases; else the last one.

    Raises:
        ArtifactError: The run has no such average.
    """
    stored, step = read_shards(run, "best" if use_best else "average")
    shape = read_state(run).shape
    out.mkdir(parents=True, exist_ok=True)
    config = EmbeddedDepthConfig(longest_px=longest_px, mirrored=mirrored)
    settings = {"shape": asdict(shape), "inference": asdict(config), "step": step}
    (out / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    save_file(stored, out / "model.safetensors")

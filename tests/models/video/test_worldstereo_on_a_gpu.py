"""The whole backend on a GPU: the machine's, or a pretended one that refuses to mix devices."""

from pathlib import Path

import pytest
import torch
from released import write_released
from test_worldstereo import request

from tests.pretend_cuda import PretendCuda
from worldstereo_cli.models.catalogue import find_weights
from worldstereo_cli.models.video import device, encoders
from worldstereo_cli.models.video.footprint import TIERS
from worldstereo_cli.models.video.parts import VideoParts
from worldstereo_cli.models.video.worldstereo import VideoSettings, WorldStereoBackend


def clips(folder: Path, cache: Path, where: str, tier) -> list[torch.Tensor]:
    """Two clips in a row, with another prompt and another number of references."""
    parts = VideoParts.open(find_weights(str(folder)), torch.device(where))
    made = WorldStereoBackend(parts, VideoSettings(num_steps=3, tier=tier, prompt_cache=cache))
    assert made.describe_needs(made.clip_size(480, 320))
    requests = (request(references=2), request(prompt="a camera", references=1))
    return [made.generate(asked).frames for asked in requests]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("distilled", [True, False])
def test_clips_on_a_gpu_are_those_of_the_cpu_up_to_bfloat16(
    cuda: str, tier, distilled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_released(tmp_path, distilled=distilled)
    expected = clips(folder, tmp_path / "cpu", "cpu", tier)
    if isinstance(torch.zeros(1, device=cuda), PretendCuda):
        load = encoders._from_pretrained
        # The library asks the driver for a device that is only pretended.
        monkeypatch.setattr(
            encoders, "_from_pretrained", lambda kind, at, to, dtype: load(kind, at, "cpu", dtype).to(to)
        )
        monkeypatch.setitem(device._SIDE, "cuda", 64)
    for made, wanted in zip(clips(folder, tmp_path / "gpu", cuda, tier), expected, strict=True):
        assert made.device.type == "cpu" and made.dtype == torch.float32
        # Eight bits of mantissa, through three layers and a few steps: 0.0006 on the mean, seen on a CPU.
        assert float((made - wanted).abs().mean()) < 0.003

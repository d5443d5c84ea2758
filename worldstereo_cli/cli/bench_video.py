"""The command that measures the video model at full size: `bench-video`, for `make bench-gpu`."""

from __future__ import annotations

import gc
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worldstereo_cli.cli import options as o
from worldstereo_cli.errors import BackendError

if TYPE_CHECKING:
    import torch

    from worldstereo_cli.evaluation.bench_video import KernelTime, VideoBenchRow
    from worldstereo_cli.evaluation.random_video import VideoSize

_GIB = 1 << 30


def bench_video(
    references: Annotated[int, typer.Option("--references", help="Past views beside the clip.", min=0)] = 8,
    precision: Annotated[
        bool, typer.Option(help="Also compare with float32, on a copy of four layers.")
    ] = True,
    as_json: o.AsJson = False,
) -> None:
    """Time the released video model on this GPU, with random weights: no download, no picture."""
    import torch

    from worldstereo_cli.evaluation.random_video import VideoSize

    if not torch.cuda.is_available():
        raise BackendError(
            "The video model at full size needs an NVIDIA GPU, and there is none.",
            remedy="Run it on a machine with one of 24 GB or more.",
        )
    size, device = VideoSize(num_references=references), torch.device("cuda")
    say = Lines(quiet=as_json)
    card = torch.cuda.get_device_name(device)
    say.title(card, torch.__version__, size.num_keyframes, references)
    results: dict[str, Any] = {"card": card, "torch": torch.__version__, "weights": "random"}
    results |= measure_tiers(size, device, torch.bfloat16, say)
    if precision:
        results |= measure_precision(size, device, say)
    if as_json:
        typer.echo(json.dumps(results, indent=1))


def measure_tiers(size: VideoSize, device: torch.device, dtype: torch.dtype, say: Lines) -> dict[str, Any]:
    """Measure every way to store the weights that fits, and profile the first."""
    import torch

    from worldstereo_cli.evaluation import bench_video as bench
    from worldstereo_cli.evaluation.random_video import RandomParts
    from worldstereo_cli.models.video.footprint import TIERS

    results: dict[str, Any] = {}
    for tier in TIERS:
        parts = RandomParts.of(size, device, dtype, accelerated=True)
        plan = bench.foretold(parts, size, tier)
        if plan.peak_bytes > plan.available_bytes:
            say(f"{tier:<12}does not fit: {plan.describe()}")
            continue
        row = bench.bench_tier(parts, size, tier)
        results[tier] = asdict(row)
        say.row(tier, row)
        if "profile" not in results:
            profile = bench.profile_clip(parts, size, tier)
            results["profile"] = asdict(profile)
            say.profile("where the time of a clip with one step goes", profile.kinds)
            say.profile("the longest kernels", profile.kernels)
        # The next way is to find the memory as this one found it.
        del parts
        gc.collect()
        torch.cuda.empty_cache()
    return results


def measure_precision(size: VideoSize, device: torch.device, say: Lines) -> dict[str, Any]:
    """Measure the difference from float32, where that fits."""
    import torch

    from worldstereo_cli.evaluation.bench_video import precision_ratio

    what = "difference from float32 on four layers, against plain bfloat16"
    try:
        ratio = precision_ratio(size, device)
    except torch.OutOfMemoryError:
        say(f"{what}: float32 does not fit")
        return {}
    say(f"{what}: {ratio:.2f}")
    return {"precision_ratio": ratio}


class Lines:
    """Says results as they come."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, line: str) -> None:
        """Say a line."""
        if not self._quiet:
            typer.echo(line)

    def title(self, card: str, torch_version: str, frames: int, references: int) -> None:
        """Say what is measured, and head the table."""
        self(f"{card}, torch {torch_version}; random weights of the released size")
        self(f"480x832, {frames} keyframes, {references} references, 4 steps, bf16")
        columns = f"{'denoise s':>10}{'clip s':>8}{'peak GiB':>10}{'foretold':>18}{'first step s':>14}"
        self(f"{'weights':<12}{columns}")

    def row(self, tier: str, row: VideoBenchRow) -> None:
        """Say how one way to store the weights fared."""
        foretold = f"{row.plan.seconds:.1f} s, {row.plan.peak_bytes / _GIB:.1f} GiB"
        self(
            f"{tier:<12}{row.denoise_s:>10.2f}{row.clip_s:>8.2f}{row.peak_gib:>10.2f}{foretold:>18}"
            f"{row.warm_up_s:>14.1f}"
        )

    def profile(self, title: str, times: list[KernelTime]) -> None:
        """Say where time goes."""
        self(f"  {title}:")
        for time in times:
            self(f"    {1000 * time.seconds:>9.1f} ms {time.calls:>6} calls  {time.name[:90]}")

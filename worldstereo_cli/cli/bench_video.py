"""The command that measures the video model at full size: `bench-video`, for `make bench-gpu`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worldstereo_cli.cli import options as o
from worldstereo_cli.errors import BackendError

if TYPE_CHECKING:
    from worldstereo_cli.evaluation.bench_video import KernelTime, VideoBenchRow

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

    from worldstereo_cli.evaluation import bench_video as bench
    from worldstereo_cli.evaluation.random_video import RandomParts, VideoSize
    from worldstereo_cli.models.video.footprint import TIERS

    if not torch.cuda.is_available():
        raise BackendError(
            "The video model at full size needs an NVIDIA GPU, and there is none.",
            remedy="Run it on a machine with one of 24 GB or more.",
        )
    size, device = VideoSize(num_references=references), torch.device("cuda")
    results: dict[str, Any] = {"card": torch.cuda.get_device_name(device), "torch": torch.__version__}
    say = _Lines(quiet=as_json)
    say.title(results["card"], results["torch"], size.num_keyframes, references)
    for tier in TIERS:
        parts = RandomParts.of(size, device, torch.bfloat16, accelerated=True)
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
        del parts
        torch.cuda.empty_cache()
    if precision:
        ratio = bench.precision_ratio(size, device)
        results["precision_ratio"] = ratio
        say(f"difference from float32 on four layers, against plain bfloat16: {ratio:.2f}")
    if as_json:
        typer.echo(json.dumps(results, indent=1))


class _Lines:
    """Says results as they come."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, line: str) -> None:
        if not self._quiet:
            typer.echo(line)

    def title(self, card: str, torch_version: str, frames: int, references: int) -> None:
        self(f"{card}, torch {torch_version}; random weights of the released size")
        self(f"480x832, {frames} keyframes, {references} references, 4 steps, bf16")
        columns = f"{'denoise s':>10}{'clip s':>8}{'peak GiB':>10}{'foretold':>18}{'first step s':>14}"
        self(f"{'weights':<12}{columns}")

    def row(self, tier: str, row: VideoBenchRow) -> None:
        foretold = f"{row.plan.seconds:.1f} s, {row.plan.peak_bytes / _GIB:.1f} GiB"
        self(
            f"{tier:<12}{row.denoise_s:>10.2f}{row.clip_s:>8.2f}{row.peak_gib:>10.2f}{foretold:>18}"
            f"{row.warm_up_s:>14.1f}"
        )

    def profile(self, title: str, times: list[KernelTime]) -> None:
        self(f"  {title}:")
        for time in times:
            self(f"    {1000 * time.seconds:>9.1f} ms {time.calls:>6} calls  {time.name[:90]}")

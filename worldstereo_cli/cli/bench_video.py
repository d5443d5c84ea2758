"""The command that measures the video model at full size: `bench-video`, for `make bench-gpu`."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from worldstereo_cli.cli import options as o
from worldstereo_cli.errors import BackendError, WorldStereoError

if TYPE_CHECKING:
    import torch

    from worldstereo_cli.evaluation.bench_video import Profile, VideoBenchRow
    from worldstereo_cli.evaluation.random_video import RandomParts, VideoSize
    from worldstereo_cli.models.video.footprint import Tier

_GIB = 1 << 30
_Arguments = ParamSpec("_Arguments")
_ResultT = TypeVar("_ResultT")


def bench_video(
    references: Annotated[int, typer.Option("--references", help="Past views beside the clip.", min=0)] = 8,
    precision: Annotated[
        bool, typer.Option(help="Also compare with float32, on a copy of four layers.")
    ] = True,
    as_json: o.AsJson = False,
) -> None:
    """Time the released video model on this GPU, with random weights: no download, no picture.

    What fails is said, and the rest is measured all the same; the exit code is then 1. With --json the
    lines go to stderr as they come.
    """
    import torch

    from worldstereo_cli.evaluation.random_video import VideoSize

    if not torch.cuda.is_available():
        raise BackendError(
            "The video model at full size needs an NVIDIA GPU, and there is none.",
            remedy="Run it on a machine with one of 24 GB or more.",
        )
    size, device = VideoSize(num_references=references), torch.device("cuda")
    say = Lines(beside_json=as_json)
    card = torch.cuda.get_device_name(device)
    say.title(card, torch.__version__, size.num_keyframes, references)
    results: dict[str, Any] = {"card": card, "torch": torch.__version__, "weights": "random"}
    began = time.perf_counter()
    results |= measure_tiers(size, device, torch.bfloat16, say)
    if precision:
        results |= measure_precision(size, device, say)
    results |= {"failed": say.failed, "seconds": round(time.perf_counter() - began, 1)}
    say(f"all of this took {results['seconds']:.0f} s")
    if as_json:
        typer.echo(json.dumps(results, indent=1))
    if say.failed:
        raise typer.Exit(1)


def measure_tiers(size: VideoSize, device: torch.device, dtype: torch.dtype, say: Lines) -> dict[str, Any]:
    """Measure every way to store the weights that fits, and profile the first."""
    from worldstereo_cli.evaluation import bench_video as bench
    from worldstereo_cli.evaluation.random_video import RandomParts
    from worldstereo_cli.models.video.footprint import TIERS

    results: dict[str, Any] = {}
    for tier in TIERS:
        parts = RandomParts.of(size, device, dtype, accelerated=True)
        plan = say.attempt(f"forecast of {tier}", bench.foretold, parts, size, tier)
        if plan is not None and plan.peak_bytes > plan.available_bytes:
            say(f"{tier:<12}does not fit: {plan.describe()}")
            continue
        row = say.attempt(tier, bench.bench_tier, parts, size, tier)
        if row is not None:
            results[tier] = asdict(row)
            say.row(tier, row)
        if row is not None and "guided_step" not in results:
            results |= _measure_once(parts, size, tier, say)
        # The next way is to find the memory as this one found it.
        del parts
        _free_memory()
    return results


def _measure_once(parts: RandomParts, size: VideoSize, tier: Tier, say: Lines) -> dict[str, Any]:
    """Measure what is measured of one way to store the weights only: guidance, and where time goes."""
    from worldstereo_cli.evaluation import bench_video as bench

    step = say.attempt("guided step", bench.bench_guidance, parts, size, tier)
    if step is not None:
        say(
            f"a step with guidance: {step.together_s:.2f} s, and {step.apart_s:.2f} s with one prompt after "
            f"the other; the same bits: {'yes' if step.same_bits else 'NO'}; peak {step.peak_gib:.2f} GiB"
        )
    profile = say.attempt("profile", bench.profile_clip, parts, size, tier)
    say.profile(profile)
    return {
        "guided_step": None if step is None else asdict(step),
        "profile": None if profile is None else asdict(profile),
    }


def measure_precision(size: VideoSize, device: torch.device, say: Lines) -> dict[str, Any]:
    """Measure the difference from float32."""
    from worldstereo_cli.evaluation.bench_video import precision_ratio

    what = "difference from float32 on four layers, against plain bfloat16"
    ratio = say.attempt(what, precision_ratio, size, device)
    _free_memory()
    if ratio is None:
        return {}
    say(f"{what}: {ratio:.2f}")
    return {"precision_ratio": ratio}


def _free_memory() -> None:
    """Let go of what nothing refers to, on the GPU too."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


class Lines:
    """Says results as they come, and what could not be measured."""

    def __init__(self, *, beside_json: bool) -> None:
        self._beside_json = beside_json
        self.failed: dict[str, str] = {}
        """Why each measurement that failed did."""

    def __call__(self, line: str) -> None:
        """Say a line."""
        typer.echo(line, err=self._beside_json)

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

    def attempt(
        self,
        what: str,
        measure: Callable[_Arguments, _ResultT],
        *given: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _ResultT | None:
        """Measure; None if that fails, which is said and must not cost the rest: machines are borrowed."""
        try:
            return measure(*given, **named)
        except Exception as error:  # Compilers, profilers and drivers have errors of every class.
            reason = (str(error).strip().splitlines() or [""])[0]
            self.failed[what] = f"{type(error).__name__}: {reason}"
            if not isinstance(error, (RuntimeError, WorldStereoError)):
                # Not of the device or a library: whoever mends it wants to know where.
                traceback.print_exc()
        self(f"{what} failed: {self.failed[what]}")
        return None

    def profile(self, profile: Profile | None) -> None:
        """Say where time goes."""
        if profile is None:
            return
        titles = ("where the time of a clip with one step goes", "the longest kernels")
        for title, times in zip(titles, (profile.kinds, profile.kernels), strict=True):
            self(f"  {title}:")
            for kernel in times:
                milliseconds = 1000 * kernel.seconds
                self(f"    {milliseconds:>9.1f} ms {kernel.calls:>6} calls  {kernel.name[:90]}")

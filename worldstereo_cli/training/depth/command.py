"""`python -m worldstereo_cli.training depth (train | pack | export) ...`.

train    on one GPU, or on several under `torchrun` or `accelerate launch`
pack     real cases with truth into one small file, to steer a run by
export   the best average of a run into a folder of weights
"""

import argparse
import gzip
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from worldstereo_cli.models.depth.embedded import EmbeddedDepthConfig
from worldstereo_cli.models.depth.network import DepthNetworkShape
from worldstereo_cli.training.depth.augment import AugmentSettings
from worldstereo_cli.training.depth.batches import BatchPhase, BatchPlan, scene_source
from worldstereo_cli.training.depth.development import DevelopmentSet, pack_development
from worldstereo_cli.training.depth.export import Recentring, export_weights
from worldstereo_cli.training.depth.loop import Trainer, TrainingSettings
from worldstereo_cli.training.depth.losses import LossWeights
from worldstereo_cli.training.depth.optimizer import OptimizerSettings
from worldstereo_cli.training.depth.workers import join_workers

TOY_SHAPE = DepthNetworkShape(
    stem_channels=8, quarter_channels=8, eighth_channels=16, width=64, num_layers=2,
    decoder_channels=16, num_quarter_blocks=1, num_eighth_blocks=1,
)  # fmt: skip
"""Learns nothing worth having; exercises every line in seconds on a CPU."""


def _sizes(text: str) -> tuple[tuple[tuple[int, int], ...], tuple[float, ...]]:
    """Parse "288x384:0.6,384x288:0.4", heights first."""
    sizes, shares = [], []
    for part in text.split(","):
        size, _, share = part.partition(":")
        height, width = (int(side) for side in size.split("x"))
        if height % 16 or width % 16:
            raise argparse.ArgumentTypeError(f"sides must be multiples of 16: {size}")
        sizes.append((height, width))
        shares.append(float(share or 1))
    return tuple(sizes), tuple(shares)


def _shares(text: str) -> dict[str, float]:
    """Parse "room=0.4,street=0.2"."""
    return {name: float(share) for name, share in (part.split("=") for part in text.split(","))}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worldstereo_cli.training depth", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a network")
    train.add_argument("--out", type=Path, required=True, help="folder of checkpoints and log.jsonl")
    train.add_argument("--process-s", type=float, required=True, help="seconds that this process may take")
    train.add_argument("--total-s", type=float, help="training seconds of the whole run, over all processes")
    train.add_argument("--max-steps", type=int, help="steps of the whole run, if it ends by them")
    train.add_argument("--assets", type=Path, help="picture and mesh pack of the scenes")
    train.add_argument("--development", type=Path, help="packed real cases to choose the checkpoint by")
    train.add_argument("--resume", type=Path, help="folder of a checkpoint")
    train.add_argument("--start-from", type=Path, help="folder of a run or of weights to start from")
    train.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--images", type=int, default=96, help="images a step in each process")
    train.add_argument("--views", type=int, default=2, help="how often a scene is seen")
    train.add_argument("--zoomed", type=float, default=0.25, help="share of second looks that come closer")
    train.add_argument("--sizes", type=_sizes, default=_sizes("288x384:0.6,384x288:0.2,224x448:0.2"))
    train.add_argument(
        "--later", nargs=3, action="append", default=[], metavar=("STEP", "IMAGES", "SIZES"),
        help="other batches from a step on; may be given again for a later step",
    )  # fmt: skip
    train.add_argument("--mixture", type=_shares, help="share of each kind of scene")
    train.add_argument("--losses", type=_shares, default={}, help="weights of the terms of the loss")
    train.add_argument("--shape", type=json.loads, default={}, help="sizes of the layers, as JSON")
    train.add_argument("--strength", type=float, default=1.0, help="of the appearance augmentation")
    train.add_argument("--wild", type=float, default=0.05, help="share of pictures in wild colours")
    train.add_argument("--learning-rate", type=float, default=5e-4)
    train.add_argument("--weight-decay", type=float, default=0.2)
    train.add_argument("--flat-share", type=float, default=0.25, help="share before the rate falls")
    train.add_argument("--adam", action="store_true", help="no Muon")
    train.add_argument("--eager", action="store_true", help="do not compile")
    train.add_argument("--compiled", type=Path, help="file of compiled kernels; written if it is not there")
    train.add_argument("--toy", action="store_true", help="a tiny network, to try the machinery")
    train.add_argument("--save-s", type=float, default=60.0)
    train.add_argument("--report-s", type=float, default=10.0)
    _add_pack_and_export(commands)
    return parser


def _add_pack_and_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pack = commands.add_parser("pack", help="pack development cases")
    pack.add_argument("folder", type=Path, help="cases in the format of worldstereo eval depth")
    pack.add_argument("out", type=Path)
    pack.add_argument("--longest-px", type=int, default=384)
    export = commands.add_parser("export", help="write config.json and model.safetensors")
    export.add_argument("run", type=Path, help="folder of a run")
    export.add_argument("out", type=Path, help="folder of weights")
    export.add_argument("--average", action="store_true", help="the last average, not the best one")
    export.add_argument("--longest-px", type=int, default=512)
    export.add_argument("--mirrored", action="store_true")
    export.add_argument("--recentre-on", type=int, default=0, help="scenes that free the scale of its bias")
    export.add_argument("--assets", type=Path, help="picture and mesh pack of those scenes")


def _settings(options: argparse.Namespace) -> TrainingSettings:
    shape = replace(TOY_SHAPE if options.toy else DepthNetworkShape(), **options.shape)
    return TrainingSettings(
        process_s=options.process_s,
        total_s=options.total_s,
        max_steps=options.max_steps,
        report_s=options.report_s,
        save_s=options.save_s,
        run_seed=options.seed,
        compiled=not options.eager and options.device == "cuda",
        shape=shape,
        plan=BatchPlan(
            sizes=options.sizes[0],
            shares=options.sizes[1],
            images_per_worker=options.images,
            views=options.views,
            zoomed_share=options.zoomed,
            later=tuple(
                BatchPhase(int(step), *_sizes(sizes), int(images)) for step, images, sizes in options.later
            ),
        ),
        losses=LossWeights(**options.losses),
        augment=AugmentSettings(strength=options.strength, wild_share=options.wild),
        flat_share=options.flat_share,
        optimizer=OptimizerSettings(
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            use_muon=not options.adam,
        ),
    )


def _save_kernels(path: Path) -> None:
    """Keep what was compiled: the same run on the same kind of GPU then starts a minute earlier."""
    saved = torch.compiler.save_cache_artifacts()
    if saved is not None:
        path.write_bytes(gzip.compress(saved[0]))


def _train(options: argparse.Namespace) -> None:
    process_started = time.monotonic()
    torch.set_float32_matmul_precision("high")
    settings = _settings(options)
    options.out.mkdir(parents=True, exist_ok=True)
    with join_workers(options.device) as workers, (options.out / "log.jsonl").open("a") as file:

        def log(record: dict[str, object]) -> None:
            line = json.dumps({"s": round(time.monotonic() - process_started, 1)} | record)
            for stream in (file, sys.stdout):
                stream.write(line + "\n")
                stream.flush()

        source = scene_source(workers.device, options.assets, options.mixture)
        development = DevelopmentSet.read(options.development) if options.development else None
        trainer = Trainer(settings, source, workers, out=options.out, development=development)
        if options.resume:
            trainer.resume(options.resume)
        elif options.start_from:
            trainer.start_from(options.start_from)
        has_kernels = options.compiled is not None and options.compiled.exists()
        if has_kernels:
            torch.compiler.load_cache_artifacts(gzip.decompress(options.compiled.read_bytes()))
        trainer.prepare(log)
        if options.compiled is not None and not has_kernels and workers.is_first:
            _save_kernels(options.compiled)
        trainer.run(log, process_started=process_started)


def _export(options: argparse.Namespace) -> None:
    recentring = None
    if options.recentre_on:
        source = scene_source(torch.device("cpu"), options.assets, None)
        recentring = Recentring(source, options.recentre_on)
    config = EmbeddedDepthConfig(options.longest_px, options.mirrored)
    export_weights(options.run, options.out, config, use_best=not options.average, recentring=recentring)


def main(arguments: list[str]) -> int:
    """Run one of the commands; return the exit code."""
    options = _parser().parse_args(arguments)
    match options.command:
        case "train":
            _train(options)
        case "pack":
            pack_development(options.folder, options.out, longest_px=options.longest_px)
        case "export":
            _export(options)
    return 0

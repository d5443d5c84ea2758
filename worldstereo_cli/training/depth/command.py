"""`python -m worldstereo_cli.training depth (train | ablate | pack | export) ...`.

train    on one GPU, or on several under `torchrun` or `accelerate launch`
ablate   short variants of one recipe, one after another on every GPU, and a table of what came of them
pack     real cases with truth into one small file, to steer a run by
export   the best average of a run into a folder of weights

recipes/training/README.md has the order in which they are used.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import torch

from worldstereo_cli.models.depth.embedded import EmbeddedDepthConfig
from worldstereo_cli.training.depth.ablate import Ablation, Bench, deal_out, run_variants
from worldstereo_cli.training.depth.batches import BatchSource, scene_source
from worldstereo_cli.training.depth.development import DevelopmentSet, pack_development
from worldstereo_cli.training.depth.export import Recentring, export_weights
from worldstereo_cli.training.depth.loop import Limits, Log, Trainer
from worldstereo_cli.training.depth.machine import (
    Compiling,
    Machine,
    Parts,
    kernels_for,
    load_kernels,
    save_kernels,
)
from worldstereo_cli.training.depth.plan import digest_of_files, read_plan
from worldstereo_cli.training.depth.recipe import TrainingRecipe, read_recipe
from worldstereo_cli.training.depth.workers import join_workers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worldstereo_cli.training depth", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a network")
    train.add_argument("--recipe", type=Path, help="TOML file, such as recipes/training/fourth.toml")
    train.add_argument("--resume", type=Path, help="folder of a checkpoint")
    train.add_argument("--prepare-only", action="store_true", help="compile for all batches, and end")
    train.add_argument("--save-s", type=float, default=60.0)
    train.add_argument("--report-s", type=float, default=10.0)
    train.add_argument("--development", type=Path, help="packed real cases to choose the checkpoint by")
    ablate = commands.add_parser("ablate", help="compare variants of a recipe")
    ablate.add_argument("plan", type=Path, help="TOML file, such as recipes/training/ablations.toml")
    ablate.add_argument("--development", type=Path, required=True, help="packed real cases to score by")
    ablate.add_argument("--only", type=json.loads, help="names of variants, as a JSON list")
    for one in (train, ablate):
        _add_shared(one)
    _add_pack_and_export(commands)
    return parser


def _add_shared(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, help="folder of results and log.jsonl")
    command.add_argument("--process-s", type=float, required=True, help="seconds that a process may take")
    command.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change the recipe"
    )
    command.add_argument("--assets", type=Path, help="picture and mesh pack of the scenes")
    command.add_argument("--start-from", type=Path, help="folder of a run or of weights to start from")
    command.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    command.add_argument(
        "--compile", choices=("blocks", "whole", "none"), help="blocks on a GPU, none on a CPU if absent"
    )
    command.add_argument(
        "--kernels",
        type=Path,
        help="start of the names of files of compiled kernels, one for each GPU: read if there, and written",
    )


def _add_pack_and_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pack = commands.add_parser("pack", help="pack development cases")
    pack.add_argument("folder", type=Path, help="cases in the format of worldstereo eval depth")
    pack.add_argument("out", type=Path)
    pack.add_argument("--longest-px", type=int, default=384)
    export = commands.add_parser("export", help="write config.json and model.safetensors")
    export.add_argument("run", type=Path, help="folder of a run")
    export.add_argument("out", type=Path, help="folder of weights")
    export.add_argument(
        "--last-share", type=float, default=0.0, metavar="SHARE",
        help="of the last average, 0 to 1; the rest is that of the best one (default: 0)",
    )  # fmt: skip
    export.add_argument("--longest-px", type=int, default=512)
    export.add_argument("--mirrored", action="store_true")
    export.add_argument("--recentre-on", type=int, default=0, help="scenes that free the scale of its bias")
    export.add_argument("--assets", type=Path, help="picture and mesh pack of those scenes")


def _machine(options: argparse.Namespace, recipe: TrainingRecipe, device: torch.device) -> Machine:
    if options.kernels is not None and (kernels := kernels_for(options.kernels, device)).exists():
        load_kernels(kernels)
    parts: Parts = options.compile or ("blocks" if device.type == "cuda" else "none")
    return Machine(recipe.network, device, Compiling(parts))


def _keep_kernels(options: argparse.Namespace, device: torch.device) -> None:
    if options.kernels is not None:
        save_kernels(kernels_for(options.kernels, device))


def _scenes(options: argparse.Namespace, device: torch.device) -> Callable[[TrainingRecipe], BatchSource]:
    """Return what makes the source of a recipe, on one renderer for all recipes."""
    # Here, because it builds or loads compiled code.
    from worldstereo_cli.training.scenes import SceneRenderer

    renderer = SceneRenderer(device, options.assets)
    return lambda recipe: scene_source(renderer.with_settings(recipe.scenes))


def _log_to(file: TextIO, started: float) -> Log:
    def log(record: dict[str, object]) -> None:
        line = json.dumps({"s": round(time.monotonic() - started, 1)} | record) + "\n"
        for stream in (file, sys.stdout):
            stream.write(line)
            stream.flush()

    return log


def _train(options: argparse.Namespace) -> int:
    started = time.monotonic()
    torch.set_float32_matmul_precision("high")
    recipe = read_recipe(options.recipe, options.set)
    options.out.mkdir(parents=True, exist_ok=True)
    with join_workers(options.device) as workers, (options.out / "log.jsonl").open("a") as file:
        log = _log_to(file, started)
        trainer = Trainer(
            recipe,
            _scenes(options, workers.device)(recipe),
            workers,
            machine=_machine(options, recipe, workers.device),
            out=options.out,
            development=DevelopmentSet.read(options.development) if options.development else None,
        )
        if options.resume:
            trainer.resume(options.resume)
        elif options.start_from:
            trainer.start_from(options.start_from)
        trainer.prepare(log, every_phase=options.prepare_only)
        _keep_kernels(options, workers.device)
        if options.prepare_only:
            return 0
        limits = Limits(options.process_s, options.report_s, options.save_s)
        trainer.run(log, limits, process_started=started)
    return 0


def _ablate(options: argparse.Namespace, arguments: list[str]) -> int:
    started = time.monotonic()
    torch.set_float32_matmul_precision("high")
    options.out.mkdir(parents=True, exist_ok=True)
    ablation = Ablation(
        read_plan(options.plan, options.set),
        options.out,
        DevelopmentSet.read(options.development),
        options.start_from,
        digest_of_files(options.development, options.start_from),
    )
    names = options.only or [variant.name for variant in ablation.unfinished()]
    num_gpus = torch.cuda.device_count() if options.device == "cuda" else 0
    if num_gpus > 1 and options.only is None:
        code = deal_out(arguments, names, num_gpus)
        ablation.write_table()
        return code
    with join_workers(options.device) as workers, (options.out / "log.jsonl").open("a") as file:
        bench = Bench(
            _machine(options, ablation.variants[0].recipe, workers.device),
            _scenes(options, workers.device),
            workers,
            on_prepared=lambda: _keep_kernels(options, workers.device),
        )
        log = _log_to(file, started)
        run_variants(ablation, names, bench, log, process_s=options.process_s, started=started)
    return 0


def _export(options: argparse.Namespace) -> None:
    recentring = None
    if options.recentre_on:
        source = _scenes(options, torch.device("cpu"))(TrainingRecipe())
        recentring = Recentring(source, options.recentre_on)
    config = EmbeddedDepthConfig(options.longest_px, options.mirrored)
    export_weights(options.run, options.out, config, last_share=options.last_share, recentring=recentring)


def main(arguments: list[str]) -> int:
    """Run one of the commands; return the exit code."""
    options = _parser().parse_args(arguments)
    match options.command:
        case "train":
            return _train(options)
        case "ablate":
            return _ablate(options, arguments)
        case "pack":
            pack_development(options.folder, options.out, longest_px=options.longest_px)
        case "export":
            _export(options)
    return 0

"""One scene from photo to viewer: builds what is missing or stale, reuses the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from worldstereo_cli.artifacts.manifest import Manifest, digest_file
from worldstereo_cli.errors import ArtifactError, InputError, OutOfMemory
from worldstereo_cli.pipeline.report import Reporter, SceneReport, StageReport
from worldstereo_cli.pipeline.reuse import STAGES, Expectation, Selection, reason_to_build
from worldstereo_cli.pipeline.scene_file import SCENE_FILE, SceneFile
from worldstereo_cli.pipeline.summaries import summary
from worldstereo_cli.recipe import Recipe

VIEWER_PAGE = "viewer.html"
FLYTHROUGH = "flythrough.mp4"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user chose for one run, beside the recipe."""

    selection: Selection = field(default_factory=Selection)
    depth_file: Path | None = None
    fov_deg: float | None = None
    device: str = "auto"
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    """One stage, bound to a scene: what it would be made from, and how to make it."""

    name: str
    expectation: Callable[[], Expectation]
    build: Callable[[], Manifest]


def run_scene(
    photo: Path | None, scene_dir: Path, recipe: Recipe, options: RunOptions, reporter: Reporter
) -> SceneReport:
    """Build a scene, or the selected part of it.

    Args:
        photo: The photograph; may be None when lift is not among the selected stages.
        scene_dir: Where the scene is or will be.
        recipe: The resolved recipe.
        options: Stages, depth file, field of view, device.
        reporter: Is told about every stage.

    Raises:
        InputError: The photo, the depth file or the place cannot be used.
        ArtifactError: A stage that must be there is not, or another run works on this scene.
        OutOfMemory: A stage did not fit into memory.
    """
    started = time.perf_counter()
    if options.dry_run:
        reports = _dry_run(photo, scene_dir, recipe, options)
        return SceneReport(scene_dir, reports, time.perf_counter() - started)
    # All that fails before the scene is touched.
    digest = None if photo is None else _photo_digest(photo)
    if "generate" in options.selection.names:
        _check_backends(recipe, options, reporter)
    with _locked(scene_dir):
        record = _open_record(photo, digest, scene_dir, recipe, options)
        reports = []
        for step in _steps(photo, scene_dir, recipe, options, reporter):
            reports.append(_run_step(step, scene_dir, options, reporter))
            _note(record, scene_dir, reports[-1])
        if options.selection.last == STAGES[-1]:
            reports.append(_show(scene_dir, recipe, options, reporter, reports))
            _note(record, scene_dir, reports[-1])
    return SceneReport(scene_dir, reports, time.perf_counter() - started)


def resolve_device(name: str) -> str:
    """Turn `auto` into the device that will be used.

    Raises:
        InputError: `cuda` was asked for and there is none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no usable NVIDIA GPU was found.", remedy="Use --device cpu.")
    return name


def _check_backends(recipe: Recipe, options: RunOptions, reporter: Reporter) -> None:
    from worldstereo_cli.pipeline import bindings

    needs = bindings.check_backends(recipe, resolve_device(options.device))
    if needs is not None:
        reporter.note(f"{recipe.generate.backend}: {needs}")


def _run_step(step: _Step, scene_dir: Path, options: RunOptions, reporter: Reporter) -> StageReport:
    root = scene_dir / step.name
    expected = step.expectation()
    reason = reason_to_build(root, step.name, expected, step.name in options.selection.forced)
    if reason is None:
        report = StageReport(step.name, "reused", "unchanged", 0.0, summary(Manifest.read(root, step.name)))
    else:
        reporter.stage_started(step.name, reason)
        began = time.perf_counter()
        with _memory_errors(step.name):
            manifest = step.build()
        report = StageReport(step.name, "built", reason, time.perf_counter() - began, summary(manifest))
    reporter.stage_ended(report)
    return report


def _steps(
    photo: Path | None, scene_dir: Path, recipe: Recipe, options: RunOptions, reporter: Reporter
) -> Iterator[_Step]:
    """Bind the selected stages to a scene, in order."""
    from worldstereo_cli.pipeline import bindings

    device = resolve_device(options.device)
    for name in options.selection.names:
        binding = bindings.Binding(photo, scene_dir, recipe, options.depth_file, options.fov_deg, device)
        yield _Step(
            name,
            lambda name=name, binding=binding: bindings.expectation(name, binding),  # type: ignore[misc]
            lambda name=name, binding=binding: bindings.build(name, binding, reporter.progress),  # type: ignore[misc]
        )


def _dry_run(photo: Path | None, scene_dir: Path, recipe: Recipe, options: RunOptions) -> list[StageReport]:
    from worldstereo_cli.pipeline import bindings

    reports: list[StageReport] = []
    stale: str | None = None
    for name in options.selection.names:
        if stale:
            reports.append(StageReport(name, "planned", f"{stale} is rebuilt"))
            continue
        binding = bindings.Binding(photo, scene_dir, recipe, options.depth_file, options.fov_deg, "cpu")
        expected = bindings.expectation(name, binding)
        reason = reason_to_build(scene_dir / name, name, expected, name in options.selection.forced)
        if reason is None:
            reports.append(StageReport(name, "reused", "unchanged"))
        else:
            reports.append(StageReport(name, "planned", reason))
            stale = name
    return reports


def _show(
    scene_dir: Path, recipe: Recipe, options: RunOptions, reporter: Reporter, done: list[StageReport]
) -> StageReport:
    """Write the viewer page and the flythrough, unless nothing changed since the last ones."""
    from worldstereo_cli.pipeline import bindings

    outputs = [scene_dir / VIEWER_PAGE, scene_dir / FLYTHROUGH]
    if all(report.state == "reused" for report in done) and all(path.is_file() for path in outputs):
        report = StageReport("view", "reused", "unchanged")
    else:
        reporter.stage_started("view", "the splats are new")
        began = time.perf_counter()
        with _memory_errors("view"):
            bindings.show(scene_dir, recipe, resolve_device(options.device), reporter.progress)
        report = StageReport("view", "built", "the splats are new", time.perf_counter() - began)
    reporter.stage_ended(report)
    return report


def _open_record(
    photo: Path | None, digest: str | None, scene_dir: Path, recipe: Recipe, options: RunOptions
) -> SceneFile:
    """Read or begin the scene's record; refuse to mix two photos in one scene."""
    known = SceneFile.read(scene_dir) if (scene_dir / SCENE_FILE).is_file() else None
    if photo is None:
        if known is None:
            return SceneFile.read(scene_dir)  # Raises, with the words for a missing scene.
        known.recipe = recipe
        return known
    if known is not None and known.input.get("sha256") != digest and "lift" not in options.selection.forced:
        raise ArtifactError(
            f"{scene_dir} was made from another photo ({known.input.get('path')}).",
            remedy="Choose another --out, or replace the scene with --force all.",
        )
    record = SceneFile({"path": str(photo), "sha256": digest}, recipe)
    if known is not None:
        record.stages, record.world = known.stages, known.world
    return record


def _photo_digest(photo: Path) -> str:
    try:
        return digest_file(photo)
    except OSError as error:
        raise InputError(
            f"{photo} cannot be read: {error.strerror}.", remedy="Pass the path of a photograph."
        ) from error


def _note(record: SceneFile, scene_dir: Path, report: StageReport) -> None:
    if report.state == "built":
        entry = {"state": "done", "seconds": round(report.seconds, 2), "summary": report.summary}
        record.stages[report.name] = entry
        if report.name == STAGES[0]:
            record.world = dict(Manifest.read(scene_dir / STAGES[0], STAGES[0]).facts.get("world", {}))
    record.write(scene_dir)


@contextmanager
def _locked(scene_dir: Path) -> Iterator[None]:
    """Hold the scene for this run; a second run on it is refused."""
    try:
        scene_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(scene_dir / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ArtifactError(
            f"Another run is working on {scene_dir}.", remedy="Wait for it to end, or choose another --out."
        ) from error
    except OSError as error:
        raise InputError(
            f"{scene_dir} cannot be written: {error.strerror}.", remedy="Choose another place with --out."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _memory_errors(stage: str) -> Iterator[None]:
    """Translate the three ways in which memory runs out."""
    import torch

    remedy = "Try --recipe preview, or a smaller --set lift.long_side_px."
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(f"{stage} ran out of memory.", remedy=remedy) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(f"{stage} ran out of memory.", remedy=remedy) from error

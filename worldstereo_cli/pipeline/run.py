"""One scene from photo to viewer: builds what is missing or stale, reuses the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from worldstereo_cli.artifacts.manifest import MANIFEST_NAME, Manifest
from worldstereo_cli.artifacts.photo import photo_size, shows_panorama
from worldstereo_cli.errors import ArtifactError, BackendError, InputError, WorldStereoError
from worldstereo_cli.pipeline import bindings
from worldstereo_cli.pipeline.estimate import Workload, estimate, setting_that_fits
from worldstereo_cli.pipeline.place import FLYTHROUGH, VIEWER_PAGE, can_be_written, held, refuse_foreign
from worldstereo_cli.pipeline.report import Reporter, SceneReport, StageReport
from worldstereo_cli.pipeline.reuse import NOT_MADE, STAGES, VIEW, Decision, Selection
from worldstereo_cli.pipeline.scene_file import SCENE_FILE, SceneFile
from worldstereo_cli.pipeline.settings import flags_to_keep
from worldstereo_cli.pipeline.summaries import summary
from worldstereo_cli.pipeline.trouble import (
    memory_limit_mb,
    peak_memory_mb,
    storage_words,
    trouble_in,
)
from worldstereo_cli.progress import Progress
from worldstereo_cli.recipe import Recipe

_DEVICES = ("auto", "cpu", "cuda")
_UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user chose for one run, beside the recipe."""

    selection: Selection = field(default_factory=Selection)
    depth_file: Path | None = None
    fov_deg: float | None = None
    device: str = "auto"
    dry_run: bool = False


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
    # All that fails before the scene is touched comes first.
    run = _Run(photo, scene_dir, recipe, options)
    try:
        stages = run.planned()
        run.tell_other_settings(stages, reporter)
        run.tell_ignored(stages, reporter)
        if not options.dry_run:
            run.check_backends(stages, reporter)
    except BackendError as error:
        raise run.with_all_that_is_missing(error) from error
    if not options.dry_run:
        run.warn_of_memory(stages, reporter)
        if all(stage.state == "reused" for stage in stages) and not can_be_written(scene_dir):
            stages = run.left_alone(stages, reporter)
        else:
            with storage_words(), held(scene_dir):
                stages = run.built(reporter)
    return SceneReport(scene_dir, stages, time.perf_counter() - started)


def planned_stages(photo: Path, scene_dir: Path, recipe: Recipe, options: RunOptions) -> list[StageReport]:
    """Say what a run would do, stage by stage, without doing any of it.

    Raises:
        InputError, ArtifactError: As `run_scene` does before it touches the scene.
    """
    return _Run(photo, scene_dir, recipe, options).planned()


def resolve_device(name: str) -> str:
    """Turn `auto` into the device that will be used.

    Raises:
        InputError: There is no such device, here or anywhere.
    """
    if name not in _DEVICES:
        raise InputError(f"--device {name}: there is no such device.", remedy=f"Use {', '.join(_DEVICES)}.")
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no usable NVIDIA GPU was found.", remedy="Use --device cpu.")
    return name


class _Run:
    """One run of one scene."""

    def __init__(self, photo: Path | None, scene_dir: Path, recipe: Recipe, options: RunOptions) -> None:
        self.device = resolve_device(options.device)
        refuse_foreign(scene_dir)
        digest = None if photo is None else bindings.photo_digest(photo)
        self.binding = bindings.Binding(photo, digest, scene_dir, recipe, options.depth_file, options.fov_deg)
        self.selection = options.selection
        self.record = _open_record(self.binding, options.selection)
        self._anew: dict[str, str] = {}
        """By stage, the digest of what is made anew because the user does not trust what is there."""

    def planned(self) -> list[StageReport]:
        """Say what is to be done, without doing it."""
        decisions = bindings.decide(self.selection, self.binding, self.record.owed)
        self._anew = {d.name: d.digest for d in decisions if d.is_anew}
        reasons = [(decision.name, decision.reason) for decision in decisions]
        if self.selection.last == STAGES[-1]:
            reasons.append((VIEW, self._reason_to_show(decisions)))
        work = None
        if any(reason for _, reason in reasons):
            kept = bindings.rounds_to_keep(decisions, self.binding)
            work = replace(self._workload, rounds_kept=kept)
        return [_planned(name, reason, work) for name, reason in reasons]

    def tell_other_settings(self, planned: list[StageReport], reporter: Reporter) -> None:
        """Say how the scene would keep its settings, where it is built anew with others."""
        replaced = [r.name for r in planned if r.state == "planned" and self._is_there(r.name)]
        flags = flags_to_keep(self.record.recipe, self.binding.recipe)
        if replaced and flags:
            reporter.note(
                f"{self.binding.scene_dir} was made with other settings; to keep them: {' '.join(flags)}"
            )

    def tell_ignored(self, planned: list[StageReport], reporter: Reporter) -> None:
        """Say what was given and makes no difference."""
        recipe, photo = self.binding.recipe, self.binding.photo
        is_lifted = any(report.name == "lift" and report.state == "planned" for report in planned)
        if is_lifted and photo is not None and shows_panorama(photo):
            reporter.note(
                f"{photo} looks like a panorama; it is lifted as an ordinary photo, so shapes are bent"
            )
        if "generate" in self.selection.names and bindings.ignores_prompt(recipe):
            reporter.note(f"the prompt is ignored: {recipe.generate.backend} does not read one")

    def check_backends(self, planned: list[StageReport], reporter: Reporter) -> None:
        """See that the models of stages that will be built are there and fit."""
        building = {report.name for report in planned if report.state == "planned"}
        if "generate" in building:
            needs = bindings.check_backends(self.binding.recipe, self.device)
            if needs is not None:
                reporter.note(f"{self.binding.recipe.generate.backend}: {needs}")
        if "reconstruct" in building:
            bindings.check_rasterizer(self.device)
        of_photo = "lift" in building and self.binding.depth_file is None
        bindings.check_depth(self.binding.recipe, of_photo=of_photo, of_frames="generate" in building)

    def with_all_that_is_missing(self, error: BackendError) -> BackendError:
        """Add what else the selected stages would be refused for, so that nobody fetches 59 GB for that."""
        names, recipe = self.selection.names, self.binding.recipe
        checks: list[Callable[[], None]] = []
        if "reconstruct" in names:
            checks.append(lambda: bindings.check_rasterizer(self.device))
        of_photo = "lift" in names and self.binding.depth_file is None
        checks.append(lambda: bindings.check_depth(recipe, of_photo=of_photo, of_frames="generate" in names))
        missing = [error]
        for check in checks:
            try:
                check()
            except BackendError as other:
                if other.problem != error.problem:
                    missing.append(other)
        return BackendError(
            " ".join(one.problem for one in missing),
            remedy="; ".join(one.remedy.rstrip(".") for one in missing) + ".",
        )

    def warn_of_memory(self, planned: list[StageReport], reporter: Reporter) -> None:
        """Say beforehand what may not fit: a system that runs out may kill the process without a word."""
        costs = {report.name: report.expected.memory_mb for report in planned if report.expected is not None}
        limit = memory_limit_mb()
        hungriest = max(costs, key=lambda name: costs[name], default="")
        if hungriest and costs[hungriest] > limit:
            fitting = setting_that_fits(hungriest, self._workload, limit)
            reporter.note(
                f"{hungriest} is expected to need {costs[hungriest] / 1000:.1f} GB, "
                f"and {limit / 1000:.1f} GB are free" + (f"; what fits: {fitting}" if fitting else "")
            )

    def built(self, reporter: Reporter) -> list[StageReport]:
        """Do what is to be done; the scene has to be held."""
        # Anew: another run may have ended since, and a draft that one left may have been put in its place.
        self.record = _open_record(self.binding, self.selection)
        planned = self.planned()
        reporter.run_planned(planned)
        for report in planned:
            # What is there stays on record until it is replaced: the run may be refused before that.
            if report.state == "planned" and not self._is_there(report.name):
                self.record.await_stage(report.name, self.binding.recipe)
        self.record.write(self.binding.scene_dir)
        done = []
        trouble = partial(
            trouble_in, work=lambda: self._workload, device=self.device, room_mb=memory_limit_mb()
        )
        for report in planned:
            if report.state == "planned":
                reporter.stage_started(report.name, report.reason)
                with self._owing(report.name), trouble(report.name):
                    report = self._build(report, reporter.progress)
            else:
                report = replace(report, summary=self._summary(report.name))
            self._enter(report)
            reporter.stage_ended(report)
            done.append(report)
        self.record.recipe = self.binding.recipe
        self.record.write(self.binding.scene_dir)
        return done

    def left_alone(self, planned: list[StageReport], reporter: Reporter) -> list[StageReport]:
        """Tell of a scene in which nothing is to be done, and nothing can be; not even write its record."""
        reporter.run_planned(planned)
        done = [replace(report, summary=self._summary(report.name)) for report in planned]
        for report in done:
            reporter.stage_ended(report)
        reporter.note(f"everything is up to date; {self.binding.scene_dir} is read-only, and was left alone")
        return done

    @contextmanager
    def _owing(self, name: str) -> Iterator[None]:
        """Have the record tell, while a stage is made anew, that a run which is cut short still owes it."""
        if name not in self._anew:
            yield
            return
        known = dict(self.record.stages)
        self.record.owe(name, self._anew[name])
        self.record.write(self.binding.scene_dir)
        try:
            yield
        except WorldStereoError:
            # What was refused is owed no more; of rounds, some may have been made.
            if name != "generate":
                self.record.stages = known
                self.record.write(self.binding.scene_dir)
            raise

    def _is_there(self, name: str) -> bool:
        """Say whether a stage has left something that is finished, whatever it was made from."""
        scene = self.binding.scene_dir
        if name == VIEW:
            return all((scene / output).is_file() for output in (VIEWER_PAGE, FLYTHROUGH))
        return (scene / name / MANIFEST_NAME).is_file()

    @property
    def _workload(self) -> Workload:
        """How much there is to do, as far as it is known."""
        scene, recipe = self.binding.scene_dir, self.binding.recipe
        if self.binding.photo is not None:
            size = photo_size(self.binding.photo, recipe.lift.long_side_px)
        else:
            size = tuple(Manifest.read(scene / "lift", "lift").facts["size_px"])
        work, clip = Workload.of(recipe, size), bindings.clip_cost(recipe, self.device)
        return work if clip is None else work.by_model(clip)

    def _reason_to_show(self, decisions: list[Decision]) -> str | None:
        outputs = (VIEWER_PAGE, FLYTHROUGH)
        missing = [name for name in outputs if not (self.binding.scene_dir / name).is_file()]
        if len(missing) == len(outputs):
            return NOT_MADE
        if any(decision.reason is not None for decision in decisions):
            return "the splats are new"
        if missing:
            return f"{missing[0]} is missing"
        entry = self.record.stages.get(VIEW, {})
        if entry.get("state") != "done":
            return "the last run was cut short"
        return (
            None
            if entry.get("made_from") == bindings.view_digest(self.binding.scene_dir, self.binding.recipe)
            else "settings or version changed"
        )

    def _build(self, planned: StageReport, progress: Progress) -> StageReport:
        """Build one stage, or page and flythrough."""
        name, began = planned.name, time.perf_counter()
        scene = self.binding.scene_dir
        if name == VIEW:
            bindings.show(scene, self.binding.recipe, self.device, progress)
        else:
            if name == "generate" and {"lift", "generate"} & self.selection.forced:
                bindings.forget_next(scene)
            before = bindings.finished_rounds(scene)
            bindings.build(name, self.binding, self.device, progress, anew=name in self._anew)
            if name == "generate":
                planned = replace(planned, rounds_kept=len(before & bindings.finished_rounds(scene)))
        seconds = time.perf_counter() - began
        return replace(planned, state="built", seconds=seconds, summary=self._summary(name))

    def _summary(self, name: str) -> str:
        if name == VIEW:
            return f"{VIEWER_PAGE}, {FLYTHROUGH}"
        return summary(Manifest.read(self.binding.scene_dir / name, name))

    def _enter(self, report: StageReport) -> None:
        """Note in the scene's record what became of a stage."""
        scene, known = self.binding.scene_dir, self.record.stages.get(report.name, {})
        facts = {} if report.name == VIEW else Manifest.read(scene / report.name, report.name).facts
        entry = {"state": "done", "seconds": facts.get("seconds"), "summary": report.summary}
        if report.state == "built":
            entry |= {"seconds": round(report.seconds, 2), "peak_memory_mb": peak_memory_mb()}
        elif known.get("state") == "done":
            entry = known
        if report.name == VIEW:
            entry["made_from"] = bindings.view_digest(self.binding.scene_dir, self.binding.recipe)
        if report.name == "lift" and self.binding.photo is not None:
            self.record.input = _input(self.binding.photo, self.binding)
            self.record.world = dict(facts["world"])
        self.record.enter_stage(report.name, entry, self.binding.recipe)
        if report.state == "built":
            self._note_what_follows(report.name)
        self.record.write(scene)

    def _note_what_follows(self, name: str) -> None:
        """Have the record tell what no longer follows from a stage that was just built."""
        if name in self._anew:
            for later in self.selection.names[self.selection.names.index(name) + 1 :]:
                if later in self._anew:
                    self.record.owe(later, self._anew[later])
        if name == STAGES[-1] and VIEW in self.record.stages:
            self.record.stages[VIEW] |= {"state": "waiting"}


def _planned(name: str, reason: str | None, work: Workload | None) -> StageReport:
    if reason is None or work is None:
        return StageReport(name, "reused", _UNCHANGED)
    return StageReport(name, "planned", reason, expected=estimate(name, work))


def _input(photo: Path, binding: bindings.Binding) -> dict[str, Any]:
    return {"path": str(photo.absolute()), "sha256": binding.photo_digest}


def _open_record(binding: bindings.Binding, selection: Selection) -> SceneFile:
    """Read or begin the scene's record; refuse to mix two photos in one scene.

    A photo that was edited in its place belongs to the same scene, which is then built anew.
    """
    scene, photo = binding.scene_dir, binding.photo
    if photo is None:
        return SceneFile.read(scene)
    given = _input(photo, binding)
    if not (scene / SCENE_FILE).is_file():
        return SceneFile(given, binding.recipe)
    known = SceneFile.read(scene)
    before = known.input.get("path"), known.input.get("sha256")
    is_other = before[1] != given["sha256"]
    if is_other and before[0] != given["path"] and "lift" not in selection.forced:
        raise ArtifactError(
            f"{scene} was made from another photo ({before[0]}).",
            remedy="Choose another --out, or replace the scene with --force all.",
        )
    if is_other and "lift" not in selection.names:
        raise ArtifactError(
            f"{photo} has changed since {scene} was lifted.",
            remedy="Leave out --from, so that the photo is lifted again.",
        )
    return known

"""A folder of photos: one scene each, and one failure does not stop the rest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from worldstereo_cli.errors import InputError, OutOfMemory, WorldStereoError, is_interrupt
from worldstereo_cli.pipeline.interrupts import heard_signals
from worldstereo_cli.pipeline.place import is_scene
from worldstereo_cli.pipeline.report import Reporter, SceneReport, StageReport
from worldstereo_cli.pipeline.run import RunOptions, planned_stages, run_scene
from worldstereo_cli.recipe import Recipe

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".tif", ".tiff", ".bmp"})

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """What became of one photo of a folder."""

    photo: Path
    scene_dir: Path
    report: SceneReport | None
    error: WorldStereoError | None


def photos_in(folder: Path) -> list[Path]:
    """List the photos of a folder by name; hidden files are none.

    Raises:
        InputError: There are none, or two would share a scene because their names differ in the
            ending only.
    """
    photos = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not photos:
        endings = ", ".join(sorted(PHOTO_SUFFIXES))
        raise InputError(f"{folder} holds no photos.", remedy=f"Photos end in {endings}.")
    by_stem: dict[str, Path] = {}
    for photo in photos:
        # Case folded, because two scenes that differ in case are one on some file systems.
        other = by_stem.setdefault(photo.stem.casefold(), photo)
        if other is not photo:
            raise InputError(
                f"{other.name} and {photo.name} would both become the scene {photo.stem}.",
                remedy="Rename one of them.",
            )
    return photos


def run_folder(
    folder: Path,
    out: Path,
    recipe: Recipe,
    options: RunOptions,
    reporter_for: Callable[[str], Reporter],
    *,
    jobs: int = 1,
) -> list[FolderEntry]:
    """Build one scene for each photo of a folder, in `out/<stem>/`.

    Each photo has a process of its own: one that fails, crashes or is killed for want of memory takes
    no other with it, and leaves no memory behind.

    Args:
        folder: Its photos, not those of folders within.
        out: Where the scenes are or will be.
        recipe: The resolved recipe.
        options: As for one photo.
        reporter_for: Makes what is told about a photo, given its name.
        jobs: Photos at once; they share the processor's cores.

    Raises:
        InputError: The folder holds no photos, names clash, `out` is a scene or a file, or a depth file is
            given, which is of one photo.
    """
    _refuse_place(out)
    _refuse_depth_file(folder, options)
    jobs_left = _Jobs(recipe, options, max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None)

    def one(photo: Path) -> FolderEntry:
        try:
            report = jobs_left.run(photo, out / photo.stem, reporter_for(photo.stem))
        except WorldStereoError as error:
            return FolderEntry(photo, out / photo.stem, None, error)
        return FolderEntry(photo, out / photo.stem, report, None)

    photos = photos_in(folder)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(one, photos))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            jobs_left.stop()
            raise


def _refuse_depth_file(folder: Path, options: RunOptions) -> None:
    if options.depth_file is not None:
        raise InputError(
            f"{options.depth_file} is the depth of one photo, and {folder} is a folder.",
            remedy="Run each photo that has a depth file alone.",
        )


def _refuse_place(out: Path) -> None:
    """Refuse a place that cannot hold scenes. What else lies there is left alone: it may be the photos."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, so no scenes can be made there.", remedy="Choose another --out.")
    if is_scene(out):
        raise InputError(
            f"{out} is a scene itself, and a folder of photos becomes one scene each.",
            remedy=f"Choose another directory, such as --out {out.parent / 'scenes'}",
        )


class _Jobs:
    """Runs scenes in processes, and stops them all when asked to."""

    def __init__(self, recipe: Recipe, options: RunOptions, threads: int | None) -> None:
        self._recipe = recipe
        self._options = options
        self._threads = threads
        self._lock = threading.Lock()
        self._running: set[BaseProcess] = set()
        self._is_stopped = False

    def run(self, photo: Path, scene_dir: Path, reporter: Reporter) -> SceneReport:
        """Run one scene in a process and pass on what it tells.

        Raises:
            WorldStereoError: What the run raised, or that its process broke down.
        """
        job = (photo, scene_dir, self._recipe, self._options)
        # Nothing to do needs no process of its own.
        if self._options.dry_run or all(stage.state == "reused" for stage in planned_stages(*job)):
            return run_scene(*job, reporter)
        # A fresh interpreter: a fork of one that has threads may hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, job, self._threads))
        with self._lock:
            if self._is_stopped:
                raise KeyboardInterrupt
            with _unheard_at_first():
                process.start()
            self._running.add(process)
        theirs.close()
        try:
            result = _listen(ours, reporter)
            process.join()
        finally:
            self._running.discard(process)
        if isinstance(result, WorldStereoError):
            raise result
        if result is None:
            raise _broken_down(process.exitcode)
        return result

    def stop(self) -> None:
        """Ask every process to end at a clean point, and wait for it."""
        with self._lock:
            self._is_stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            process.join()


@contextmanager
def _unheard_at_first() -> Iterator[None]:
    """Let a process that is started here hear Ctrl-C once it listens, and not before.

    A terminal sends it to all of its processes, and one that still loads its libraries would end with a
    traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It is started with the first process otherwise, and takes the mask off.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(connection: Connection, reporter: Reporter) -> SceneReport | WorldStereoError | None:
    """Pass on what a process tells, until it says how it ended; None if it never does."""
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return None
        if isinstance(message, SceneReport | WorldStereoError):
            return message
        name, arguments = message
        getattr(reporter, name)(*arguments)


def _broken_down(exit_code: int | None) -> WorldStereoError:
    if exit_code == -signal.SIGTERM or exit_code == 128 + signal.SIGTERM:
        return WorldStereoError("The run was stopped.", remedy="The same command resumes.")
    if exit_code is not None and exit_code < 0 and -exit_code == getattr(signal, "SIGKILL", 9):
        return OutOfMemory(
            "The run was killed, most likely because the system ran out of memory; what is finished is kept.",
            remedy="Try fewer --jobs, or a smaller --set lift.long_side_px.",
        )
    return WorldStereoError(
        f"The run crashed with exit code {exit_code}; its output is above.",
        remedy="Run this photo alone; if it happens again, please report it.",
    )


def _work(connection: Connection, job: tuple[Path, Path, Recipe, RunOptions], threads: int | None) -> None:
    """Run one scene, as the main function of a process."""
    if threads is not None:
        for variable in _THREAD_VARIABLES:
            os.environ.setdefault(variable, str(threads))
    photo, scene_dir, recipe, options = job
    # Asked to end, it clears its drafts away as after Ctrl-C.
    with heard_signals():
        try:
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            connection.send(run_scene(photo, scene_dir, recipe, options, _Wire(connection)))
        except WorldStereoError as error:
            connection.send(error)
        except BaseException as error:
            if not is_interrupt(error):
                raise
            sys.exit(128 + signal.SIGTERM)


class _Wire:
    """A reporter whose words are said in another process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run_planned(self, stages: list[StageReport]) -> None:
        """Pass it on."""
        self._say("run_planned", stages)

    def stage_started(self, name: str, reason: str) -> None:
        """Pass it on."""
        self._say("stage_started", name, reason)

    def progress(self, done: int, total: int, what: str) -> None:
        """Pass it on."""
        self._say("progress", done, total, what)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._say("note", text)

    def stage_ended(self, report: StageReport) -> None:
        """Pass it on."""
        self._say("stage_ended", report)

    def _say(self, name: str, *arguments: object) -> None:
        try:
            self._connection.send((name, arguments))
        except BrokenPipeError as error:
            # Nobody listens any more: the process that started this one was killed.
            raise KeyboardInterrupt from error

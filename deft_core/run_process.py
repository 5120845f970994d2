"""The process that works through a run, and how others tell whether it lives. No torch here.

`execute` is what the child does: it works through a stage and keeps the folder's status true.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import psutil

from deft_core.errors import RunError
from deft_core.failures import ERROR_OF_ASSISTANT, explained, told_by_assistant
from deft_core.run_files import ProcessFile, State
from deft_core.run_folder import WAITING, Progress, RunFolder

SECONDS_BETWEEN_LOOKS = 0.5

Stage = Callable[[RunFolder], Generator[Progress, None, None]]


class RunCancelled(Exception):  # noqa: N818 - it went as asked.
    """A run ended because it was told to."""


def execute(
    folder: RunFolder,
    stage: Stage,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Work through a stage in this process; the folder's status says how it ended.

    A run that was cut off before goes on. SIGTERM closes the stage at its next report; what it did
    up to its last checkpoint stays. What the user can mend is kept with its hint; anything else is
    a bug, leaves its traceback in the log and goes on to the caller.
    """
    state, other = folder.status().state, find_process(folder)
    if state == "done":
        raise RunError(f"{folder.run_id} is done.", "Start a new run.")
    if other and other.pid not in (os.getpid(), os.getppid()):
        raise RunError(
            f"{folder.run_id} is {state} in process {other.pid}.", "Wait for it, or cancel it."
        )
    if other is None:
        folder.write_json("proc.json", {"pid": os.getpid()})
    _end_with_launcher()
    folder.sweep()
    (folder.path / ERROR_OF_ASSISTANT).unlink(missing_ok=True)
    with _terminations() as is_told_to_stop:
        folder.set_status("running")
        try:
            with _Record(folder, clock=clock) as record, closing(stage(folder)) as reports:
                for progress in reports:
                    record.add(progress)
                    if on_progress:
                        on_progress(progress)
                    if is_told_to_stop():
                        raise RunCancelled
        except BaseException as error:
            told = told_by_assistant(folder)
            # Workers of the stage get the signal too, and their ends look like failures of it; a
            # launcher sends it when another process has failed.
            if not told and (is_told_to_stop() or isinstance(error, KeyboardInterrupt)):
                _leave(folder, "cancelled")
                raise RunCancelled(f"{folder.run_id} was cancelled.") from error
            known = told or explained(error, folder)
            if known is None:
                _leave(
                    folder,
                    "failed",
                    error=f"This is a bug: {type(error).__name__}: {error}",
                    hint="The log of the run ends with the traceback; please report it.",
                )
                raise
            _leave(folder, "failed", error=known.message, hint=known.hint)
            if known is error:
                raise
            raise known from error
        folder.set_status("done")


class _Record:
    """Writes the reports of a run down, each with the seconds that were worked on it until then."""

    def __init__(self, folder: RunFolder, *, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._seconds = folder.seconds_worked()
        self._last = Progress(stage="starting")
        self._moment = clock()
        self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._count()
        # As in `_leave`: what the disk refuses costs the last seconds.
        with suppress(OSError):
            self._write()

    def add(self, progress: Progress) -> None:
        self._count()
        # One that waits says the same for hours.
        if progress != self._last:
            self._last = progress
            self._write()

    def _count(self) -> None:
        now = self._clock()
        if self._last.stage != WAITING:
            self._seconds += now - self._moment
        self._moment = now

    def _write(self) -> None:
        self._folder.add_progress(replace(self._last, seconds=self._seconds))


def _leave(folder: RunFolder, state: State, *, error: str = "", hint: str = "") -> None:
    # A full disk may refuse this too, and the folder may be gone: the run is then seen as crashed.
    with suppress(OSError):
        folder.set_status(state, error=error, hint=hint)


def assist(folder: RunFolder, stage: Stage) -> None:
    """Work through a stage beside the process that executes it and alone reports.

    What the user can mend is left in the folder for that process, which sees only that this one
    is gone.
    """
    _end_with_launcher()
    try:
        for _ in stage(folder):
            pass
    except Exception as error:
        known = explained(error, folder)
        if known:
            told = {"error": known.message, "hint": known.hint}
            folder.write_json(ERROR_OF_ASSISTANT, told)
        if known is None or known is error:
            raise
        raise known from error


def _end_with_launcher() -> None:
    """Where `accelerate launch` started this process among others, let it end when that is gone:
    it alone is known to whoever watches the run, and may go on with it."""
    if "RANK" not in os.environ:
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        # It may wait for another process for ever, and so hears nothing else.
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _terminations() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come since the block began."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def is_asked_to_stop(folder: RunFolder) -> bool:
    """Whether the process that works on the run, or did last, was asked to stop."""
    try:
        return _pid(folder, "cancel.json") == _pid(folder, "proc.json")
    except RunError:
        return False


def find_process(folder: RunFolder) -> psutil.Process | None:
    """The run's process if it lives.

    Ids are used again and clocks are set, but no other process is started with this run's folder.
    """
    try:
        process = psutil.Process(_pid(folder, "proc.json"))
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        here, arguments = Path(process.cwd()), process.cmdline()
        is_ours = folder.path.resolve() in [(here / one).resolve() for one in arguments]
        return process if not is_zombie and is_ours else None
    except (RunError, psutil.Error):
        return None


def _pid(folder: RunFolder, name: str) -> int:
    return int(folder.read_json(name, ProcessFile)["pid"])

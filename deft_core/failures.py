"""Failures that come from the machine, in words that say what to do about them."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from deft_core.errors import DeftError, RunError, chain_of
from deft_core.full_disk import fullness
from deft_core.run_files import ErrorFile
from deft_core.run_folder import RunFolder

ERROR_OF_ASSISTANT = "error.json"
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    # The system takes the workers that decode images first, or their shared memory.
    "killed by signal: Killed",
    "killed by signal: Bus error",
)
"""What torch says when a device, the CPU or a worker has no memory left."""
LEAST_FREE_BYTES = 1_000_000
SMALLER = "Choose a smaller batch size or a smaller model, or close what else uses the memory."


def explained(error: BaseException, folder: RunFolder) -> DeftError | None:
    """What the user can do about an error that ended a run; None if it is a bug."""
    if isinstance(error, DeftError):
        return error
    if fullness(error):
        return _disk_full(folder)
    if not folder.path.exists():
        return RunError(f"{folder.path} was deleted while it was worked on.", "Start a new run.")
    lacking = next(filter(_is_lack_of_memory, chain_of(error)), None)
    return RunError(f"The memory is full: {lacking}", SMALLER) if lacking else None


def _is_lack_of_memory(error: BaseException) -> bool:
    # torch, which is not imported here, tells it of most devices by words alone.
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY))
    )


@contextmanager
def explaining(folder: RunFolder) -> Iterator[None]:
    """A block in which what the machine refuses to do with the folder is said in words."""
    try:
        yield
    except OSError as error:
        known = explained(error, folder)
        if known is None:
            raise
        raise known from error


def told_by_assistant(folder: RunFolder) -> RunError | None:
    """What ended a process that worked on the run beside the one that reports, if it said so."""
    if not (folder.path / ERROR_OF_ASSISTANT).exists():
        return None
    told = folder.read_json(ERROR_OF_ASSISTANT, ErrorFile)
    return RunError(told["error"], told["hint"])


def cause_of_death(folder: RunFolder) -> RunError:
    """What most likely ended a run whose process is gone without a word."""
    if told := told_by_assistant(folder):
        return told
    try:
        is_full = shutil.disk_usage(folder.path).free < LEAST_FREE_BYTES
    except FileNotFoundError:
        is_full = False
    if is_full:
        return _disk_full(folder)
    return RunError(
        "The process of this run was ended from outside, most often because the memory was full.",
        f"{SMALLER} Or let it go on. Its log may tell more.",
    )


def _disk_full(folder: RunFolder) -> RunError:
    return RunError(
        f"The disk that holds {folder.path.parent} is full.",
        "Make room, for example by deleting old runs, then let this one go on.",
    )

"""Failures that come from the machine, in words that say what to do about them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from deft_core.errors import DeftError, RunError
from deft_core.full_disk import fullness
from deft_core.run_folder import RunFolder

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
    # torch is not imported here: its error is known by its name.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return RunError(f"The memory is full: {error}", SMALLER)
    return None


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


def cause_of_death(folder: RunFolder) -> RunError:
    """What most likely ended a run whose process is gone without a word."""
    try:
        is_full = shutil.disk_usage(folder.path).free < LEAST_FREE_BYTES
    except FileNotFoundError:
        is_full = False
    if is_full:
        return _disk_full(folder)
    return RunError(
        "The process of this run was ended from outside, most often because the memory was full.",
        f"{SMALLER} Or let it go on.",
    )


def _disk_full(folder: RunFolder) -> RunError:
    return RunError(
        f"The disk that holds {folder.path.parent} is full.",
        "Make room, for example by deleting old runs, then let this one go on.",
    )

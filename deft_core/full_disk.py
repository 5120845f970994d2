"""A disk without room, told as such by whoever writes: the system, or a library in its words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deft_core.errors import DiskFullError, chain_of

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, and no longer file than this."""


def fullness(error: BaseException) -> str:
    """The system's words for what is full, if that is what an error, or one that led to it, is
    about; else empty."""
    # torch says only that something went wrong while another error was handled.
    return next(filter(None, map(_fullness, chain_of(error))), "")


def _fullness(error: BaseException) -> str:
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno in FULL else ""
    # DuckDB and safetensors have no error of their own for it.
    return next((words for words in map(os.strerror, FULL) if words in str(error)), "")


@contextmanager
def telling_full_disk(path: Path | str) -> Iterator[None]:
    """A block that writes to `path`; DiskFullError when there is no room for it."""
    try:
        yield
    except Exception as error:
        words = fullness(error)
        if not words or isinstance(error, DiskFullError):
            raise
        raise DiskFullError(
            f"The disk that holds {path} is full: {words}.",
            "Make room, for example by deleting old runs, then try again.",
        ) from error

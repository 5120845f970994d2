"""Decoded squares of a data set's images on disk, so that no later pass decodes them again.

Plain reads and writes at an offset, not a memory map: pages that were read do not count as memory
of this process, however large the data set is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

MOST_OF_FREE_DISK = 0.5
WRITTEN = b"\1"


def open_squares(
    folder: Path, digests: Sequence[str], *, size: int, is_first: bool
) -> Squares | None:
    """The squares of the images with these digests; None if they took most of the free disk."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    path = folder / f"squares-{size}-{name}"
    n_bytes = len(digests) * size**2 * 3
    if not path.exists() and n_bytes > MOST_OF_FREE_DISK * shutil.disk_usage(folder).free:
        return None
    return Squares(path, n=len(digests), size=size, is_first=is_first)


class Squares:
    """`n` squares of `size` by `size` RGB bytes and, for each, whether it has been written.

    A file that is being filled has a temporary name, and takes its own with `keep`: after a crash
    of the machine nothing half-written can be taken for an image. Of several processes that fill
    one file, the one with `is_first` opens it before the others.
    """

    def __init__(self, path: Path, *, n: int, size: int, is_first: bool = True) -> None:
        self._path = path
        self._shape = (size, size, 3)
        self._n_bytes = size * size * 3
        self._flags_at = n * self._n_bytes
        self._is_kept = path.exists()
        self._partial = path.with_name(f"{path.name}.part")
        begins = is_first and not self._is_kept
        self._file = os.open(
            path if self._is_kept else self._partial,
            os.O_RDWR | (os.O_CREAT | os.O_TRUNC if begins else 0),
            0o644,
        )
        os.truncate(self._file, self._flags_at + n)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A worker that is not forked, as on macOS, opens the file itself."""
        vars(self).update(state)
        self._file = os.open(self._path if self._path.exists() else self._partial, os.O_RDWR)

    def read(self, place: int) -> UInt8[np.ndarray, "size size 3"] | None:
        """The square at a place, or None while it has not been written."""
        if os.pread(self._file, 1, self._flags_at + place) != WRITTEN:
            return None
        data = os.pread(self._file, self._n_bytes, place * self._n_bytes)
        return np.frombuffer(data, np.uint8).reshape(self._shape)

    def write(self, place: int, square: UInt8[np.ndarray, "size size 3"]) -> None:
        os.pwrite(self._file, square.tobytes(), place * self._n_bytes)
        os.pwrite(self._file, WRITTEN, self._flags_at + place)

    def keep(self) -> None:
        """What has been written lasts beyond this run."""
        os.fsync(self._file)
        if not self._is_kept:
            with suppress(FileNotFoundError):  # Another process of this run has kept it already.
                self._partial.replace(self._path)
            self._is_kept = True

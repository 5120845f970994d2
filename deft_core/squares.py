"""Decoded squares of a data set's images on disk, so that no later pass decodes them again.

Plain reads and writes at an offset, not a memory map: pages that were read do not count as memory
of this process, however large the data set is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

MOST_OF_FREE_DISK = 0.5
N_CHECK = 4
BLOCK = 512
"""The bytes that the system counts what a file takes up in."""


def open_squares(folder: Path, digests: Sequence[str], *, size: int) -> Squares | None:
    """The squares of the images with these digests; None if those that are not written yet took
    most of the free disk."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    path = folder / f"squares-{size}-{name}"
    n_written = path.stat().st_blocks * BLOCK if path.exists() else 0
    n_missing = len(digests) * size**2 * 3 - n_written
    if n_missing > MOST_OF_FREE_DISK * shutil.disk_usage(folder).free:
        return None
    return Squares(path, size=size)


class Squares:
    """Squares of `size` by `size` RGB bytes, each with a checksum.

    What was written in part, by a process that was killed or on a machine that lost its power, has
    a wrong checksum and counts as not written. Any number of processes may read and write.
    """

    def __init__(self, path: Path, *, size: int) -> None:
        self._path = path
        self._shape = (size, size, 3)
        self._n_bytes = size * size * 3
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A worker that is not forked, as on macOS, opens the file itself."""
        vars(self).update(state)
        self._open()

    def read(self, place: int) -> UInt8[np.ndarray, "size size 3"] | None:
        """The square at a place, or None while it has not been written whole."""
        length = self._n_bytes + N_CHECK
        record = os.pread(self._file, length, place * length)
        pixels, check = record[: self._n_bytes], record[self._n_bytes :]
        if len(record) < length or _checksum(pixels) != check:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(self._shape)

    def write(self, place: int, square: UInt8[np.ndarray, "size size 3"]) -> None:
        pixels = square.tobytes()
        record = pixels + _checksum(pixels)
        os.pwrite(self._file, record, place * len(record))


def _checksum(pixels: bytes) -> bytes:
    return zlib.crc32(pixels).to_bytes(N_CHECK, "little")

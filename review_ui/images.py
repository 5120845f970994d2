"""Pictures of known samples, always drawn anew by us: no byte of a data set reaches the browser.

Re-encoding turns the picture upright, drops its EXIF data (which may name a place) and leaves
nothing that could be read as a web page. The files of the data set are only ever read.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from deft_core.errors import DataError
from deft_core.pictures import open_picture
from deft_core.whole_files import writing_whole

QUALITY = 88
CHANGED = "the file has changed since ingest"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """Where a sample's picture lies and what its bytes hash to."""

    root: Path
    file_name: str
    sha256: str


class Images:
    """Draws pictures and keeps them in the folder `cache`, named by content and size.

    At most one picture per core is drawn at a time, so that a burst of prefetching leaves room
    for decisions.
    """

    def __init__(self, cache: Path, *, find: Callable[[int], SourceFile]) -> None:
        self._cache = cache
        self._find = find
        self._cores = threading.BoundedSemaphore(os.cpu_count() or 1)

    def picture(self, sample_id: int, *, px: int) -> bytes:
        """The sample's picture as a JPEG, at most `px` wide and high; DataError when its file
        cannot be read or is another one by now, whatever `find` raises if it is unknown."""
        source = self._find(sample_id)
        cached = self._cache / source.sha256[:2] / f"{source.sha256}-{px}.jpg"
        if cached.is_file():
            return cached.read_bytes()
        with self._cores:
            path = _contained(source)
            jpeg = _encoded(_shrunk(path, px=px))
            is_changed = _sha256(path) != source.sha256
        if is_changed:
            raise DataError(CHANGED)
        with suppress(OSError):  # A full disk only means that it is drawn again.
            cached.parent.mkdir(parents=True, exist_ok=True)
            with writing_whole(cached, is_synced=False) as path:
                path.write_bytes(jpeg)
        return jpeg


def _contained(source: SourceFile) -> Path:
    """The picture's real path, which must lie inside the data set's root."""
    root = source.root.resolve()
    path = (root / source.file_name).resolve()
    if not path.is_relative_to(root):
        raise DataError("the file lies outside the data set's folder")
    return path


def _shrunk(path: Path, *, px: int) -> Image.Image:
    image = open_picture(path, at_least=px)
    image.thumbnail((px, px), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return image


def _encoded(image: Image.Image) -> bytes:
    buffer = BytesIO()
    # Without chroma subsampling, because small pictures are looked at enlarged.
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

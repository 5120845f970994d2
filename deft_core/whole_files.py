"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def writing_whole(target: Path, *, is_synced: bool = True) -> Iterator[Path]:
    """A temporary path that becomes `target` when the block ends well; it is synced first, unless
    what is written can be made anew."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        if is_synced:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing_whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target`, which is new or empty, when the block ends well.

    A folder that is there stays the same folder, for it may be the current one: what was written
    moves into it.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        written = Path(scratch) / "written"
        written.mkdir()
        yield written
        if target.exists():
            for path in sorted(written.iterdir()):
                path.replace(target / path.name)
        else:
            written.replace(target)

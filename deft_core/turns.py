"""Whose turn it is on a device: one run at a time, whichever workspace it belongs to.

The child takes the lock itself, so that it waits on when the application is closed. The system lets
go of a lock when its process ends in whatever way.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from deft_core.errors import RunError
from deft_core.run_folder import WAITING, Progress

SECONDS_BETWEEN_TRIES = 0.5


def in_turn(
    work: Iterator[Progress],
    *,
    run: Path,
    devices: Mapping[str, str],
    is_first: bool = True,
) -> Iterator[Progress]:
    """The reports of `work`, which begins when no other run of this user is on its devices, and
    before that reports of what it waits for.

    `devices` names each device and identifies it. The first process of a run takes the turn for all
    of them.
    """
    with ExitStack() as held:
        # Every run takes them in the same order, so that no two wait for each other.
        for identity, name in sorted((identity, name) for name, identity in devices.items()):
            lock = held.enter_context(_lock_file(identity))
            while not (_take(lock, run) if is_first else _holder(lock) == str(run)):
                yield Progress(stage=WAITING, note=_reason(lock, run, name))
                time.sleep(SECONDS_BETWEEN_TRIES)
        yield from work


def _take(lock: TextIO, run: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    lock.truncate(0)
    lock.write(str(run))
    lock.flush()
    return True


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read()


def _reason(lock: TextIO, run: Path, name: str) -> str:
    holder = Path(_holder(lock))
    where = "" if holder.parent == run.parent else f" of the workspace {holder.parent.parent}"
    return f"{holder.name or 'Another run'}{where} works on {name}."


def _lock_file(identity: str) -> TextIO:
    """The device's file in a folder of this user on this machine, where no disk is shared."""
    folder = Path(tempfile.gettempdir()) / f"deft-review-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RunError(f"{folder} belongs to somebody else.", "Remove it, or set TMPDIR.")
    return (folder / f"{identity}.lock").open("a+", encoding="utf-8")

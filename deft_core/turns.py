"""Whose turn it is on a device: one run at a time, whichever workspace it belongs to, in the order
in which their processes began.

The child takes the lock itself, so that it waits on when the application is closed. The system lets
go of a lock when its process ends in whatever way: a ticket that nobody holds locked waits for
nothing.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import psutil

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
    # Whoever waits in another folder knows the run by this.
    run = run.resolve()
    with ExitStack() as held:
        # Every run takes them in the same order, so that no two wait for each other.
        for identity, name in sorted((identity, name) for name, identity in devices.items()):
            lock = held.enter_context((_folder() / f"{identity}.lock").open("a+", encoding="utf-8"))
            if is_first:
                yield from _wait_in_line(lock, identity, run=run, name=name)
                continue
            while _holder(lock) != str(run):
                yield Progress(stage=WAITING, note=_reason(lock, run, name))
                time.sleep(SECONDS_BETWEEN_TRIES)
        yield from work


def _wait_in_line(lock: TextIO, identity: str, *, run: Path, name: str) -> Iterator[Progress]:
    with _ticket(identity) as ticket:
        while (n_before := _n_waiting_before(ticket)) or not _take(lock, run):
            yield Progress(stage=WAITING, note=_reason(lock, run, name, n_before=n_before))
            time.sleep(SECONDS_BETWEEN_TRIES)


@contextmanager
def _ticket(identity: str) -> Iterator[Path]:
    """A place in the line for a device, by the moment at which this process began."""
    line = _folder() / f"{identity}.line"
    line.mkdir(exist_ok=True)
    place = f"{psutil.Process().create_time():020.6f}-{os.getpid()}"
    unready = _folder() / f"{identity}-{place}"
    with unready.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Nobody sees it before it is locked.
        ticket = unready.replace(line / place)
        try:
            yield ticket
        finally:
            ticket.unlink(missing_ok=True)


def _n_waiting_before(ticket: Path) -> int:
    """How many live runs have an earlier place; tickets of dead ones are thrown away."""
    earlier = (other for other in sorted(ticket.parent.iterdir()) if other.name < ticket.name)
    return sum(map(_is_held, earlier))


def _is_held(ticket: Path) -> bool:
    try:
        with ticket.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    ticket.unlink(missing_ok=True)
    return False


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


def _reason(lock: TextIO, run: Path, name: str, *, n_before: int = 0) -> str:
    holder = Path(_holder(lock))
    # Between taking the device and saying so, the holder has no name.
    is_near = not holder.name or holder.parent == run.parent
    where = "" if is_near else f" of the workspace {holder.parent.parent}"
    others = {0: "", 1: " One more run waits before this one."}
    line = others.get(n_before, f" {n_before} more runs wait before this one.")
    return f"{holder.name or 'Another run'}{where} works on {name}.{line}"


def _folder() -> Path:
    """A folder of this user on this machine, where no disk is shared."""
    folder = Path(tempfile.gettempdir()) / f"deft-review-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RunError(f"{folder} belongs to somebody else.", "Remove it, or set TMPDIR.")
    return folder

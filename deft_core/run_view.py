"""How a run stands, read from its folder and from whether its process lives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deft_core.errors import RunError
from deft_core.failures import cause_of_death
from deft_core.run_folder import UNFINISHED, WAITING, Progress, RunFolder
from deft_core.run_process import find_process, is_asked_to_stop


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as it stands: queued, waiting for its turn on a device, running, done, failed,
    cancelled, crashed, or damaged, when its folder cannot be read and `error` says why.

    `seconds` were worked on it, over all its parts."""

    run_id: str
    kind: str
    round: int
    state: str
    progress: Progress | None
    error: str
    hint: str
    started_at: datetime | None
    seconds: float
    settings: dict[str, Any]
    report: dict[str, Any] | None

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED


def claimed_state(folder: RunFolder) -> str:
    """The state that the folder's status claims, or "damaged" if it cannot be read."""
    try:
        return folder.status().state
    except RunError:
        return "damaged"


def state_of(folder: RunFolder) -> str:
    """The state that the folder claims, unless it says that a process works on it that is gone."""
    # The process is looked for first: what it wrote before it ended is then surely read.
    is_alive = find_process(folder) is not None
    state = claimed_state(folder)
    if is_alive or state not in UNFINISHED:
        return state
    return "cancelled" if is_asked_to_stop(folder) else "crashed"


def view_of(folder: RunFolder, *, state: str) -> RunView:
    """How the run in a folder stands, which is in this state."""
    try:
        return _whole_view(folder, state=state)
    except RunError as error:
        return _damaged_view(folder, error=error)


def _whole_view(folder: RunFolder, *, state: str) -> RunView:
    config, status = folder.config(), folder.status()
    # A run that is to go on has reports of the time before.
    progress = folder.latest_progress() if state != "queued" else None
    if state == "running" and progress and progress.stage == WAITING:
        state = WAITING
    error, hint = status.error, status.hint
    if state == "crashed":
        cause = cause_of_death(folder)
        error, hint = cause.message, cause.hint
    return RunView(
        run_id=folder.run_id,
        kind=config["kind"],
        round=config["round"],
        state=state,
        progress=progress,
        error=error,
        hint=hint,
        started_at=datetime.fromisoformat(config["created_at"]),
        seconds=folder.seconds_worked(),
        settings=config["settings"],
        report=folder.report() if state == "done" else None,
    )


def _damaged_view(folder: RunFolder, *, error: RunError) -> RunView:
    return RunView(
        run_id=folder.run_id,
        kind=folder.run_id.partition("-")[0],
        round=0,
        state="damaged",
        progress=None,
        error=error.message,
        hint=error.hint,
        started_at=None,
        seconds=0.0,
        settings={},
        report=None,
    )

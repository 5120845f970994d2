"""A run in a child process that is killed with -9, and its workers with it, in a given epoch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deft_core import phase1, phase2, training
from deft_core.run_folder import Progress, RunFolder
from deft_core.run_process import execute

STAGES = {"phase1": phase1.run, "phase2": phase2.run}


def stage(folder: RunFolder) -> Iterator[Progress]:
    """Works up to the first report of the epoch that the command line names."""
    for progress in STAGES[folder.config()["kind"]](folder):
        if progress.epoch == int(sys.argv[1]):
            os.killpg(0, signal.SIGKILL)
        yield progress


def kill_in_epoch(epoch: int, folder: RunFolder) -> None:
    """Works through a run in a process that is killed at its first report of that epoch."""
    command = [sys.executable, "-m", __name__, str(epoch), str(folder.path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, start_new_session=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


if __name__ == "__main__":
    training.REPORT_EVERY_SECONDS = 0.0
    execute(RunFolder(Path(sys.argv[2])), stage)

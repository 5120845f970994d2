"""What a run's own process does: wait for its turn, then work through its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator

from deft_core.config import Phase2Config, TrainingConfig
from deft_core.errors import RunError
from deft_core.probe import probing
from deft_core.run_folder import Progress, RunFolder
from deft_core.run_process import assist, execute
from deft_core.runs import CONFIGS
from deft_core.terminal import ProgressLine
from deft_core.turns import in_turn


def work_through(folder: RunFolder, *, kind: str) -> None:
    found = folder.config()["kind"]
    if found != kind:
        raise RunError(f"{folder.path} is a {found} run, not {kind}.", f"Use the command {found}.")
    if not _is_first_process():
        assist(folder, _stage)
        return
    # Only the child process pays for it.
    from deft_core.curves import Curves

    stage = probing(_stage) if folder.config().get("is_probe") else _stage
    with ProgressLine(sys.stderr) as line, Curves(folder) as curves:

        def show(progress: Progress) -> None:
            line.show(progress)
            curves.add(progress)

        execute(folder, stage, on_progress=show)


def _stage(folder: RunFolder) -> Generator[Progress, None, None]:
    """The work of a run, when it has its turn on its devices."""
    # Only the child process pays for torch, and a failing import is a failed run.
    from deft_core import classifier, clip, engine, phase1, phase2

    task = folder.config()
    settings = CONFIGS[task["kind"]].from_json(task["settings"])
    assert isinstance(settings, TrainingConfig)
    # A misspelled model is told at once, and not after hours of waiting.
    if isinstance(settings, Phase2Config):
        classifier.check_model(settings)
    else:
        clip.check_exists(settings.model, settings.pretrained)
    stages = {"phase1": phase1.run, "phase2": phase2.run}
    yield from in_turn(
        stages[task["kind"]](folder),
        run=folder.path,
        devices=engine.devices_of(settings),
        is_first=_is_first_process(),
    )


def _is_first_process() -> bool:
    """Whether this process reports for its run, and not one beside it that accelerate started."""
    return os.environ.get("RANK", "0") == "0"

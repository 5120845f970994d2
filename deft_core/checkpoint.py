"""The state of a run after its last whole epoch, so that it can go on after any kind of end."""

from __future__ import annotations

from typing import Any

import torch

from deft_core.errors import RunError
from deft_core.run_folder import RunFolder

NAME = "checkpoint.pt"
SETTINGS = "settings"


def save(folder: RunFolder, state: dict[str, Any]) -> None:
    """Replace the checkpoint of a run; tensors, numbers and plain containers of them are kept."""
    whole = {SETTINGS: folder.config()[SETTINGS], **state}
    # By its path torch would write it itself, and not say what the disk refused.
    with folder.writing(NAME) as path, path.open("wb") as file:
        torch.save(whole, file)


def load(folder: RunFolder, *, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint of a run, or None when it has none. RunError when it was trained with other
    settings than the run has now."""
    path = folder.path / NAME
    if not path.exists():
        return None
    state = torch.load(path, map_location=device, weights_only=True)
    now, then = folder.config()[SETTINGS], state.pop(SETTINGS)
    for name in now | then:
        if now.get(name) != then.get(name):
            raise RunError(
                f"{folder.run_id} was trained with {name} {then.get(name)} and cannot go on with "
                f"{now.get(name)}.",
                "Start a new run.",
            )
    return state


def drop(folder: RunFolder) -> None:
    """A finished run needs no checkpoint."""
    (folder.path / NAME).unlink(missing_ok=True)

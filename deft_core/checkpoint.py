"""The state of a run after its last whole epoch, so that it can go on after any kind of end."""

from __future__ import annotations

from typing import Any

import torch

from deft_core.run_folder import RunFolder

NAME = "checkpoint.pt"


def save(folder: RunFolder, state: dict[str, Any]) -> None:
    """Replace the checkpoint of a run; tensors, numbers and plain containers of them are kept."""
    # By its path torch would write it itself, and not say what the disk refused.
    with folder.writing(NAME) as path, path.open("wb") as file:
        torch.save(state, file)


def load(folder: RunFolder, *, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint of a run, or None when it has none."""
    path = folder.path / NAME
    return torch.load(path, map_location=device, weights_only=True) if path.exists() else None


def drop(folder: RunFolder) -> None:
    """A finished run needs no checkpoint."""
    (folder.path / NAME).unlink(missing_ok=True)

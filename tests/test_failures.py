"""What the machine refuses to torch is told as such, and a bug is not."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from deft_core.failures import explained
from deft_core.run_folder import RunFolder


class Killed(Dataset[int]):
    """Images whose decoding takes more memory than the system gives."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return row


def decode_too_much() -> None:
    list(DataLoader(Killed(), num_workers=1))


def allocate_too_much() -> None:
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("work", [decode_too_much, allocate_too_much])
def test_lack_of_memory_is_known_by_what_torch_says(
    tmp_path: Path, work: Callable[[], None]
) -> None:
    with pytest.raises(RuntimeError) as caught:
        work()

    told = explained(caught.value, RunFolder(tmp_path))

    assert told is not None
    assert told.message.startswith("The memory is full: ")
    assert "smaller batch size" in told.hint


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
        RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error."),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_lack_of_memory_on_other_machines(tmp_path: Path, error: Exception) -> None:
    assert explained(error, RunFolder(tmp_path)) is not None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 1) is killed by signal: Segmentation fault."),
        ValueError("a text about being out of memory"),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    ],
)
def test_a_bug_is_not_lack_of_memory(tmp_path: Path, error: Exception) -> None:
    assert explained(error, RunFolder(tmp_path)) is None

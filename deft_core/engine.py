"""What a run computes on: the device, the precision, and the processes that share its batches."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, TypeVar

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from deft_core.config import TrainingConfig
from deft_core.errors import ConfigError
from deft_core.loading import Share

MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
FIRST_SCALE = 65536.0
"""What torch multiplies the loss with at first in fp16."""

T = TypeVar("T")


def find_device(name: str) -> torch.device:
    """The named device; `auto` takes a GPU if there is one. ConfigError if it is not there."""
    is_there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind in is_there if is_there[kind])
    if not is_there.get(name):
        raise ConfigError(
            f'The device "{name}" is not available on this machine.',
            'Choose "auto" or "cpu", or install a driver and a torch build that see the device.',
        )
    return torch.device(name)


def find_precision(name: str, device: torch.device) -> str:
    """The named precision; `auto` takes bf16, else fp16 on a GPU and fp32 elsewhere."""
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(
            f'The precision "fp16" needs an NVIDIA GPU; this run is on "{device.type}".',
            'Choose "auto", "fp32" or "bf16".',
        )
    if name != "auto":
        return name
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def devices_of(settings: TrainingConfig) -> dict[str, str]:
    """What each device that a run needs is called, and what tells it from every other one."""
    device = find_device(settings.device)
    if device.type != "cuda":
        return {device.type: device.type}
    found = range(min(settings.n_processes, torch.cuda.device_count()))
    return {f"cuda:{i}": f"cuda-{torch.cuda.get_device_properties(i).uuid}" for i in found}


def memory_in_use() -> tuple[str, int]:
    """What computes here, and the bytes that it holds; of the CPU, those of this process."""
    if torch.cuda.is_initialized():
        return torch.cuda.get_device_name(), torch.cuda.memory_reserved()
    if torch.backends.mps.is_available() and torch.mps.driver_allocated_memory():
        return "Apple GPU", torch.mps.driver_allocated_memory()
    return "CPU", psutil.Process().memory_info().rss


class Engine:
    """This process's part of a run: its device, its precision, and the other processes.

    Started by `accelerate launch`, a run has several processes, which share each batch; else it
    has one.
    """

    def __init__(self, settings: TrainingConfig) -> None:
        device = find_device(settings.device)
        self.precision = find_precision(settings.precision, device)
        if device.type == "cuda" and settings.n_processes > torch.cuda.device_count():
            raise ConfigError(
                f"{settings.n_processes} processes need as many GPUs; this machine has "
                f"{torch.cuda.device_count()}.",
                "Choose a smaller n_processes.",
            )
        self._accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision=MIXED_PRECISION[self.precision]
        )
        self.device: torch.device = self._accelerator.device
        self.is_first: bool = self._accelerator.is_main_process
        self.share = Share(self._accelerator.process_index, self._accelerator.num_processes)

    def close(self) -> None:
        """Part from the other processes."""
        self._accelerator.end_training()

    def release(self) -> None:
        """Let go of everything prepared so far, so that its memory is free."""
        self._accelerator.free_memory()

    def prepare(self, *parts: Any) -> Any:
        """A module or an optimiser as this process has to call it."""
        return self._accelerator.prepare(*parts)

    def autocast(self) -> AbstractContextManager[None]:
        return self._accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def shorten(self, parameters: list[nn.Parameter], *, limit: float) -> None:
        """Scale the gradient over all the parameters down to this length, if it is longer."""
        self._accelerator.clip_grad_norm_(parameters, limit)

    def scale_state(self) -> dict[str, Any]:
        """Where the loss scaling of fp16 stands; empty in other precisions."""
        scaler = self._accelerator.scaler
        return scaler.state_dict() if scaler else {}

    def restart_scale(self) -> None:
        """Let a training know nothing of the scale that the one before it came to."""
        if self._accelerator.scaler:
            self.restore_scale({**self.scale_state(), "scale": FIRST_SCALE, "_growth_tracker": 0})

    def restore_scale(self, state: dict[str, Any]) -> None:
        if self._accelerator.scaler:
            self._accelerator.scaler.load_state_dict(state)

    def without_exchange(self, module: nn.Module) -> AbstractContextManager[None]:
        """A block whose gradients stay with this process until the next one outside of it."""
        return self._accelerator.no_sync(module)

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        return self._accelerator.reduce(value, "sum")

    def gather(self, values: list[T]) -> list[T]:
        """The values of all processes, in their order."""
        return gather_object(values)

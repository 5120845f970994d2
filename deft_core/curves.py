"""Loss curves as TensorBoard files, in the run's folder `tensorboard`."""

from __future__ import annotations

from typing import Self

from tensorboardX import SummaryWriter

from deft_core.run_folder import Progress, RunFolder


class Curves:
    """Writes each loss that is reported, over the images done; one curve a stage of the run.

    What a run had written after the checkpoint that it goes on from is marked as void.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path / "tensorboard"
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def add(self, progress: Progress) -> None:
        """Write the loss and the speed of a report, if it has them."""
        if progress.loss is None:
            return
        if self._writer is None:
            self._writer = SummaryWriter(str(self._path), purge_step=progress.done)
        values = {"loss": progress.loss, "images_per_second": progress.images_per_second or 0.0}
        for name, value in values.items():
            self._writer.add_scalar(f"{name}/{progress.stage}", value, progress.done)

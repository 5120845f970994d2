"""Image loading, the device and the one training loop; it yields progress and owns no files."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from deft_core.errors import ConfigError, DataError, RunError
from deft_core.pictures import open_picture
from deft_core.run_folder import Progress

REPORT_EVERY_SECONDS = 0.5
SMALLEST_CROP = 0.7
MOST_WORKERS = 8


def find_device(name: str) -> torch.device:
    """The named device; `auto` takes a GPU if there is one. ConfigError if it is not there."""
    is_there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind in is_there if is_there[kind])
    if not is_there[name]:
        raise ConfigError(
            f'The device "{name}" is not available on this machine.',
            'Choose "auto" or "cpu", or install a driver and a torch build that see the device.',
        )
    return torch.device(name)


def n_cores() -> int:
    """How many cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Batch:
    """Some images and the rows of the loader's table that they come from."""

    images: UInt8[Tensor, "batch 3 size size"]
    rows: Int[Tensor, " batch"]


class ImageLoader:
    """Batches of the images at `root / file_names[row]`, decoded in worker processes.

    An image that cannot be read is left out of its batch and named in `unreadable`.
    """

    def __init__(
        self,
        root: Path,
        file_names: Sequence[str],
        *,
        image_size: int,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.n_images = len(file_names)
        self.unreadable: dict[str, str] = {}
        self._file_names = file_names
        self._device = device
        self._order = _Order(self.n_images, seed=seed)
        self._loader = DataLoader(
            _Images(root, file_names, image_size=image_size, seed=seed),
            batch_size=batch_size,
            sampler=self._order,
            num_workers=min(MOST_WORKERS, n_cores()),
            collate_fn=_collate,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )

    def shuffled(self, epoch: int) -> Iterator[Batch]:
        """Every image once, in an order and with crops and flips that depend on seed and epoch."""
        return self._batches(epoch)

    def in_order(self) -> Iterator[Batch]:
        """Every image once, in the table's order and without augmentation."""
        return self._batches(None)

    def _batches(self, epoch: int | None) -> Iterator[Batch]:
        self._order.epoch = epoch
        for images, rows, problems in self._loader:
            for row, problem in problems:
                self.unreadable[self._file_names[row]] = problem
            if len(rows):
                yield Batch(
                    images.to(self._device, non_blocking=True),
                    rows.to(self._device, non_blocking=True),
                )


Key = tuple[int | None, int]


class _Order:
    """The keys (epoch, row) of one pass; no epoch means in order and without augmentation."""

    def __init__(self, n_images: int, *, seed: int) -> None:
        self.epoch: int | None = None
        self._n_images = n_images
        self._seed = seed

    def __iter__(self) -> Iterator[Key]:
        rows = np.arange(self._n_images)
        if self.epoch is not None:
            np.random.default_rng([self._seed, self.epoch]).shuffle(rows)
        return ((self.epoch, int(row)) for row in rows)

    def __len__(self) -> int:
        return self._n_images


class _Images(Dataset[tuple[int, np.ndarray | str]]):
    """Decoded squares of `image_size` pixels, or the reason why a file cannot be read."""

    def __init__(
        self, root: Path, file_names: Sequence[str], *, image_size: int, seed: int
    ) -> None:
        self._root = root
        self._file_names = file_names
        self._size = image_size
        self._seed = seed

    def __getitem__(self, key: Key) -> tuple[int, np.ndarray | str]:
        epoch, row = key
        try:
            picture = open_picture(self._root / self._file_names[row], at_least=2 * self._size)
        except DataError as error:
            return row, error.message
        if epoch is None:
            square = centre_square(picture, self._size)
        else:
            random = np.random.default_rng([self._seed, epoch, row])
            square = random_square(picture, self._size, random)
        return row, np.asarray(square)


def centre_square(picture: Image.Image, size: int) -> Image.Image:
    """The largest centred square, as `size` by `size` pixels: CLIP's own preprocessing."""
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    return _cut(picture, (left, top, left + side, top + side), size)


def random_square(picture: Image.Image, size: int, random: np.random.Generator) -> Image.Image:
    """A random part as `size` by `size` pixels, half of them mirrored.

    The part has 70 to 100 % of the area of the largest square and sides of 3:4 to 4:3, so that
    training stretches nothing more than that, however long the picture is.

    # Differs from DeFT: the reference pads and crops CIFAR by an eighth; others differ again.
    """
    side = min(picture.size) * math.sqrt(random.uniform(SMALLEST_CROP, 1))
    stretch = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)) / 2)
    width = min(picture.width, side * stretch)
    height = min(picture.height, side / stretch)
    left = random.uniform(0, picture.width - width)
    top = random.uniform(0, picture.height - height)
    square = _cut(picture, (left, top, left + width, top + height), size)
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else square


def _cut(picture: Image.Image, box: tuple[float, float, float, float], size: int) -> Image.Image:
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)


def _collate(
    items: list[tuple[int, np.ndarray | str]],
) -> tuple[Tensor, Tensor, list[tuple[int, str]]]:
    readable = [(row, one) for row, one in items if not isinstance(one, str)]
    problems = [(row, one) for row, one in items if isinstance(one, str)]
    rows = torch.tensor([row for row, _ in readable], dtype=torch.long)
    if not readable:
        return torch.empty(0), rows, problems
    images = torch.from_numpy(np.stack([one for _, one in readable]))
    return images.permute(0, 3, 1, 2).contiguous(), rows, problems


class Meter:
    """Counts images over all passes of a run and says when and what to report."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._started = time.monotonic()
        self._reported = -math.inf

    def add(self, n_images: int) -> bool:
        """Whether a report is due now that `n_images` more are done."""
        self._done += n_images
        now = time.monotonic()
        is_due = now - self._reported >= REPORT_EVERY_SECONDS
        if is_due:
            self._reported = now
        return is_due

    def progress(self, stage: str, **details: object) -> Progress:
        speed = self._done / max(time.monotonic() - self._started, 1e-9)
        return Progress(
            stage=stage,
            done=self._done,
            total=self._total,
            fraction=self._done / max(self._total, 1),
            images_per_second=speed,
            seconds_left=(self._total - self._done) / max(speed, 1e-9),
            **details,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Schedule:
    """SGD with momentum; the learning rate falls by a cosine, one step an epoch."""

    epochs: int
    learning_rate: float
    momentum: float
    weight_decay: float


def fit(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[Batch, int], Tensor],
    loader: ImageLoader,
    *,
    schedule: Schedule,
    stage_of: Callable[[int], str],
    meter: Meter,
) -> Iterator[Progress]:
    """Trains `parameters` in place on `loss_of(batch, epoch)`; epochs count from 1.

    Raises RunError when the loss is no longer a number.
    """
    optimiser = torch.optim.SGD(
        parameters,
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, schedule.epochs)
    for epoch in range(1, schedule.epochs + 1):
        sum_of_losses, n_seen = torch.zeros(()), 0
        for batch in loader.shuffled(epoch):
            loss = loss_of(batch, epoch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            sum_of_losses = sum_of_losses.to(loss.device) + loss.detach() * len(batch.rows)
            n_seen += len(batch.rows)
            if meter.add(len(batch.rows)):
                yield meter.progress(
                    stage_of(epoch),
                    epoch=epoch,
                    epochs=schedule.epochs,
                    loss=finite(sum_of_losses / n_seen, epoch),
                )
        if n_seen == 0:
            raise RunError(
                "None of the training images can be read.",
                "Is the folder of the data set still where it was ingested from?",
            )
        finite(sum_of_losses, epoch)
        cosine.step()


def finite(sum_of_losses: Tensor, epoch: int) -> float:
    """The loss as a number; RunError if it is none."""
    value = float(sum_of_losses)
    if not math.isfinite(value):
        raise RunError(f"The loss is {value} in epoch {epoch}.", "Try a smaller learning rate.")
    return value

"""Batches of images for training and scoring: decoded by workers, once where there is room.

Workers give the centred square that CLIP's own preprocessing cuts; training cuts, stretches and
mirrors it on the device. All that is random about a sample depends on the seed, the epoch and its
row alone, so a run that is resumed, or shared by several processes, sees the same images.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Real, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from deft_core.errors import DataError
from deft_core.pictures import open_picture
from deft_core.squares import Squares

SMALLEST_CROP = 0.7
WIDEST_STRETCH = 4 / 3
MOST_WORKERS = 8
IMAGES_AT_ONCE = 64
"""How many images a batch has where no setting says it."""
Rows = Int[np.ndarray, " n_chosen"]
ORDER, CROPS = range(2)
"""What a random generator is for: different uses of one seed and epoch never share draws."""


@dataclass(frozen=True)
class Share:
    """Which part of each batch this process works on: every `n_processes`-th sample."""

    process: int = 0
    n_processes: int = 1


@dataclass(frozen=True)
class Batch:
    """What this process has of some samples, the rows of the loader's table that they come from,
    and how many the batch holds in all processes, readable or not."""

    images: Real[Tensor, batch * shape]
    rows: Int[Tensor, " batch"]
    n_in_all: int

    def split(self, size: int) -> Iterator[Batch]:
        """The same samples, `size` at a time."""
        for images, rows in zip(self.images.split(size), self.rows.split(size), strict=True):
            yield Batch(images, rows, self.n_in_all)


class ImageLoader:
    """Batches of the images at `root / file_names[row]`, decoded in worker processes.

    An image that cannot be read is left out of its batch and named in `unreadable`. With `squares`,
    an image is decoded once and then read from there; `places[row]` is where it lies. A pass goes
    over every image, or over those of `rows`, in which one may stand several times.
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
        share: Share = Share(),
        squares: Squares | None = None,
        places: Sequence[int] | None = None,
    ) -> None:
        self.n_images = len(file_names)
        self.unreadable: dict[str, str] = {}
        self._file_names = file_names
        self._seed = seed
        self._device = device
        self._order = _Order(self.n_images, batch_size=batch_size, seed=seed, share=share)
        self._loader = DataLoader(
            _Images(root, file_names, image_size=image_size, squares=squares, places=places),
            batch_sampler=self._order,
            num_workers=n_workers(share),
            collate_fn=partial(_collate, image_size=image_size),
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )

    def shuffled(self, epoch: int, rows: Rows | None = None) -> Iterator[Batch]:
        """The images in an order and with crops and flips that depend on seed and epoch."""
        crops = random_crops(self.n_images, np.random.default_rng([self._seed, epoch, CROPS]))
        crops = crops.to(self._device)
        self._order.shuffle(epoch, rows)
        for batch in self._batches():
            yield Batch(crop(batch.images, crops[batch.rows]), batch.rows, batch.n_in_all)

    def in_order(self, rows: Rows | None = None) -> Iterator[Batch]:
        """The images in the table's order, or that of `rows`, without augmentation."""
        self._order.set(rows)
        yield from self._batches()

    def _batches(self) -> Iterator[Batch]:
        sizes = self._order.batch_sizes()
        for (images, rows, problems), n_in_all in zip(self._loader, sizes, strict=True):
            for row, problem in problems:
                self.unreadable[self._file_names[row]] = problem
            yield Batch(
                images.to(self._device, non_blocking=True),
                rows.to(self._device, non_blocking=True),
                n_in_all,
            )


def n_cores() -> int:
    """How many cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def n_workers(share: Share) -> int:
    """How many workers decode images for a process, so that those of all of them have a core."""
    return max(1, min(MOST_WORKERS, n_cores() // share.n_processes))


class FeatureLoader:
    """Batches of image features that are there already, in the same orders as their images."""

    def __init__(
        self,
        rows: Int[Tensor, " n_readable"],
        features: Float[Tensor, "n_readable dim"],
        *,
        n_images: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        share: Share = Share(),
    ) -> None:
        self.n_images = n_images
        self._is_readable = torch.zeros(n_images, dtype=torch.bool)
        self._is_readable[rows] = True
        self._features = torch.zeros(n_images, features.shape[1])
        self._features[rows] = features
        self._order = _Order(n_images, batch_size=batch_size, seed=seed, share=share)
        self._device = device

    def shuffled(self, epoch: int, rows: Rows | None = None) -> Iterator[Batch]:
        """The samples in an order that depends on seed and epoch."""
        self._order.shuffle(epoch, rows)
        yield from self._batches()

    def in_order(self, rows: Rows | None = None) -> Iterator[Batch]:
        """The samples in the table's order, or that of `rows`."""
        self._order.set(rows)
        yield from self._batches()

    def _batches(self) -> Iterator[Batch]:
        for chosen, n_in_all in zip(self._order, self._order.batch_sizes(), strict=True):
            rows = torch.tensor(chosen, dtype=torch.long)
            rows = rows[self._is_readable[rows]]
            yield Batch(self._features[rows].to(self._device), rows.to(self._device), n_in_all)


class _Order:
    """The rows of each batch of a pass that belong to this process."""

    def __init__(self, n_images: int, *, batch_size: int, seed: int, share: Share) -> None:
        self._every_row = self._rows = np.arange(n_images)
        self._batch_size = batch_size
        self._seed = seed
        self._share = share

    def set(self, rows: Rows | None) -> None:
        """The next pass goes over these rows as they stand, or over every row."""
        self._rows = self._every_row if rows is None else rows

    def shuffle(self, epoch: int, rows: Rows | None) -> None:
        """The next pass goes over these rows, or every row, in an order of the epoch's own."""
        self.set(rows)
        self._rows = self._rows.copy()
        np.random.default_rng([self._seed, epoch, ORDER]).shuffle(self._rows)

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in self._bounds():
            yield self._rows[start:end][self._share.process :: self._share.n_processes].tolist()

    def __len__(self) -> int:
        return len(self._bounds())

    def batch_sizes(self) -> list[int]:
        """How many samples each batch holds in all processes."""
        return [end - start for start, end in self._bounds()]

    def _bounds(self) -> list[tuple[int, int]]:
        n = len(self._rows)
        starts = list(range(0, n, self._batch_size))
        if len(starts) > 1 and n - starts[-1] < 2 * self._share.n_processes:
            # Every process needs a part of every batch, and batch norm two images of it.
            starts.pop()
        return list(pairwise([*starts, n]))


class _Images(Dataset[tuple[int, np.ndarray | str]]):
    """Squares of `image_size` pixels, or the reason why a file cannot be read."""

    def __init__(
        self,
        root: Path,
        file_names: Sequence[str],
        *,
        image_size: int,
        squares: Squares | None,
        places: Sequence[int] | None,
    ) -> None:
        self._root = root
        self._file_names = file_names
        self._size = image_size
        self._squares = squares
        self._places = range(len(file_names)) if places is None else places

    def __getitem__(self, row: int) -> tuple[int, np.ndarray | str]:
        place = self._places[row]
        known = self._squares.read(place) if self._squares else None
        if known is not None:
            return row, known
        try:
            picture = open_picture(self._root / self._file_names[row], at_least=2 * self._size)
        except DataError as error:
            return row, error.message
        square = np.asarray(centre_square(picture, self._size))
        if self._squares:
            with suppress(OSError):  # A full disk only means that it is decoded again.
                self._squares.write(place, square)
        return row, square


def centre_square(picture: Image.Image, size: int) -> Image.Image:
    """The largest centred square, as `size` by `size` pixels: CLIP's own preprocessing."""
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)


def _collate(
    items: list[tuple[int, np.ndarray | str]], *, image_size: int
) -> tuple[Tensor, Tensor, list[tuple[int, str]]]:
    readable = [(row, one) for row, one in items if not isinstance(one, str)]
    problems = [(row, one) for row, one in items if isinstance(one, str)]
    rows = torch.tensor([row for row, _ in readable], dtype=torch.long)
    if not readable:
        return torch.empty(0, 3, image_size, image_size, dtype=torch.uint8), rows, problems
    images = torch.from_numpy(np.stack([one for _, one in readable]))
    return images.permute(0, 3, 1, 2).contiguous(), rows, problems


def random_crops(n: int, random: np.random.Generator) -> Float[Tensor, "n 4"]:
    """A part of the square for each of `n` samples: half its width and height and its centre, on
    axes from -1 to 1; a negative width mirrors.

    The part has 70 to 100 % of the area and sides of 3:4 to 4:3.

    # Differs from DeFT: the reference pads and crops CIFAR by an eighth; others differ again.
    """
    draws = random.random((n, 5))
    side = np.sqrt(SMALLEST_CROP + (1 - SMALLEST_CROP) * draws[:, 0])
    stretch = np.exp(math.log(WIDEST_STRETCH) * (draws[:, 1] - 0.5))
    width, height = np.minimum(side * stretch, 1), np.minimum(side / stretch, 1)
    x, y = (1 - width) * (2 * draws[:, 2] - 1), (1 - height) * (2 * draws[:, 3] - 1)
    mirrored = np.where(draws[:, 4] < 0.5, -width, width)
    return torch.from_numpy(np.stack([mirrored, height, x, y], axis=1).astype(np.float32))


def crop(
    images: UInt8[Tensor, "batch 3 size size"], crops: Float[Tensor, "batch 4"]
) -> Float[Tensor, "batch 3 size size"]:
    """The named parts of the images in their full size, still from 0 to 255."""
    if len(images) == 0:
        return images.float()
    width, height, x, y = crops.unbind(1)
    zero = torch.zeros_like(width)
    boxes = torch.stack([width, zero, x, zero, height, y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(boxes, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)

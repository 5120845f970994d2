"""Image loading and the training loop, on real files and a real optimiser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deft_core.errors import ConfigError, RunError
from deft_core.run_folder import Progress
from deft_core.training import (
    Batch,
    ImageLoader,
    Meter,
    Schedule,
    centre_square,
    find_device,
    fit,
    random_square,
)

CPU = torch.device("cpu")


@pytest.fixture
def grey_images(tmp_path: Path) -> Path:
    """Ten images; image i is grey of level 20 * i."""
    for i in range(10):
        Image.new("RGB", (24, 16), (20 * i,) * 3).save(tmp_path / f"{i}.png")
    return tmp_path


def load(root: Path, names: list[str], **settings: int) -> ImageLoader:
    options = {"image_size": 8, "batch_size": 4, "seed": 1, **settings}
    return ImageLoader(root, names, device=CPU, **options)


def names(n: int = 10) -> list[str]:
    return [f"{i}.png" for i in range(n)]


def rows_of(batches: list[Batch]) -> list[int]:
    return [int(row) for batch in batches for row in batch.rows]


def test_in_order_gives_every_image_once_with_its_own_pixels(grey_images: Path) -> None:
    batches = list(load(grey_images, names()).in_order())

    assert rows_of(batches) == list(range(10))
    assert [len(batch.rows) for batch in batches] == [4, 4, 2]
    for batch in batches:
        levels = batch.images[:, 0, 4, 4]
        assert levels.tolist() == [20 * int(row) for row in batch.rows]


def test_a_shuffled_pass_depends_on_seed_and_epoch_alone(grey_images: Path) -> None:
    loader = load(grey_images, names())

    first = list(loader.shuffled(1))
    second = list(loader.shuffled(2))
    again = list(load(grey_images, names()).shuffled(1))
    other_seed = list(load(grey_images, names(), seed=2).shuffled(1))

    assert sorted(rows_of(first)) == list(range(10))
    assert rows_of(first) != rows_of(second)
    assert rows_of(first) != rows_of(other_seed)
    assert rows_of(first) == rows_of(again)
    for one, same in zip(first, again, strict=True):
        assert torch.equal(one.images, same.images)


def test_an_unreadable_image_is_left_out_and_named(grey_images: Path) -> None:
    (grey_images / "3.png").write_text("not an image")
    (grey_images / "5.png").unlink()
    loader = load(grey_images, names())

    batches = list(loader.in_order())

    assert rows_of(batches) == [0, 1, 2, 4, 6, 7, 8, 9]
    assert loader.unreadable == {"3.png": "not an image", "5.png": "the file does not exist"}


def test_centre_square_cuts_the_longer_side() -> None:
    picture = Image.fromarray(np.arange(12, dtype=np.uint8)[None].repeat(4, 0) * 20).convert("RGB")

    square = np.asarray(centre_square(picture, 4))

    assert square.shape == (4, 4, 3)
    assert square[0, :, 0].tolist() == [80, 100, 120, 140]


@pytest.mark.parametrize("shape", [(60, 60), (180, 60), (40, 100)])
def test_random_square_keeps_most_of_a_square_and_its_proportions(shape: tuple[int, int]) -> None:
    """Red grows by 1 a pixel across, green by 1 a pixel down, so the colours tell the part."""
    width, height = shape
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = np.arange(width), np.arange(height)[:, None]
    picture = Image.fromarray(pixels)
    random = np.random.default_rng(0)

    for _ in range(50):
        part = np.asarray(random_square(picture, 32, random)).astype(float)
        across, down = np.ptp(part[:, :, 0]), np.ptp(part[:, :, 1])
        assert max(across, down) > 0.55 * min(shape)
        assert 0.7 < across / down < 1.4


def test_meter_counts_over_all_passes() -> None:
    meter = Meter(200)
    meter.add(50)

    progress = meter.progress("training", epoch=1)

    assert (progress.done, progress.total, progress.fraction) == (50, 200, 0.25)
    assert progress.images_per_second is not None
    assert progress.seconds_left == pytest.approx(150 / progress.images_per_second)


def fit_one_number(
    root: Path, *, learning_rate: float, epochs: int
) -> tuple[float, list[Progress]]:
    """A single parameter pulled towards 3 by one step a batch."""
    value = nn.Parameter(torch.zeros(()))
    reports = list(
        fit(
            [value],
            lambda batch, epoch: (value - 3) ** 2,
            load(root, names(), batch_size=5),
            schedule=Schedule(
                epochs=epochs, learning_rate=learning_rate, momentum=0.0, weight_decay=0.0
            ),
            stage_of=lambda epoch: f"epoch {epoch}",
            meter=Meter(10 * epochs),
        )
    )
    return value.item(), reports


def test_the_learning_rate_falls_by_a_cosine_once_an_epoch(grey_images: Path) -> None:
    value, reports = fit_one_number(grey_images, learning_rate=0.1, epochs=2)

    expected = 0.0
    for rate in (0.1, 0.1, 0.05, 0.05):
        expected -= rate * 2 * (expected - 3)
    assert value == pytest.approx(expected)
    assert reports[0].stage == "epoch 1"
    assert reports[0].loss == pytest.approx(9.0)


def test_a_loss_that_is_no_number_stops_with_advice(grey_images: Path) -> None:
    value = nn.Parameter(torch.zeros(()))

    def broken(batch: Batch, epoch: int) -> Tensor:
        return value * float("nan")

    schedule = Schedule(epochs=1, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    with pytest.raises(RunError, match="loss is nan in epoch 1") as caught:
        list(
            fit(
                [value],
                broken,
                load(grey_images, names()),
                schedule=schedule,
                stage_of=str,
                meter=Meter(10),
            )
        )
    assert "learning rate" in caught.value.hint


def test_no_readable_image_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="None of the training images can be read"):
        fit_one_number(tmp_path, learning_rate=0.1, epochs=1)


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device that the test wants to be missing")
    with pytest.raises(ConfigError, match='device "cuda" is not available'):
        find_device("cuda")
    assert find_device("auto").type in {"cpu", "mps"}

"""Batches of images from real files: their order, their crops, their shares and their squares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from deft_core.loading import (
    Batch,
    FeatureLoader,
    ImageLoader,
    Share,
    centre_square,
    crop,
    n_cores,
    n_workers,
    random_crops,
)
from deft_core.squares import Squares

CPU = torch.device("cpu")
N = 10


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten images of noise; the first pixel of image i is grey of level 20 * i."""
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(N):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        pixels[0, 0] = 20 * i
        Image.fromarray(pixels).save(root / f"{i}.png")
    return root


def load(root: Path, n: int = N, **settings: Any) -> ImageLoader:
    options = {"image_size": 8, "batch_size": 4, "seed": 1, **settings}
    return ImageLoader(root, [f"{i}.png" for i in range(n)], device=CPU, **options)


def load_features(n: int = N, **settings: Any) -> FeatureLoader:
    """Features of the samples; those of sample i are [i, i]."""
    options = {"n_images": n, "batch_size": 4, "seed": 1, **settings}
    rows = torch.arange(n)
    return FeatureLoader(rows, rows[:, None].expand(-1, 2).float(), device=CPU, **options)


def rows_of(batches: Iterable[Batch]) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


def flat(rows: list[list[int]]) -> list[int]:
    return [row for batch in rows for row in batch]


def images_of(batches: Iterable[Batch]) -> dict[int, Tensor]:
    """The image of each row."""
    return {
        row: image
        for batch in batches
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True)
    }


# --- what comes when


def test_in_order_gives_every_image_once_with_its_own_pixels(pictures: Path) -> None:
    batches = list(load(pictures).in_order())

    assert rows_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [batch.n_in_all for batch in batches] == [4, 4, 2]
    for row, image in images_of(batches).items():
        assert image.dtype == torch.uint8
        expected = np.asarray(Image.open(pictures / f"{row}.png")).transpose(2, 0, 1)
        np.testing.assert_array_equal(image, expected)


def test_a_shuffled_pass_depends_on_seed_and_epoch_alone(pictures: Path) -> None:
    loader = load(pictures)

    first = list(loader.shuffled(1))
    second = list(loader.shuffled(2))
    again = list(load(pictures).shuffled(1))
    other_seed = list(load(pictures, seed=2).shuffled(1))

    assert sorted(flat(rows_of(first))) == list(range(N))
    assert rows_of(first) != rows_of(second)
    assert rows_of(first) != rows_of(other_seed)
    assert rows_of(first) == rows_of(again)
    for one, same in zip(first, again, strict=True):
        assert torch.equal(one.images, same.images)


def test_the_crops_of_an_image_change_with_epoch_and_seed(pictures: Path) -> None:
    loader = load(pictures)
    first, second = images_of(loader.shuffled(1)), images_of(loader.shuffled(2))
    other_seed = images_of(load(pictures, seed=2).shuffled(1))

    for row in range(N):
        assert not torch.equal(first[row], second[row])
        assert not torch.equal(first[row], other_seed[row])


def test_the_crop_of_a_row_does_not_depend_on_the_batch(pictures: Path) -> None:
    by_four = images_of(load(pictures).shuffled(3))
    by_seven = images_of(load(pictures, batch_size=7).shuffled(3))

    for row, image in by_four.items():
        assert torch.equal(image, by_seven[row])


def test_a_pass_that_was_left_early_does_not_change_the_next(pictures: Path) -> None:
    loader = load(pictures)
    started = loader.shuffled(1)
    next(started)
    started.close()

    assert rows_of(loader.shuffled(2)) == rows_of(load(pictures).shuffled(2))


def test_a_pass_over_no_rows_has_no_batches(pictures: Path) -> None:
    for loader in (load(pictures), load_features()):
        assert rows_of(loader.shuffled(1, np.arange(0))) == []
        assert rows_of(loader.in_order(np.arange(0))) == []


def test_an_unreadable_image_is_left_out_and_named(pictures: Path) -> None:
    (pictures / "3.png").write_text("not an image")
    (pictures / "5.png").unlink()
    loader = load(pictures)

    batches = list(loader.in_order())

    assert rows_of(batches) == [[0, 1, 2], [4, 6, 7], [8, 9]]
    assert [batch.n_in_all for batch in batches] == [4, 4, 2]
    assert loader.unreadable == {"3.png": "not an image", "5.png": "the file does not exist"}


def test_a_batch_of_unreadable_images_is_empty(tmp_path: Path) -> None:
    loader = load(tmp_path, n=3)

    (batch,) = loader.shuffled(1)

    assert (batch.images.shape, batch.rows.shape, batch.n_in_all) == ((0, 3, 8, 8), (0,), 3)
    assert sorted(loader.unreadable) == ["0.png", "1.png", "2.png"]


def test_a_batch_is_split_in_parts_that_know_the_whole() -> None:
    batch = Batch(torch.arange(5)[:, None] * 10, torch.arange(5), 9)

    parts = list(batch.split(2))

    assert rows_of(parts) == [[0, 1], [2, 3], [4]]
    assert [part.images.ravel().tolist() for part in parts] == [[0, 10], [20, 30], [40]]
    assert [part.n_in_all for part in parts] == [9, 9, 9]


# --- several processes


@pytest.mark.parametrize("n_processes", [1, 2, 3])
def test_the_shares_of_processes_partition_each_batch(pictures: Path, n_processes: int) -> None:
    whole = list(load(pictures).shuffled(1))
    shares = [
        list(load(pictures, share=Share(process, n_processes)).shuffled(1))
        for process in range(n_processes)
    ]

    # The last batch, of two, is too small for several processes and joins the one before.
    expected = rows_of(whole)
    if n_processes > 1:
        expected = [expected[0], expected[1] + expected[2]]
    for number, rows in enumerate(expected):
        parts = [share[number] for share in shares]
        assert sorted(flat(rows_of(parts))) == sorted(rows)
        assert all(len(part.rows) >= 1 for part in parts)
        assert {part.n_in_all for part in parts} == {len(rows)}
    assert {len(share) for share in shares} == {len(expected)}
    images = images_of(whole)
    for share in shares:
        for row, image in images_of(share).items():
            assert torch.equal(image, images[row])


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))
def test_every_process_has_a_part_of_every_batch(n: int, batch_size: int, n_processes: int) -> None:
    shares = [
        load_features(n, batch_size=batch_size, share=Share(process, n_processes))
        for process in range(n_processes)
    ]

    passes = [list(share.shuffled(1)) for share in shares]

    assert len({len(one) for one in passes}) == 1
    for parts in zip(*passes, strict=True):
        sizes = [len(part.rows) for part in parts]
        assert sum(sizes) == parts[0].n_in_all
        assert max(sizes) - min(sizes) <= 1
        # One image is too few for batch norm. Unless there are too few, or a batch is too small.
        assert min(sizes) >= 2 or min(n, batch_size) < 2 * n_processes
        assert min(sizes) >= 1 or min(n, batch_size) < n_processes
    assert sorted(flat([rows for one in passes for rows in rows_of(one)])) == list(range(n))


def test_the_workers_of_all_processes_share_the_cores() -> None:
    assert n_workers(Share()) == min(8, n_cores())
    assert n_workers(Share(3, 10_000)) == 1


# --- features that are there already


def test_features_come_in_the_orders_of_their_images(pictures: Path) -> None:
    images, features = load(pictures), load_features()

    assert rows_of(features.in_order()) == rows_of(images.in_order())
    for epoch in (1, 2):
        assert rows_of(features.shuffled(epoch)) == rows_of(images.shuffled(epoch))
    for batch in features.shuffled(1):
        assert torch.equal(batch.images, batch.rows[:, None].expand(-1, 2).float())


def test_features_of_unreadable_images_are_left_out_as_the_images_are(pictures: Path) -> None:
    (pictures / "4.png").unlink()
    images = load(pictures)
    rows = torch.tensor([9, 8, 7, 6, 5, 3, 2, 1, 0])
    features = FeatureLoader(
        rows, rows[:, None].float(), n_images=N, batch_size=4, seed=1, device=CPU
    )

    for epoch in (1, 2):
        mine, theirs = list(features.shuffled(epoch)), list(images.shuffled(epoch))
        assert rows_of(mine) == rows_of(theirs)
        assert [one.n_in_all for one in mine] == [one.n_in_all for one in theirs]
        assert all(torch.equal(one.images[:, 0], one.rows.float()) for one in mine)


# --- crops


@given(st.integers(0, 2**31))
def test_random_crops_lie_within_the_square(seed: int) -> None:
    width, height, x, y = random_crops(20, np.random.default_rng(seed)).double().unbind(1)

    assert (width.abs() + x.abs() <= 1 + 1e-6).all()
    assert (height + y.abs() <= 1 + 1e-6).all()
    assert (height > 0).all()


@given(st.integers(0, 2**31))
def test_random_crops_keep_most_of_the_square_and_its_proportions(seed: int) -> None:
    width, height, _, _ = random_crops(20, np.random.default_rng(seed)).double().unbind(1)
    area, sides = (width * height).abs(), (width / height).abs()

    assert ((area > 0.7 - 1e-6) & (area < 1 + 1e-6)).all()
    assert ((sides > 3 / 4 - 1e-6) & (sides < 4 / 3 + 1e-6)).all()


def test_random_crops_use_their_whole_range() -> None:
    width, height, x, y = random_crops(4000, np.random.default_rng(0)).unbind(1)
    area, sides = (width * height).abs(), (width / height).abs()

    assert (width < 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert area.min() < 0.71
    assert area.max() > 0.97
    assert (sides.min() < 0.77) & (sides.max() > 1.3)
    for place, side in ((x, width.abs()), (y, height)):
        reached = place / (1 - side).clamp(min=1e-3)
        assert (reached.min() < -0.9) & (reached.max() > 0.9)


@pytest.fixture
def squares() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8, generator=random)


def test_the_crop_of_the_whole_square_is_the_square(squares: Tensor) -> None:
    whole = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(3, -1)

    torch.testing.assert_close(crop(squares, whole), squares.float(), rtol=0, atol=1e-3)


def test_a_negative_width_mirrors(squares: Tensor) -> None:
    mirrored = torch.tensor([[-1.0, 1.0, 0.0, 0.0]]).expand(3, -1)

    torch.testing.assert_close(crop(squares, mirrored), squares.flip(3).float(), rtol=0, atol=1e-3)


def test_a_crop_shows_the_part_that_it_names(squares: Tensor) -> None:
    # The right half in width, the upper half in height, each pixel twice as large: on a picture
    # that grows by 1 a pixel, the values go up by a half.
    ramp = torch.arange(8, dtype=torch.uint8)
    across, down = ramp.expand(8, 8), ramp[:, None].expand(8, 8)
    images = torch.stack([across, down, across])[None]

    (part,) = crop(images, torch.tensor([[0.5, 0.5, 0.5, -0.5]]))

    inner = torch.arange(8) * 0.5
    torch.testing.assert_close(part[0], (3.75 + inner).clamp(max=7).expand(8, 8))
    torch.testing.assert_close(part[1], (inner - 0.25).clamp(min=0)[:, None].expand(8, 8))


def test_centre_square_cuts_the_longer_side() -> None:
    picture = Image.fromarray(np.arange(12, dtype=np.uint8)[None].repeat(4, 0) * 20).convert("RGB")

    square = np.asarray(centre_square(picture, 4))

    assert square.shape == (4, 4, 3)
    assert square[0, :, 0].tolist() == [80, 100, 120, 140]


# --- squares


def test_after_the_first_pass_no_image_is_decoded_again(pictures: Path, tmp_path: Path) -> None:
    kept = Squares(tmp_path / "squares", size=8)
    loader = load(pictures, squares=kept)
    before = images_of(loader.in_order())
    shuffled = images_of(loader.shuffled(1))
    for path in pictures.iterdir():
        path.unlink()

    for loader_of in (lambda: loader, lambda: load(pictures, squares=reopened(tmp_path))):
        assert_same(images_of(loader_of().in_order()), before)
        assert_same(images_of(loader_of().shuffled(1)), shuffled)
    assert loader.unreadable == {}


def reopened(folder: Path) -> Squares:
    return Squares(folder / "squares", size=8)


def assert_same(images: dict[int, Tensor], expected: dict[int, Tensor]) -> None:
    assert images.keys() == expected.keys()
    for row, image in images.items():
        assert torch.equal(image, expected[row])


def test_squares_change_no_pixel(pictures: Path, tmp_path: Path) -> None:
    with_squares = load(pictures, squares=reopened(tmp_path))

    for make in passes():
        assert_same(images_of(make(with_squares)), images_of(make(load(pictures))))


def passes() -> list[Callable[[ImageLoader], Iterable[Batch]]]:
    return [lambda one: one.shuffled(1), lambda one: one.shuffled(2), lambda one: one.in_order()]


def test_squares_lie_at_their_places(pictures: Path, tmp_path: Path) -> None:
    """Two loaders of parts of a data set share its squares."""
    kept = reopened(tmp_path)
    names = ["7.png", "2.png"]
    options: dict[str, Any] = {"image_size": 8, "batch_size": 4, "seed": 1, "device": CPU}
    some = ImageLoader(pictures, names, squares=kept, places=[7, 2], **options)
    before = images_of(some.in_order())
    assert kept.read(0) is None
    (pictures / "7.png").unlink()
    (pictures / "2.png").unlink()

    after = images_of(load(pictures, squares=kept).in_order())

    assert torch.equal(after[7], before[0])
    assert torch.equal(after[2], before[1])


def test_an_unreadable_image_is_looked_for_again(pictures: Path, tmp_path: Path) -> None:
    kept = reopened(tmp_path)
    content = (pictures / "3.png").read_bytes()
    (pictures / "3.png").unlink()
    assert 3 not in images_of(load(pictures, squares=kept).in_order())
    (pictures / "3.png").write_bytes(content)

    assert 3 in images_of(load(pictures, squares=kept).in_order())

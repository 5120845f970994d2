"""Decoded squares on disk: what is read back, what lasts, and what is not trusted."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deft_core.squares import Squares, open_squares
from tests.small_world import PATIENCE

DIGESTS = ["a" * 64, "b" * 64, "c" * 64]


def square(level: int, *, size: int = 4) -> np.ndarray:
    """A square in which every byte is another one."""
    return (np.arange(size * size * 3) + level).astype(np.uint8).reshape(size, size, 3)


def opened(folder: Path, digests: list[str] = DIGESTS, *, size: int = 4) -> Squares:
    squares = open_squares(folder, digests, size=size)
    assert squares is not None
    return squares


def test_a_square_is_read_as_it_was_written(tmp_path: Path) -> None:
    squares = opened(tmp_path)
    squares.write(2, square(7))
    squares.write(0, square(90))

    np.testing.assert_array_equal(squares.read(2), square(7))
    np.testing.assert_array_equal(squares.read(0), square(90))


def test_what_was_not_written_is_none(tmp_path: Path) -> None:
    squares = opened(tmp_path)
    squares.write(1, square(0))

    assert squares.read(0) is None
    assert squares.read(1) is not None
    assert squares.read(2) is None


def test_squares_are_there_for_the_next_run_and_for_another_process(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.write(0, square(1))
    second.write(1, square(2))

    again = opened(tmp_path)

    np.testing.assert_array_equal(again.read(0), square(1))
    np.testing.assert_array_equal(first.read(1), square(2))
    assert again.read(2) is None


def test_a_square_that_was_written_in_part_is_not_trusted(tmp_path: Path) -> None:
    squares = opened(tmp_path)
    squares.write(1, square(5))
    (file,) = tmp_path.iterdir()
    record = file.stat().st_size // 2
    with file.open("r+b") as opened_file:
        opened_file.seek(record + 40)
        opened_file.write(bytes(8))

    assert squares.read(1) is None


def test_a_black_square_can_be_told_from_none(tmp_path: Path) -> None:
    squares = opened(tmp_path)
    squares.write(1, np.zeros((4, 4, 3), dtype=np.uint8))

    assert squares.read(0) is None
    assert squares.read(1) is not None


def test_workers_that_are_not_forked_share_the_squares(tmp_path: Path) -> None:
    squares = opened(tmp_path)
    squares.write(0, square(1))

    worker = multiprocessing.get_context("spawn").Process(target=copy_square, args=(squares,))
    worker.start()
    worker.join(timeout=PATIENCE)

    assert worker.exitcode == 0
    np.testing.assert_array_equal(squares.read(2), square(1))


def copy_square(squares: Squares) -> None:
    """From the first place to the last."""
    found = squares.read(0)
    assert found is not None
    squares.write(2, found)


def test_squares_that_would_fill_the_disk_are_refused(tmp_path: Path) -> None:
    size = 1024
    n = shutil.disk_usage(tmp_path).free // (size**2 * 3) + 1

    assert open_squares(tmp_path, ["a"] * n, size=size) is None
    assert list(tmp_path.iterdir()) == []


def test_squares_that_were_begun_are_refused_when_the_rest_would_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares = opened(tmp_path, size=64)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    assert open_squares(tmp_path, DIGESTS, size=64) is None

    for place in range(3):
        squares.write(place, square(place, size=64))

    assert open_squares(tmp_path, DIGESTS, size=64) is not None


def test_squares_of_other_images_or_of_another_size_are_others(tmp_path: Path) -> None:
    squares = opened(tmp_path)
    squares.write(1, square(5))

    assert opened(tmp_path, [DIGESTS[0], DIGESTS[2], DIGESTS[1]]).read(1) is None
    assert opened(tmp_path, size=2).read(1) is None
    np.testing.assert_array_equal(opened(tmp_path).read(1), square(5))

"""The demo data set: picture-book pages of sixteen everyday things, some with wrong labels.

`write_demo` draws everything from one seed, so the data set needs no download and no licence but
ours, and its true labels are known. Every page has its own child generator: the pictures do not
depend on the noise. File numbers are shuffled over both splits, so neither a name nor the order of
files tells the true class.
"""

import csv
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deft_core import noise
from deft_core.config import LARGEST_SEED
from deft_core.demo.figures import CLASS_NAMES
from deft_core.demo.painting import paint_picture
from deft_core.errors import DeftError
from deft_core.full_disk import telling_full_disk
from deft_core.whole_files import writing_whole_folder

__all__ = ["CLASS_NAMES", "DemoReport", "write_demo"]

_SMALL_SIDE = 8


@dataclass(frozen=True)
class DemoReport:
    """What `write_demo` wrote."""

    n_train: int
    n_test: int
    class_names: tuple[str, ...]
    n_noisy: int
    directory: Path


def write_demo(
    directory: Path,
    *,
    seed: int = 0,
    n_train: int = 1600,
    n_test: int = 400,
    noise_mode: str = "sym",
    noise_ratio: float = 0.2,
    on_progress: Callable[[int, int], None] | None = None,
) -> DemoReport:
    """Draw the demo data set into a new or empty directory; the same seed gives the same bytes.

    Only train labels get noise. `on_progress` hears the number of pictures drawn and their total.
    The directory appears complete or not at all. Raises DeftError if it is not empty or cannot be
    written, or for an unknown noise mode, a ratio outside [0, 1), an impossible seed or number of
    pictures.
    """
    directory = Path(directory)
    _check(directory, seed, n_train, n_test, noise_mode, noise_ratio)
    n = n_train + n_test
    plan_seed, noise_seed, *page_seeds = np.random.SeedSequence(seed).spawn(2 + n)
    true, is_train = _plan(np.random.default_rng(plan_seed), n_train, n_test)
    pixels = np.empty((n, _SMALL_SIDE**2))
    try:
        with (
            telling_full_disk(directory),
            writing_whole_folder(directory) as built,
            tempfile.TemporaryDirectory() as pages,
        ):
            for i, page_seed in enumerate(page_seeds):
                pixels[i] = _draw_page(Path(pages, f"{i}.jpg"), CLASS_NAMES[true[i]], page_seed)
                if on_progress is not None:
                    on_progress(i + 1, n)
            given = true.copy()
            given[is_train], is_noisy = noise.add_noise(
                true[is_train],
                len(CLASS_NAMES),
                mode=noise_mode,
                ratio=noise_ratio,
                pixels=pixels[is_train],
                rng=np.random.default_rng(noise_seed),
            )
            _arrange(Path(pages), built, given=given, true=true, is_train=is_train)
    except OSError as e:
        raise DeftError(
            f"the folder {directory} cannot be written: {e.strerror or e}",
            "Choose a directory you may write to.",
        ) from e
    return DemoReport(n_train, n_test, CLASS_NAMES, int(is_noisy.sum()), directory)


def _check(directory: Path, seed: int, n_train: int, n_test: int, mode: str, ratio: float) -> None:
    if not 0 <= seed <= LARGEST_SEED:
        raise DeftError(f"the seed must lie between 0 and {LARGEST_SEED}, got {seed}")
    if mode not in noise.MODES:
        raise DeftError(
            f'noise mode "{mode}" is not known', f"Use one of: {', '.join(noise.MODES)}."
        )
    if not 0 <= ratio < 1:
        raise DeftError(
            f"noise ratio must be at least 0 and below 1, got {ratio}",
            "0.2 makes one train label in five wrong.",
        )
    if n_train < 1 or n_test < 0:
        raise DeftError(
            f"a demo of {n_train} train and {n_test} test pictures cannot be drawn",
            "Ask for at least 1 train picture and 0 test pictures.",
        )
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise DeftError(
            f"{directory} exists and is not an empty directory",
            "Choose a new directory, or remove this one first.",
        )


def _plan(rng: np.random.Generator, n_train: int, n_test: int) -> tuple[np.ndarray, np.ndarray]:
    """True class and membership of train for every file number, classes balanced per split."""
    balanced = [np.arange(n) % len(CLASS_NAMES) for n in (n_train, n_test)]
    order = rng.permutation(n_train + n_test)
    return np.concatenate(balanced)[order], (np.arange(n_train + n_test) < n_train)[order]


def _draw_page(path: Path, name: str, seed: np.random.SeedSequence) -> np.ndarray:
    """Save one page; returns its small grey pixels, for instance-dependent noise."""
    rng = np.random.default_rng(seed)
    page = paint_picture(name, rng)
    quality = int(rng.integers(70, 96)) if rng.random() < 0.8 else int(rng.integers(35, 70))
    page.save(path, quality=quality)
    side = (_SMALL_SIDE, _SMALL_SIDE)
    grey = page.convert("L").resize(side, Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float64).ravel()


def _arrange(
    pages: Path, built: Path, *, given: np.ndarray, true: np.ndarray, is_train: np.ndarray
) -> None:
    """Move the pages into folders of their given class and write the two tables."""
    labels, truth = [], []
    for i in range(len(given)):
        split, label = "train" if is_train[i] else "test", CLASS_NAMES[given[i]]
        name = f"{split}/{label}/{i:05d}.jpg"
        (built / split / label).mkdir(parents=True, exist_ok=True)
        shutil.move(pages / f"{i}.jpg", built / name)
        labels.append((name, split, label))
        truth.append((name, CLASS_NAMES[true[i]]))
    _write_table(built / "labels.csv", ("file_name", "split", "label"), labels)
    _write_table(built / "truth.csv", ("file_name", "true_label"), truth)


def _write_table(path: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)

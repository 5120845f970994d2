"""Reads a data set from a folder or a CSV file: which images, which labels, what is amiss.

Nothing is written. What cannot be read is left out and reported by name; what cannot be meant (a
class that does not exist, a path outside the data set) stops the whole ingest with an error.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from deft_core.errors import DataError
from deft_core.listing import Listed, list_source
from deft_core.pictures import FORMATS, MOST_PIXELS
from deft_core.prompts import same_prompts

SAMPLE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int32()),
        ("file_name", pa.string()),
        ("sha256", pa.string()),
        ("split", pa.string()),
        ("given_label", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A file that was left out, and why."""

    file_name: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Files with the same bytes and different labels: at least one label is wrong."""

    file_names: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What was found in a source and what was left out of it.

    `same_prompt` are groups of classes whose names differ in case, underscores and spaces only, so
    that phase 1 cannot tell them apart by their prompts; `n_duplicates` are samples whose bytes an
    earlier sample has too; `n_without_class` are images that lie beside the class folders;
    `n_other_files` are not images by their names.
    """

    source: str
    layout: str
    n_samples: int
    n_by_class: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    conflicts: tuple[Conflict, ...]
    same_prompt: tuple[tuple[str, ...], ...]
    n_duplicates: int
    n_symlinks: int
    n_without_class: int
    n_other_files: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """A data set that was read; `samples` has the columns of SAMPLE_SCHEMA."""

    root: Path
    class_names: tuple[str, ...]
    samples: pa.Table
    report: IngestReport


@dataclass(frozen=True, kw_only=True)
class _Image:
    sha256: str
    width: int
    height: int
    is_link: bool


def read_source(
    source: Path,
    *,
    root: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Ingested:
    """The data set at `source`: a folder with labels.csv, class folders (also below split folders),
    or a CSV file with a path and a label column.

    Paths in a CSV file start from `root`, by default from the file's own folder. Links are followed
    to files inside the data set's folder only, for nothing else is shown.
    """
    try:
        listing = list_source(source, root=root)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    images = sorted(listing.images, key=lambda one: one.file_name)
    found = _read_images(listing.root, images=images, on_progress=on_progress)

    readable = [(one, image) for one, image in found if isinstance(image, _Image)]
    if not readable:
        raise DataError(
            f"None of the {len(images)} images in {source} can be read.", _first_problem(found)
        )
    class_names = listing.declared or tuple(
        sorted({one.label for one, _ in readable}, key=_natural)
    )
    if len(class_names) < 2:
        raise DataError(
            f'{source} has one class only: "{class_names[0]}".',
            "Labels can only be wrong where there are two classes or more.",
        )
    label_of = {name: label for label, name in enumerate(class_names)}
    samples = pa.Table.from_pylist(
        [
            {
                "sample_id": sample_id,
                "file_name": one.file_name,
                "sha256": image.sha256,
                "split": one.split,
                "given_label": label_of[one.label],
                "width": image.width,
                "height": image.height,
            }
            for sample_id, (one, image) in enumerate(readable)
        ],
        schema=SAMPLE_SCHEMA,
    )
    n_by_class = Counter(one.label for one, _ in readable)
    conflicts, n_duplicates = _duplicates(readable)
    unreadable = [
        (name, "a linked folder; its files are not taken in") for name in listing.linked_folders
    ]
    unreadable += [(one.file_name, image) for one, image in found if isinstance(image, str)]
    report = IngestReport(
        source=str(source),
        layout=listing.layout,
        n_samples=len(readable),
        n_by_class={name: n_by_class[name] for name in class_names},
        unreadable=tuple(
            Unreadable(file_name=_printable(name), problem=problem) for name, problem in unreadable
        ),
        conflicts=conflicts,
        same_prompt=same_prompts(class_names, class_names),
        n_duplicates=n_duplicates,
        n_symlinks=sum(image.is_link for _, image in readable),
        n_without_class=listing.n_without_class,
        n_other_files=listing.n_other_files,
    )
    return Ingested(root=listing.root, class_names=class_names, samples=samples, report=report)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorts class 2 before class 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _read_images(
    root: Path, *, images: list[Listed], on_progress: Callable[[int, int], None] | None
) -> list[tuple[Listed, _Image | str]]:
    """Each image with what was read, or with the problem that kept it from being read."""
    found = []
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda one: _read_image(root / one.file_name, root=root), images)
        try:
            for one, image in zip(images, results, strict=True):
                found.append((one, image))
                if on_progress:
                    on_progress(len(found), len(images))
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def _read_image(path: Path, *, root: Path) -> _Image | str:
    """What is in the file, or why it is not an image that can be used."""
    try:
        _check_name(path)
        place = path.resolve()
        if not place.is_relative_to(root):
            return "a link that leaves the data set's folder"
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if status.st_size == 0:
            return "the file is empty"
        with path.open("rb") as file:
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    return f"{width} x {height} pixels; the most is {MOST_PIXELS:,}"
                _decode(image)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "the file does not exist"
    except UnidentifiedImageError:
        return f"not an image ({', '.join(FORMATS)})"
    except Exception as error:
        # Pillow's decoders raise whatever the broken bytes lead them to.
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _Image(sha256=sha256, width=width, height=height, is_link=place != path)


def _decode(image: Image.Image) -> None:
    """Raises if the pixels cannot be had. JPEG is decoded at an eighth, PNG by its checksums."""
    if image.format == "PNG":
        image.verify()
    else:
        image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the file name is not valid Unicode") from error


def _printable(name: str) -> str:
    return name.encode(errors="replace").decode()


def _first_problem(found: list[tuple[Listed, _Image | str]]) -> str:
    one, problem = found[0]
    return f"The first is {_printable(one.file_name)}: {problem}."


def _duplicates(readable: list[tuple[Listed, _Image]]) -> tuple[tuple[Conflict, ...], int]:
    """Files with the same bytes: those with different labels, and how many there are too many."""
    same: dict[str, list[Listed]] = defaultdict(list)
    for one, image in readable:
        same[image.sha256].append(one)
    groups = [group for group in same.values() if len(group) > 1]
    conflicts = tuple(
        Conflict(
            file_names=tuple(one.file_name for one in group),
            labels=tuple(one.label for one in group),
        )
        for group in groups
        if len({one.label for one in group}) > 1
    )
    return conflicts, sum(len(group) - 1 for group in groups)

"""Reads a data set from a folder or a CSV file: which images, which labels, what is amiss.

Nothing is written. What cannot be read is left out and reported by name; what cannot be meant (a
class that does not exist, a path outside the data set) stops the whole ingest with an error.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from deft_core.errors import DataError
from deft_core.pictures import FORMATS, MOST_PIXELS
from deft_core.prompts import same_prompts

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
SEPARATORS = ",;\t"
PATH_COLUMNS = ("file_name", "path", "filepath", "image", "filename")
LABEL_COLUMNS = ("label", "class", "given_label", "category")

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
class _Listed:
    """An image that the source names, before it is opened."""

    file_name: str
    split: str
    label: str


@dataclass(frozen=True, kw_only=True)
class _Listing:
    layout: str
    root: Path
    images: list[_Listed]
    declared: tuple[str, ...] = ()
    linked_folders: tuple[str, ...] = ()
    n_without_class: int = 0
    n_other_files: int = 0


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
        listing = _list(source, root=root)
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


# --- which images there are


def image_files(folder: Path) -> tuple[str, ...]:
    """The images at any depth below a folder, relative to it, without hidden and linked folders."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", "Give a folder with images.")
    files, _ = _walk(folder)
    return tuple(path.as_posix() for path in _images_among(files))


def _list(source: Path, *, root: Path | None) -> _Listing:
    if not source.exists():
        raise DataError(f"{source} does not exist.", "Give a folder with images, or a CSV file.")
    if root is not None and not (source.is_file() and root.is_dir()):
        raise DataError(
            f"The paths of {source} cannot start from {root}.",
            "A root is an existing folder, and goes with a CSV file.",
        )
    if source.is_file():
        if source.suffix.lower() != ".csv":
            raise DataError(f"{source} is not a folder and not a CSV file.")
        return _list_csv(source, root=root)
    if (source / "labels.csv").is_file():
        return _list_csv(source / "labels.csv")
    return _list_folders(source)


def _list_folders(source: Path) -> _Listing:
    root = source.resolve()
    files, linked_folders = _walk(root)
    images = _images_among(files)
    is_split = _has_split_folders(source, images=images)
    depth = 2 if is_split else 1
    classed = [path for path in images if len(path.parts) > depth]
    if not classed:
        found = f"{len(images)} images but no class folders" if images else "no images"
        raise DataError(
            f"{source} holds {found}.",
            "Expected a folder for each class, split folders (train, validation, test) with a "
            "folder for each class, or a labels.csv with the columns file_name and label. Linked "
            "folders are not followed.",
        )
    return _Listing(
        layout="split folders" if is_split else "class folders",
        root=root,
        images=[
            _Listed(
                file_name=path.as_posix(),
                split=SPLITS[path.parts[0].lower()] if is_split else "train",
                label=path.parts[depth - 1],
            )
            for path in classed
        ],
        linked_folders=tuple(path.as_posix() for path in sorted(linked_folders)),
        n_without_class=len(images) - len(classed),
        n_other_files=len(files) - len(images),
    )


def _has_split_folders(source: Path, *, images: Sequence[Path]) -> bool:
    """Whether the folders that hold images are named like splits; DataError when only some are."""
    names = {path.parts[0] for path in images if len(path.parts) > 1}
    others = sorted(name for name in names if name.lower() not in SPLITS)
    if not others:
        return bool(names)
    for path in images:
        # Without folders of its own it is a class: "train" is a fine name for one.
        if path.parts[0].lower() in SPLITS and len(path.parts) > 2:
            raise DataError(
                f'{source} holds the split folder "{path.parts[0]}" beside the folder '
                f'"{others[0]}", which is not named like a split.',
                f'Take "{others[0]}" out of it, or write a labels.csv.',
            )
    return False


def _walk(root: Path) -> tuple[list[Path], list[Path]]:
    """The files and the linked folders below the root, relative to it, without hidden ones."""
    files: list[Path] = []
    linked_folders: list[Path] = []
    for place, folders, names in os.walk(root, onerror=_raise):
        folders[:] = filter(_is_visible, folders)
        here = Path(place).relative_to(root)
        files += [here / name for name in filter(_is_visible, names)]
        linked_folders += [here / name for name in folders if Path(place, name).is_symlink()]
    return files, linked_folders


def _images_among(files: Iterable[Path]) -> list[Path]:
    return sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _raise(error: OSError) -> None:
    raise error


def _list_csv(path: Path, *, root: Path | None = None) -> _Listing:
    root = (root or path.parent).resolve()
    declared = _declared_classes(path.with_name("classes.txt"))
    images: list[_Listed] = []
    row_of: dict[str, int] = {}
    for number, row in _rows(path):
        where = f"{path.name} row {number}"
        file_name = _inside(root, row["path"], where=where)
        if file_name in row_of:
            raise DataError(
                f"{where}: {row['path']} is named in row {row_of[file_name]} already.",
                "Each image has one row.",
            )
        row_of[file_name] = number
        label, split = row["label"], row["split"]
        if not label:
            raise DataError(f"{where}: {row['path']} has an empty label.")
        if declared and label not in declared:
            raise DataError(
                f'{where}: class "{label}" is not one of {len(declared)} classes.',
                _did_you_mean(label, declared),
            )
        if split.lower() not in SPLITS:
            raise DataError(
                f'{where}: split "{split}" is not one of train, validation and test.',
                "An empty split means train.",
            )
        images.append(_Listed(file_name=file_name, split=SPLITS[split.lower()], label=label))
    if not images:
        raise DataError(f"{path} has no rows.", "Expected one row an image below the column names.")
    return _Listing(layout="csv", root=root, images=images, declared=declared)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Row number as a spreadsheet counts, and path, label and split of each row of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = max(SEPARATORS, key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            columns = [name.strip().lower() for name in next(reader, [])]
            _refuse_repeated(path, filter(None, columns), what="column")
            wanted = {
                "path": _column(path, columns=columns, known=PATH_COLUMNS, what="path"),
                "label": _column(path, columns=columns, known=LABEL_COLUMNS, what="label"),
            }
            for number, values in enumerate(reader, start=2):
                if not any(map(str.strip, values)):
                    continue
                if len(values) != len(columns):
                    raise DataError(
                        f"{path.name} row {number}: {len(values)} values, expected {len(columns)}.",
                        f'Put quotes around values that contain "{separator}".',
                    )
                row = dict(zip(columns, map(str.strip, values), strict=True))
                picked = {key: row[column] for key, column in wanted.items()}
                yield number, {**picked, "split": row.get("split") or "train"}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} is not a CSV file in UTF-8: {error}.", "Save it as CSV UTF-8."
        ) from error


def _column(path: Path, *, columns: list[str], known: tuple[str, ...], what: str) -> str:
    for name in known:
        if name in columns:
            return name
    found = ", ".join(filter(None, columns)) or "nothing"
    raise DataError(
        f"{path} has no {what} column; found: {found}.", f"Name it one of: {', '.join(known)}."
    )


def _declared_classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8: {error}.", "Save it as UTF-8.") from error
    names = [line.strip() for line in lines if line.strip()]
    _refuse_repeated(path, names, what="class")
    return tuple(names)


def _refuse_repeated(path: Path, names: Iterable[str], *, what: str) -> None:
    for name, n in Counter(names).items():
        if n > 1:
            raise DataError(f'{path} names the {what} "{name}" {n} times.')


def _inside(root: Path, text: str, *, where: str) -> str:
    """The path relative to the root, with forward slashes; DataError when it leads outside.

    Backslashes separate folders, as on Windows, unless they are part of a file's name.
    """
    if not text:
        raise DataError(f"{where}: the path is empty.")
    if "\0" in text:
        raise DataError(f"{where}: the path contains a zero byte.")
    if "\\" in text and not os.path.lexists(root / text):
        text = text.replace("\\", "/")
    path = Path(os.path.normpath(root / text))
    if not path.is_relative_to(root):
        raise DataError(
            f"{where}: {text} leads out of {root}.",
            "Paths are relative to this folder and stay inside it.",
        )
    return path.relative_to(root).as_posix()


def _did_you_mean(label: str, declared: Sequence[str]) -> str:
    close = get_close_matches(label, declared, n=1)
    return f'Did you mean "{close[0]}"?' if close else "classes.txt declares the classes."


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorts class 2 before class 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


# --- what is in them


def _read_images(
    root: Path, *, images: list[_Listed], on_progress: Callable[[int, int], None] | None
) -> list[tuple[_Listed, _Image | str]]:
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
        image.draft("L", (image.width // 8, image.height // 8))
        image.load()


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the file name is not valid Unicode") from error


def _printable(name: str) -> str:
    return name.encode(errors="replace").decode()


def _first_problem(found: list[tuple[_Listed, _Image | str]]) -> str:
    one, problem = found[0]
    return f"The first is {_printable(one.file_name)}: {problem}."


def _duplicates(readable: list[tuple[_Listed, _Image]]) -> tuple[tuple[Conflict, ...], int]:
    """Files with the same bytes: those with different labels, and how many there are too many."""
    same: dict[str, list[_Listed]] = defaultdict(list)
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

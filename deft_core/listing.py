"""Which images a data set names, and under which labels: class folders, split folders, CSV files.

No image is opened. What cannot be meant, such as a class that does not exist or a path outside the
data set, stops the whole ingest with an error.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from deft_core.errors import DataError

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


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An image that the source names, before it is opened."""

    file_name: str
    split: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Every image that a source names, relative to `root`, and what lies beside them. `declared`
    are the classes of a classes.txt, in its order."""

    layout: str
    root: Path
    images: list[Listed]
    declared: tuple[str, ...] = ()
    linked_folders: tuple[str, ...] = ()
    n_without_class: int = 0
    n_other_files: int = 0


def image_files(folder: Path) -> tuple[str, ...]:
    """The images at any depth below a folder, relative to it, without hidden and linked folders."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", "Give a folder with images.")
    files, _ = _walk(folder)
    return tuple(path.as_posix() for path in _images_among(files))


def list_source(source: Path, *, root: Path | None) -> Listing:
    """What is at `source`, a folder or a CSV file whose paths start from `root`; DataError where
    that is no data set, OSError where it cannot be read."""
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


def _list_folders(source: Path) -> Listing:
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
    return Listing(
        layout="split folders" if is_split else "class folders",
        root=root,
        images=[
            Listed(
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


def _list_csv(path: Path, *, root: Path | None = None) -> Listing:
    root = (root or path.parent).resolve()
    declared = _declared_classes(path.with_name("classes.txt"))
    images: list[Listed] = []
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
        images.append(Listed(file_name=file_name, split=SPLITS[split.lower()], label=label))
    if not images:
        raise DataError(f"{path} has no rows.", "Expected one row an image below the column names.")
    return Listing(layout="csv", root=root, images=images, declared=declared)


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

"""Writes what was decided: a table of every sample, as CSV or JSON lines, or copies of the curated
set in class folders.

The images of the data set are only ever read. What is written appears under its name when it is
whole.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

import pyarrow as pa

from deft_core import selection
from deft_core.errors import ExportError
from deft_core.full_disk import telling_full_disk
from deft_core.selection import NO_LABEL
from deft_core.store import Dataset, Store
from deft_core.whole_files import writing_whole, writing_whole_folder

COLUMNS = (
    "file_name",
    "split",
    "given_label",
    "reviewed_label",
    "verdict",
    "is_disputed",
    "other_label",
    "p_clean",
    "scored_label",
    "suggested_label",
    "is_clean",
    "final_label",
    "in_curated_set",
    "reviewer",
    "decided_at",
    "round",
    "note",
    "sha256",
)
UNSAFE_IN_NAMES = frozenset('%/\\:*?"<>|')
LONGEST_FILE_NAME = 255

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Where an export lies and what is in it; `n_relabelled` of the curated samples have another
    label than the given one."""

    path: Path
    n_samples: int
    n_curated: int
    n_relabelled: int


class Exporter(Protocol):
    """Writes one format."""

    def __call__(
        self,
        store: Store,
        *,
        to: Path,
        is_forced: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Exported: ...


def export(
    store: Store,
    *,
    format: str,
    to: Path,
    is_forced: bool = False,
    on_progress: OnProgress | None = None,
) -> Exported:
    """What was written at `to`, in one of FORMATS; DiskFullError when there is no room for it."""
    if format not in FORMATS:
        raise ExportError(
            f'There is no export format "{format}".', f"Formats: {', '.join(FORMATS)}."
        )
    try:
        with telling_full_disk(to):
            return FORMATS[format](store, to=to, is_forced=is_forced, on_progress=on_progress)
    except OSError as error:
        raise ExportError(f"{error.filename or to} cannot be written: {error.strerror}.") from error


def write_csv(
    store: Store, *, to: Path, is_forced: bool = False, on_progress: OnProgress | None = None
) -> Exported:
    """A row for each sample, decided or not, with labels by name and the decision's provenance.

    `final_label` is the reviewed label, or the given one of an undecided sample; it is empty for
    both, exclude and unsure. For both, `other_label` is right beside the given one.
    `is_disputed` means that two reviewers disagree; nobody said that verdict, "unsure". `p_clean`
    and `is_clean` are about `scored_label`, with which the run knew the sample; several reviewers'
    notes begin with their names. `in_curated_set` says whether phase 2 trains on it. Rows end with
    CR LF, as RFC 4180 has it: the writer quotes only what its own line ends hold, and names may
    hold a CR.
    """
    return _write_table(store, _as_csv, to=to, is_forced=is_forced, on_progress=on_progress)


def write_jsonl(
    store: Store, *, to: Path, is_forced: bool = False, on_progress: OnProgress | None = None
) -> Exported:
    """The same as a JSON object a line: numbers and truth values as such, null for what is empty.

    Hugging Face's datasets read it, and the CSV, as `metadata.jsonl` beside the images.
    """
    return _write_table(store, _as_jsonl, to=to, is_forced=is_forced, on_progress=on_progress)


def _write_table(
    store: Store,
    write: Callable[[TextIO, Iterable[dict[str, Any]]], None],
    *,
    to: Path,
    is_forced: bool,
    on_progress: OnProgress | None,
) -> Exported:
    dataset = _dataset(store)
    _refuse_inside_source(to, dataset=dataset)
    if to.is_dir():
        raise ExportError(f"{to} is a folder.", "Name a file for the table.")
    if to.exists() and not is_forced:
        raise ExportError(f"{to} exists.", "Choose another name, or give --force.")
    rows = _rows(store)

    def named() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows, start=1):
            yield _named(row, class_names=dataset.class_names)
            if on_progress:
                on_progress(number, len(rows))

    to.parent.mkdir(parents=True, exist_ok=True)
    with (
        writing_whole(to) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        write(file, named())
    return _exported(to, rows=rows)


def _as_csv(file: TextIO, rows: Iterable[dict[str, Any]]) -> None:
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    writer.writerows(map(_text, row.values()) for row in rows)


def _as_jsonl(file: TextIO, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_folders(
    store: Store, *, to: Path, is_forced: bool = False, on_progress: OnProgress | None = None
) -> Exported:
    """Byte-identical copies of the curated set as `split/final label/file name`; those of the other
    splits go along, with the labels that stand.

    The folder must be new or empty, forced or not. A class name that cannot be a folder's name is
    written with percent escapes, a file name that is taken with the start of its SHA-256.
    """
    dataset = _dataset(store)
    if store.current_run() is None:
        raise ExportError("There is no curated set before phase 1.", "Run phase 1 first.")
    _refuse_inside_source(to, dataset=dataset)
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise ExportError(f"{to} is not an empty folder.", "Choose a new or an empty folder.")
    folder_names = tuple(map(folder_name, dataset.class_names))
    rows = [row for row in _rows(store) if row["in_curated_set"] or _is_trusted(row)]
    with writing_whole_folder(to) as temporary:
        taken: set[str] = set()
        for number, row in enumerate(rows, start=1):
            place = f"{row['split']}/{folder_names[row['final_label']]}"
            name = _free_name(place, row=row, taken=taken)
            _copy(dataset.root / row["file_name"], to=temporary / name, sha256=row["sha256"])
            if on_progress:
                on_progress(number, len(rows))
    return _exported(to, rows=rows)


FORMATS: Mapping[str, Exporter] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "folders": write_folders,
}


def folder_name(class_name: str) -> str:
    """The name of a class's folder, from which `urllib.parse.unquote` gives back the class's.

    >>> folder_name("black/white cat"), folder_name("..")
    ('black%2Fwhite cat', '%2E%2E')
    """
    last = len(class_name) - 1
    name = "".join(
        _escaped(letter)
        if letter in UNSAFE_IN_NAMES
        or not letter.isprintable()
        or (letter == "." and position in (0, last))
        or (letter == " " and position in (0, last))
        else letter
        for position, letter in enumerate(class_name)
    )
    if len(name.encode()) > LONGEST_FILE_NAME:
        raise ExportError(f'The class name "{class_name[:40]}..." is too long for a folder.')
    return name


def _escaped(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode())


def _dataset(store: Store) -> Dataset:
    dataset = store.dataset()
    if dataset is None:
        raise ExportError("This workspace holds no data set.", "Ingest one first.")
    return dataset


def _refuse_inside_source(to: Path, *, dataset: Dataset) -> None:
    if to.resolve().is_relative_to(dataset.root):
        raise ExportError(
            f"{to} lies in the data set {dataset.root}, which is never written to.",
            "Choose a place outside of it.",
        )


def _rows(store: Store) -> list[dict[str, Any]]:
    """The rows of `Store.samples()` with final_label (or None) and in_curated_set."""
    samples = store.samples()
    chosen = selection.curated_set(samples)
    final = pa.array(chosen.final_label, pa.int32(), mask=chosen.final_label == NO_LABEL)
    samples = samples.append_column("final_label", final)
    is_curated = pa.array(chosen.curated_label != NO_LABEL)
    rows: list[dict[str, Any]] = samples.append_column("in_curated_set", is_curated).to_pylist()
    return rows


def _is_trusted(row: dict[str, Any]) -> bool:
    """Whether a sample that no phase trains on has one label."""
    return row["split"] != "train" and row["final_label"] is not None


def _named(row: dict[str, Any], *, class_names: tuple[str, ...]) -> dict[str, Any]:
    """The columns of a row with labels by name and times as ISO 8601, in UTC."""
    values = {name: row[name] for name in COLUMNS}
    for name, value in values.items():
        if name.endswith("_label") and value is not None:
            values[name] = class_names[value]
        elif isinstance(value, datetime):
            values[name] = value.replace(tzinfo=UTC).isoformat()
        elif isinstance(value, float):
            values[name] = float(f"{value:.6g}")
    return values


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _exported(to: Path, *, rows: list[dict[str, Any]]) -> Exported:
    curated = [row for row in rows if row["in_curated_set"]]
    return Exported(
        path=to,
        n_samples=len(rows),
        n_curated=len(curated),
        n_relabelled=sum(row["final_label"] != row["given_label"] for row in curated),
    )


def _free_name(place: str, *, row: dict[str, Any], taken: set[str]) -> str:
    """A name below `place` that no sample has yet, on file systems that ignore case too."""
    path = Path(row["file_name"])
    endings = ["", f"-{row['sha256'][:12]}", f"-{row['sha256'][:12]}-{row['sample_id']}"]
    names = [f"{place}/{path.stem}{ending}{path.suffix}" for ending in endings]
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return name


def _copy(source: Path, *, to: Path, sha256: str) -> None:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ExportError(
            f"{source} cannot be read: {error.strerror or error}.",
            "Put the data set back where it was ingested from.",
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ExportError(
            f"{source} is not the image that was ingested.",
            "The file has changed since; ingest the data set into a new workspace.",
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(content)

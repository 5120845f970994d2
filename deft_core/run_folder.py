"""A run's folder: the only thing that the child process and the process that started it share.

    config.json      what to do: kind, data root, class names, settings      the starter writes it
    samples.parquet  which images, and how each stands: labels, verdicts     the starter
    status.json      the state, and the error of a failed run                the child, the starter
                                                                             before and after
    proc.json        the process to ask whether the run lives                the starter; a child
                                                                             started by hand
    cancel.json      the process that was asked to stop                      the starter
    log.txt          what the child printed
    progress.jsonl   one line a report, appended                             the child
    checkpoint.pt    the last whole epoch, until the run is done             the child
    error.json       why a process beside the child that reports failed      that process
    report.json ...  the results; each appears under its name only when it is whole

No torch and no store here: both sides read the same few functions.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, TypeAdapter, ValidationError

from deft_core.errors import RunError
from deft_core.run_files import (
    REPORTS,
    SAMPLES,
    TABLES,
    ConfigFile,
    Count,
    Finite,
    ProbeReport,
    Seconds,
    State,
    first_problem,
)
from deft_core.whole_files import writing_whole

UNFINISHED = ("queued", "waiting", "running")
WAITING = "waiting"
LONGEST_TAIL = 4096
MOST_REPORTS = 500

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report of a run at work. `done` of `total` counts images over all passes of the run, so
    that an image seen in ten epochs counts ten times; `fraction` is the share of the work, from 0
    to 1, in which a pass over features that were encoded before counts less. `memory_bytes` is the
    memory of the device, or of the process where that is the CPU. `seconds` were worked on the run
    until then, before it was cut off too, and without waiting."""

    stage: str
    epoch: Count = 0
    epochs: Count = 0
    done: Count = 0
    total: Count = 0
    fraction: Finite = 0.0
    loss: float | None = None
    images_per_second: Finite | None = None
    seconds_left: Finite | None = None
    device: str = ""
    memory_bytes: Count | None = None
    note: str = ""
    seconds: Seconds = 0.0


@dataclass(frozen=True, kw_only=True)
class Status:
    """What was last said of the run."""

    state: State
    error: str
    hint: str
    changed_at: Seconds


PROGRESS = TypeAdapter(Progress)
STATUS = TypeAdapter(Status)


class RunFolder:
    """Reads and writes the files of one run; a file is either whole or not there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, *, config: dict[str, Any], samples: pa.Table) -> RunFolder:
        """A new folder that holds all that the child needs to start."""
        path.mkdir(parents=True)
        folder = cls(path)
        try:
            folder.write_table(SAMPLES, samples)
            folder.write_json("config.json", config)
            folder.set_status("queued")
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return folder

    @property
    def run_id(self) -> str:
        return self.path.name

    def config(self) -> dict[str, Any]:
        return self.read_json("config.json", ConfigFile)

    def report(self) -> dict[str, Any]:
        """What the run came to, or what the try of one found out."""
        config = self.config()
        shape = ProbeReport if config.get("is_probe") else REPORTS[config["kind"]]
        return self.read_json("report.json", shape, n_classes=len(config["class_names"]))

    def samples(self) -> pa.Table:
        return self.read_table(SAMPLES)

    def read_json(self, name: str, shape: type[BaseModel], **context: Any) -> dict[str, Any]:
        """The object in a file, which has all that `shape` asks for."""

        def read(path: Path) -> dict[str, Any]:
            content = path.read_bytes()
            shape.model_validate_json(content, strict=True, context=context)
            values: dict[str, Any] = json.loads(content)
            return values

        return self._read(name, read)

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        with self.writing(name) as path:
            path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")

    def read_table(self, name: str) -> pa.Table:
        """The columns of `TABLES` in a file."""
        return self._read(name, lambda path: _read_table(path, TABLES[name]))

    def write_table(self, name: str, table: pa.Table) -> None:
        with self.writing(name) as path:
            pq.write_table(table, path)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A temporary path that takes the name `name` in the folder when the block ends well."""
        with writing_whole(self.path / name) as temporary:
            yield temporary

    def sweep(self) -> None:
        """Remove what a process that was killed left half written."""
        for path in self.path.glob(".*.tmp"):
            # Whoever watches the run writes JSON too, perhaps now.
            if ".json." not in path.name:
                path.unlink(missing_ok=True)

    def add_progress(self, progress: Progress) -> None:
        line = json.dumps({"time": time.time(), **asdict(progress)})
        with (self.path / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def progress(self) -> list[Progress]:
        """The reports so far, oldest first; of very many, evenly spaced ones up to the latest.

        What is not a whole report, such as a line still being written, is left out.
        """
        lines = self._lines("progress.jsonl")
        step = max(1, math.ceil(len(lines) / MOST_REPORTS))
        chosen = lines[(len(lines) - 1) % step :: step]
        return list(filter(None, map(_parse_report, chosen)))

    def losses(self) -> list[Progress]:
        """The reports with a loss, each further on than the one before: where a run went on from a
        checkpoint, what it had done after that is left out."""
        curve: list[Progress] = []
        for report in self.progress():
            if report.loss is None:
                continue
            while curve and curve[-1].fraction >= report.fraction:
                curve.pop()
            curve.append(report)
        return curve

    def latest_progress(self) -> Progress | None:
        """The last report, from the end of the file alone."""
        reports = map(_parse_report, reversed(_whole_lines(self.tail("progress.jsonl"))))
        return next(filter(None, reports), None)

    def seconds_worked(self) -> float:
        """How long the run has been worked on, over all its parts."""
        last = self.latest_progress()
        return last.seconds if last else 0.0

    def tail(self, name: str) -> bytes:
        """The end of a file; nothing while there is no such file."""
        try:
            with (self.path / name).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_TAIL))
                return file.read()
        except FileNotFoundError:
            return b""

    def _lines(self, name: str) -> list[bytes]:
        """The whole lines of a file; of a very large one, evenly spaced ones up to the last,
        so that a run of many hours is looked at as fast as any."""
        try:
            with (self.path / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size <= MOST_REPORTS * LONGEST_TAIL:
                    return _whole_lines(file.read())
                lines = []
                for number in range(1, MOST_REPORTS + 1):
                    file.seek(size * number // MOST_REPORTS - LONGEST_TAIL)
                    lines += _whole_lines(file.read(LONGEST_TAIL))[-1:]
                return lines
        except FileNotFoundError:
            return []

    def status(self) -> Status:
        return self._read(
            "status.json", lambda path: STATUS.validate_json(path.read_bytes(), strict=True)
        )

    def set_status(self, state: State, *, error: str = "", hint: str = "") -> None:
        status = Status(state=state, error=error, hint=hint, changed_at=time.time())
        self.write_json("status.json", asdict(status))

    def _read(self, name: str, read: Callable[[Path], T]) -> T:
        """What `read` makes of a file; RunError when the file is not there or damaged."""
        path = self.path / name
        try:
            return read(path)
        except FileNotFoundError as error:
            raise RunError(
                f"Run folder {self.path} has no {name}.",
                "The folder is not a run, or the run did not get that far.",
            ) from error
        except (OSError, ValueError, pa.ArrowException) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else error
            raise RunError(
                f"{path} is damaged: {problem}", "Move the run folder away, and start a new run."
            ) from error


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    table = pq.read_table(path)
    for column in schema:
        if table.column_names.count(column.name) != 1:
            raise ValueError(f"there is no column {column.name}")
        if table[column.name].null_count and not column.nullable:
            raise ValueError(f"{column.name} has empty values")
    return table.select(schema.names).cast(schema)


def _whole_lines(content: bytes) -> list[bytes]:
    whole, _, _ = content.rpartition(b"\n")
    return whole.splitlines()


def _parse_report(line: bytes) -> Progress | None:
    """The report in a line; None if it holds none."""
    try:
        return PROGRESS.validate_json(line, strict=True)
    except ValidationError:
        return None

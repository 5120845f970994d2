"""A run's folder: the only thing that the child process and the process that started it share.

    config.json      what to do: kind, data root, class names, settings      written by the starter
    samples.parquet  which images: sample_id, file_name, split, label        written by the starter
    progress.jsonl   one line a report, appended                             written by the child
    status.json      state, and the error of a failed run                    written by the child
    log.txt          what the child printed
    ...              the results; each appears under its name only when it is whole

No torch and no store here: both sides read the same few functions.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deft_core.errors import RunError

UNFINISHED = ("queued", "running")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report of a run at work. `done` of `total` counts images in the current stage's pass."""

    stage: str
    epoch: int = 0
    epochs: int = 0
    done: int = 0
    total: int = 0
    fraction: float = 0.0
    loss: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands: queued, running, done, failed, cancelled or crashed."""

    state: str
    error: str = ""
    hint: str = ""
    changed_at: float = 0.0


@contextmanager
def writing_whole(target: Path) -> Iterator[Path]:
    """A temporary path that is synced and becomes `target` when the block ends well."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


class RunFolder:
    """Reads and writes the files of one run; a file is either whole or not there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, *, config: dict[str, Any], samples: pa.Table) -> RunFolder:
        """A new folder that holds all that the child needs to start."""
        path.mkdir(parents=True)
        folder = cls(path)
        folder.write_table("samples.parquet", samples)
        folder.write_json("config.json", config)
        folder.set_status("queued")
        return folder

    @property
    def run_id(self) -> str:
        return self.path.name

    def config(self) -> dict[str, Any]:
        return self.read_json("config.json")

    def samples(self) -> pa.Table:
        return pq.read_table(self._existing("samples.parquet"))

    def read_json(self, name: str) -> dict[str, Any]:
        path = self._existing(name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{path} is not valid JSON: {error}.") from error
        if not isinstance(value, dict):
            raise RunError(f"{path} must hold a JSON object, found {type(value).__name__}.")
        return value

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        with self.writing(name) as path:
            path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")

    def read_table(self, name: str) -> pa.Table:
        return pq.read_table(self._existing(name))

    def write_table(self, name: str, table: pa.Table) -> None:
        with self.writing(name) as path:
            pq.write_table(table, path)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A temporary path that takes the name `name` in the folder when the block ends well."""
        with writing_whole(self.path / name) as temporary:
            yield temporary

    def add_progress(self, progress: Progress) -> None:
        line = json.dumps({"time": time.time(), **asdict(progress)})
        with (self.path / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def progress(self) -> list[dict[str, Any]]:
        """Every report so far, oldest first; a line still being written is left out."""
        path = self.path / "progress.jsonl"
        if not path.exists():
            return []
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def status(self) -> Status:
        return Status(**self.read_json("status.json"))

    def set_status(self, state: str, *, error: str = "", hint: str = "") -> None:
        status = Status(state=state, error=error, hint=hint, changed_at=time.time())
        self.write_json("status.json", asdict(status))

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise RunError(
                f"Run folder {self.path} has no {name}.",
                "The folder is not a run, or the run did not get that far.",
            )
        return path

"""The journal beside a store: every event of its log once more, in a file that anybody can read.

The database is what counts; the journal is what brings back a tail that the database lost. It has
a line of JSON for each transaction, written and synced after the database has committed and before
anybody is told so. Its first line names the store. A column of a line is a list with an entry an
event, or the one value that all of its events have.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from deft_core.errors import StoreError
from deft_core.full_disk import telling_full_disk
from deft_core.whole_files import writing_whole

FORMAT = 1
BLOCK = 65536
EVENT_SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("uid", pa.string()),
        ("grp", pa.string()),
        ("sample_id", pa.int32()),
        ("verdict", pa.string()),
        ("label", pa.int32()),
        ("undo_of", pa.string()),
        ("redo_of", pa.string()),
        ("note", pa.string()),
        ("is_blind", pa.bool_()),
        ("reviewer", pa.string()),
        ("decided_at", pa.timestamp("us")),
        ("round", pa.int32()),
        ("run_id", pa.string()),
        ("shown", pa.string()),
    ]
)


class Journal:
    """The journal of the store `store_id`, made when missing; `last_seq` and `last_uid` are of its
    last event. StoreError when it is another store's or its end is damaged."""

    def __init__(self, path: Path, *, store_id: str) -> None:
        self.path = path
        if not path.exists() or path.stat().st_size == 0:
            with writing_whole(path) as temporary:
                temporary.write_bytes(_line({"store": store_id, "format": FORMAT}))
            _sync_folder(path.parent)
        self._file = path.open("r+b")
        self._size = 0
        self.last_seq = 0
        self.last_uid = ""
        try:
            self._check_owner(store_id)
            self._read_end()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """The file is free."""
        # What a full disk left in the buffer nobody was told to be saved.
        with suppress(OSError):
            self._file.close()

    def append(self, events: pa.Table) -> None:
        """The events, which follow the last one without a gap, are on the disk."""
        if events.num_rows == 0:
            return
        self._append_line(_encoded(events))
        self.last_seq = events["seq"][-1].as_py()
        self.last_uid = events["uid"][-1].as_py()

    def uid(self, seq: int) -> str | None:
        """The uid of the event with this `seq`, or None without one; StoreError at a line before it
        that is damaged."""
        if seq == self.last_seq:
            return self.last_uid
        events = next(self.events(after=seq - 1))
        is_there = events["seq"][0].as_py() == seq
        return events["uid"][0].as_py() if is_there else None

    def events(self, *, after: int = 0) -> Iterator[pa.Table]:
        """The events with a higher `seq`, a table a line; StoreError at a line that is damaged."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1 or not line.endswith(b"\n"):
                    continue
                events = self._decoded(line, number=f"line {number}")
                if events["seq"][-1].as_py() > after:
                    yield events.filter(pa.compute.greater(events["seq"], after))

    def _append_line(self, content: dict[str, Any]) -> None:
        line = _line(content)
        # Behind the last whole line there may be the beginning of one that could not be written.
        with telling_full_disk(self.path):
            self._file.truncate(self._size)
            self._file.seek(self._size)
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._size += len(line)

    def _check_owner(self, store_id: str) -> None:
        first = self._file.readline()
        owner = _sound(first)
        if owner is None or owner.get("format") != FORMAT:
            raise self._damage("line 1")
        if owner.get("store") != store_id:
            raise StoreError(
                f"{self.path} is the journal of store {owner.get('store')}, not of {store_id}.",
                "Put the journal of this store beside it, or move this one away.",
            )

    def _read_end(self) -> None:
        """Find the last whole line; what comes behind it was never acknowledged."""
        end = self._file.seek(0, os.SEEK_END)
        tail = b""
        while tail.count(b"\n") < 2 and end > len(tail):
            start = max(0, end - len(tail) - max(BLOCK, len(tail)))
            self._file.seek(start)
            tail = self._file.read(end - start)
        whole = tail[: tail.rfind(b"\n") + 1]
        self._size = end - len(tail) + len(whole)
        last = whole[:-1].rpartition(b"\n")[2]
        content = _sound(last)
        if content is None:
            raise self._damage("the last line")
        if "events" in content:
            events = _decoded(content)
            self.last_seq = events["seq"][-1].as_py()
            self.last_uid = events["uid"][-1].as_py()

    def _decoded(self, line: bytes, *, number: str) -> pa.Table:
        content = _sound(line)
        if content is None:
            raise self._damage(number)
        return _decoded(content)

    def _damage(self, place: str) -> StoreError:
        return StoreError(
            f"{self.path}: {place} is damaged.",
            "If the store opens without this file, move the file away: a new one is written.",
        )


def _encoded(events: pa.Table) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in EVENT_SCHEMA.names:
        values = events[name].to_pylist()
        if name == "decided_at":
            values = [value.isoformat() for value in values]
        is_constant = name != "seq" and all(value == values[0] for value in values)
        columns[name] = values[0] if is_constant else values
    columns["seq"] = columns["seq"][0]
    return {"n": events.num_rows, "events": columns}


def _decoded(content: dict[str, Any]) -> pa.Table:
    n, columns = content["n"], dict(content["events"])
    columns["seq"] = list(range(columns["seq"], columns["seq"] + n))
    arrays = []
    for field in EVENT_SCHEMA:
        value = columns[field.name]
        values = value if isinstance(value, list) else [value] * n
        if field.name == "decided_at":
            values = [datetime.fromisoformat(one) for one in values]
        arrays.append(pa.array(values, field.type))
    return pa.table(arrays, schema=EVENT_SCHEMA)


def _sound(line: bytes) -> dict[str, Any] | None:
    """What a line says, or None when it is not as it was written."""
    try:
        content = json.loads(line)
        crc = content.pop("crc")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return content if crc == _crc(content) else None


def _line(content: dict[str, Any]) -> bytes:
    return _json({**content, "crc": _crc(content)}) + b"\n"


def _crc(content: dict[str, Any]) -> int:
    return zlib.crc32(_json(content))


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode("ascii")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The open file of a store: one connection that writes, a cursor of its own for every read.

One process has the file open. Writers take one lock and one transaction; any thread may read at any
time. When nobody has written for a while the write-ahead log is folded into the file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from deft_core.errors import DiskFullError
from deft_core.full_disk import telling_full_disk
from deft_core.store import derived
from deft_core.store.schema import (
    MEMORY,
    Connection,
    connect,
    copy_to_backup,
    migrate,
    transaction,
)

IDLE_SECONDS = 5.0
GIVEN_UP = (duckdb.FatalException, duckdb.ConnectionException)
"""What the engine says of a file that it has given up, and of one that could not be reopened."""


class Database:
    """The one door to the tables of a store."""

    def __init__(self, path: Path | str, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._copying = threading.Lock()
        self._is_closed = False
        self._connection = connect(path)
        try:
            with telling_full_disk(path):
                migrate(self._connection, path=path)
                if self.rows("from derived") != [{"version": derived.VERSION}]:
                    with transaction(self._connection):
                        derived.rebuild(self._connection)
                    self._connection.execute("checkpoint")
        except BaseException:
            self._is_closed = True
            self._connection.close()
            raise
        self._idle = IdleTimer(self._checkpoint_if_possible, seconds=idle_seconds)

    def close(self) -> None:
        """Everything is in the file itself, where there is room, and the file is free."""
        self._idle.close()
        self.checkpoint()
        with self.lock:
            self._is_closed = True
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """The one connection that writes, in a transaction that the end of the block commits;
        DiskFullError when there is no room for it."""
        with self.lock:
            with self._recovering() as connection, transaction(connection):
                yield connection
            self._idle.touch()

    def checkpoint(self) -> None:
        """The write-ahead log is in the file, unless there is no room: then it goes on to hold what
        it holds. Waits for a copy to end, for DuckDB refuses both at once."""
        with (
            self._copying,
            self.lock,
            suppress(DiskFullError),
            self._recovering() as connection,
        ):
            connection.execute("checkpoint")

    def _checkpoint_if_possible(self) -> None:
        """Nobody waits for this one: where the engine still sees another transaction, or the disk
        is full, it is tried again later."""
        try:
            self.checkpoint()
        except duckdb.Error:
            self._idle.touch()

    def copy(self, *, name: str) -> Path:
        """A copy of the file in the backup folder, as it was when the copying began; others may go
        on reading and writing."""
        with self._copying, self._recovering() as connection:
            return copy_to_backup(connection, self.path, name=name)

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """The result of a query, a dictionary a row."""
        with self._recovering() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def table(self, sql: str, **parameters: Any) -> pa.Table:
        """The result of a query in Arrow."""
        with self._recovering() as connection, connection.cursor() as cursor:
            return cursor.sql(sql, params=parameters).to_arrow_table()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which every query sees the same moment, for queries alone."""
        with self._recovering() as connection, connection.cursor() as cursor:
            cursor.begin()
            try:
                yield cursor
            finally:
                cursor.rollback()

    @contextmanager
    def _recovering(self) -> Iterator[Connection]:
        """The connection. An engine that cannot write to its file, on a full disk, gives it up: it
        is then opened anew, with all that was committed, for whoever asks next."""
        connection = self._connection
        with telling_full_disk(self.path):
            try:
                yield connection
            except GIVEN_UP:
                self._reopen(connection)
                raise

    def _reopen(self, failed: Connection) -> None:
        with self.lock:
            if self._connection is failed and not self._is_closed and str(self.path) != MEMORY:
                failed.close()
                self._connection = connect(self.path)


class IdleTimer:
    """Calls `action` on a thread of its own when `touch` has not been called for a while."""

    def __init__(self, action: Callable[[], None], *, seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._is_touched_again = False
        self._is_closed = False

    def touch(self) -> None:
        """Something happened: wait anew."""
        with self._lock:
            self._is_touched_again = self._timer is not None
            if self._timer is None and not self._is_closed:
                self._start()

    def close(self) -> None:
        """Nothing is called any more, and nothing that was called still runs."""
        with self._lock:
            self._is_closed = True
            timer = self._timer
        if timer:
            timer.cancel()
            timer.join()

    def _start(self) -> None:
        self._timer = threading.Timer(self._seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        with self._lock:
            is_quiet = not self._is_touched_again and not self._is_closed
        try:
            if is_quiet:
                self._action()
        finally:
            with self._lock:
                self._timer = None
                if self._is_touched_again and not self._is_closed:
                    self._is_touched_again = False
                    self._start()


def insert(connection: Connection, table: str, rows: pa.Table) -> None:
    """Put the rows of an Arrow table into a table, column by name."""
    with derived.registered(connection, "incoming", rows):
        connection.execute(f"insert into {table} by name from incoming")


def naive(moment: datetime) -> datetime:
    """UTC without a zone: DuckDB would otherwise convert by the time zone of the machine."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def aware(moment: datetime) -> datetime:
    """The moment that the store keeps without its zone."""
    return moment.replace(tzinfo=UTC)


def utc_now() -> datetime:
    """The current moment, as the store keeps moments: in UTC."""
    return datetime.now(UTC)

"""The journal beside a store: what it brings back, what it refuses, and what a copy holds."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from deft_core.errors import StoreError
from deft_core.store import Store, journal_path
from deft_core.store.schema import MIGRATIONS
from tests.small_world import NOW, add_scores, make_store
from tests.test_store import decide, verdicts

OLD_STORE = Path(__file__).parent / "data" / "store-schema-1.duckdb.gz"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store with two groups of decisions, one of which is undone."""
    path = tmp_path / "store.duckdb"
    with make_store([0, 1, 2, 0], path=path) as store:
        add_scores(store, [0.1, 0.2, 0.3, 0.4])
        decide(store, ("a", "a", 0, "relabel", 2))
        decide(store, ("b", "b", 1, "keep", None), ("c", "b", 2, "exclude", None))
        store.log.add_undo("u", reviewer="me", decided_at=NOW)
    return path


def lines(path: Path) -> list[bytes]:
    return journal_path(path).read_bytes().splitlines(keepends=True)


# --- what it brings back


def test_what_the_database_lost_comes_back_from_the_journal(path: Path) -> None:
    early = path.with_name("early.duckdb")
    shutil.copy(path, early)
    with Store(path) as store:
        decide(store, ("d", "d", 3, "unsure", None))
        decide(store, ("e", "e", 0, "keep", None))
        store.log.add_undo("v", reviewer="me", decided_at=NOW)
        store.log.add_redo("r", reviewer="me", decided_at=NOW)
        expected = verdicts(store)
    shutil.copy(early, path)

    with Store(path) as store:
        assert verdicts(store) == expected == {0: ("keep", 0), 3: ("unsure", None)}
        assert store.log.n_reapplied == 4
        assert store.verify().is_sound
        decide(store, ("f", "f", 1, "both", None))
        assert store.verify().is_sound
    with Store(path) as store:
        assert store.log.n_reapplied == 0


def test_what_the_journal_missed_is_written_into_it(path: Path) -> None:
    whole = journal_path(path).read_bytes()
    journal_path(path).write_bytes(b"".join(lines(path)[:2]))

    with Store(path) as store:
        assert store.verify().is_sound

    assert json.loads(lines(path)[-1])["n"] == 3
    journal_path(path).unlink()
    with Store(path) as store:
        assert store.verify().is_sound
    assert len(lines(path)) == 2
    assert len(whole) > 0


@pytest.mark.parametrize("n_cut", [1, 10, 100])
def test_a_line_that_was_never_finished_is_written_anew(path: Path, n_cut: int) -> None:
    journal_path(path).write_bytes(journal_path(path).read_bytes()[:-n_cut])

    with Store(path) as store:
        decide(store, ("d", "d", 3, "unsure", None))
        assert store.verify().is_sound


def test_a_long_last_line_is_found(path: Path) -> None:
    with Store(path) as store:
        rows = [(f"{'x' * 150}{i}", "long", i % 4, "keep", None) for i in range(1000)]
        decide(store, *rows)
    with Store(path) as store:
        assert store.log.n_events() == 1004
        assert store.verify().is_sound


# --- what it refuses


def test_a_journal_of_another_store_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "store.duckdb"
    other.parent.mkdir()
    make_store([0], path=other).close()
    shutil.copy(journal_path(other), journal_path(path))

    with pytest.raises(StoreError, match=r"is the journal of store .*, not of ") as caught:
        Store(path)

    assert "move this one away" in caught.value.hint


@pytest.mark.parametrize(("n_journal", "n_database"), [(1, 1), (3, 2), (2, 3)])
def test_a_database_and_a_journal_with_different_stories_are_refused(
    path: Path, n_journal: int, n_database: int
) -> None:
    early = journal_path(path).read_bytes()
    copy = path.with_name("copy.duckdb")
    shutil.copy(path, copy)
    with Store(path) as store:
        for i in range(n_journal):
            decide(store, (f"d{i}", f"d{i}", i, "unsure", None))
    late = journal_path(path).read_bytes()
    journal_path(path).write_bytes(early)
    shutil.copy(copy, path)
    with Store(path) as store:
        for i in range(n_database):
            decide(store, (f"other {i}", f"other {i}", i, "keep", None))
        expected = verdicts(store)
    own = journal_path(path).read_bytes()
    journal_path(path).write_bytes(late)

    n_shared = 4 + min(n_journal, n_database)
    with pytest.raises(StoreError, match=f"tell different stories: event {n_shared} "):
        Store(path)

    journal_path(path).write_bytes(own)
    with Store(path) as store:
        assert verdicts(store) == expected
        assert store.verify().is_sound


@pytest.mark.parametrize("number", [0, -1])
def test_a_damaged_first_or_last_line_is_refused(path: Path, number: int) -> None:
    damaged = lines(path)
    damaged[number] = damaged[number].replace(b":1", b":2", 1)
    journal_path(path).write_bytes(b"".join(damaged))

    with pytest.raises(StoreError, match=r"(line 1|the last line) is damaged"):
        Store(path)


def test_a_crash_while_the_journal_is_made_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.duckdb"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_disk)
        with pytest.raises(OSError, match="power cut"):
            make_store([0, 1], path=path)
    assert not journal_path(path).exists()

    with Store(path) as store:
        assert store.verify().is_sound


def _no_disk(_: int) -> None:
    raise OSError("power cut")


def test_a_damaged_line_in_the_middle_is_found_by_verify(path: Path) -> None:
    damaged = lines(path)
    damaged[1] = damaged[1].replace(b'"relabel"', b'"exclude"')
    journal_path(path).write_bytes(b"".join(damaged))

    with Store(path) as store, pytest.raises(StoreError, match="line 2 is damaged"):
        store.verify()


def test_a_log_with_a_hole_is_refused(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("delete from decisions where seq = 2")

    with pytest.raises(StoreError, match="has 3 events, the last with number 4"):
        Store(path)


def test_verify_counts_what_the_log_contradicts_and_repairs_it(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("update current_decisions set verdict = 'both'")
        connection.execute("update decisions set label = 1 where seq = 1")

    with Store(path) as store:
        found = store.verify()
        differing = {name for name, n in found.differences.items() if n}
        assert differing == {"current_decisions", "queue"}
        assert found.n_unlike_journal == 1
        assert not found.is_sound
        store.log.rebuild()
        assert set(store.verify().differences.values()) == {0}


# --- many writers


def test_writers_at_the_same_time_share_a_line_and_a_bad_one_fails_alone(path: Path) -> None:
    n_writers, n_each = 8, 25

    with Store(path) as store, ThreadPoolExecutor(n_writers) as pool:
        store.reviewers.set_double_share(1)

        def write(writer: int) -> None:
            for i in range(n_each):
                row = (f"{writer}-{i}", f"{writer}-{i}", i % 3, "keep", None)
                decide(store, row, reviewer=f"reviewer {writer}")

        def write_badly(_: int) -> None:
            with pytest.raises(StoreError, match="No sample with id 99"):
                decide(store, ("bad", "bad", 99, "keep", None))

        writes = [pool.submit(write, writer) for writer in range(n_writers)]
        refusals = [pool.submit(write_badly, i) for i in range(n_writers)]
        for one in writes + refusals:
            one.result()
        log = store.log.events()
        assert store.verify().is_sound

    later = log.filter(pa.compute.greater(log["seq"], 4)).to_pylist()
    for writer in range(n_writers):
        own = [row["uid"] for row in later if row["reviewer"] == f"reviewer {writer}"]
        assert own == [f"{writer}-{i}" for i in range(n_each)]
    assert len(later) == n_writers * n_each
    assert len(lines(path)) < n_writers * n_each


def test_of_decisions_at_the_same_time_all_but_the_first_are_blind(tmp_path: Path) -> None:
    with make_store([0], path=tmp_path / "store.duckdb") as store, ThreadPoolExecutor(8) as pool:
        add_scores(store, [0.1])
        store.reviewers.set_double_share(1)
        writes = [
            pool.submit(decide, store, (f"{i}", f"{i}", 0, "keep", None), reviewer=f"reviewer {i}")
            for i in range(8)
        ]
        for one in writes:
            one.result()

        blind = [row["is_blind"] for row in store.log.history(0).to_pylist()]

    assert blind == [False, *[True] * 7]


# --- copies


def test_a_copy_opens_as_the_store_it_was(path: Path) -> None:
    with Store(path) as store:
        copy = store.copy(name="copy.duckdb")
        decide(store, ("later", "later", 3, "keep", None))

    with Store(copy) as copied:
        assert copied.log.n_events() == 4
        assert copied.verify().is_sound
        assert verdicts(copied) == {0: ("relabel", 2)}
        assert copied.samples().num_rows == 4


def test_a_copy_holds_whole_groups_while_others_write(path: Path) -> None:
    with Store(path, idle_seconds=0.01) as store, ThreadPoolExecutor(3) as pool:

        def write(number: int) -> None:
            rows = [(f"{number}-{i}", f"{number}", i, "keep", None) for i in range(4)]
            decide(store, *rows, reviewer=f"reviewer {number}")

        writes = [pool.submit(write, number) for number in range(30)]
        copies = [pool.submit(store.copy, name=f"{number}.duckdb") for number in range(3)]
        for one in writes:
            one.result()
        paths = [one.result() for one in copies]
        assert store.verify().is_sound

    for copy in paths:
        with Store(copy) as copied:
            assert (copied.log.n_events() - 4) % 4 == 0
            assert copied.verify().is_sound


def test_a_copy_beside_the_journal_gets_what_came_later(path: Path) -> None:
    with Store(path) as store:
        copy = store.copy(name="copy.duckdb")
        decide(store, ("later", "later", 3, "keep", None))
    copy.replace(path)

    with Store(path) as store:
        assert verdicts(store) == {0: ("relabel", 2), 3: ("keep", 0)}
        assert store.log.n_reapplied == 1


def test_a_copy_after_a_crash_needs_the_write_ahead_log_out_of_the_way(path: Path) -> None:
    with Store(path) as store:
        copy = store.copy(name="copy.duckdb")
    script = """
import os, sys
from tests.test_store import Store, decide
decide(Store(sys.argv[1]), ("later", "later", 3, "keep", None))
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=Path.cwd())
    copy.replace(path)
    left = path.with_name("store.duckdb.wal")

    with pytest.raises(StoreError, match="does not match") as caught:
        Store(path)
    assert f"move {left} away" in caught.value.hint

    left.rename(path.with_name("old.wal"))
    with Store(path) as store:
        assert verdicts(store) == {0: ("relabel", 2), 3: ("keep", 0)}
        assert store.verify().is_sound


def test_a_store_of_the_first_schema_is_copied_and_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    path.write_bytes(gzip.decompress(OLD_STORE.read_bytes()))

    with Store(path) as store:
        assert verdicts(store) == {0: ("relabel", 2), 3: ("unsure", None)}
        assert store.verify().is_sound
        assert store.log.add_redo("r", reviewer="ann", decided_at=NOW) == []

    (kept,) = (tmp_path / "backups").iterdir()
    assert kept.name == "schema-1-1.duckdb"
    with duckdb.connect(kept, read_only=True) as connection:
        assert connection.execute("select max(version) from migrations").fetchall() == [(1,)]
        assert connection.execute("select count(*) from decisions").fetchall() == [(6,)]
    with duckdb.connect(path, read_only=True) as connection:
        (row,) = connection.execute("select max(version) from migrations").fetchall()
    assert row[0] == len(MIGRATIONS)

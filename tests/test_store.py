"""The store on real DuckDB files: what it keeps, what it refuses, and that the log is the truth."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from deft_core.decisions import Decision, events_table
from deft_core.errors import StoreError
from deft_core.store import Filter, Store
from deft_core.store.database import Database, IdleTimer
from deft_core.store.schema import MEMORY, MIGRATIONS, Connection, connect, migrate
from tests.small_world import NOW, PATIENCE, add_scores, make_store

N_SAMPLES = 4


@pytest.fixture
def store() -> Iterator[Store]:
    with make_store([0, 1, 2, 0]) as opened:
        yield opened


def decide(
    store: Store, *rows: tuple[str, str, int, str, int | None], reviewer: str = "me"
) -> None:
    """Append decisions given as (uid, group, sample_id, verdict, label)."""
    names = ("uid", "group", "sample_id", "verdict", "label")
    decisions = [Decision(**dict(zip(names, row, strict=True))) for row in rows]
    table = events_table(decisions, n_classes=3)
    store.log.add(table, reviewer=reviewer, decided_at=NOW)


def verdicts(store: Store) -> dict[int, tuple[str, int | None]]:
    rows = store.log.current().to_pylist()
    return {row["sample_id"]: (row["verdict"], row["reviewed_label"]) for row in rows}


# --- what it keeps


def test_dataset__is_read_back_as_it_went_in(store: Store) -> None:
    dataset = store.dataset()

    assert dataset is not None
    assert dataset.root == Path("/data")
    assert dataset.class_names == ("class 0", "class 1", "class 2")
    assert dataset.n_by_split == {"train": 4}
    assert dataset.ingested_at == NOW
    assert store.sample(1).file_name == "class 1/1.jpg"


def test_dataset__is_none_before_one_is_added() -> None:
    with Store(":memory:") as empty:
        assert empty.dataset() is None
        assert empty.current_run() is None
        assert empty.samples().num_rows == 0


def test_add_dataset__refuses_a_second_one(store: Store) -> None:
    with pytest.raises(StoreError, match="already holds a data set"):
        store.add_dataset(
            Path("/other"), class_names=["x"], samples=store.samples(), report={}, ingested_at=NOW
        )

    assert store.samples().num_rows == N_SAMPLES


def test_add__keeps_what_the_reviewer_saw(store: Store) -> None:
    add_scores(store, [0.25, 0.5, 0.75, 1.0], predicted=[2, 1, 2, 0])

    decide(store, ("a", "a", 0, "relabel", 2))

    (event,) = store.log.history(0).to_pylist()
    assert event["shown"] == '{"p_clean":0.25,"suggested_label":2}'
    assert (event["run_id"], event["round"]) == ("phase1-001", 1)


def test_current_run__is_the_latest_phase1(store: Store) -> None:
    add_scores(store, [0.1, 0.2, 0.3, 0.4])
    add_scores(store, [0.9, 0.8, 0.7, 0.6], run_id="phase1-002", round=2)
    store.add_run(
        "phase2-003", kind="phase2", round=2, imported_at=NOW, settings={}, report={"a": 1}
    )

    current = store.current_run()

    assert current is not None
    assert (current.run_id, current.round) == ("phase1-002", 2)
    assert [run.run_id for run in store.runs()] == ["phase1-001", "phase1-002", "phase2-003"]
    assert store.queue.points(reviewer=None)["p_clean"].to_pylist() == pytest.approx(
        [0.9, 0.8, 0.7, 0.6]
    )


def test_decisions__survive_a_process_that_dies_without_closing(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    make_store([0, 1], path=path).close()
    script = """
import os, sys
from tests.test_store import Store, decide
decide(Store(sys.argv[1]), ("a", "a", 1, "keep", None))
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=Path.cwd())

    with Store(path) as store:
        assert verdicts(store) == {1: ("keep", 1)}


# --- what it refuses


def test_open__names_the_process_that_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    script = (
        "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"

        with pytest.raises(StoreError, match=rf"another process \(id {holder.pid}\)") as caught:
            Store(path)

        assert "--workspace" in caught.value.hint
        holder.communicate("\n")


def test_open__refuses_a_file_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    path.write_bytes(b"not a database" * 1000)

    with pytest.raises(StoreError, match=r"store\.duckdb cannot be opened"):
        Store(path)

    assert path.read_bytes() == b"not a database" * 1000


def test_open__refuses_a_store_of_a_newer_application(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    make_store([0, 1], path=path).close()
    with duckdb.connect(path) as connection:
        connection.execute("insert into migrations values (99, 'from the future')")

    with pytest.raises(StoreError, match="has schema 99") as caught:
        Store(path)

    assert caught.value.hint == "Update the application."


def test_migrate__applies_each_once_and_a_broken_one_not_at_all() -> None:
    def m_more(connection: Connection) -> None:
        connection.execute("create table more(a integer)")

    def m_broken(connection: Connection) -> None:
        connection.execute("create table half(a integer)")
        raise RuntimeError("power cut")

    connection = connect(MEMORY)
    migrate(connection, path=MEMORY)
    migrate(connection, path=MEMORY, migrations=[*MIGRATIONS, m_more])

    with pytest.raises(RuntimeError, match="power cut"):
        migrate(connection, path=MEMORY, migrations=[*MIGRATIONS, m_more, m_broken])

    applied = connection.execute("select version, name from migrations order by version").fetchall()
    tables = {row[0] for row in connection.execute("show tables").fetchall()}
    connection.close()
    own = [(number, one.__name__) for number, one in enumerate(MIGRATIONS, start=1)]
    assert applied == [*own, (len(own) + 1, "m_more")]
    assert "more" in tables
    assert "half" not in tables


def test_add__all_or_none(store: Store) -> None:
    with pytest.raises(StoreError, match="No sample with id 77"):
        decide(store, ("a", "g", 1, "keep", None), ("b", "g", 77, "keep", None))

    assert verdicts(store) == {}
    assert store.log.history(1).num_rows == 0


def test_sample__unknown_id(store: Store) -> None:
    with pytest.raises(StoreError, match="No sample with id 99"):
        store.sample(99)


# --- the log is the truth


def test_add__a_uid_counts_once(store: Store) -> None:
    decide(store, ("a", "a", 1, "keep", None), ("a", "a", 2, "exclude", None))
    decide(store, ("a", "a", 1, "exclude", None))

    assert verdicts(store) == {1: ("keep", 1)}


def test_add_undo__brings_back_what_was_before(store: Store) -> None:
    decide(store, ("a", "a", 1, "relabel", 2))
    decide(store, ("b", "bulk", 1, "keep", None), ("c", "bulk", 2, "exclude", None))

    assert store.log.add_undo("u1", reviewer="me", decided_at=NOW) == [1, 2]
    assert verdicts(store) == {1: ("relabel", 2)}
    assert store.log.add_undo("u1", reviewer="me", decided_at=NOW) == [1, 2]
    assert verdicts(store) == {1: ("relabel", 2)}
    assert store.log.add_undo("u2", reviewer="me", decided_at=NOW) == [1]
    assert store.log.add_undo("u3", reviewer="me", decided_at=NOW) == []
    assert verdicts(store) == {}


def test_add_undo__of_one_group_leaves_the_others_and_other_reviewers_alone(store: Store) -> None:
    decide(store, ("a", "a", 1, "keep", None))
    decide(store, ("b", "b", 2, "exclude", None))
    decide(store, ("c", "a", 3, "unsure", None), reviewer="ann")

    assert store.log.add_undo("u1", group="a", reviewer="me", decided_at=NOW) == [1]
    assert store.log.add_undo("u2", group="a", reviewer="me", decided_at=NOW) == []

    assert set(verdicts(store)) == {2, 3}


def test_a_store_keeps_its_id_and_no_other_has_it(tmp_path: Path) -> None:
    paths = (tmp_path / "a.duckdb", tmp_path / "b.duckdb", tmp_path / "a.duckdb")
    ids = []
    for path in paths:
        with Store(path) as store:
            ids.append(store.id)
    assert ids[0] == ids[2] != ids[1]


def test_add_undo__leaves_other_reviewers_alone(store: Store) -> None:
    decide(store, ("a", "a", 1, "keep", None), reviewer="ann")
    decide(store, ("b", "b", 1, "exclude", None), reviewer="bob")

    assert store.log.add_undo("u", reviewer="ann", decided_at=NOW) == [1]

    assert verdicts(store) == {1: ("exclude", None)}


REVIEWERS = st.sampled_from(["ann", "bob"])
VERDICTS = st.sampled_from(["keep", "relabel", "both", "exclude", "unsure"])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("decide"),
            REVIEWERS,
            st.lists(st.tuples(st.integers(0, N_SAMPLES - 1), VERDICTS), min_size=1, max_size=3),
        ),
        st.tuples(st.just("bulk"), REVIEWERS, VERDICTS),
        st.tuples(st.just("undo"), REVIEWERS, st.none()),
        st.tuples(st.just("redo"), REVIEWERS, st.none()),
    ),
    max_size=14,
)


@dataclass
class PlainModel:
    """The log once more, as lists: per reviewer what an undo takes back and a redo brings back."""

    groups: list[tuple[str, dict[int, str]]] = field(default_factory=list)
    undone: dict[str, list[int]] = field(default_factory=dict)
    is_live: list[bool] = field(default_factory=list)

    def add(self, reviewer: str, group: dict[int, str]) -> None:
        self.groups.append((reviewer, group))
        self.is_live.append(True)
        self.undone[reviewer] = []

    def undo(self, reviewer: str) -> None:
        own = [i for i, (who, _) in enumerate(self.groups) if who == reviewer and self.is_live[i]]
        if own:
            self.is_live[own[-1]] = False
            self.undone.setdefault(reviewer, []).append(own[-1])

    def redo(self, reviewer: str) -> None:
        if self.undone.get(reviewer):
            self.is_live[self.undone[reviewer].pop()] = True

    def verdicts(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for (_, group), is_live in zip(self.groups, self.is_live, strict=True):
            found |= group if is_live else {}
        return found


@settings(max_examples=40)
@cases(STEPS)
def test_current_decisions__equal_the_replayed_log_and_a_plain_model(
    steps: list[tuple[str, str, Any]],
) -> None:
    model = PlainModel()
    # None has the label that the model relabels to, which would be a keep.
    with make_store([0, 1, 1, 0]) as store:
        add_scores(store, [0.1, 0.2, 0.8, 0.9])
        for number, (kind, reviewer, what) in enumerate(steps):
            uid = f"{number}"
            if kind == "decide":
                decide(
                    store,
                    *(
                        (f"{uid}-{i}", uid, sample_id, verdict, label_of(verdict))
                        for i, (sample_id, verdict) in enumerate(what)
                    ),
                    reviewer=reviewer,
                )
                model.add(reviewer, dict(what))
            elif kind == "bulk":
                n = store.log.add_matching(
                    store.queue.matching(Filter(name="all"), reviewer=reviewer),
                    uid=uid,
                    verdict=what,
                    label=label_of(what),
                    n_expected=N_SAMPLES,
                    counted_at=None,
                    run_id="phase1-001",
                    reviewer=reviewer,
                    decided_at=NOW,
                )
                assert n == N_SAMPLES
                model.add(reviewer, dict.fromkeys(range(N_SAMPLES), what))
            elif kind == "undo":
                store.log.add_undo(uid, reviewer=reviewer, decided_at=NOW)
                model.undo(reviewer)
            else:
                store.log.add_redo(uid, reviewer=reviewer, decided_at=NOW)
                model.redo(reviewer)

        found = {sample_id: verdict for sample_id, (verdict, _) in verdicts(store).items()}
        assert found == model.verdicts()
        assert set(store.log.differences().values()) == {0}


def label_of(verdict: str) -> int | None:
    return 2 if verdict == "relabel" else None


def test_idle__the_write_ahead_log_is_folded_into_the_file_when_nobody_writes() -> None:
    rings = threading.Semaphore(0)
    timer = IdleTimer(rings.release, seconds=0.01)
    for _ in range(2):
        timer.touch()
        timer.touch()
        assert rings.acquire(timeout=PATIENCE)
    timer.close()
    while rings.acquire(blocking=False):
        pass  # On a busy machine it rings between two touches, too.
    timer.touch()
    assert not rings.acquire(timeout=0.1)


def test_idle__a_failure_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    rings = threading.Semaphore(0)

    def fail() -> None:
        rings.release()
        raise OSError("disk full")

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    timer = IdleTimer(fail, seconds=0.01)
    timer.touch()
    assert rings.acquire(timeout=PATIENCE)
    timer.touch()
    assert rings.acquire(timeout=PATIENCE)
    timer.close()


def test_idle__a_checkpoint_that_the_engine_refuses_is_made_later(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.duckdb", idle_seconds=0.01)
    write_ahead_log = tmp_path / "store.duckdb.wal"
    with database.writing() as connection:
        other = connection.cursor()
    other.begin()
    other.execute("create table other(i integer)")
    with database.writing() as connection:
        connection.execute("insert into double_review values (0.5)")
    tried_until = time.monotonic() + 0.1
    while time.monotonic() < tried_until:
        with pytest.raises(duckdb.TransactionException, match="other write transactions"):
            database.checkpoint()
    assert write_ahead_log.exists()

    other.rollback()

    deadline = time.monotonic() + PATIENCE
    while write_ahead_log.exists():
        assert time.monotonic() < deadline
    database.close()


def test_threads__read_whole_groups_while_others_write(store: Store) -> None:
    add_scores(store, [0.1, 0.2, 0.3, 0.4])

    def write(number: int) -> None:
        decide(store, *((f"{number}-{i}", str(number), i, "keep", None) for i in range(N_SAMPLES)))

    def read(_: int) -> int:
        wanted = Filter(name="all", is_decided=True)
        return store.queue.counts(wanted, reviewer="me")["n_matching"]

    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write, number) for number in range(20)]
        counts = [pool.submit(read, number) for number in range(40)]
        for one in writes:
            one.result()

    assert {one.result() for one in counts} <= {0, N_SAMPLES}
    assert sum(store.log.history(i).num_rows for i in range(N_SAMPLES)) == 20 * N_SAMPLES


def test_threads__prompts_that_were_replaced_are_not_kept(store: Store) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(50):
            store.set_prompts(("old",) * 3)
            reads = [pool.submit(store.dataset) for _ in range(2)]
            prompts = (f"new {number}",) * 3
            store.set_prompts(prompts)
            assert None not in [one.result() for one in reads]
            dataset = store.dataset()
            assert dataset is not None
            assert dataset.prompts == prompts


def test_close__leaves_no_write_ahead_log(tmp_path: Path) -> None:
    store = make_store([0, 1], path=tmp_path / "store.duckdb")
    decide(store, ("a", "a", 1, "keep", None))

    store.close()

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["store.duckdb", "store.journal.jsonl"]

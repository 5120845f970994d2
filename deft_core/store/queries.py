"""Every question to the store of a workspace, and every change to it.

One process has the file open. Writers take one lock and one transaction; every read has a cursor of
its own, so any thread may read at any time.

`decisions` is an append-only log and the only truth about labels: an undo is one more event, which
ends the reviewer's decisions of one group that came before it. `current_decisions` is derived from
the log in the transaction that appends to it, so that the queue need not replay the log.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from deft_core.errors import StoreError
from deft_core.store.schema import Connection, connect, migrate, transaction

SAMPLE_IDS = range(2**31)
NO_GROUP = ""
"""The group that an undo names when it found nothing to undo; no decision is in it."""
SAMPLE_COLUMNS = ("sample_id", "file_name", "sha256", "split", "given_label", "width", "height")
SCORE_COLUMNS = (
    "position",
    "sample_id",
    "p_clean",
    "pos_sim",
    "neg_sim",
    "margin",
    "mean_gap",
    "mean_margin",
    "is_clean",
    "predicted_label",
    "predicted_pos_sim",
    "predicted_neg_sim",
    "suggested_label",
    "top_labels",
    "top_pos_sims",
    "top_neg_sims",
)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The data set of a workspace. Label `i` is called `class_names[i]`."""

    root: Path
    class_names: tuple[str, ...]
    n_samples: int
    n_by_split: dict[str, int]
    report: dict[str, Any]
    ingested_at: datetime


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with its given label; `file_name` is relative to the data set's root."""

    sample_id: int
    file_name: str
    sha256: str
    split: str
    given_label: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """A finished run whose results the store holds."""

    run_id: str
    kind: str
    round: int
    imported_at: datetime
    settings: dict[str, Any]
    report: dict[str, Any]


class Store:
    """Samples, scores and decisions of one workspace; threads may share it. No other store, of the
    same path or a copied data set, has its `id`."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._dataset: Dataset | None = None
        self._connection = connect(path)
        try:
            migrate(self._connection, path=path)
        except BaseException:
            self._connection.close()
            raise

        self.id: str = self._rows("from store")[0]["id"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Everything is in the file itself, the write-ahead log is empty and the file is free."""
        with self._lock:
            self._connection.execute("checkpoint")
            self._connection.close()

    # --- the data set

    def add_dataset(
        self,
        root: Path,
        *,
        class_names: Sequence[str],
        samples: pa.Table,
        report: dict[str, Any],
        ingested_at: datetime,
    ) -> None:
        """Take the samples of a data set in; a store holds one data set for good."""
        classes = pa.table(
            {
                "label": pa.array(range(len(class_names)), pa.int32()),
                "name": pa.array(class_names, pa.string()),
            }
        )
        with self._writing() as connection:
            if connection.execute("from dataset").fetchone():
                raise StoreError("This workspace already holds a data set.", "Use a new workspace.")
            connection.execute(
                "insert into dataset values ($root, $report, $ingested_at)",
                {
                    "root": str(root),
                    "report": json.dumps(report),
                    "ingested_at": _naive(ingested_at),
                },
            )
            _insert(connection, "classes", classes)
            _insert(connection, "samples", samples.select(SAMPLE_COLUMNS))
        self._checkpoint()

    def dataset(self) -> Dataset | None:
        """The data set, or None before one is ingested."""
        if self._dataset is None:
            self._dataset = self._read_dataset()
        return self._dataset

    def sample(self, sample_id: int) -> Sample:
        """One sample; StoreError when there is none with this id."""
        is_possible = sample_id in SAMPLE_IDS
        rows = self._rows("from samples where sample_id = $id", id=sample_id) if is_possible else []
        if not rows:
            raise unknown_samples([sample_id])
        return Sample(**rows[0])

    def samples(self) -> pa.Table:
        """Every sample with what is known about it: columns of `samples`, of the current scores
        and of the current decision; null where there is no score or no decision."""
        return self._table(
            """
            select s.*, c.p_clean, c.is_clean, c.suggested_label,
                d.verdict, d.reviewed_label, d.reviewer, d.decided_at, d.round
            from samples s
            left join current_scores c using (sample_id)
            left join current_decisions d using (sample_id)
            order by sample_id
            """
        )

    # --- runs and their scores

    def add_run(
        self,
        run_id: str,
        *,
        kind: str,
        round: int,
        imported_at: datetime,
        settings: dict[str, Any],
        report: dict[str, Any],
        scores: pa.Table | None = None,
    ) -> None:
        """Take a finished run in; a phase 1, with its scores, becomes the current run."""
        with self._writing() as connection:
            (row,) = connection.execute("select coalesce(max(seq), 0) + 1 from runs").fetchall()
            seq = row[0]
            connection.execute(
                """
                insert into runs
                values ($seq, $run_id, $kind, $round, $imported_at, $settings, $report)
                """,
                {
                    "seq": seq,
                    "run_id": run_id,
                    "kind": kind,
                    "round": round,
                    "imported_at": _naive(imported_at),
                    "settings": json.dumps(settings),
                    "report": json.dumps(report),
                },
            )
            if scores is not None:
                run = pa.repeat(pa.scalar(seq, pa.int32()), scores.num_rows)
                _insert(
                    connection, "scores", scores.select(SCORE_COLUMNS).append_column("run", run)
                )
        self._checkpoint()

    def runs(self) -> list[ImportedRun]:
        """The imported runs, oldest first."""
        rows = self._rows("select * exclude (seq) from runs order by seq")
        for row in rows:
            row["settings"], row["report"] = json.loads(row["settings"]), json.loads(row["report"])
            row["imported_at"] = _aware(row["imported_at"])
        return [ImportedRun(**row) for row in rows]

    def current_run(self) -> ImportedRun | None:
        """The latest imported phase 1, whose scores make the queue; None before there is one."""
        phase1 = [run for run in self.runs() if run.kind == "phase1"]
        return phase1[-1] if phase1 else None

    def points(self) -> pa.Table:
        """sample_id, pos_sim, neg_sim and p_clean of every sample with a current score."""
        return self._table(
            "select sample_id, pos_sim, neg_sim, p_clean from current_scores order by sample_id"
        )

    # --- the queue

    def queue(
        self, *, after: int, limit: int, is_decided: bool | None, is_flagged_only: bool
    ) -> tuple[pa.Table, int]:
        """The next `limit` queue rows behind position `after`, and how many match in all."""
        # Rows are found by narrow columns and fetched whole by id: 3 times faster than in one go.
        matching = f"""
            from current_scores {_DECIDED[is_decided]}
            where (not is_clean or not $is_flagged_only)
        """
        page = self._rows(
            f"select sample_id {matching} and position > $after order by position limit $limit",
            is_flagged_only=is_flagged_only,
            after=after,
            limit=limit,
        )
        (count,) = self._rows(f"select count(*) as n {matching}", is_flagged_only=is_flagged_only)
        return self.queue_rows([row["sample_id"] for row in page]), count["n"]

    def queue_rows(self, sample_ids: Sequence[int]) -> pa.Table:
        """The queue rows of these samples in queue order; none for those without a score."""
        return self._table(
            """
            select c.position, c.sample_id, s.file_name, s.sha256, s.given_label,
                c.suggested_label, c.p_clean, c.pos_sim, c.neg_sim,
                c.top_labels, c.top_pos_sims, c.top_neg_sims, d.verdict, d.reviewed_label
            from (from current_scores where sample_id in $ids) c
            join (from samples where sample_id in $ids) s using (sample_id)
            left join (from current_decisions where sample_id in $ids) d using (sample_id)
            order by c.position
            """,
            ids=sample_ids,
        )

    def n_flagged(self) -> dict[str, int]:
        """How many samples have a current score, are flagged, and are flagged and decided."""
        (row,) = self._rows(
            """
            select count(*) as n_scored,
                count(*) filter (not is_clean) as n_flagged,
                (
                    select count(*) from current_decisions
                    semi join (from current_scores where not is_clean) using (sample_id)
                ) as n_decided
            from current_scores
            """
        )
        return row

    def n_by_verdict(self) -> pa.Table:
        """verdict, n, and n_relabelled: those whose reviewed label is not the given one."""
        return self._table(
            """
            select verdict, count(*) as n,
                count(*) filter (reviewed_label <> given_label) as n_relabelled
            from current_decisions join samples using (sample_id)
            group by verdict
            """
        )

    # --- decisions

    def add_decisions(self, decisions: pa.Table, *, reviewer: str, decided_at: datetime) -> None:
        """Append decisions (uid, grp, sample_id, verdict, label) in order, all or none.

        A uid that the log already holds is left out, so that a client may send twice.
        """
        sample_ids = decisions["sample_id"].unique().to_pylist()
        with self._writing() as connection:
            found = connection.execute(
                "select sample_id from samples where sample_id in $ids", {"ids": sample_ids}
            ).fetchall()
            unknown = set(sample_ids) - {row[0] for row in found}
            if unknown:
                raise unknown_samples(sorted(unknown))
            new = _without_known_uids(connection, decisions)
            with _registered(connection, new) as name:
                connection.execute(
                    f"""
                    insert into decisions
                    select i.seq, i.uid, i.grp, sample_id, i.verdict, i.label, null,
                        $reviewer, $decided_at, coalesce(run.round, 1), run.run_id,
                        case when c.p_clean is not null then json_object(
                            'p_clean', c.p_clean, 'suggested_label', c.suggested_label) end
                    from {name} i
                    left join current_run run on true
                    left join (from current_scores where sample_id in $ids) c using (sample_id)
                    """,
                    {"reviewer": reviewer, "decided_at": _naive(decided_at), "ids": sample_ids},
                )
            _refresh(connection, sample_ids)

    def add_undo(
        self, uid: str, *, group: str | None = None, reviewer: str, decided_at: datetime
    ) -> list[int]:
        """The samples whose decision the event `uid` undid: those of the reviewer's live `group`,
        or of the last live one.

        An undo that finds nothing is logged too: sent again, the same uid answers the same.
        """
        with self._writing() as connection:
            connection.execute(
                """
                insert into decisions
                select
                    (select coalesce(max(seq), 0) + 1 from decisions),
                    $uid, $uid, null, null, null,
                    coalesce(
                        (
                            select grp from live_decisions
                            where reviewer = $reviewer
                                and ($group::varchar is null or grp = $group)
                            order by seq desc limit 1
                        ),
                        $nothing
                    ),
                    $reviewer, $decided_at, coalesce(run.round, 1), run.run_id, null
                from (select 1) left join current_run run on true
                where not exists (from decisions where uid = $uid)
                """,
                {
                    "uid": uid,
                    "group": group,
                    "nothing": NO_GROUP,
                    "reviewer": reviewer,
                    "decided_at": _naive(decided_at),
                },
            )
            undone = connection.execute(
                """
                select distinct sample_id from undone_decisions
                where undo_uid = $uid order by sample_id
                """,
                {"uid": uid},
            ).fetchall()
            sample_ids = [row[0] for row in undone]
            _refresh(connection, sample_ids)
        return sample_ids

    def history(self, sample_id: int) -> pa.Table:
        """Every event about one sample, oldest first; an undo has no verdict."""
        return self._table(
            """
            from decisions
            where sample_id = $id
                or uid in (select undo_uid from undone_decisions where sample_id = $id)
            order by seq
            """,
            id=sample_id,
        )

    def current_decisions(self) -> pa.Table:
        """The decision that counts for each decided sample, kept beside the log."""
        return self._table("from current_decisions order by sample_id")

    def replayed_decisions(self) -> pa.Table:
        """The same, worked out from the log alone."""
        return self._table("from latest_decisions order by sample_id")

    # --- inside

    def _read_dataset(self) -> Dataset | None:
        rows = self._rows("from dataset")
        if not rows:
            return None
        classes = self._rows("select name from classes order by label")
        splits = self._rows(
            "select split, count(*) as n from samples group by split order by split"
        )
        n_by_split = {row["split"]: row["n"] for row in splits}
        return Dataset(
            root=Path(rows[0]["root"]),
            class_names=tuple(row["name"] for row in classes),
            n_samples=sum(n_by_split.values()),
            n_by_split=n_by_split,
            report=json.loads(rows[0]["report"]),
            ingested_at=_aware(rows[0]["ingested_at"]),
        )

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """The one connection that writes, in a transaction that the end of the block commits."""
        with self._lock, transaction(self._connection):
            yield self._connection

    def _checkpoint(self) -> None:
        with self._lock:
            self._connection.execute("checkpoint")

    def _rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _table(self, sql: str, **parameters: Any) -> pa.Table:
        with self._connection.cursor() as cursor:
            return cursor.sql(sql, params=parameters).to_arrow_table()


_DECIDED = {
    None: "",
    True: "semi join current_decisions using (sample_id)",
    False: "anti join current_decisions using (sample_id)",
}


def _without_known_uids(connection: Connection, decisions: pa.Table) -> pa.Table:
    """The decisions whose uid is new, each with its place `seq` in the log."""
    uids = decisions["uid"].to_pylist()
    known = connection.execute("select uid from decisions where uid in $uids", {"uids": uids})
    seen = {row[0] for row in known.fetchall()}
    is_new = []
    for uid in uids:
        is_new.append(uid not in seen)
        seen.add(uid)
    new = decisions.filter(pa.array(is_new, pa.bool_()))
    (last,) = connection.execute("select coalesce(max(seq), 0) from decisions").fetchall()
    places = range(last[0] + 1, last[0] + 1 + new.num_rows)
    return new.append_column("seq", pa.array(places, pa.int64()))


def _insert(connection: Connection, table: str, rows: pa.Table) -> None:
    with _registered(connection, rows) as name:
        connection.execute(f"insert into {table} by name from {name}")


@contextmanager
def _registered(connection: Connection, rows: pa.Table) -> Iterator[str]:
    """A name under which SQL on this connection sees the Arrow table."""
    connection.register("incoming", rows)
    try:
        yield "incoming"
    finally:
        connection.unregister("incoming")


def _refresh(connection: Connection, sample_ids: list[int]) -> None:
    parameters = {"ids": sample_ids}
    connection.execute("delete from current_decisions where sample_id in $ids", parameters)
    connection.execute(
        "insert into current_decisions from latest_decisions where sample_id in $ids", parameters
    )


def utc_now() -> datetime:
    """The current moment, as the store keeps moments: in UTC."""
    return datetime.now(UTC)


def _naive(moment: datetime) -> datetime:
    """UTC without a zone: DuckDB would otherwise convert by the time zone of the machine."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def unknown_samples(sample_ids: Sequence[int]) -> StoreError:
    """The error that names samples which do not exist."""
    shown = ", ".join(map(str, sorted(sample_ids)[:5]))
    return StoreError(f"No sample with id {shown}.", "Reload the page: the queue is out of date.")

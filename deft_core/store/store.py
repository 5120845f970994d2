"""The store of one workspace: its data set, its runs and their scores, and the doors to the rest.

`log` has the decisions, `queue` what a reviewer is to look at, `reviewers` what is kept for each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from deft_core.errors import StoreError
from deft_core.prompts import default_prompt
from deft_core.store.database import IDLE_SECONDS, Database, aware, insert, naive
from deft_core.store.derived import rebuild_queue
from deft_core.store.log import DecisionLog, unknown_samples
from deft_core.store.queue import Queue
from deft_core.store.reviewers import Reviewers

SAMPLE_IDS = range(2**31)
SAMPLE_COLUMNS = ("sample_id", "file_name", "sha256", "split", "given_label", "width", "height")
SCORE_COLUMNS = (
    "position",
    "sample_id",
    "scored_label",
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
PREDICTION_COLUMNS = (
    "sample_id",
    "scored_label",
    "predicted_label",
    "p_predicted",
    "p_given",
    "margin",
    "is_sure",
)
NEIGHBOUR_COLUMNS = ("sample_id", "nearest", "nearest_given", "nearest_predicted")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The data set of a workspace. Label `i` is called `class_names[i]`; `prompts[i]` are the words
    for it in prompts."""

    root: Path
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
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
    """A finished run whose results the store holds. `told` is the same for two runs that were told
    the same of every sample; None where that is not known."""

    run_id: str
    kind: str
    round: int
    imported_at: datetime
    settings: dict[str, Any]
    report: dict[str, Any]
    told: str | None


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a check of the whole store found. `n_reapplied` events came back from the journal when
    the store was opened; `n_unlike_journal` events differ between log and journal;
    `n_unknown_samples` are about no sample; `differences` counts wrong rows by derived table."""

    n_events: int
    n_reapplied: int
    n_unlike_journal: int
    n_unknown_samples: int
    differences: dict[str, int]

    @property
    def is_sound(self) -> bool:
        return not (
            self.n_unlike_journal or self.n_unknown_samples or any(self.differences.values())
        )


class Store:
    """Samples, scores and decisions of one workspace; threads may share it. No other store, of the
    same path or data set, has its `id`; a copy of the file itself has."""

    def __init__(self, path: Path | str, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self.path = path
        self._dataset: Dataset | None = None
        self._database = Database(path, idle_seconds=idle_seconds)
        self.id: str = self._database.rows("from store")[0]["id"]
        try:
            self.log = DecisionLog(self._database, store_id=self.id)
        except BaseException:
            self._database.close()
            raise
        self.queue = Queue(self._database)
        self.reviewers = Reviewers(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Everything is in the file itself, the write-ahead log is empty and the file is free."""
        self.log.close()
        self._database.close()

    def copy(self, *, name: str) -> Path:
        """A copy of the whole store in its backup folder, as it is at one moment; others may go on
        reading and writing."""
        return self._database.copy(name=name)

    def verify(self) -> Verification:
        """Whether log, journal and derived tables say the same; StoreError at a journal that
        cannot be read."""
        return Verification(
            n_events=self.log.n_events(),
            n_reapplied=self.log.n_reapplied,
            n_unlike_journal=self.log.n_unlike_journal(),
            n_unknown_samples=self.log.n_unknown_samples(),
            differences=self.log.differences(),
        )

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
        with self._database.writing() as connection:
            if connection.execute("from dataset").fetchone():
                raise StoreError("This workspace already holds a data set.", "Use a new workspace.")
            connection.execute(
                "insert into dataset values ($root, $report, $ingested_at)",
                {
                    "root": str(root),
                    "report": json.dumps(report),
                    "ingested_at": naive(ingested_at),
                },
            )
            insert(connection, "classes", classes)
            insert(connection, "samples", samples.select(SAMPLE_COLUMNS))
        self._database.checkpoint()

    def dataset(self) -> Dataset | None:
        """The data set, or None before one is ingested."""
        known = self._dataset
        if known is None:
            # What is read while somebody writes must not be kept.
            with self._database.lock:
                known = self._dataset = self._read_dataset()
        return known

    def set_prompts(self, prompts: Sequence[str]) -> None:
        """The words for each class in prompts, in order of the labels."""
        rows = list(zip(prompts, range(len(prompts)), strict=True))
        with self._database.lock:
            with self._database.writing() as connection:
                connection.executemany("update classes set prompt = ? where label = ?", rows)
            self._dataset = None

    def sample(self, sample_id: int) -> Sample:
        """One sample; StoreError when there is none with this id."""
        is_possible = sample_id in SAMPLE_IDS
        rows = (
            self._database.rows("from samples where sample_id = $id", id=sample_id)
            if is_possible
            else []
        )
        if not rows:
            raise unknown_samples([sample_id])
        return Sample(**rows[0])

    def reviewed_labels(self, sample_ids: Sequence[int]) -> dict[int, int]:
        """The reviewed labels of those of these samples that have one."""
        rows = self._database.rows(
            """
            select sample_id, reviewed_label from current_decisions
            where sample_id in (select unnest($ids::integer[])) and reviewed_label is not null
            """,
            ids=list(sample_ids),
        )
        return {row["sample_id"]: row["reviewed_label"] for row in rows}

    def samples(self) -> pa.Table:
        """Every sample with what is known about it: columns of `samples`, of the current scores and
        of the current decision, and the notes of all reviewers; null where there is no score, no
        decision or no note. A disputed sample is unsure, which none of its reviewers said.
        `other_label` of a sample with two right labels is the one that the decision names or, where
        it names none, the one that was suggested then, if that is not the given one; `is_selected`
        is what the last phase 1 of the first round found clean."""
        return self._database.table(
            """
            select s.*, q.p_clean, q.is_clean, q.scored_label, q.suggested_label,
                d.verdict, coalesce(d.is_disputed, false) as is_disputed, d.reviewed_label,
                case when not d.is_disputed then d.reviewer end as reviewer,
                d.decided_at, d.round,
                coalesce(
                    b.label, nullif((b.shown->>'suggested_label')::integer, s.given_label)
                ) as other_label,
                n.note,
                f.is_clean as is_selected
            from samples s
            left join queue q using (sample_id)
            left join (
                from scores
                where run = (
                    select seq from placed_runs where kind = 'phase1' and round = 1
                    order by place desc limit 1
                )
            ) f using (sample_id)
            left join current_decisions d using (sample_id)
            left join decisions b on d.verdict = 'both' and b.seq = d.seq
            left join (
                select sample_id, if(
                        count(*) = 1,
                        any_value(note),
                        string_agg(reviewer || ': ' || note, chr(10) order by reviewer)
                    ) as note
                from current_notes group by sample_id
            ) n using (sample_id)
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
        neighbours: pa.Table | None = None,
        predictions: pa.Table | None = None,
        told: str | None = None,
    ) -> None:
        """Take a finished run in. Of the phase 1s, with their scores, the newest of the last round
        is the current run; the predictions of such a phase 2 are the current ones."""
        with self._database.writing() as connection:
            (row,) = connection.execute("select coalesce(max(seq), 0) + 1 from runs").fetchall()
            seq = row[0]
            connection.execute(
                """
                insert into runs
                values ($seq, $run_id, $kind, $round, $imported_at, $settings, $report, $told)
                """,
                {
                    "seq": seq,
                    "run_id": run_id,
                    "kind": kind,
                    "round": round,
                    "imported_at": naive(imported_at),
                    "settings": json.dumps(settings),
                    "report": json.dumps(report),
                    "told": told,
                },
            )
            for table, rows, columns in (
                ("scores", scores, SCORE_COLUMNS),
                ("neighbours", neighbours, NEIGHBOUR_COLUMNS),
                ("predictions", predictions, PREDICTION_COLUMNS),
            ):
                if rows is not None:
                    run = pa.repeat(pa.scalar(seq, pa.int32()), rows.num_rows)
                    insert(connection, table, rows.select(columns).append_column("run", run))
            rebuild_queue(connection)
        self._database.checkpoint()

    def runs(self) -> list[ImportedRun]:
        """The imported runs, oldest first."""
        rows = self._database.rows("select * exclude (seq) from runs order by seq")
        for row in rows:
            row["settings"], row["report"] = json.loads(row["settings"]), json.loads(row["report"])
            row["imported_at"] = aware(row["imported_at"])
        return [ImportedRun(**row) for row in rows]

    def current_run(self) -> ImportedRun | None:
        """The newest imported phase 1 of the last round, whose scores make the queue; None before
        there is one."""
        run_id = self.current_run_id()
        return next((run for run in self.runs() if run.run_id == run_id), None)

    def current_run_id(self) -> str | None:
        """The id of the current run, without its settings and report: cheap for every answer."""
        rows = self._database.rows("select run_id from current_run")
        return rows[0]["run_id"] if rows else None

    def neighbours(self, sample_id: int) -> dict[str, list[int]] | None:
        """The nearest trusted samples of the current run: overall, of the given class and of the
        predicted class; None when it found none for this sample."""
        rows = self._database.rows(
            """
            select nearest, nearest_given, nearest_predicted from neighbours
            where run = (select seq from current_run) and sample_id = $id
            """,
            id=sample_id,
        )
        return rows[0] if rows else None

    def predicted_label(self, sample_id: int) -> int:
        """The class of a scored sample that the current run holds for the most likely."""
        (row,) = self._database.rows(
            "select predicted_label from current_scores where sample_id = $id", id=sample_id
        )
        return int(row["predicted_label"])

    def _read_dataset(self) -> Dataset | None:
        rows = self._database.rows("from dataset")
        if not rows:
            return None
        classes = self._database.rows("select name, prompt from classes order by label")
        splits = self._database.rows(
            "select split, count(*) as n from samples group by split order by split"
        )
        n_by_split = {row["split"]: row["n"] for row in splits}
        return Dataset(
            root=Path(rows[0]["root"]),
            class_names=tuple(row["name"] for row in classes),
            prompts=tuple(row["prompt"] or default_prompt(row["name"]) for row in classes),
            n_samples=sum(n_by_split.values()),
            n_by_split=n_by_split,
            report=json.loads(rows[0]["report"]),
            ingested_at=aware(rows[0]["ingested_at"]),
        )

"""What a reviewer does: look at the queue, decide, undo, see how far it is.

Everything that comes out is a frozen value; everything that goes in is checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deft_core.errors import StoreError
from deft_core.store import SAMPLE_IDS, Store, unknown_samples, utc_now

VERDICTS = ("keep", "relabel", "both", "exclude", "unsure")
LONGEST_PAGE = 200
LONGEST_NAME = 200

_DECISION_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("group", pa.string()),
        ("sample_id", pa.int32()),
        ("verdict", pa.string()),
        ("label", pa.int32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class QueuedSample:
    """One scored sample with all that the reviewer is shown; `version` changes with the bytes."""

    sample_id: int
    file_name: str
    version: str
    given_label: int
    suggested_label: int | None
    p_clean: float
    pos_sim: float
    neg_sim: float
    top_labels: tuple[int, ...]
    top_pos_sims: tuple[float, ...]
    top_neg_sims: tuple[float, ...]
    verdict: str | None
    reviewed_label: int | None


@dataclass(frozen=True, kw_only=True)
class QueuePage:
    """A part of the queue; `next` asks for the samples behind it and is None at the end."""

    samples: tuple[QueuedSample, ...]
    next: str | None
    n_matching: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One verdict. `uid` is made by the client and unique; decisions of one `group` are undone
    together; `label` belongs to relabel alone."""

    uid: str
    group: str
    sample_id: int
    verdict: str
    label: int | None = None


@dataclass(frozen=True, kw_only=True)
class DecisionEvent:
    """One line of the log: a decision, or an undo (`is_undo`, without a verdict)."""

    seq: int
    uid: str
    is_undo: bool
    verdict: str | None
    label: int | None
    reviewer: str
    decided_at: datetime
    round: int
    run_id: str | None


@dataclass(frozen=True, kw_only=True)
class ReviewProgress:
    """How far the review is. `n_samples` are those scored by the current run; `n_decided` counts
    flagged samples; `by_verdict` and `n_relabelled` count every decided sample."""

    n_samples: int
    n_flagged: int
    n_decided: int
    n_left: int
    by_verdict: dict[str, int]
    n_relabelled: int


@dataclass(frozen=True, kw_only=True)
class Undone:
    """The samples that are as they were before the undone group; empty when nothing was left."""

    sample_ids: tuple[int, ...]
    progress: ReviewProgress


@dataclass(frozen=True, kw_only=True)
class Points:
    """Every scored sample as parallel arrays, in order of sample id."""

    sample_id: NDArray[np.int32]
    pos_sim: NDArray[np.float32]
    neg_sim: NDArray[np.float32]
    p_clean: NDArray[np.float32]


class Review:
    """The use cases of the review desk on one store."""

    def __init__(
        self,
        store: Store,
        *,
        reviewer_default: str = "me",
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._reviewer_default = reviewer_default
        self._clock = clock

    def queue(
        self,
        *,
        after: str | None = None,
        limit: int = 50,
        decided: bool | None = False,
        flagged_only: bool = True,
    ) -> QueuePage:
        """The most suspect samples first. `decided=None` takes decided and undecided ones."""
        if not 1 <= limit <= LONGEST_PAGE:
            raise StoreError(f"limit is {limit}; a page has 1 to {LONGEST_PAGE} samples.")
        rows, n_matching = self._store.queue(
            after=_position(after),
            limit=limit + 1,
            is_decided=decided,
            is_flagged_only=flagged_only,
        )
        found = rows.to_pylist()
        has_more = len(found) > limit
        return QueuePage(
            samples=tuple(map(_queued_sample, found[:limit])),
            next=str(found[limit - 1]["position"]) if has_more else None,
            n_matching=n_matching,
        )

    def sample(self, sample_id: int) -> QueuedSample:
        """One scored sample; StoreError when it does not exist or has no score."""
        sample = self._store.sample(sample_id)
        rows = self._store.queue_rows([sample_id]).to_pylist()
        if not rows:
            raise StoreError(
                f"{sample.file_name} has no score.", "Phase 1 scores the readable training images."
            )
        return _queued_sample(rows[0])

    def decide(
        self, decisions: Sequence[Decision], *, reviewer: str | None = None
    ) -> ReviewProgress:
        """The progress after all of the decisions are safely stored, or none is (StoreError)."""
        dataset = self._store.dataset()
        n_classes = len(dataset.class_names) if dataset else 0
        for decision in decisions:
            _check(decision, n_classes=n_classes)
        rows = pa.Table.from_pylist([asdict(one) for one in decisions], schema=_DECISION_SCHEMA)
        self._store.add_decisions(
            rows.rename_columns({"group": "grp"}),
            reviewer=self._name(reviewer),
            decided_at=self._clock(),
        )
        return self.progress()

    def undo(self, *, uid: str, group: str | None = None, reviewer: str | None = None) -> Undone:
        """What the reviewer's live `group` of decisions covered; it no longer counts. Without
        `group` it is the last live one; a group that is not live (any more) covers nothing.
        """
        _check_name("uid", uid)
        if group is not None:
            _check_name("group", group)
        sample_ids = self._store.add_undo(
            uid, group=group, reviewer=self._name(reviewer), decided_at=self._clock()
        )
        return Undone(sample_ids=tuple(sample_ids), progress=self.progress())

    def progress(self) -> ReviewProgress:
        """How far the review of the current run is."""
        counts = self._store.n_flagged()
        by_verdict = {row["verdict"]: row for row in self._store.n_by_verdict().to_pylist()}
        return ReviewProgress(
            n_samples=counts["n_scored"],
            n_flagged=counts["n_flagged"],
            n_decided=counts["n_decided"],
            n_left=counts["n_flagged"] - counts["n_decided"],
            by_verdict={
                verdict: by_verdict[verdict]["n"] if verdict in by_verdict else 0
                for verdict in VERDICTS
            },
            n_relabelled=sum(row["n_relabelled"] for row in by_verdict.values()),
        )

    def points(self) -> Points:
        """The scored samples as arrays, for a map of all of them."""
        table = self._store.points()
        return Points(**{name: table[name].to_numpy() for name in table.column_names})

    def history(self, sample_id: int) -> tuple[DecisionEvent, ...]:
        """Every event about one sample, oldest first."""
        self._store.sample(sample_id)
        return tuple(
            DecisionEvent(
                seq=row["seq"],
                uid=row["uid"],
                is_undo=row["undo_of"] is not None,
                verdict=row["verdict"],
                label=row["label"],
                reviewer=row["reviewer"],
                decided_at=row["decided_at"].replace(tzinfo=UTC),
                round=row["round"],
                run_id=row["run_id"],
            )
            for row in self._store.history(sample_id).to_pylist()
        )

    def _name(self, reviewer: str | None) -> str:
        name = reviewer or self._reviewer_default
        _check_name("reviewer", name)
        return name


def _queued_sample(row: dict[str, Any]) -> QueuedSample:
    return QueuedSample(
        sample_id=row["sample_id"],
        file_name=row["file_name"],
        version=row["sha256"][:12],
        given_label=row["given_label"],
        suggested_label=row["suggested_label"],
        p_clean=row["p_clean"],
        pos_sim=row["pos_sim"],
        neg_sim=row["neg_sim"],
        top_labels=tuple(row["top_labels"]),
        top_pos_sims=tuple(row["top_pos_sims"]),
        top_neg_sims=tuple(row["top_neg_sims"]),
        verdict=row["verdict"],
        reviewed_label=row["reviewed_label"],
    )


def _position(after: str | None) -> int:
    if after is None:
        return -1
    if not (after.isascii() and after.isdigit() and len(after) < 10):
        raise StoreError(f'"{after}" is not a place in the queue.', "Reload the page.")
    return int(after)


def _check(decision: Decision, *, n_classes: int) -> None:
    _check_name("uid", decision.uid)
    _check_name("group", decision.group)
    if decision.sample_id not in SAMPLE_IDS:
        raise unknown_samples([decision.sample_id])
    if decision.verdict not in VERDICTS:
        raise StoreError(
            f'"{decision.verdict}" is not a verdict.', f"Verdicts: {', '.join(VERDICTS)}."
        )
    if decision.verdict != "relabel" and decision.label is not None:
        raise StoreError(f"Verdict {decision.verdict} takes no label, found {decision.label}.")
    if decision.verdict == "relabel" and decision.label not in range(n_classes):
        raise StoreError(
            f"Relabel needs a label from 0 to {n_classes - 1}, found {decision.label}."
        )


def _check_name(what: str, name: str) -> None:
    if not (1 <= len(name) <= LONGEST_NAME and name.isprintable()):
        raise StoreError(f"The {what} must have 1 to {LONGEST_NAME} printable characters.")

"""What a reviewer does: look at the queue, decide, note, undo, redo, see how far it is.

Everything that comes out is a frozen value; everything that goes in is checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deft_core.agreement import PairAgreement, pair_agreements
from deft_core.errors import CountChangedError, StoreError
from deft_core.reasons import Evidence, evidence
from deft_core.store import (
    FILTER_NAMES,
    SAMPLE_IDS,
    SORT_NAMES,
    Filter,
    Sort,
    Store,
    unknown_samples,
    utc_now,
)

VERDICTS = ("keep", "relabel", "both", "exclude", "unsure")
SUGGESTED = "suggested"
"""In place of a verdict on many samples: relabel each to its own suggested label."""
LONGEST_PAGE = 200
LONGEST_NAME = 200
LONGEST_NOTE = 2000
LONGEST_UID_OF_MANY = 150
MOST_CELLS = 1000
MOST_LABELS = 1000
MOST_NAMES = 20
MOST_SAMPLE_IDS = 100_000
SUSPECTS = Filter()
BY_SUSPICION = Sort()

_EVENT_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("grp", pa.string()),
        ("sample_id", pa.int32()),
        ("verdict", pa.string()),
        ("label", pa.int32()),
        ("note", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class QueuedSample:
    """One scored sample with all that the reviewer is shown; `version` changes with the bytes.

    While he is to decide it blind, the verdict, its label and reviewer and the note are None.
    """

    sample_id: int
    file_name: str
    version: str
    given_label: int
    suggested_label: int | None
    p_clean: float
    is_clean: bool
    pos_sim: float
    neg_sim: float
    margin: float
    top_labels: tuple[int, ...]
    top_pos_sims: tuple[float, ...]
    top_neg_sims: tuple[float, ...]
    verdict: str | None
    reviewed_label: int | None
    reviewer: str | None
    note: str | None
    is_disputed: bool
    is_double: bool


@dataclass(frozen=True, kw_only=True)
class QueuePage:
    """A part of the queue; `next` asks for the samples behind it and is None at the end.
    `n_leased` of the `n_matching` are held by other reviewers, if that was asked."""

    samples: tuple[QueuedSample, ...]
    next: str | None
    n_matching: int
    n_leased: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many samples match a filter, and how many of these have a property."""

    n_matching: int
    n_flagged: int
    n_undecided: int
    n_with_suggestion: int


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How often which label is suggested for which given one. A cell is a dictionary of given,
    suggested, n, n_flagged and n_undecided; there are `n_cells` in all."""

    cells: tuple[dict[str, int | None], ...]
    n_cells: int


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
class Note:
    """A reviewer's words on a sample, an event as a decision is; "" takes earlier ones away."""

    uid: str
    group: str
    sample_id: int
    note: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the log: a `kind` of decision, note, undo or redo. `is_live` is whether no undo
    has ended it; `is_blind` whether it was made without seeing the first decision."""

    seq: int
    uid: str
    kind: str
    verdict: str | None
    label: int | None
    note: str | None
    reviewer: str
    decided_at: datetime
    round: int
    run_id: str | None
    is_live: bool
    is_blind: bool


@dataclass(frozen=True, kw_only=True)
class History:
    """The last events about a sample, oldest first, of `n_events` in all."""

    events: tuple[Event, ...]
    n_events: int


@dataclass(frozen=True, kw_only=True)
class ReviewProgress:
    """How far the review is. `n_samples` are those scored by the current run; `n_decided` counts
    flagged samples; `by_verdict` and `n_relabelled` count every decided sample; `n_disputed` are
    scored samples on which two reviewers disagree."""

    n_samples: int
    n_flagged: int
    n_decided: int
    n_left: int
    by_verdict: dict[str, int]
    n_relabelled: int
    n_disputed: int


@dataclass(frozen=True, kw_only=True)
class NextSteps:
    """The group that an undo would take back, and the undo that a redo would; None for nothing."""

    undo: str | None
    redo: str | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What blind double review shows so far."""

    double_share: float
    n_disputed: int
    pairs: tuple[PairAgreement, ...]


@dataclass(frozen=True, kw_only=True)
class Points:
    """Every scored sample as parallel arrays, in order of sample id."""

    sample_id: NDArray[np.int32]
    pos_sim: NDArray[np.float32]
    neg_sim: NDArray[np.float32]
    p_clean: NDArray[np.float32]
    given_label: NDArray[np.int32]
    is_clean: NDArray[np.bool_]


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

    # --- looking

    def queue(
        self,
        wanted: Filter = SUSPECTS,
        *,
        sort: Sort = BY_SUSPICION,
        after: str | None = None,
        limit: int = 50,
        reviewer: str | None = None,
        is_leased: bool = False,
    ) -> QueuePage:
        """The next samples that match, without `wanted` and `sort` the most suspect first.

        With `is_leased` the reviewer gets samples that nobody else holds, and holds them for some
        minutes; a queue that begins anew gives back what he held.
        """
        name = self.name(reviewer)
        if not 1 <= limit <= LONGEST_PAGE:
            raise StoreError(f"limit is {limit}; a page has 1 to {LONGEST_PAGE} samples.")
        self._check_order(wanted, sort=sort)
        moment = self._clock() if is_leased else None
        while True:
            found = self._store.queue.page(
                wanted,
                sort=sort,
                after=after,
                limit=limit + 1,
                reviewer=name,
                not_leased_at=moment,
            )
            ids = [sample_id for sample_id, _ in found[:limit]]
            # Somebody else may have been faster: look again.
            if moment is None or self._store.reviewers.lease(
                ids, reviewer=name, now=moment, is_anew=after is None
            ):
                break
        counts = self._store.queue.counts(wanted, reviewer=name, leased_at=moment)
        rows = self._store.queue.rows(ids, reviewer=name)
        return QueuePage(
            samples=tuple(map(_queued_sample, rows.to_pylist())),
            next=found[limit - 1][1] if len(found) > limit else None,
            n_matching=counts["n_matching"],
            n_leased=counts["n_leased"],
        )

    def count(self, wanted: Filter, *, reviewer: str | None = None) -> Counts:
        """How many samples match."""
        self._check_order(wanted)
        counts = self._store.queue.counts(wanted, reviewer=self.name(reviewer))
        return Counts(**{one.name: counts[one.name] for one in fields(Counts)})

    def confusion(
        self, wanted: Filter, *, limit: int = 200, reviewer: str | None = None
    ) -> Confusion:
        """The cells (given x suggested) of the samples that match, fullest of suspects first."""
        self._check_order(wanted)
        if not 1 <= limit <= MOST_CELLS:
            raise StoreError(f"limit is {limit}; a table has 1 to {MOST_CELLS} cells.")
        rows = self._store.queue.confusion(wanted, reviewer=self.name(reviewer), limit=limit)
        return Confusion(
            cells=tuple(rows.drop_columns("n_cells").to_pylist()),
            n_cells=rows["n_cells"][0].as_py() if rows.num_rows else 0,
        )

    def sample(self, sample_id: int, *, reviewer: str | None = None) -> QueuedSample:
        """One scored sample; StoreError when it does not exist or has no score."""
        sample = self._store.sample(sample_id)
        rows = self._store.queue.rows([sample_id], reviewer=self.name(reviewer)).to_pylist()
        if not rows:
            raise StoreError(
                f"{sample.file_name} has no score.", "Phase 1 scores the readable training images."
            )
        return _queued_sample(rows[0])

    def evidence(self, sample_id: int, *, reviewer: str | None = None) -> Evidence:
        """What speaks for and against the given label of a scored sample (StoreError: no such)."""
        self.sample(sample_id, reviewer=reviewer)
        return evidence(self._store, sample_id, reviewer=self.name(reviewer))

    def history(self, sample_id: int, *, reviewer: str | None = None) -> History:
        """The events about one sample, oldest first; while the reviewer is to decide it blind,
        his own ones only."""
        self._store.sample(sample_id)
        name = self.name(reviewer)
        rows = self._store.log.history(sample_id).to_pylist()
        n_events = rows[0]["n_events"] if rows else 0
        if self._store.queue.is_blind(sample_id, reviewer=name):
            rows = [row for row in rows if row["reviewer"] == name]
            n_events = len(rows)
        return History(events=tuple(map(_event, rows)), n_events=n_events)

    # --- deciding

    def decide(self, events: Sequence[Decision | Note], *, reviewer: str | None = None) -> None:
        """Store all decisions and notes safely, or none of them (StoreError)."""
        n_classes = self._n_classes()
        for event in events:
            _check(event, n_classes=n_classes)
        name = self.name(reviewer)
        if events:
            self._store.log.add(
                pa.Table.from_pylist(list(map(_row, events)), schema=_EVENT_SCHEMA),
                reviewer=name,
                decided_at=self._clock(),
            )

    def decide_matching(
        self,
        wanted: Filter,
        *,
        uid: str,
        verdict: str,
        label: int | None = None,
        n_expected: int,
        reviewer: str | None = None,
    ) -> int:
        """How many samples were decided in one step, the group `uid`: all that match.

        CountChangedError, and nothing happens, when these are not `n_expected`.
        """
        self._check_order(wanted)
        _check_name("uid", uid, longest=LONGEST_UID_OF_MANY)
        if verdict != SUGGESTED:
            _check_verdict(verdict, label=label, n_classes=self._n_classes())
        elif not wanted.has_suggestion or label is not None:
            raise StoreError(
                "Only samples with a suggestion can take it, and it is the label.",
                "Filter for samples with a suggestion first, and give no label.",
            )
        name = self.name(reviewer)
        n = self._store.log.add_matching(
            self._store.queue.matching(wanted, reviewer=name),
            uid=uid,
            verdict=verdict,
            label=label,
            n_expected=n_expected,
            reviewer=name,
            decided_at=self._clock(),
        )
        if n != n_expected:
            raise CountChangedError(
                f"{n:,} samples match now, not {n_expected:,}; nothing was changed.",
                "Look at them, then confirm again.",
                n_matching=n,
            )
        return n

    def undo(
        self, *, uid: str, group: str | None = None, reviewer: str | None = None
    ) -> tuple[int, ...]:
        """The samples that the reviewer's live `group` of events covered; it no longer counts.
        Without `group` it is the last live one; a group that is not live (any more) covers none.
        """
        _check_name("uid", uid)
        if group is not None:
            _check_name("group", group)
        sample_ids = self._store.log.add_undo(
            uid, group=group, reviewer=self.name(reviewer), decided_at=self._clock()
        )
        return tuple(sample_ids)

    def redo(
        self, *, uid: str, undo: str | None = None, reviewer: str | None = None
    ) -> tuple[int, ...]:
        """The samples of what the undo event `undo`, or the reviewer's last one, had ended; it
        counts again. None once the reviewer has decided or noted anything after that undo."""
        _check_name("uid", uid)
        if undo is not None:
            _check_name("undo", undo)
        sample_ids = self._store.log.add_redo(
            uid, undo=undo, reviewer=self.name(reviewer), decided_at=self._clock()
        )
        return tuple(sample_ids)

    def next_steps(self, *, reviewer: str | None = None) -> NextSteps:
        """What the reviewer's next undo and redo would take back."""
        undo, redo = self._store.log.next_steps(self.name(reviewer))
        return NextSteps(undo=undo, redo=redo)

    # --- reviewers

    def name(self, reviewer: str | None) -> str:
        """The reviewer's name, the default one for None; StoreError when it cannot be one."""
        name = reviewer or self._reviewer_default
        _check_name("reviewer", name)
        return name

    def view(self, *, reviewer: str | None = None) -> dict[str, Any] | None:
        """The state in which the reviewer left the desk, or None."""
        return self._store.reviewers.view(self.name(reviewer))

    def set_view(self, state: dict[str, Any], *, reviewer: str | None = None) -> None:
        """Keep the state of the reviewer's desk."""
        self._store.reviewers.set_view(self.name(reviewer), state)

    def release(self, sample_ids: Sequence[int] | None, *, reviewer: str | None = None) -> int:
        """How many of the reviewer's leases on these samples, or of all his leases, have ended."""
        return self._store.reviewers.release(sample_ids, reviewer=self.name(reviewer))

    def double_share(self) -> float:
        """The share of samples that a second reviewer decides blind."""
        return self._store.reviewers.double_share()

    def set_double_share(self, share: float) -> None:
        """Choose the share of samples that a second reviewer decides blind."""
        if not 0 <= share <= 1:
            raise StoreError(f"The share is {share}; it goes from 0 to 1.")
        self._store.reviewers.set_double_share(share)

    def agreement(self) -> Agreement:
        """How far reviewers agree who decided the same samples blind."""
        return Agreement(
            double_share=self.double_share(),
            n_disputed=self._store.queue.progress()["n_disputed"],
            pairs=pair_agreements(self._store.reviewers.double_reviews().to_pylist()),
        )

    # --- the whole

    def progress(self) -> ReviewProgress:
        """How far the review of the current run is."""
        counts = self._store.queue.progress()
        by_verdict = {row["verdict"]: row for row in self._store.queue.n_by_verdict().to_pylist()}
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
            n_disputed=counts["n_disputed"],
        )

    def points(self) -> Points:
        """The scored samples as arrays, for a map of all of them."""
        table = self._store.points()
        return Points(**{name: table[name].to_numpy() for name in table.column_names})

    # --- inside

    def _n_classes(self) -> int:
        dataset = self._store.dataset()
        return len(dataset.class_names) if dataset else 0

    def _check_order(self, wanted: Filter, *, sort: Sort = BY_SUSPICION) -> None:
        """StoreError when there is no such filter or sort, or a list or text is too long."""
        if wanted.name not in FILTER_NAMES:
            raise StoreError(
                f'There is no queue "{wanted.name}".', f"Queues: {', '.join(FILTER_NAMES)}."
            )
        if sort.name not in SORT_NAMES or sort.seed not in SAMPLE_IDS:
            raise StoreError(
                f'The queue has no order "{sort.name}" with seed {sort.seed}.',
                f"Orders: {', '.join(SORT_NAMES)}; a seed is from 0 to {SAMPLE_IDS[-1]}.",
            )
        for name, most in (
            ("given", MOST_LABELS),
            ("suggested", MOST_LABELS),
            ("verdicts", MOST_NAMES),
            ("reviewers", MOST_NAMES),
            ("text", LONGEST_NAME),
            ("sample_ids", MOST_SAMPLE_IDS),
        ):
            value = getattr(wanted, name)
            if value is not None and len(value) > most:
                raise StoreError(f"The filter's {name} has {len(value)} entries; {most} at most.")
        for number in (*(wanted.given or ()), *(wanted.suggested or ())):
            if number not in SAMPLE_IDS:
                raise StoreError(f"{number} is not a label.")
        unknown = [one for one in wanted.sample_ids or () if one not in SAMPLE_IDS]
        if unknown:
            raise unknown_samples(unknown)


def _queued_sample(row: dict[str, Any]) -> QueuedSample:
    lists = ("top_labels", "top_pos_sims", "top_neg_sims")
    columns: dict[str, Any] = {
        name: tuple(row[name]) if name in lists else row[name] for name in _AS_STORED
    }
    return QueuedSample(version=row["sha256"][:12], **columns)


_AS_STORED = [one.name for one in fields(QueuedSample) if one.name != "version"]


def _event(row: dict[str, Any]) -> Event:
    kinds = ("verdict", "decision"), ("undo_of", "undo"), ("redo_of", "redo")
    return Event(
        seq=row["seq"],
        uid=row["uid"],
        kind=next((kind for column, kind in kinds if row[column] is not None), "note"),
        verdict=row["verdict"],
        label=row["label"],
        note=row["note"],
        reviewer=row["reviewer"],
        decided_at=row["decided_at"].replace(tzinfo=UTC),
        round=row["round"],
        run_id=row["run_id"],
        is_live=row["is_live"],
        is_blind=row["is_blind"],
    )


def _row(event: Decision | Note) -> dict[str, Any]:
    row = asdict(event)
    row["grp"] = row.pop("group")
    return row


def _check(event: Decision | Note, *, n_classes: int) -> None:
    _check_name("uid", event.uid)
    _check_name("group", event.group)
    if event.sample_id not in SAMPLE_IDS:
        raise unknown_samples([event.sample_id])
    if isinstance(event, Decision):
        _check_verdict(event.verdict, label=event.label, n_classes=n_classes)
    else:
        _check_note(event.note)


def _check_verdict(verdict: str, *, label: int | None, n_classes: int) -> None:
    if verdict not in VERDICTS:
        raise StoreError(f'"{verdict}" is not a verdict.', f"Verdicts: {', '.join(VERDICTS)}.")
    if verdict != "relabel" and label is not None:
        raise StoreError(f"Verdict {verdict} takes no label, found {label}.")
    if verdict == "relabel" and label not in range(n_classes):
        raise StoreError(f"Relabel needs a label from 0 to {n_classes - 1}, found {label}.")


def _check_note(note: str) -> None:
    if len(note) > LONGEST_NOTE:
        raise StoreError(f"The note has {len(note)} characters; {LONGEST_NOTE} at most.")
    try:
        note.encode()
    except UnicodeEncodeError as error:
        raise StoreError("The note holds half a character.", "Type it again.") from error
    if "\0" in note:
        raise StoreError("The note holds a zero character.", "Type it again.")


def _check_name(what: str, name: str, *, longest: int = LONGEST_NAME) -> None:
    if not (1 <= len(name) <= longest and name.isprintable()):
        raise StoreError(f"The {what} must have 1 to {longest} printable characters.")

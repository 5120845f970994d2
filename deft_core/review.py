"""What a reviewer does: look at the queue, decide, note, undo, redo, see how far it is.

Everything that comes out is a frozen value (`shown.py`); everything that goes in is checked, here
or in `decisions.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import pyarrow as pa

from deft_core.agreement import pair_agreements
from deft_core.decisions import (
    LONGEST_NAME,
    LONGEST_UID_OF_MANY,
    STANDING,
    SUGGESTED,
    VERDICTS,
    Decision,
    Note,
    check_name,
    check_text,
    check_verdict,
    events_table,
)
from deft_core.errors import CountChangedError, StoreError
from deft_core.reasons import Evidence, evidence
from deft_core.shown import (
    Agreement,
    Confusion,
    Counts,
    History,
    Points,
    QueuedSample,
    QueuePage,
    ReviewProgress,
    SplitReview,
    logged_event,
    queued_sample,
)
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

LONGEST_PAGE = 200
LONGEST_STATE = 1_000_000
MOST_CELLS = 1000
MOST_LABELS = 1000
MOST_NAMES = 20
MOST_SAMPLE_IDS = 100_000
SUSPECTS = Filter()
BY_SUSPICION = Sort()


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
        _check_filter(wanted)
        _check_sort(sort)
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
            samples=self._queued(rows, reviewer=name),
            next=found[limit - 1][1] if len(found) > limit else None,
            n_matching=counts["n_matching"],
            n_leased=counts["n_leased"],
        )

    def count(self, wanted: Filter, *, reviewer: str | None = None) -> Counts:
        """How many samples match, and how many of them other reviewers hold now."""
        _check_filter(wanted)
        counts = self._store.queue.counts(
            wanted, reviewer=self.name(reviewer), leased_at=self._clock()
        )
        return Counts(**{one.name: counts[one.name] for one in fields(Counts)})

    def confusion(
        self, wanted: Filter, *, limit: int = 200, reviewer: str | None = None
    ) -> Confusion:
        """The cells (given x suggested) of the samples that match, fullest of suspects first."""
        _check_filter(wanted)
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
        name = self.name(reviewer)
        rows = self._store.queue.rows([sample_id], reviewer=name)
        if rows.num_rows == 0:
            raise StoreError(
                f"{sample.file_name} has no score.", "Phase 1 scores the images that it can read."
            )
        return self._queued(rows, reviewer=name)[0]

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
        if self._store.queue.blind([sample_id], reviewer=name):
            rows = [row for row in rows if row["reviewer"] == name]
            n_events = len(rows)
        return History(events=tuple(map(logged_event, rows)), n_events=n_events)

    # --- deciding

    def decide(self, events: Sequence[Decision | Note], *, reviewer: str | None = None) -> None:
        """Store all decisions and notes safely, or none of them (StoreError)."""
        table = events_table(events, n_classes=self._n_classes())
        name = self.name(reviewer)
        if events:
            self._store.log.add(table, reviewer=name, decided_at=self._clock())

    def decide_matching(
        self,
        wanted: Filter,
        *,
        uid: str,
        verdict: str,
        label: int | None = None,
        n_expected: int,
        counted_at: int | None = None,
        run: str | None = None,
        reviewer: str | None = None,
    ) -> int:
        """How many samples were decided in one step, the group `uid`: all that match.

        CountChangedError, and nothing happens, when these are not `n_expected`; StoreError when
        `run`, which scored what the reviewer saw, is not the current one. `counted_at` is the
        `Counts.counted_at` that he knew: no decision that came later, or any without it, was shown.
        """
        _check_filter(wanted)
        check_name("uid", uid, longest=LONGEST_UID_OF_MANY)
        self._check_verdict_of_many(verdict, wanted=wanted, label=label)
        name = self.name(reviewer)
        n = self._store.log.add_matching(
            self._store.queue.matching(wanted, reviewer=name),
            uid=uid,
            verdict=verdict,
            label=label,
            n_expected=n_expected,
            counted_at=counted_at,
            run_id=run,
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
        check_name("uid", uid)
        if group is not None:
            check_name("group", group)
        sample_ids = self._store.log.add_undo(
            uid, group=group, reviewer=self.name(reviewer), decided_at=self._clock()
        )
        return tuple(sample_ids)

    def redo(
        self, *, uid: str, undo: str | None = None, reviewer: str | None = None
    ) -> tuple[int, ...]:
        """The samples of what the undo event `undo`, or the reviewer's last one, had ended; it
        counts again. None once the reviewer has decided or noted anything after that undo."""
        check_name("uid", uid)
        if undo is not None:
            check_name("undo", undo)
        sample_ids = self._store.log.add_redo(
            uid, undo=undo, reviewer=self.name(reviewer), decided_at=self._clock()
        )
        return tuple(sample_ids)

    # --- reviewers

    def name(self, reviewer: str | None) -> str:
        """The reviewer's name, the default one for None; StoreError when it cannot be one."""
        name = reviewer or self._reviewer_default
        check_name("reviewer", name)
        return name

    def view(self, *, reviewer: str | None = None) -> dict[str, Any] | None:
        """The state in which the reviewer left the desk, or None."""
        return self._store.reviewers.view(self.name(reviewer))

    def set_view(self, state: dict[str, Any], *, reviewer: str | None = None) -> None:
        """Keep the state of the reviewer's desk; StoreError when a text in it cannot be stored."""
        check_text("state", json.dumps(state, ensure_ascii=False), longest=LONGEST_STATE)
        self._store.reviewers.set_view(self.name(reviewer), state)

    def release(self, sample_ids: Sequence[int] | None, *, reviewer: str | None = None) -> int:
        """How many of the reviewer's leases on these samples, or of all his leases, have ended."""
        return self._store.reviewers.release(sample_ids, reviewer=self.name(reviewer))

    def renew_leases(self, *, reviewer: str | None = None) -> int:
        """How many leases of the reviewer, who shows that he is still there, run anew."""
        return self._store.reviewers.renew(reviewer=self.name(reviewer), now=self._clock())

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
            n_disputed=self._store.queue.progress(reviewer=None)["n_disputed"],
            pairs=pair_agreements(self._store.reviewers.double_reviews().to_pylist()),
        )

    # --- the whole

    def progress(self, *, seen_by: str | None = None) -> ReviewProgress:
        """How far the review of the current run is: in all, or as a reviewer sees it, for whom what
        he is to decide blind is undecided."""
        counts = self._store.queue.progress(reviewer=seen_by)
        by_verdict = {row["verdict"]: row for row in self._store.queue.n_by_verdict().to_pylist()}
        return ReviewProgress(
            round=counts["round"],
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
            n_new=counts["n_new"],
            n_second_look=counts["n_second_look"],
        )

    def split_review(self, split: str) -> SplitReview:
        """How far the review of one split is."""
        return SplitReview(**self._store.queue.split_review(split))

    def points(self, *, seen_by: str | None = None) -> Points:
        """The scored training samples as arrays, for a map of them: all, or without those of which
        a reviewer who decides blind sees no score."""
        table = self._store.queue.points(reviewer=seen_by)
        return Points(**{name: table[name].to_numpy() for name in table.column_names})

    def similarity_range(self) -> tuple[float, float]:
        """The least and the greatest similarity of a training sample to a prompt of its label; 0
        to 1 before there is a score."""
        return self._store.queue.similarity_range() or (0.0, 1.0)

    # --- inside

    def _queued(self, rows: pa.Table, *, reviewer: str) -> tuple[QueuedSample, ...]:
        dataset = self._store.dataset()
        names = dataset.class_names if dataset else ()
        return tuple(
            queued_sample(row, class_names=names, reviewer=reviewer) for row in rows.to_pylist()
        )

    def _n_classes(self) -> int:
        dataset = self._store.dataset()
        return len(dataset.class_names) if dataset else 0

    def _check_verdict_of_many(self, verdict: str, *, wanted: Filter, label: int | None) -> None:
        """StoreError when the verdict does not fit what is wanted, or its label does not."""
        if verdict not in (SUGGESTED, STANDING, "both"):
            check_verdict(verdict, label=label, n_classes=self._n_classes())
        elif verdict != STANDING and not (wanted.has_suggestion and label is None):
            raise StoreError(
                "Only samples with a suggestion can take it, and it is the label.",
                "Filter for samples with a suggestion first, and give no label.",
            )
        elif verdict == STANDING and not (wanted.name == "second look" and label is None):
            raise StoreError(
                "Only decisions that are questioned can stay, each with its own label.",
                'Choose the queue "second look" first, and give no label.',
            )


def _check_filter(wanted: Filter) -> None:
    """StoreError when there is no such queue, or what it asks for is too long or no sample's."""
    if wanted.name not in FILTER_NAMES:
        raise StoreError(
            f'There is no queue "{wanted.name}".', f"Queues: {', '.join(FILTER_NAMES)}."
        )
    for name, most in (
        ("given", MOST_LABELS),
        ("suggested", MOST_LABELS),
        ("verdicts", MOST_NAMES),
        ("reviewers", MOST_NAMES),
        ("sample_ids", MOST_SAMPLE_IDS),
    ):
        value = getattr(wanted, name)
        if value is not None and len(value) > most:
            raise StoreError(f"The filter's {name} has {len(value)} entries; {most} at most.")
    for what, texts in (
        ("filter's text", [wanted.text] if wanted.text is not None else []),
        ("filter's verdict", wanted.verdicts or ()),
        ("filter's reviewer", wanted.reviewers or ()),
    ):
        for text in texts:
            check_text(what, text, longest=LONGEST_NAME)
    for number in (*(wanted.given or ()), *(wanted.suggested or ())):
        if number not in SAMPLE_IDS:
            raise StoreError(f"{number} is not a label.")
    unknown = [one for one in wanted.sample_ids or () if one not in SAMPLE_IDS]
    if unknown:
        raise unknown_samples(unknown)


def _check_sort(sort: Sort) -> None:
    """StoreError when there is no such order."""
    if sort.name not in SORT_NAMES or sort.seed not in SAMPLE_IDS:
        raise StoreError(
            f'The queue has no order "{sort.name}" with seed {sort.seed}.',
            f"Orders: {', '.join(SORT_NAMES)}; a seed is from 0 to {SAMPLE_IDS[-1]}.",
        )

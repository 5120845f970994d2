"""What the review desk shows, as frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_core.agreement import PairAgreement
from deft_core.rounds import changes

N_OTHERS = 5


@dataclass(frozen=True, kw_only=True)
class QueuedSample:
    """One scored sample with all that the reviewer is shown; `version` changes with the bytes, and
    `top_labels` are the most similar classes beside the given label, or beside the reviewed one
    where that asks for a second look, each with both similarities.

    The clean probability and the similarities are those of `scored_label`, with which `run` knew
    the sample. `changes` says in sentences what is new since the last round. While he is to decide
    it blind, the verdict, its label and reviewer and the note are None; so is all that the run
    says when it has learnt from the first decision, which it would betray. `seen` is the place in
    the log of the decision that is shown, which a new one names as what its reviewer knew.
    """

    sample_id: int
    file_name: str
    version: str
    run: str
    split: str
    given_label: int
    scored_label: int
    suggested_label: int | None
    p_clean: float | None
    is_clean: bool
    pos_sim: float | None
    neg_sim: float | None
    margin: float | None
    top_labels: tuple[int, ...]
    top_pos_sims: tuple[float, ...]
    top_neg_sims: tuple[float, ...]
    verdict: str | None
    reviewed_label: int | None
    reviewer: str | None
    seen: int | None
    note: str | None
    is_disputed: bool
    is_double: bool
    is_new: bool
    is_second_look: bool
    changes: tuple[str, ...]


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
    """How many samples match a filter, and how many of these have a property or are held by other
    reviewers; `counted_at` is the place in the log of the last event until then."""

    n_matching: int
    n_flagged: int
    n_undecided: int
    n_with_suggestion: int
    n_leased: int
    counted_at: int


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How often which label is suggested for which given one. A cell is a dictionary of given,
    suggested, n, n_flagged and n_undecided; there are `n_cells` in all."""

    cells: tuple[dict[str, int | None], ...]
    n_cells: int


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
    """How far the review of the training samples is. `n_samples` are those scored by the current
    run, of `round` (None without one); `n_decided` counts flagged samples; `by_verdict` and
    `n_relabelled` count every decided sample of any split; `n_disputed` are scored samples on which
    two reviewers disagree, `n_new` undecided suspects that the last round believed, `n_second_look`
    samples decided in an earlier round about which both new models disagree."""

    round: int | None
    n_samples: int
    n_flagged: int
    n_decided: int
    n_left: int
    by_verdict: dict[str, int]
    n_relabelled: int
    n_disputed: int
    n_new: int
    n_second_look: int


@dataclass(frozen=True, kw_only=True)
class SplitReview:
    """How far the review of one split is; `n_left` are flagged and undecided."""

    n_scored: int
    n_left: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What blind double review shows so far."""

    double_share: float
    n_disputed: int
    pairs: tuple[PairAgreement, ...]


@dataclass(frozen=True, kw_only=True)
class Points:
    """The scored training samples as parallel arrays, in order of sample id."""

    sample_id: NDArray[np.int32]
    pos_sim: NDArray[np.float32]
    neg_sim: NDArray[np.float32]
    p_clean: NDArray[np.float32]
    given_label: NDArray[np.int32]
    is_clean: NDArray[np.bool_]


def queued_sample(
    row: dict[str, Any], *, class_names: Sequence[str], reviewer: str
) -> QueuedSample:
    """What a row of the store says about a sample to this reviewer."""
    usual = row["reviewed_label"] if row["is_second_look"] else row["given_label"]
    others = [i for i, label in enumerate(row["top_labels"]) if label != usual]
    columns: dict[str, Any] = {
        name: tuple(row[name][i] for i in others[:N_OTHERS]) if name in _LISTS else row[name]
        for name in _AS_STORED
    }
    return QueuedSample(
        version=row["sha256"][:12],
        changes=changes(row, class_names=class_names, reviewer=reviewer),
        **columns,
    )


_AS_STORED = [one.name for one in fields(QueuedSample) if one.name not in ("version", "changes")]
_LISTS = ("top_labels", "top_pos_sims", "top_neg_sims")


def logged_event(row: dict[str, Any]) -> Event:
    """What a row of the log says."""
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

"""The reviewer's use cases on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from deft_core.errors import StoreError
from deft_core.review import Decision, QueuedSample, Review
from deft_core.store import Filter, Store
from tests.small_world import NOW, Clock, add_scores, make_store


@pytest.fixture
def store() -> Iterator[Store]:
    """Samples 0-3 scored; 0, 2 and 3 flagged with 2 the most suspect; sample 4 is a test image."""
    splits = ["train"] * 4 + ["test"]
    with make_store([0, 1, 2, 0, 1], splits=splits) as opened:
        add_scores(opened, [0.25, 0.75, 0.125, 0.5], predicted=[1, 1, 0, 0])
        yield opened


@pytest.fixture
def review(store: Store) -> Review:
    return Review(store, clock=Clock())


def one(sample_id: int, verdict: str = "keep", label: int | None = None, uid: str = "") -> Decision:
    uid = uid or f"{sample_id}-{verdict}"
    return Decision(uid=uid, group=uid, sample_id=sample_id, verdict=verdict, label=label)


def ids(samples: tuple[QueuedSample, ...]) -> list[int]:
    return [one.sample_id for one in samples]


# --- the queue


def test_queue__flagged_and_undecided_most_suspect_first(review: Review) -> None:
    page = review.queue()

    assert ids(page.samples) == [2, 0, 3]
    assert (page.next, page.n_matching) == (None, 3)
    assert page.samples[0] == QueuedSample(
        sample_id=2,
        file_name="class 2/2.jpg",
        version="0" * 12,
        given_label=2,
        suggested_label=0,
        p_clean=0.125,
        is_clean=False,
        pos_sim=pytest.approx(0.3),
        neg_sim=pytest.approx(0.2),
        margin=pytest.approx(0.1),
        top_labels=(0, 0),
        top_pos_sims=pytest.approx((0.4, 0.3)),
        top_neg_sims=pytest.approx((0.1, 0.2)),
        verdict=None,
        reviewed_label=None,
        reviewer=None,
        note=None,
        is_disputed=False,
        is_double=False,
    )
    assert page.samples[2].suggested_label is None


def test_queue__filters(review: Review) -> None:
    review.decide([one(2), one(1, "exclude")])

    def found(**wanted: Any) -> list[int]:
        return ids(review.queue(Filter(**wanted)).samples)

    assert found() == [0, 3]
    assert found(is_decided=True) == [2]
    assert found(name="all", is_flagged=True) == [2, 0, 3]
    assert found(name="all", is_decided=True) == [2, 1]
    assert found(name="all", is_decided=False) == [0, 3]
    assert found(name="all") == [2, 0, 3, 1]
    assert found(name="all", given=(0, 2)) == [2, 0, 3]
    assert found(name="all", given=(0,), suggested=(1,)) == [0]
    assert found(name="all", has_suggestion=False) == [3, 1]
    assert found(name="all", p_min=0.25, p_max=0.5) == [0, 3]
    assert found(name="all", verdicts=("exclude", "keep")) == [2, 1]
    assert found(name="all", reviewers=("ann",)) == []
    assert found(name="all", reviewers=("me",), verdicts=("keep",)) == [2]
    assert found(name="all", text="CLASS 0/") == [0, 3]
    assert found(name="all", text="%") == []
    assert found(name="all", sample_ids=(3, 1, 77)) == [3, 1]
    assert found(name="all", sample_ids=()) == []
    assert found(name="disagreements") == []


def test_queue__a_page_goes_on_where_the_last_one_ended_whatever_was_decided(
    review: Review,
) -> None:
    first = review.queue(limit=1)
    review.decide([one(2)])

    second = review.queue(after=first.next, limit=1)

    assert ids(first.samples) == [2]
    assert ids(second.samples) == [0]
    assert second.n_matching == 2


@settings(max_examples=20, deadline=None)
@cases(
    scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=30),
    limit=st.integers(1, 7),
)
def test_queue__pages_of_any_size_hold_each_flagged_sample_once(
    scores: list[float], limit: int
) -> None:
    with make_store([0] * len(scores)) as store:
        add_scores(store, scores)
        review = Review(store)
        found: list[QueuedSample] = []
        after: str | None = None
        while True:
            page = review.queue(after=after, limit=limit)
            found += page.samples
            after = page.next
            if after is None:
                break

    expected = sorted((p, i) for i, p in enumerate(scores) if p <= 0.5)
    assert [(one.p_clean, one.sample_id) for one in found] == expected


@pytest.mark.parametrize("after", ["", "-1", "x", "1; drop table samples", "9" * 99, "٣"])
def test_queue__refuses_a_place_that_it_never_gave(review: Review, after: str) -> None:
    with pytest.raises(StoreError, match="is not a place in the queue"):
        review.queue(after=after)


@pytest.mark.parametrize("limit", [0, 201])
def test_queue__refuses_pages_that_are_too_long(review: Review, limit: int) -> None:
    with pytest.raises(StoreError, match="1 to 200 samples"):
        review.queue(limit=limit)


def test_queue__is_empty_before_phase1() -> None:
    with make_store([0, 1]) as store:
        page = Review(store).queue()

        assert (page.samples, page.next, page.n_matching) == ((), None, 0)


def test_sample__unknown_or_not_scored(review: Review) -> None:
    assert review.sample(3).p_clean == 0.5
    for unknown in (9, -1, 2**31, 10**60):
        with pytest.raises(StoreError, match=f"No sample with id {unknown}"):
            review.sample(unknown)
    with pytest.raises(StoreError, match=r"class 1/4\.jpg has no score"):
        review.sample(4)


def test_points__every_scored_sample(review: Review) -> None:
    points = review.points()

    assert points.sample_id.tolist() == [0, 1, 2, 3]
    assert points.p_clean.tolist() == [0.25, 0.75, 0.125, 0.5]
    assert {str(points.sample_id.dtype), str(points.pos_sim.dtype)} == {"int32", "float32"}


# --- decisions


def test_decide__every_verdict(review: Review) -> None:
    progress = review.decide(
        [
            one(0, "relabel", 2),
            one(1, "keep"),
            one(2, "both"),
            one(3, "exclude"),
            one(4, "unsure"),
        ]
    )

    assert progress.by_verdict == {"keep": 1, "relabel": 1, "both": 1, "exclude": 1, "unsure": 1}
    assert (progress.n_samples, progress.n_flagged, progress.n_decided, progress.n_left) == (
        4,
        3,
        3,
        0,
    )
    assert progress.n_relabelled == 1
    assert review.sample(0).reviewed_label == 2
    assert review.sample(1).reviewed_label == 1
    assert review.sample(2).reviewed_label is None


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (one(9), "No sample with id 9"),
        (one(0, "delete"), '"delete" is not a verdict'),
        (one(0, "relabel"), "Relabel needs a label from 0 to 2, found None"),
        (one(0, "relabel", 3), "Relabel needs a label from 0 to 2, found 3"),
        (one(0, "relabel", -1), "Relabel needs a label from 0 to 2, found -1"),
        (one(0, "keep", 1), "Verdict keep takes no label, found 1"),
        (one(2**31), "No sample with id 2147483648"),
        (one(10**60), "No sample with id 1000"),
        (one(0, uid="x" * 201), "The uid must have 1 to 200 printable characters"),
        (one(0, uid="a\0b"), "The uid must have 1 to 200 printable characters"),
        (one(0, uid="\ud800"), "The uid must have 1 to 200 printable characters"),
        (
            Decision(uid="a", group="", sample_id=0, verdict="keep"),
            "The group must have 1 to 200 printable characters",
        ),
    ],
)
def test_decide__refuses_all_when_one_cannot_be(
    review: Review, decision: Decision, message: str
) -> None:
    before = review.progress()

    with pytest.raises(StoreError, match=message):
        review.decide([one(1), decision])

    assert review.progress() == before
    assert review.history(1).events == ()


def test_decide__twice_with_one_uid_counts_once(review: Review) -> None:
    first = review.decide([one(0, "exclude", uid="a")])

    assert review.decide([one(0, "exclude", uid="a"), one(0, "keep", uid="a")]) == first
    assert len(review.history(0).events) == 1


def test_decide__nothing_changes_nothing(review: Review) -> None:
    assert review.decide([]) == review.progress()


def test_undo__a_group_at_once_and_then_the_one_before(review: Review) -> None:
    review.decide([one(1, "exclude")])
    review.decide([Decision(uid=f"b{i}", group="b", sample_id=i, verdict="keep") for i in (0, 2)])

    undone = review.undo(uid="u1")

    assert undone.sample_ids == (0, 2)
    assert undone.progress.by_verdict["keep"] == 0
    assert review.undo(uid="u1") == undone
    assert review.undo(uid="u2").sample_ids == (1,)
    assert review.undo(uid="u3").sample_ids == ()


def test_undo__takes_the_reviewers_own_decision(review: Review) -> None:
    review.decide([one(0)], reviewer="ann")
    review.decide([one(2)], reviewer="bob")

    assert review.undo(uid="u", reviewer="ann").sample_ids == (0,)
    assert review.undo(uid="v").sample_ids == ()


def test_undo__an_empty_one_is_remembered(review: Review) -> None:
    assert review.undo(uid="u").sample_ids == ()
    review.decide([one(0)])

    assert review.undo(uid="u").sample_ids == ()
    assert review.sample(0).verdict == "keep"


def test_undo__takes_back_the_named_group_and_no_other(review: Review) -> None:
    for uid, sample_id in (("first", 0), ("other", 2), ("later", 0)):
        review.decide([Decision(uid=uid, group=uid, sample_id=sample_id, verdict="exclude")])

    assert review.undo(uid="u", group="unknown").sample_ids == ()
    for _ in range(2):  # Sent twice, undone once.
        assert review.undo(uid="v", group="first").sample_ids == (0,)
    assert review.sample(0).verdict == "exclude"
    assert review.undo(uid="w", group="first").sample_ids == ()
    assert review.undo(uid="x").sample_ids == (0,)
    assert review.sample(2).verdict == "exclude"
    with pytest.raises(StoreError, match="The group must have 1 to 200 printable characters"):
        review.undo(uid="y", group="")


def test_history__tells_who_decided_what_and_when(review: Review) -> None:
    review.decide([one(0, "relabel", 2)], reviewer="ann")
    review.undo(uid="u", reviewer="ann")
    review.decide([one(0, "keep")])

    events = review.history(0).events

    assert [(event.verdict, event.label, event.reviewer) for event in events] == [
        ("relabel", 2, "ann"),
        (None, None, "ann"),
        ("keep", None, "me"),
    ]
    assert [event.kind for event in events] == ["decision", "undo", "decision"]
    assert [event.decided_at for event in events] == [
        NOW + timedelta(seconds=second) for second in (1, 2, 3)
    ]
    assert {(event.round, event.run_id) for event in events} == {(1, "phase1-001")}


def test_decisions_stay_when_a_new_round_is_scored(store: Store, review: Review) -> None:
    review.decide([one(2, "relabel", 0)])

    add_scores(store, [0.9, 0.1, 0.2, 0.9], run_id="phase1-002", round=2)

    assert ids(review.queue().samples) == [1]
    assert review.sample(2).reviewed_label == 0
    review.decide([one(1)])
    assert [event.round for event in review.history(1).events] == [2]

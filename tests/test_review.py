"""The reviewer's use cases on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from deft_core.decisions import Decision, Note
from deft_core.errors import CountChangedError, StoreError
from deft_core.review import Review
from deft_core.shown import Counts, QueuedSample
from deft_core.store import SORT_NAMES, Filter, Sort, Store
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
        run="phase1-001",
        split="train",
        given_label=2,
        scored_label=2,
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
        seen=None,
        note=None,
        is_disputed=False,
        is_double=False,
        is_new=False,
        is_second_look=False,
        changes=(),
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


@settings(max_examples=20)
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
    review.decide(
        [
            one(0, "relabel", 2),
            one(1, "keep"),
            one(2, "both"),
            one(3, "exclude"),
            one(4, "unsure"),
        ]
    )
    progress = review.progress()

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
        (one(0, "both", 3), "Both needs a label from 0 to 2, found 3"),
        (replace(one(0), run="phase1-007"), 'There is no run "phase1-007"'),
        (replace(one(0), run="\ud800"), r"The run holds '\\ud800', which is no character to write"),
        (one(2**31), "No sample with id 2147483648"),
        (one(10**60), "No sample with id 1000"),
        (one(0, uid="x" * 201), "The uid has 201 characters; it must have 1 to 200"),
        (one(0, uid="a\0b"), r"The uid holds '\\x00', which is no character to write"),
        (one(0, uid="\ud800"), r"The uid holds '\\ud800', which is no character to write"),
        (
            Decision(uid="a", group="", sample_id=0, verdict="keep"),
            "The group has 0 characters; it must have 1 to 200",
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
    review.decide([one(0, "exclude", uid="a")])
    review.decide([one(0, "exclude", uid="a"), one(0, "keep", uid="a")])

    assert review.sample(0).verdict == "exclude"
    assert len(review.history(0).events) == 1


def test_decide__nothing_changes_nothing(review: Review) -> None:
    before = review.progress()
    review.decide([])
    assert review.progress() == before


def test_undo__a_group_at_once_and_then_the_one_before(review: Review) -> None:
    review.decide([one(1, "exclude")])
    review.decide([Decision(uid=f"b{i}", group="b", sample_id=i, verdict="keep") for i in (0, 2)])

    undone = review.undo(uid="u1")

    assert undone == (0, 2)
    assert review.progress().by_verdict["keep"] == 0
    assert review.undo(uid="u1") == undone
    assert review.undo(uid="u2") == (1,)
    assert review.undo(uid="u3") == ()


def test_undo__takes_the_reviewers_own_decision(review: Review) -> None:
    review.decide([one(0)], reviewer="ann")
    review.decide([one(2)], reviewer="bob")

    assert review.undo(uid="u", reviewer="ann") == (0,)
    assert review.undo(uid="v") == ()


def test_undo__an_empty_one_is_remembered(review: Review) -> None:
    assert review.undo(uid="u") == ()
    review.decide([one(0)])

    assert review.undo(uid="u") == ()
    assert review.sample(0).verdict == "keep"


def test_undo__takes_back_the_named_group_and_no_other(review: Review) -> None:
    for uid, sample_id in (("first", 0), ("other", 2), ("later", 0)):
        review.decide([Decision(uid=uid, group=uid, sample_id=sample_id, verdict="exclude")])

    assert review.undo(uid="u", group="unknown") == ()
    for _ in range(2):  # Sent twice, undone once.
        assert review.undo(uid="v", group="first") == (0,)
    assert review.sample(0).verdict == "exclude"
    assert review.undo(uid="w", group="first") == ()
    assert review.undo(uid="x") == (0,)
    assert review.sample(2).verdict == "exclude"
    with pytest.raises(StoreError, match="The group has 0 characters; it must have 1 to 200"):
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


def test_decide__is_about_the_run_that_was_shown(store: Store, review: Review) -> None:
    """Also when it arrives after another run, which suggests another class, came in."""
    shown = review.sample(0)
    add_scores(store, [0.5, 0.75, 0.125, 0.5], predicted=[2, 1, 0, 0], run_id="p2", round=2)

    review.decide([replace(one(0, "both"), run=shown.run)])
    review.decide([replace(one(2, "both", 1), run="p2"), one(3, "both")])

    (event,) = review.history(0).events
    assert (shown.run, shown.suggested_label) == ("phase1-001", 1)
    assert (event.round, event.run_id) == (1, "phase1-001")
    (logged,) = store.log.history(0).to_pylist()
    assert logged["shown"] == '{"p_clean":0.25,"suggested_label":1}'
    assert [event.run_id for event in review.history(3).events] == ["p2"]
    assert store.samples()["other_label"].to_pylist() == [1, None, 1, None, None]
    with pytest.raises(StoreError, match="A new run has scored the images since"):
        review.decide_matching(Filter(), uid="b", verdict="keep", n_expected=0, run=shown.run)


# --- orders, counts and cells


def every_id(review: Review, wanted: Filter, *, sort: Sort, limit: int) -> list[int]:
    """The ids of all pages."""
    found: list[int] = []
    after: str | None = None
    while True:
        page = review.queue(wanted, sort=sort, after=after, limit=limit)
        found += ids(page.samples)
        after = page.next
        if after is None:
            return found


@pytest.mark.parametrize("sort", [Sort(name=name, seed=3) for name in SORT_NAMES])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_queue__pages_of_every_order_hold_each_sample_once(sort: Sort, limit: int) -> None:
    rng = np.random.default_rng(0)
    given = rng.integers(0, 3, 17).tolist()
    with make_store(given) as store:
        add_scores(store, rng.choice([0.25, 0.5, 0.75], 17).tolist())
        review = Review(store)
        every = Filter(name="all")
        found = every_id(review, every, sort=sort, limit=limit)
        by_class = [given[i] for i in every_id(review, every, sort=Sort(name="class"), limit=200)]
        repeated = every_id(review, every, sort=sort, limit=200)

    assert sorted(found) == list(range(17))
    assert found == repeated
    assert by_class == sorted(given)


def test_queue__a_random_order_goes_by_its_seed(review: Review) -> None:
    every = Filter(name="all")
    orders = {
        tuple(every_id(review, every, sort=Sort(name="random", seed=seed), limit=9))
        for seed in range(12)
    }
    assert len(orders) > 3


@pytest.mark.parametrize(
    ("after", "sort"),
    [("1", "margin"), ("x:1", "margin"), ("1:1", "p_clean"), ("-1:1", "random"), ("1:x", "class")],
)
def test_queue__refuses_a_place_of_another_order(review: Review, after: str, sort: str) -> None:
    with pytest.raises(StoreError, match="is not a place in the queue"):
        review.queue(after=after, sort=Sort(name=sort))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Filter(name="mine"), 'There is no queue "mine"'),
        (Filter(given=(-1,)), "-1 is not a label"),
        (Filter(text="x" * 201), "text has 201 characters; 200 at most"),
        (Filter(text="\ud800"), "text holds half a character"),
        (Filter(reviewers=("\ud800",)), "reviewer holds half a character"),
        (Filter(reviewers=("x",) * 21), "reviewers has 21 entries; 20 at most"),
        (Filter(sample_ids=(2**31,)), "No sample with id 2147483648"),
    ],
)
def test_queue__refuses_a_filter_that_cannot_be(
    review: Review, wanted: Filter, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        review.queue(wanted)
    with pytest.raises(StoreError, match=message):
        review.count(wanted)


def test_count_and_confusion(review: Review) -> None:
    review.decide([one(2)])

    assert review.count(Filter(name="all")) == Counts(
        n_matching=4, n_flagged=3, n_undecided=3, n_with_suggestion=2, n_leased=0, counted_at=1
    )
    review.queue(reviewer="ann", is_leased=True, limit=1)
    assert review.count(Filter(name="all")).n_leased == 1
    assert review.count(Filter(name="all"), reviewer="ann").n_leased == 0
    confusion = review.confusion(Filter(name="all"), limit=3)
    assert confusion.n_cells == 4
    assert confusion.cells == (
        {"given": 0, "suggested": 1, "n": 1, "n_flagged": 1, "n_undecided": 1},
        {"given": 0, "suggested": None, "n": 1, "n_flagged": 1, "n_undecided": 1},
        {"given": 1, "suggested": None, "n": 1, "n_flagged": 0, "n_undecided": 0},
    )


# --- many at once


def test_decide_matching__is_one_step_and_only_for_as_many_as_were_shown(review: Review) -> None:
    with pytest.raises(CountChangedError, match="3 samples match now, not 2") as caught:
        review.decide_matching(Filter(), uid="b", verdict="exclude", n_expected=2)
    assert caught.value.n_matching == 3
    assert review.progress().n_decided == 0

    for _ in range(2):  # Sent twice, done once.
        assert review.decide_matching(Filter(), uid="b", verdict="exclude", n_expected=3) == 3
    assert review.progress().by_verdict["exclude"] == 3
    assert review.undo(uid="u") == (0, 2, 3)
    assert review.progress().n_decided == 0
    assert review.redo(uid="r") == (0, 2, 3)
    assert review.progress().n_decided == 3


def test_decide_matching__gives_each_its_suggestion(review: Review) -> None:
    with pytest.raises(StoreError, match="Only samples with a suggestion"):
        review.decide_matching(Filter(), uid="b", verdict="suggested", n_expected=3)

    with pytest.raises(StoreError, match="Only samples with a suggestion"):
        review.decide_matching(Filter(), uid="b", verdict="both", n_expected=3)

    wanted = Filter(has_suggestion=True)
    assert review.decide_matching(wanted, uid="b", verdict="suggested", n_expected=2) == 2
    assert {i: review.sample(i).reviewed_label for i in (0, 2, 3)} == {0: 1, 2: 0, 3: None}


def test_decide_matching__the_given_label_as_a_label_means_keep(review: Review) -> None:
    review.decide_matching(Filter(), uid="b", verdict="relabel", label=0, n_expected=3)

    assert review.progress().by_verdict["keep"] == 2
    assert review.progress().n_relabelled == review.progress().by_verdict["relabel"] == 1
    assert [event.label for event in review.history(0).events] == [None]


@pytest.mark.parametrize(
    ("uid", "verdict", "label", "message"),
    [
        ("x" * 151, "keep", None, "must have 1 to 150"),
        ("b", "relabel", None, "Relabel needs a label"),
        ("b", "delete", None, "is not a verdict"),
    ],
)
def test_decide_matching__refuses_what_cannot_be(
    review: Review, uid: str, verdict: str, label: int | None, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        review.decide_matching(Filter(), uid=uid, verdict=verdict, label=label, n_expected=3)


def test_decide_matching__refuses_a_uid_that_is_taken(review: Review) -> None:
    review.decide([one(2, uid="b:2")])
    wanted = Filter(name="all", sample_ids=(0, 2))

    with pytest.raises(StoreError, match='"b" is the id of another act'):
        review.decide_matching(wanted, uid="b", verdict="exclude", n_expected=2)

    assert (review.sample(0).verdict, review.sample(2).verdict) == (None, "keep")
    assert review.decide_matching(wanted, uid="c", verdict="exclude", n_expected=2) == 2
    with pytest.raises(StoreError, match='"c" is the id of another act'):
        review.decide_matching(wanted, uid="c", verdict="keep", n_expected=2, reviewer="ann")


# --- undo and redo


def test_undo_and_redo_reach_back_through_restarts(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with make_store([0, 1, 2], path=path) as store:
        review = Review(store)
        review.decide([one(0)])
        review.decide([one(1, "exclude")])
    for uid, sample_ids in (("u1", (1,)), ("u2", (0,))):
        with Store(path) as store:
            assert Review(store).undo(uid=uid) == sample_ids
    for uid, sample_ids in (("r1", (0,)), ("r2", (1,)), ("r3", ())):
        with Store(path) as store:
            review = Review(store)
            assert review.redo(uid=uid) == sample_ids
            assert review.redo(uid=uid) == sample_ids
    with Store(path) as store:
        assert store.log.current()["verdict"].to_pylist() == ["keep", "exclude"]


def test_redo__finds_nothing_after_a_new_decision(review: Review) -> None:
    review.decide([one(0)])
    review.undo(uid="u")
    review.decide([one(2)])

    assert review.redo(uid="r", undo="u") == ()
    assert review.sample(0).verdict is None


def test_redo__is_the_reviewers_own(review: Review) -> None:
    review.decide([one(0)], reviewer="ann")
    review.undo(uid="u", reviewer="ann")

    assert review.redo(uid="r1", reviewer="bob") == ()
    assert review.redo(uid="r2", undo="u", reviewer="ann") == (0,)


# --- notes


def test_notes__have_a_history_and_are_undone_like_decisions(review: Review) -> None:
    for number, text in enumerate(["first\nline", "second", ""]):
        review.decide([Note(uid=f"n{number}", group=f"n{number}", sample_id=2, note=text)])
    assert review.sample(2).note is None
    assert review.sample(2).verdict is None

    assert review.undo(uid="u") == (2,)

    assert review.sample(2).note == "second"
    events = review.history(2).events
    assert [(event.kind, event.note, event.is_live) for event in events] == [
        ("note", "first\nline", True),
        ("note", "second", True),
        ("note", "", False),
        ("undo", None, False),
    ]


@pytest.mark.parametrize("text", ["x" * 2001, "a\0b", "\ud800"])
def test_notes__that_cannot_be_kept_are_refused(review: Review, text: str) -> None:
    with pytest.raises(StoreError, match="The note h"):
        review.decide([Note(uid="n", group="n", sample_id=2, note=text)])


# --- reviewers


@pytest.mark.parametrize("name", ["می\u200cتو", "Jean\u00a0Luc", "👩\u200d🔬"])
def test_a_name_may_hold_what_is_not_printed(review: Review, name: str) -> None:
    review.decide([one(0)], reviewer=name)
    assert review.sample(0).reviewer == name


def test_leases__nobody_gets_what_another_one_holds(review: Review) -> None:
    assert ids(review.queue(reviewer="ann", is_leased=True, limit=2).samples) == [2, 0]
    page = review.queue(reviewer="bob", is_leased=True, limit=2)
    assert ids(page.samples) == [3]
    assert (page.n_matching, page.n_leased) == (3, 2)

    review.decide([one(2)], reviewer="ann")
    review.undo(uid="u", reviewer="ann")
    assert ids(review.queue(reviewer="cy", is_leased=True).samples) == [2]
    assert review.release(None, reviewer="ann") == 1
    assert ids(review.queue(reviewer="cy", is_leased=True).samples) == [2, 0]
    assert review.release([3], reviewer="cy") == 0


def test_leases__end_with_time_and_are_renewed_by_deciding(store: Store) -> None:
    clock = Clock()
    review = Review(store, clock=clock)
    review.queue(reviewer="ann", is_leased=True)
    clock.now += timedelta(minutes=9)
    review.decide([one(2)], reviewer="ann")
    clock.now += timedelta(minutes=9)
    assert review.queue(reviewer="bob", is_leased=True).samples == ()
    clock.now += timedelta(minutes=2)
    assert ids(review.queue(reviewer="bob", is_leased=True).samples) == [0, 3]


def test_leases__those_that_ended_are_no_longer_held(store: Store) -> None:
    clock = Clock()
    for _ in range(2):
        now = clock()
        assert store.reviewers.lease(range(600), reviewer="a", now=now, is_anew=False)
        clock.now += timedelta(minutes=11)
        assert store.reviewers.lease(range(600, 1200), reviewer="a", now=clock(), is_anew=False)
        clock.now += timedelta(minutes=11)


def test_leases__are_renewed_by_a_sign_of_life(store: Store) -> None:
    clock = Clock()
    review = Review(store, clock=clock)
    review.queue(reviewer="ann", is_leased=True)
    clock.now += timedelta(minutes=9)
    assert review.renew_leases(reviewer="ann") == 3
    clock.now += timedelta(minutes=9)
    assert review.queue(reviewer="bob", is_leased=True).samples == ()


def test_sample__its_other_classes_leave_the_given_one_out(store: Store) -> None:
    add_scores(store, [0.1] * 4, predicted=[2] * 4, run_id="phase1-002")
    assert Review(store).sample(0).top_labels == (2,)
    assert Review(store).sample(1).top_labels == (2, 0)
    assert Review(store).sample(2).top_labels == (0,)


def test_leases__of_many_at_once_never_overlap(tmp_path: Path) -> None:
    with make_store([0] * 200, path=tmp_path / "store.duckdb") as store:
        add_scores(store, [0.1] * 200)
        review = Review(store)

        def take(reviewer: str) -> list[int]:
            taken: list[int] = []
            after: str | None = None
            for _ in range(5):
                page = review.queue(reviewer=reviewer, is_leased=True, limit=5, after=after)
                taken += ids(page.samples)
                after = page.next
            return taken

        with ThreadPoolExecutor(6) as pool:
            taken = list(pool.map(take, [f"reviewer {i}" for i in range(6)]))

    every = [one for part in taken for one in part]
    assert len(every) == len(set(every)) == 150


def double_review(review: Review) -> None:
    """Everything is for double review; ann has decided 0, 1 and 2."""
    review.set_double_share(1)
    review.decide([one(0), one(1), one(2, "exclude")], reviewer="ann")
    review.decide([Note(uid="n", group="n", sample_id=0, note="a cat")], reviewer="ann")


def test_double_review__is_blind_until_the_second_one_has_decided(review: Review) -> None:
    double_review(review)

    mine, theirs = review.sample(0, reviewer="ann"), review.sample(0, reviewer="bob")
    assert (mine.verdict, mine.note, mine.is_double) == ("keep", "a cat", True)
    assert (theirs.verdict, theirs.reviewed_label, theirs.reviewer, theirs.note) == (None,) * 4
    assert review.history(0, reviewer="bob").events == ()
    review.decide([Note(uid="m", group="m", sample_id=0, note="a dog")], reviewer="bob")
    assert review.sample(0, reviewer="bob").note == "a dog"
    review.undo(uid="u", reviewer="bob")
    assert ids(review.queue(reviewer="ann").samples) == [3]
    assert ids(review.queue(reviewer="bob").samples) == [2, 0, 3]
    assert review.count(Filter(name="all", verdicts=("keep",)), reviewer="bob").n_matching == 0

    review.decide([one(0, uid="bob")], reviewer="bob")

    assert review.sample(0, reviewer="bob").verdict == "keep"
    assert review.sample(0, reviewer="bob").note == "a cat"
    assert len(review.history(0, reviewer="bob").events) == 5
    assert review.history(0, reviewer="bob").events[-1].is_blind


def test_double_review__a_disagreement_counts_for_nothing_until_it_is_settled(
    review: Review,
) -> None:
    double_review(review)
    review.decide([one(0, "relabel", 1, uid="b0"), one(1, uid="b1")], reviewer="bob")

    disputed = review.sample(0)
    assert (disputed.verdict, disputed.reviewed_label) == ("unsure", None)
    assert disputed.is_disputed
    assert ids(review.queue(Filter(name="disagreements")).samples) == [0]
    assert review.progress().n_disputed == 1
    assert review.sample(1).verdict == "keep"

    review.undo(uid="u", group="b0", reviewer="bob")
    assert review.sample(0, reviewer="ann").verdict == "keep"
    review.redo(uid="r", reviewer="bob")
    settled = one(0, "relabel", 1, uid="settled")
    review.decide([replace(settled, seen=review.sample(0).seen)], reviewer="cy")
    assert review.sample(0).reviewed_label == 1
    assert review.progress().n_disputed == 0


def test_double_review__relabel_to_the_given_label_agrees_with_keep(review: Review) -> None:
    double_review(review)
    review.decide([one(0, "relabel", 0, uid="b")], reviewer="bob")
    assert not review.sample(0).is_disputed


@pytest.mark.parametrize("first", ["ann", "bob"])
def test_double_review__who_corrects_himself_unseen_stays_blind(review: Review, first: str) -> None:
    """The slip of either reviewer: none of them was shown the other's decision."""
    double_review(review)
    review.decide([one(0, "relabel", 1, uid="b0")], reviewer="bob")

    review.decide([one(0, "relabel", 2, uid="corrected")], reviewer=first)

    assert review.sample(0).is_disputed
    (pair,) = review.agreement().pairs
    assert (pair.n, pair.n_agree) == (1, 0)

    review.decide([one(0, "relabel", 1, uid="again")], reviewer=first)
    is_alike = first == "ann"
    assert review.sample(0).is_disputed is not is_alike
    assert review.agreement().pairs[0].n_agree == int(is_alike)

    settled = one(0, "exclude", uid="settled")
    knowing = replace(settled, seen=review.sample(0, reviewer=first).seen)
    review.decide([knowing], reviewer=first)
    review.decide([replace(knowing, uid="s2", verdict="keep")], reviewer=first)
    assert (review.sample(0).verdict, review.sample(0).is_disputed) == ("keep", False)
    assert review.agreement().pairs[0].n_agree == int(is_alike)


def test_double_review__many_at_once_are_blind_where_nothing_was_shown(review: Review) -> None:
    double_review(review)
    review.decide([one(0, "relabel", 1, uid="b0")], reviewer="bob")
    every = Filter(name="all", sample_ids=(0, 1))
    counts = review.count(every, reviewer="bob")

    review.decide_matching(
        every,
        uid="all",
        verdict="unsure",
        n_expected=2,
        counted_at=counts.counted_at,
        reviewer="bob",
    )

    assert [review.sample(i).is_disputed for i in (0, 1)] == [False, True]


@pytest.mark.parametrize(("is_counted_again", "is_disputed"), [(False, True), (True, False)])
def test_double_review__many_at_once_overrule_nothing_that_came_after_the_count(
    review: Review, is_counted_again: bool, is_disputed: bool
) -> None:
    double_review(review)
    every = Filter(name="all", sample_ids=(0, 1))
    counts = review.count(every, reviewer="ann")
    review.decide([one(0, "relabel", 1, uid="b0")], reviewer="bob")
    if is_counted_again:
        counts = review.count(every, reviewer="ann")

    review.decide_matching(
        every,
        uid="all",
        verdict="keep",
        n_expected=counts.n_matching,
        counted_at=counts.counted_at,
        reviewer="ann",
    )

    assert review.sample(0).is_disputed is is_disputed
    assert review.history(0).events[-1].is_blind is is_disputed


def test_agreement__counts_what_was_decided_blind_and_nothing_else(review: Review) -> None:
    double_review(review)
    blind = [one(0, uid="x"), one(1, "exclude", uid="y"), one(2, "exclude", uid="z")]
    review.decide(blind, reviewer="bob")
    settled = one(1, "exclude", uid="settled")
    review.decide([replace(settled, seen=review.sample(1).seen)], reviewer="ann")

    agreement = review.agreement()

    assert (agreement.double_share, agreement.n_disputed) == (1, 0)
    (pair,) = agreement.pairs
    assert (pair.first, pair.second, pair.n, pair.n_agree) == ("ann", "bob", 3, 2)
    # Outcomes: ann 0, 1, exclude; bob 0, exclude, exclude. By chance (1 + 0 + 2) / 9.
    assert pair.kappa == pytest.approx((2 / 3 - 3 / 9) / (1 - 3 / 9))


def test_double_review__a_larger_share_only_adds_samples() -> None:
    with make_store([0] * 300) as store:
        add_scores(store, [0.1] * 300)
        review = Review(store)
        chosen = []
        for share in (0, 0.2, 0.5, 1):
            review.set_double_share(share)
            page = review.queue(limit=200)
            rest = review.queue(limit=200, after=page.next)
            chosen.append({s.sample_id for s in (*page.samples, *rest.samples) if s.is_double})

    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]
    assert (len(chosen[0]), len(chosen[3])) == (0, 300)
    assert 30 < len(chosen[1]) < 90
    with pytest.raises(StoreError, match="goes from 0 to 1"):
        review.set_double_share(1.5)


# --- evidence


def test_evidence__shows_trusted_samples_and_says_why(store: Store, review: Review) -> None:
    assert not review.evidence(0).has_neighbours
    assert review.evidence(0).sentence == (
        "Labelled class 0; closer to the positive prompt; most like class 1."
    )
    neighbours = pa.table(
        {"sample_id": [0], "nearest": [[1, 3]], "nearest_given": [[3]], "nearest_predicted": [[1]]}
    )
    add_scores(store, [0.25, 0.75], predicted=[1, 1], run_id="p2", neighbours=neighbours)

    evidence = review.evidence(0)

    assert [one.sample_id for one in evidence.nearest] == [1, 3]
    assert [one.label for one in evidence.given] == [0]
    assert [one.file_name for one in evidence.suggested] == ["class 1/1.jpg"]
    review.decide([one(1, "relabel", 2)])
    assert [example.label for example in review.evidence(0).suggested] == [2]
    assert evidence.sentence.endswith("1 of 2 nearest are class 1.")
    with pytest.raises(StoreError, match="No sample with id 9"):
        review.evidence(9)


def test_view__refuses_half_a_character(review: Review) -> None:
    with pytest.raises(StoreError, match="The state holds half a character"):
        review.set_view({"filter": {"text": "\ud800"}})


def test_view__is_kept_for_each_reviewer(review: Review) -> None:
    assert review.view(reviewer="ann") is None
    for size in (24, 48):
        review.set_view({"page_size": size}, reviewer="ann")
    assert review.view(reviewer="ann") == {"page_size": 48}
    assert review.view() is None

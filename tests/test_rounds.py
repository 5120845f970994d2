"""A second round: what changed, what is new, and which decisions ask for a second look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from deft_core import selection
from deft_core.decisions import Decision
from deft_core.errors import StoreError
from deft_core.review import Review
from deft_core.shown import QueuedSample, SplitReview
from deft_core.store import SORT_NAMES, Filter, Sort, Store
from tests.small_world import Clock, add_predictions, add_scores, make_store

SECOND_LOOK = Filter(name="second look")
NEW = Filter(name="new")


@pytest.fixture
def store() -> Iterator[Store]:
    """Samples 0-4 for training, of which 0, 1 and 2 are flagged; 5 and 6 are test images."""
    splits = ["train"] * 5 + ["test"] * 2
    with make_store([0, 1, 2, 0, 1, 2, 0], splits=splits) as opened:
        add_scores(opened, [0.1, 0.2, 0.3, 0.8, 0.9, 0.4, 0.7], predicted=[1, 1, 0, 0, 1, 0, 0])
        yield opened


@pytest.fixture
def review(store: Store) -> Review:
    return Review(store, clock=Clock())


def decide(review: Review, sample_id: int, verdict: str, label: int | None = None) -> None:
    uid = f"{sample_id}-{verdict}-{label}-{review.progress().by_verdict}"
    decision = Decision(uid=uid, group=uid, sample_id=sample_id, verdict=verdict, label=label)
    review.decide([decision])


def second_round(store: Store, *, predicted: list[int], p_clean: list[float]) -> None:
    """Scores of all samples by a new phase 1; the classifier says the same with 95 %."""
    add_predictions(store, predicted, [0.95] * len(predicted))
    add_scores(store, p_clean, predicted=predicted, run_id="phase1-003", round=2)


def ids(samples: tuple[QueuedSample, ...]) -> list[int]:
    return [one.sample_id for one in samples]


def test_the_first_round_has_nothing_to_compare_with(review: Review) -> None:
    assert all(one.changes == () for one in review.queue().samples)
    assert ids(review.queue(NEW).samples) == []
    assert review.progress().n_new == review.progress().n_second_look == 0


def test_each_sample_says_what_changed(store: Store, review: Review) -> None:
    second_round(
        store, predicted=[2, 1, 0, 2, 1, 0, 0], p_clean=[0.1, 0.9, 0.3, 0.2, 0.9, 0.4, 0.7]
    )

    assert [review.sample(one).changes for one in range(5)] == [
        (
            "Flagged in round 1 too.",
            "The suggestion changed from class 1 to class 2.",
            "The classifier disagrees: class 0 5%, class 2 95%.",
        ),
        ("No longer flagged, as it was in round 1.",),
        ("Flagged in round 1 too.", "The classifier disagrees: class 2 5%, class 0 95%."),
        (
            "New: not flagged in round 1.",
            "The suggestion changed from none to class 2.",
            "The classifier disagrees: class 0 5%, class 2 95%.",
        ),
        (),
    ]
    assert ids(review.queue().samples) == [0, 3, 2]
    assert ids(review.queue(NEW).samples) == [3]
    assert review.progress().n_new == 1


def test_a_decided_sample_stays_out_and_says_so_where_it_is_shown(
    store: Store, review: Review
) -> None:
    decide(review, 0, "keep")
    decide(review, 1, "relabel", 2)
    decide(review, 2, "exclude")

    second_round(store, predicted=[0, 2, 0, 0, 1], p_clean=[0.2, 0.9, 0.1, 0.9, 0.9])

    assert ids(review.queue().samples) == []
    assert ids(review.queue(SECOND_LOOK).samples) == []
    sentences = [review.sample(one).changes[0] for one in range(3)]
    assert sentences == [
        "You kept this in round 1.",
        "You relabelled this from class 1 to class 2 in round 1.",
        "You excluded this in round 1.",
    ]
    assert review.sample(1).scored_label == 2
    assert review.sample(1).suggested_label is None
    seen_by_ann = review.sample(0, reviewer="ann")
    assert seen_by_ann.changes[0] == "me kept this in round 1."


def test_a_dispute_of_an_earlier_round_is_told_with_both_names(
    store: Store, review: Review
) -> None:
    review.set_double_share(1)
    for name, verdict in (("ann", "keep"), ("bea", "exclude")):
        decision = Decision(uid=name, group=name, sample_id=0, verdict=verdict)
        review.decide([decision], reviewer=name)

    second_round(store, predicted=[1, 1, 0, 0, 1], p_clean=[0.1] * 5)

    told = {who: review.sample(0, reviewer=who).changes[0] for who in ("ann", "bea", "cat")}
    assert told["ann"] == "You and bea disagreed in round 1."
    assert told["bea"] == "You and ann disagreed in round 1."
    assert told["cat"] == "ann and bea disagreed in round 1."


def test_a_relabel_that_is_undone_after_the_next_round_is_a_suspect_again(
    store: Store, review: Review
) -> None:
    """What the run believes is the label that it was told, not the given one."""
    decide(review, 1, "relabel", 2)
    second_round(store, predicted=[1, 2, 0, 0, 1], p_clean=[0.1, 0.9, 0.3, 0.9, 0.9])
    assert review.sample(1).is_clean
    assert ids(review.queue().samples) == [0, 2]

    review.undo(uid="u")

    assert not review.sample(1).is_clean
    assert review.sample(1).changes == (
        "Scored as class 2, by a decision that was taken back since.",
    )
    assert ids(review.queue().samples) == [0, 2, 1]
    assert not review.points().is_clean[1]
    assert selection.curated_set(store.samples()).curated_label[1] == selection.NO_LABEL
    assert store.verify().is_sound

    review.redo(uid="r")

    assert selection.curated_set(store.samples()).curated_label[1] == 2
    assert ids(review.queue().samples) == [0, 2]
    assert store.verify().is_sound


def test_what_is_suggested_for_an_undecided_sample_is_beside_the_given_label(
    store: Store, review: Review
) -> None:
    """The run knew both by the label of a decision that was taken back since."""
    decide(review, 0, "relabel", 1)
    decide(review, 1, "relabel", 2)
    second_round(store, predicted=[0, 2, 0, 0, 1], p_clean=[0.1, 0.9, 0.3, 0.9, 0.9])
    decided = [review.sample(one).suggested_label for one in (0, 1)]

    review.undo(uid="u1")
    review.undo(uid="u2")

    assert decided == [0, None]
    assert [review.sample(one).suggested_label for one in (0, 1)] == [None, 2]
    assert ids(review.queue(Filter(has_suggestion=True)).samples) == [2, 1]
    assert store.verify().is_sound
    review.redo(uid="r")
    review.redo(uid="s")
    assert [review.sample(one).suggested_label for one in (0, 1)] == decided
    assert store.verify().is_sound


@pytest.mark.parametrize("is_one_of_many", [True, False])
def test_the_given_label_is_not_right_beside_itself(
    store: Store, review: Review, is_one_of_many: bool
) -> None:
    decide(review, 0, "relabel", 1)
    second_round(store, predicted=[0, 1, 0, 0, 1], p_clean=[0.1, 0.9, 0.3, 0.9, 0.9])
    assert review.sample(0).suggested_label == 0

    if is_one_of_many:
        wanted = Filter(name="second look", has_suggestion=True)
        review.decide_matching(wanted, uid="m", verdict="both", n_expected=1)
    else:
        decide(review, 0, "both", 0)

    assert review.sample(0).verdict == "both"
    assert store.samples()["other_label"].to_pylist()[0] is None


def test_a_decision_asks_for_a_second_look_when_both_models_say_another_class(
    store: Store, review: Review
) -> None:
    decide(review, 0, "keep")
    decide(review, 1, "relabel", 2)

    second_round(store, predicted=[1, 2, 0, 0, 1], p_clean=[0.1, 0.9, 0.3, 0.9, 0.9])

    (sample,) = review.queue(SECOND_LOOK).samples
    assert sample.sample_id == 0
    assert sample.is_second_look
    assert sample.changes[0] == "You kept this in round 1; both new models say class 1."
    assert review.progress().n_second_look == 1
    assert ids(review.queue().samples) == [2]

    decide(review, 0, "keep")
    assert ids(review.queue(SECOND_LOOK).samples) == []
    review.undo(uid="u")
    assert ids(review.queue(SECOND_LOOK).samples) == [0]
    assert store.verify().is_sound


def test_many_decisions_stay_in_one_step(store: Store, review: Review) -> None:
    decide(review, 0, "keep")
    decide(review, 1, "relabel", 2)
    decide(review, 2, "exclude")
    second_round(store, predicted=[1, 1, 0, 0, 1], p_clean=[0.1, 0.2, 0.3, 0.9, 0.9])
    assert review.sample(1).top_labels == (1, 0)  # The given label is one of the others.

    n = review.decide_matching(SECOND_LOOK, uid="all", verdict="standing", n_expected=2)

    assert n == 2
    assert ids(review.queue(SECOND_LOOK).samples) == []
    assert review.progress().n_second_look == 0
    assert [review.sample(one).reviewed_label for one in (0, 1)] == [0, 2]
    stays = review.history(1).events[-1]
    assert (stays.verdict, stays.label, stays.round) == ("relabel", 2, 2)
    assert review.undo(uid="u") == (0, 1)
    assert review.progress().n_second_look == 2
    assert store.verify().is_sound


def test_only_what_is_questioned_can_stay(review: Review) -> None:
    for wanted, label in ((Filter(name="all"), None), (SECOND_LOOK, 1)):
        with pytest.raises(StoreError, match="Only decisions that are questioned can stay"):
            review.decide_matching(wanted, uid="all", verdict="standing", label=label, n_expected=0)


@pytest.mark.parametrize(
    ("classifier", "p"), [([2, 1, 0, 0, 1], 0.95), ([1, 1, 0, 0, 1], 0.7), ([0, 1, 0, 0, 1], 0.95)]
)
def test_one_model_alone_or_unsure_asks_for_no_second_look(
    store: Store, review: Review, classifier: list[int], p: float
) -> None:
    decide(review, 0, "keep")
    add_predictions(store, classifier, [p] * 5)

    add_scores(
        store, [0.1, 0.9, 0.3, 0.9, 0.9], predicted=[1, 1, 0, 0, 1], run_id="phase1-003", round=2
    )

    assert ids(review.queue(SECOND_LOOK).samples) == []


def test_the_latest_classifier_counts(store: Store, review: Review) -> None:
    decide(review, 0, "keep")
    second_round(store, predicted=[1, 1, 0, 0, 1], p_clean=[0.1, 0.9, 0.3, 0.9, 0.9])

    add_predictions(store, [0, 1, 0, 0, 1], [0.95] * 5, run_id="phase2-004", round=2)

    assert ids(review.queue(SECOND_LOOK).samples) == []


def test_the_latest_classifier_is_not_one_that_was_cut_off_and_ended_later(
    store: Store, review: Review
) -> None:
    decide(review, 0, "keep")
    second_round(store, predicted=[1, 1, 0, 0, 1], p_clean=[0.1, 0.9, 0.3, 0.9, 0.9])
    add_predictions(store, [1, 1, 0, 0, 1], [0.95] * 5, run_id="phase2-005", round=2)

    add_predictions(store, [0, 1, 0, 0, 1], [0.95] * 5, run_id="phase2-004", round=2)

    assert ids(review.queue(SECOND_LOOK).samples) == [0]


def test_what_the_classifier_said_of_another_label_is_not_shown(
    store: Store, review: Review
) -> None:
    add_predictions(store, [1, 1, 0, 0, 1], [0.95] * 5)

    decide(review, 0, "relabel", 2)

    assert review.sample(0).changes == ()


def test_what_was_selected_stays_what_phase_1_found_before_any_decision(store: Store) -> None:
    selected = store.samples()["is_clean"].to_pylist()

    second_round(store, predicted=[0] * 7, p_clean=[0.9] * 7)

    assert store.samples()["is_clean"].to_pylist() != selected
    assert store.samples()["is_selected"].to_pylist() == selected


def test_test_images_are_behind_their_filter(store: Store, review: Review) -> None:
    assert ids(review.queue(Filter(name="all")).samples) == [0, 1, 2, 3, 4]
    assert ids(review.queue(Filter(split="test")).samples) == [5]
    assert ids(review.queue(Filter(name="all", split="test")).samples) == [5, 6]
    assert review.points().sample_id.tolist() == [0, 1, 2, 3, 4]
    assert (review.progress().n_samples, review.progress().n_flagged) == (5, 3)
    assert review.split_review("test") == SplitReview(n_scored=2, n_left=1)

    decide(review, 5, "relabel", 0)

    assert review.progress().n_decided == 0
    assert review.split_review("test") == SplitReview(n_scored=2, n_left=0)


def test_a_blind_reviewer_cannot_tell_the_first_decision_from_what_the_run_says() -> None:
    """Whatever ann decided, and however the run changed by it, bob sees the same."""
    worlds = [
        world_of_bob("keep", None, p_clean=0.95, predicted=1),
        world_of_bob("relabel", 1, p_clean=0.9, predicted=1),
        world_of_bob("relabel", 2, p_clean=0.2, predicted=1),
        world_of_bob("exclude", None, p_clean=0.1, predicted=2),
    ]

    assert worlds[1:] == worlds[:1] * 3


def test_a_blind_reviewer_cannot_tell_a_decision_that_was_made_anew(store: Store) -> None:
    """The run has learnt from the first one, although it was taken back."""
    review = Review(store, clock=Clock())
    review.set_double_share(1)
    first = Decision(uid="a", group="a", sample_id=0, verdict="relabel", label=1)
    review.decide([first], reviewer="ann")
    second_round(store, predicted=[1, 1, 0, 0, 1], p_clean=[0.95, 0.2, 0.3, 0.9, 0.9])
    before = review.sample(0, reviewer="bob")

    review.undo(uid="u", reviewer="ann")
    anew = Decision(uid="b", group="b", sample_id=0, verdict="relabel", label=1)
    review.decide([anew], reviewer="ann")

    assert before.p_clean is None
    assert review.sample(0, reviewer="bob") == before
    assert "has learnt" in review.evidence(0, reviewer="bob").sentence
    assert ids(review.queue(reviewer="bob").samples) == [1, 2, 0]
    assert store.verify().is_sound


def world_of_bob(
    verdict: str, label: int | None, *, p_clean: float, predicted: int
) -> dict[str, Any]:
    """All that bob is shown in round 2 of sample 0, which ann decided in round 1, and beside it."""
    with make_store([0, 1, 2, 0]) as store:
        review = Review(store, clock=Clock())
        review.set_double_share(1)
        add_scores(store, [0.1, 0.2, 0.9, 0.9], predicted=[1, 2, 2, 0])
        first = Decision(uid="a", group="a", sample_id=0, verdict=verdict, label=label)
        review.decide([first], reviewer="ann")
        again = Decision(uid="b", group="b", sample_id=0, verdict=verdict, label=label)
        neighbours = pa.table(
            {
                "sample_id": pa.array([0, 1], pa.int32()),
                "nearest": pa.array([[2], [0, 2]], pa.list_(pa.int32())),
                "nearest_given": pa.array([[3 - (label or 0)], [0]], pa.list_(pa.int32())),
                "nearest_predicted": pa.array([[predicted], [0]], pa.list_(pa.int32())),
            }
        )
        add_predictions(store, [predicted, 2, 2, 0], [0.95] * 4)
        add_scores(
            store,
            [p_clean, 0.2, 0.9, 0.9],
            predicted=[predicted, 2, 2, 0],
            run_id="phase1-003",
            round=2,
            neighbours=neighbours,
        )
        review.decide([again], reviewer="ann")
        sample = review.sample(0, reviewer="bob")
        assert (sample.p_clean, sample.suggested_label, sample.top_labels) == (None, None, ())
        assert not sample.is_clean
        assert "has learnt" in review.evidence(0, reviewer="bob").sentence
        assert review.evidence(1, reviewer="bob").given == ()
        assert review.points(seen_by="bob").sample_id.tolist() == [1, 2, 3]
        assert review.points().sample_id.tolist() == [0, 1, 2, 3]
        assert review.sample(0, reviewer="ann").p_clean == pytest.approx(p_clean)
        orders = [Sort(name=name, seed=1) for name in SORT_NAMES]
        seen = {
            "pages": [page_by_page(review, sort=sort) for sort in orders],
            "filtered": [
                ids(review.queue(wanted, reviewer="bob").samples)
                for wanted in (
                    NEW,
                    SECOND_LOOK,
                    Filter(name="all", p_max=1),
                    Filter(suggested=(1,)),
                )
            ],
            "confusion": review.confusion(Filter(name="all"), reviewer="bob"),
            "evidence": [review.evidence(one, reviewer="bob") for one in range(4)],
            "history": review.history(0, reviewer="bob"),
        }
        assert [one.sample_id for one in seen["pages"][0]] == [1, 0]
        blind = Decision(uid="bob", group="bob", sample_id=0, verdict="both")
        review.decide([blind], reviewer="bob")
        assert store.samples()["other_label"].to_pylist()[0] is None
        assert review.sample(0, reviewer="bob").p_clean == pytest.approx(p_clean)
        assert store.verify().is_sound
    return seen


def page_by_page(review: Review, *, sort: Sort) -> list[QueuedSample]:
    """Bob's suspects, one a page."""
    page = review.queue(sort=sort, limit=1, reviewer="bob")
    found = list(page.samples)
    while page.next:
        page = review.queue(sort=sort, limit=1, after=page.next, reviewer="bob")
        found.extend(page.samples)
    return found

"""The rules by rows that a reader can check by hand, and by properties."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given as cases
from hypothesis import strategies as st

from deft_core import selection
from deft_core.selection import NO_LABEL


def test_suggested_labels__none_where_the_model_agrees() -> None:
    suggested = selection.suggested_labels(np.array([1, 2, 0]), labels=np.array([1, 0, 0]))

    assert suggested.tolist() == [NO_LABEL, 2, NO_LABEL]


def test_is_believed__from_the_second_round_on_the_epochs_have_a_say() -> None:
    is_clean = np.array([True, True, True, False])
    mean_margin = np.array([0.1, -0.1, np.nan, 0.1])

    first = selection.is_believed(is_clean, mean_margin=mean_margin, round=1)
    second = selection.is_believed(is_clean, mean_margin=mean_margin, round=2)

    assert first.tolist() == [True, True, True, False]
    assert second.tolist() == [True, False, True, False]


def test_undecided__training_samples_are_curated_with_their_given_labels() -> None:
    samples = pa.table({"given_label": [2, 0], "split": ["train", "test"]})

    told = selection.undecided(samples)

    assert told["final_label"].to_pylist() == [2, 0]
    assert told["is_reviewed"].to_pylist() == [False, False]
    assert told["curated_label"].to_pylist() == [2, None]


def test_queue_order__most_suspect_first_and_ties_by_id() -> None:
    order = selection.queue_order(np.array([0.5, 0.1, 0.5]), sample_id=np.array([9, 7, 3]))

    assert order.tolist() == [1, 2, 0]


def test_curated_labels__every_rule() -> None:
    rows = [
        # verdict, given, reviewed, is_clean, is_train -> final, curated
        ("", 1, NO_LABEL, True, True, 1, 1),
        ("", 1, NO_LABEL, False, True, 1, NO_LABEL),
        ("", 1, NO_LABEL, False, False, 1, NO_LABEL),
        ("keep", 1, 1, False, True, 1, 1),
        ("relabel", 1, 2, True, True, 2, 2),
        ("relabel", 1, 2, False, False, 2, NO_LABEL),
        ("both", 1, NO_LABEL, True, True, NO_LABEL, NO_LABEL),
        ("exclude", 1, NO_LABEL, True, True, NO_LABEL, NO_LABEL),
        ("unsure", 1, NO_LABEL, False, False, NO_LABEL, NO_LABEL),
    ]
    verdict, given, reviewed, is_clean, is_train, final, curated = map(
        np.array, zip(*rows, strict=True)
    )

    assert (
        selection.final_labels(given, reviewed=reviewed, verdict=verdict).tolist() == final.tolist()
    )
    assert (
        selection.curated_labels(
            given, reviewed=reviewed, verdict=verdict, is_clean=is_clean, is_train=is_train
        ).tolist()
        == curated.tolist()
    )


def test_label_provenance__every_training_sample_once() -> None:
    rows = [
        # split, given, is_clean, verdict, reviewed, reviewer, round
        ("train", 0, True, None, None, None, None),
        ("train", 0, False, None, None, None, None),
        ("train", 0, None, None, None, None, None),
        ("train", 0, False, "keep", 0, "ann", 1),
        ("train", 0, False, "relabel", 1, "ben", 1),
        ("train", 1, True, "relabel", 1, "ben", 2),
        ("train", 1, True, "exclude", None, "ann", 2),
        ("test", 1, None, "relabel", 0, "eve", 3),
    ]
    names = ["split", "given_label", "is_clean", "verdict", "reviewed_label", "reviewer", "round"]
    samples = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))

    assert selection.label_provenance(samples) == {
        "n_train": 7,
        "by_verdict": {"keep": 1, "relabel": 2, "exclude": 1},
        "n_changed": 1,
        "n_undecided_clean": 1,
        "n_undecided_flagged": 2,
        "n_reviewers": 2,
        "n_rounds": 2,
    }


@cases(st.lists(st.floats(0, 1, width=32), max_size=50))
def test_queue_order__is_a_permutation_in_ascending_order(scores: list[float]) -> None:
    p_clean = np.array(scores, dtype=np.float32)

    order = selection.queue_order(p_clean, sample_id=np.arange(len(scores)))

    assert sorted(order.tolist()) == list(range(len(scores)))
    assert (np.diff(p_clean[order]) >= 0).all()

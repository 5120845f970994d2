"""The figures of a classifier by hand."""

from __future__ import annotations

import numpy as np
import pytest

from deft_core.evaluation import calibration_error, evaluate

LABELS = np.array([0, 0, 1, 1, 1])
PREDICTED = np.array([0, 1, 1, 1, 3])
CONFIDENCE = np.array([1.0, 0.75, 0.75, 0.5, 0.5], np.float32)


def test_the_figures_by_hand() -> None:
    is_reviewed = np.array([True, True, False, False, False])

    found = evaluate(
        PREDICTED, confidence=CONFIDENCE, labels=LABELS, is_reviewed=is_reviewed, n_classes=4
    )

    assert found is not None
    assert (found["n"], found["n_reviewed"]) == (5, 2)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["on_reviewed"] == pytest.approx(1 / 2)
    assert found["on_given"] == pytest.approx(2 / 3)
    # Class 0: 2 * 1 / (1 + 2); class 1: 2 * 2 / (3 + 3); class 3: 0; class 2 does not occur.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    # At 1: right, no gap. At 0.75: one of two right, 0.5 over. At 0.5: one of two right, no gap.
    assert found["ece"] == pytest.approx(0.5 / 5)
    assert found["mean_confidence"] == pytest.approx(3.5 / 5)
    assert found["confusion"] == [[0, 0, 1], [0, 1, 1], [1, 1, 2], [1, 3, 1]]
    assert found["per_class"][:2] == [
        {"label": 0, "n": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)},
        {
            "label": 1,
            "n": 3,
            "precision": pytest.approx(2 / 3),
            "recall": pytest.approx(2 / 3),
            "f1": pytest.approx(2 / 3),
        },
    ]
    assert found["per_class"][2] == {"label": 2, "n": 0, "precision": 0, "recall": 0, "f1": 0}


def test_without_images_there_are_no_figures() -> None:
    none = np.empty(0, np.int64)

    found = evaluate(
        none,
        confidence=np.empty(0, np.float32),
        labels=none,
        is_reviewed=np.empty(0, np.bool_),
        n_classes=2,
    )

    assert found is None


def test_labels_that_nobody_reviewed_give_no_accuracy_on_reviewed_ones() -> None:
    found = evaluate(
        PREDICTED,
        confidence=CONFIDENCE,
        labels=LABELS,
        is_reviewed=np.zeros(5, np.bool_),
        n_classes=4,
    )

    assert found is not None
    assert (found["on_reviewed"], found["on_given"]) == (None, found["accuracy"])


def test_a_classifier_that_is_as_right_as_it_is_sure_has_no_calibration_error() -> None:
    confidence = np.repeat([0.25, 0.75], 4).astype(np.float32)
    is_right = np.array([True, False, False, False, True, True, True, False])

    assert calibration_error(confidence, is_right) == pytest.approx(0)
    assert calibration_error(confidence, ~is_right) == pytest.approx(0.5)

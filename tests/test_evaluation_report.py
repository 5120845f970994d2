"""What the Adapt tab makes of the report of a phase 2."""

from __future__ import annotations

from typing import Any

import gradio as gr

from review_ui.evaluation_report import report_view

CLASS_NAMES = ["cat", "dog", "<b>*owl*</b>"]
TEST: dict[str, Any] = {
    "n": 400,
    "n_reviewed": 0,
    "accuracy": 0.9125,
    "on_reviewed": None,
    "on_given": 0.9125,
    "macro_f1": 0.9,
    "ece": 0.031,
    "mean_confidence": 0.97,
    "per_class": [
        {"label": 0, "n": 200, "precision": 0.95, "recall": 0.9, "f1": 0.92},
        {"label": 1, "n": 200, "precision": 0.8, "recall": 0.85, "f1": 0.82},
        {"label": 2, "n": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0},
    ],
    "confusion": [[0, 0, 180], [0, 1, 12], [0, 2, 1], [1, 0, 20], [1, 1, 187]],
}
CURATED = {"trained_on": "curated", "n_train": 1300, "n_epochs": 10, "test": TEST}
GIVEN = {**CURATED, "trained_on": "given", "n_train": 1600, "test": {**TEST, "accuracy": 0.9}}


def view(*entries: dict[str, Any]) -> list[Any]:
    return report_view({"evaluation": entries}, CLASS_NAMES)


def test_without_a_report_nothing_is_shown() -> None:
    whole, *_ = report_view(None, CLASS_NAMES)

    assert isinstance(whole, gr.Column)
    assert not whole.visible


def test_without_test_images_only_the_training_is_told() -> None:
    whole, figures, meaning, bars, comparison, mistakes, classes = view({**CURATED, "test": None})

    assert whole.visible
    assert [pair["number"] for pair in figures] == ["1,300"]
    assert (meaning, mistakes) == ("", "")
    assert not any(part.visible for part in (bars, comparison, classes))


def test_the_curated_set_is_compared_in_test_images() -> None:
    _, _, meaning, bars, comparison, _, _ = view(GIVEN, CURATED)

    assert meaning.startswith("The curated set gets **5 more test images** right than the same")
    assert bars.visible
    rows = comparison.value["data"]
    assert rows[0] == ["given labels", "1,600", "90.0%", "-1.2 points", "90.0%", "3.1%"]
    assert rows[1][:4] == ["curated set", "1,300", "91.2%", ""]


def test_alone_it_is_compared_with_nothing() -> None:
    _, _, meaning, _, comparison, _, _ = view(CURATED)

    assert "than the same training" not in meaning
    assert not comparison.visible


def test_what_the_test_labels_are_is_said() -> None:
    for changes, expected in [
        ({}, "Nobody has reviewed the test labels"),
        ({"n_reviewed": 400, "on_reviewed": 0.9125}, "All test labels have been reviewed."),
        (
            {"n_reviewed": 100, "on_reviewed": 0.95, "on_given": 0.9},
            "100 of 400 test labels have been reviewed: of these 95.0% are right, and 90.0% of the",
        ),
    ]:
        assert expected in view({**CURATED, "test": {**TEST, **changes}})[2]


def test_calibration_is_one_sentence() -> None:
    for confidence, expected in [
        (0.97, "97.0% sure of its answer, and 91.2% of them are right: it is too sure of itself."),
        (0.92, "it knows how sure it may be."),
        (0.8, "it is not sure enough of itself."),
    ]:
        assert expected in view({**CURATED, "test": {**TEST, "mean_confidence": confidence}})[2]


def test_the_worst_mistakes_are_named_in_words_and_literally() -> None:
    mistakes = view(CURATED)[5]

    assert mistakes.splitlines()[2:] == [
        "- dog taken for cat 20 times",
        "- cat taken for dog 12 times",
        r"- cat taken for \<b\>\*owl\*\<\/b\> once",
    ]
    assert view({**CURATED, "test": {**TEST, "confusion": [[0, 0, 400]]}})[5] == (
        "No test image was taken for another class."
    )


def test_the_hardest_class_comes_first_and_untested_ones_are_left_out() -> None:
    rows = view(CURATED)[6].value["data"]

    assert rows == [["dog", 200, "85%", "80%", "82%"], ["cat", 200, "90%", "95%", "92%"]]

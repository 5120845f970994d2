"""What the Adapt tab makes of a report."""

from __future__ import annotations

from review_ui.adapt_tab import result_view

SCORES = {"n": 400, "accuracy": 0.9125, "macro_f1": 0.9}


def test_without_test_images_only_the_training_is_told() -> None:
    _, figures, plot, meaning = result_view({"n_train": 7, "test": None, "baseline": None})

    assert [pair["number"] for pair in figures.value] == ["7"]
    assert not plot.visible
    assert meaning == ""


def test_the_baseline_is_compared_in_test_images() -> None:
    given = {**SCORES, "accuracy": 0.9}

    *_, meaning = result_view({"n_train": 7, "test": SCORES, "baseline": given})

    assert meaning.startswith("The curated set gets **5 more test images** right")

"""Figures are made from arrays alone; what they show can be counted."""

from __future__ import annotations

import numpy as np
import pytest

from deft_core.run_folder import Progress
from review_ui import plots


def test_histogram_counts_each_sample_once_and_sets_the_flagged_apart() -> None:
    """Whatever flagged them: the sample of 0.9 is no error of the threshold."""
    p_clean = np.array([0.0, 0.1, 0.5, 0.51, 0.9, 1.0], dtype=np.float32)
    is_clean = np.array([False, False, False, True, False, True])
    figure = plots.clean_probability_histogram(p_clean, is_clean=is_clean)
    totals = {trace.name: sum(trace.y) for trace in figure.data}
    assert totals == {"flagged": 4, "believed": 2}


def test_histogram_of_nothing_is_an_empty_figure() -> None:
    nothing = np.array([], dtype=np.float32)
    figure = plots.clean_probability_histogram(nothing, is_clean=nothing > 0)
    assert [sum(trace.y) for trace in figure.data] == [0, 0]


@pytest.mark.parametrize(
    ("losses", "mode"),
    [([], "markers"), ([(0.1, 2.0)], "markers"), ([(0.1, 2.0), (0.2, 1.0)], "lines")],
)
def test_loss_curve_shows_every_report(losses: list[tuple[float, float]], mode: str) -> None:
    reports = [Progress(stage="training", fraction=at, loss=loss) for at, loss in losses]
    (trace,) = plots.loss_curve(reports).data
    assert list(zip(trace.x, trace.y, strict=True)) == losses
    assert trace.mode == mode


def test_accuracy_bars_name_and_label_each_value() -> None:
    (trace,) = plots.accuracy_bars([("curated set", 0.8875), ("given labels", 0.775)]).data
    assert list(trace.y) == ["curated set", "given labels"]
    assert list(trace.text) == ["88.8%", "77.5%"]

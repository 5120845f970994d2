"""What a finished phase 2 is worth, in words, tables and one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from deft_core.terminal import TRAINED_ON
from review_ui import plots
from review_ui.widgets import counted, figure_row, figures, literal

MOST_PAIRS = 5
SMALLEST_GAP = 0.02
"""Up to this difference between confidence and accuracy a classifier knows how sure it may be."""

Entry = Mapping[str, Any]


class EvaluationReport:
    """Hidden without a report; without test images it tells the training alone."""

    def layout(self) -> None:
        with gr.Column(visible=False) as self._whole:
            self._figures = figure_row()
            self._meaning = gr.Markdown()
            self._bars = gr.Plot(show_label=False, container=False)
            self._comparison = gr.Dataframe(
                headers=[
                    "trained on",
                    "images",
                    "test images right",
                    "against the curated set",
                    "macro F1",
                    "calibration error",
                ],
                label="The same training on other labels",
                elem_classes="numbers",
                interactive=False,
            )
            self._mistakes = gr.Markdown(latex_delimiters=[])
            self._classes = gr.Dataframe(
                headers=["class", "test images", "found", "right when named", "F1"],
                datatype=["str", "number", "str", "str", "str"],
                label="Classes, the hardest first",
                elem_classes="numbers",
                interactive=False,
                max_height=420,
            )

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills."""
        return [
            self._whole,
            self._figures,
            self._meaning,
            self._bars,
            self._comparison,
            self._mistakes,
            self._classes,
        ]


def report_view(report: Mapping[str, Any] | None, class_names: Sequence[str]) -> list[Any]:
    """What an `EvaluationReport` shows of the report of a phase 2, or of none."""
    if report is None:
        return [gr.Column(visible=False), figures(()), "", None, _no_table(), "", _no_table()]
    entries = report["evaluation"]
    *_, curated = entries
    trained = (f"{curated['n_train']:,}", "images trained on")
    if curated["test"] is None:
        return [
            gr.Column(visible=True),
            figures([trained]),
            "",
            gr.Plot(value=None, visible=False),
            _no_table(),
            "",
            _no_table(),
        ]
    test = curated["test"]
    compared = [(TRAINED_ON[one["trained_on"]], one["test"]["accuracy"]) for one in entries]
    return [
        gr.Column(visible=True),
        figures(
            [
                (f"{test['accuracy']:.1%}", f"of {counted(test['n'], 'test image')} right"),
                (f"{test['macro_f1']:.1%}", "macro F1: every class counts the same"),
                trained,
            ]
        ),
        "\n\n".join([*_comparisons(entries), _test_labels(test), _calibration(test)]),
        gr.Plot(value=plots.accuracy_bars(compared[::-1]), visible=True),
        gr.Dataframe(value=_comparison_rows(entries), visible=len(entries) > 1),
        _mistakes(test, class_names),
        gr.Dataframe(value=_class_rows(test, class_names), visible=True),
    ]


def _no_table() -> Any:
    return gr.Dataframe(value=[], visible=False)


def _comparisons(entries: Sequence[Entry]) -> list[str]:
    *others, curated = entries
    return [
        _compared(curated["test"], one["test"], TRAINED_ON[one["trained_on"]]) for one in others
    ]


def _compared(test: Entry, other: Entry, name: str) -> str:
    """What the difference between the two accuracies comes to, in test images."""
    n_more = round((test["accuracy"] - other["accuracy"]) * test["n"])
    if n_more == 0:
        return f"The same training on the {name} does just as well."
    noun = f"{'more' if n_more > 0 else 'fewer'} test image"
    return (
        f"The curated set gets **{counted(abs(n_more), noun)}** right than the same training on "
        f"the {name} ({test['accuracy']:.1%} instead of {other['accuracy']:.1%})."
    )


def _test_labels(test: Entry) -> str:
    """What the accuracy is measured against: labels as given, or ones that somebody looked at."""
    n, n_reviewed = test["n"], test["n_reviewed"]
    if n_reviewed == 0:
        return (
            "Nobody has reviewed the test labels: these figures take them as given. Where they are "
            "wrong, a right answer counts as a mistake."
        )
    if n_reviewed == n:
        return "All test labels have been reviewed."
    return (
        f"{n_reviewed:,} of {counted(n, 'test label')} have been reviewed: of these "
        f"{test['on_reviewed']:.1%} are right, and {test['on_given']:.1%} of the others, whose "
        "labels are taken as given."
    )


def _calibration(test: Entry) -> str:
    """Whether the classifier is as often right as it says."""
    confidence, accuracy = test["mean_confidence"], test["accuracy"]
    claim = (
        f"On average the classifier is {confidence:.1%} sure of its answer, and {accuracy:.1%} of "
        "them are right"
    )
    if abs(confidence - accuracy) <= SMALLEST_GAP:
        return f"{claim}: it knows how sure it may be."
    if confidence > accuracy:
        return f"{claim}: it is too sure of itself."
    return f"{claim}: it is not sure enough of itself."


def _comparison_rows(entries: Sequence[Entry]) -> list[list[str]]:
    best = entries[-1]["test"]["accuracy"]
    return [
        [
            TRAINED_ON[one["trained_on"]],
            f"{one['n_train']:,}",
            f"{one['test']['accuracy']:.1%}",
            f"{100 * (one['test']['accuracy'] - best):+.1f} points"
            if one is not entries[-1]
            else "",
            f"{one['test']['macro_f1']:.1%}",
            f"{one['test']['ece']:.1%}",
        ]
        for one in entries
    ]


def _mistakes(test: Entry, class_names: Sequence[str]) -> str:
    """The pairs of classes that are mixed up most often."""
    wrong = [(n, label, other) for label, other, n in test["confusion"] if label != other]
    worst = sorted(wrong, key=lambda pair: (-pair[0], pair[1:]))[:MOST_PAIRS]
    if not worst:
        return "No test image was taken for another class."
    lines = [
        f"- {literal(class_names[label])} taken for {literal(class_names[other])} "
        f"{'once' if n == 1 else f'{n:,} times'}"
        for n, label, other in worst
    ]
    return "**Mixed up most often**\n\n" + "\n".join(lines)


def _class_rows(test: Entry, class_names: Sequence[str]) -> list[list[Any]]:
    tested = [one for one in test["per_class"] if one["n"]]
    return [
        [
            class_names[one["label"]],
            one["n"],
            f"{one['recall']:.0%}",
            f"{one['precision']:.0%}",
            f"{one['f1']:.0%}",
        ]
        for one in sorted(tested, key=lambda one: one["f1"])
    ]

"""The Adapt tab: start phase 2, watch it, and see what the curated set is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from deft_core.workspace import Workspace
from review_ui import plots
from review_ui.run_panel import RunPanel
from review_ui.widgets import (
    counted,
    figure_row,
    figures,
    notice,
    shown,
)


class AdaptTab:
    """Empty: what phase 2 needs. Busy: live progress. Done: accuracy beside the baseline's."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._panel = RunPanel(workspace, kind="phase2", start_label="Start phase 2")

    def layout(self) -> None:
        with gr.Tab("Adapt", id="adapt", elem_id="adapt-tab") as self.tab:
            gr.Markdown(
                "## Adapt\n\nPhase 2 fine-tunes a classifier on the curated set: what you kept or "
                "relabelled, and the images that phase 1 believes. It runs in the background."
            )
            self._needs = notice()
            self._panel.layout()
            with gr.Column(visible=False) as self._result:
                self._figures = figure_row()
                self._comparison = gr.Plot(show_label=False, container=False)
                self._meaning = gr.Markdown()
            self._panel.layout_past()

    def wire(self, page: gr.Blocks) -> None:
        self._panel.wire(page, tab=self.tab, view=self.view, outputs=self.outputs)

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills."""
        return [
            *self._panel.outputs,
            self._needs,
            self._result,
            self._figures,
            self._comparison,
            self._meaning,
        ]

    def view(self) -> list[Any]:
        """Everything on the tab as it stands."""
        panel = self._panel.view()
        run = self._panel.latest()
        result = result_view(run.report) if run and run.report else _no_result()
        notes = filter(None, (self._missing(), self._outdated()))
        return [*panel, shown("\n\n".join(notes)), *result]

    def _outdated(self) -> str:
        """What the last run has not seen; empty if nothing."""
        run = self._panel.latest()
        if run is None or run.state != "done":
            return ""
        n = self._workspace.runs.n_outdated(run.run_id)
        changed = f"{counted(n, 'image')} of the curated set changed since {run.run_id}"
        return f"{changed}: start again to use what you have decided." if n else ""

    def _missing(self) -> str:
        """What has to be done before phase 2 can say something; empty if nothing."""
        dataset = self._workspace.dataset
        if dataset is None or self._workspace.store.current_run() is None:
            return "Phase 2 needs the scores of phase 1: start it on the Detect tab first."
        if not dataset.n_by_split.get("test"):
            return (
                "This data set has no test split, so the accuracy on unseen images cannot be told."
            )
        n_left = self._workspace.review.progress().n_left
        if n_left:
            return f"{counted(n_left, 'suspect')} still undecided; phase 2 leaves them out."
        return ""


def _no_result() -> list[Any]:
    return [gr.Column(visible=False), figures(()), None, ""]


def result_view(report: Mapping[str, Any]) -> list[Any]:
    """What the tab shows of a finished phase 2, with or without test images and a baseline."""
    test, baseline = report["test"], report["baseline"]
    pairs = [(f"{report['n_train']:,}", "images trained on")]
    bars = []
    meaning = ""
    if test:
        pairs.insert(0, (f"{test['accuracy']:.1%}", f"of {counted(test['n'], 'test image')} right"))
        bars.append(("curated set", test["accuracy"]))
    if test and baseline:
        bars.append(("given labels", baseline["accuracy"]))
        meaning = _compared(test, baseline)
    return [
        gr.Column(visible=True),
        figures(pairs),
        gr.Plot(value=plots.accuracy_bars(bars) if bars else None, visible=bool(bars)),
        meaning,
    ]


def _compared(test: dict[str, Any], baseline: dict[str, Any]) -> str:
    """What the difference between the two accuracies comes to, in test images."""
    n_more = round((test["accuracy"] - baseline["accuracy"]) * test["n"])
    if n_more == 0:
        return "The same training on the given labels does just as well."
    noun = f"{'more' if n_more > 0 else 'fewer'} test image"
    return (
        f"The curated set gets **{counted(abs(n_more), noun)}** right than the "
        f"same training on the labels as given "
        f"({test['accuracy']:.1%} instead of {baseline['accuracy']:.1%})."
    )

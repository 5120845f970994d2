"""The Adapt tab: start phase 2, watch it, and see what the curated set is worth."""

from __future__ import annotations

from typing import Any

import gradio as gr

from deft_core.errors import RunError
from deft_core.workspace import Workspace
from review_ui.evaluation_report import EvaluationReport, report_view
from review_ui.run_panel import RunPanel
from review_ui.widgets import counted, notice, problem

NEXT = (
    "**Next:** take the labels or this classifier away on the Export tab. Or start phase 1 again on"
    " the Detect tab: it learns from your decisions, and finds suspects that this round has missed."
)


class AdaptTab:
    """Empty: what phase 2 needs. Busy: live progress. Done: what it came to."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._panel = RunPanel(workspace, kind="phase2", start_label="Start phase 2")
        self._report = EvaluationReport()

    def layout(self) -> None:
        with gr.Tab("Adapt", id="adapt", elem_id="adapt-tab") as self.tab:
            gr.Markdown(
                "## Adapt\n\nPhase 2 fine-tunes a classifier on the curated set: what you kept or "
                "relabelled, and the images that phase 1 believes. It runs in the background."
            )
            self._needs = notice()
            self._panel.layout()
            self._report.layout()
            self._next = notice()
            self._panel.layout_past()

    def wire(self, page: gr.Blocks) -> None:
        self._panel.wire(page, tab=self.tab, view=self.view, outputs=self.outputs)

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills."""
        return [
            *self._panel.outputs,
            self._needs,
            self._next,
            *self._report.outputs,
        ]

    def view(self) -> list[Any]:
        """Everything on the tab as it stands."""
        panel = self._panel.view()
        run = self._panel.latest()
        dataset = self._workspace.dataset
        report = report_view(run.report if run else None, dataset.class_names if dataset else ())
        is_done = run is not None and run.state == "done"
        return [*panel, self.advice(), NEXT if is_done else "", *report]

    def advice(self) -> str:
        """What is to be done before the next run or makes the last one out of date; empty if
        nothing."""
        return "\n\n".join(filter(None, (self._missing(), self._outdated())))

    def _outdated(self) -> str:
        """What the last run has not seen, or why that cannot be told; empty if nothing."""
        run = self._panel.latest()
        if run is None or run.state != "done":
            return ""
        try:
            n = self._workspace.runs.n_outdated(run.run_id)
        except RunError as error:
            return problem(error.message, hint=error.hint)
        changed = f"{counted(n, 'image')} of the curated set changed since {run.run_id}"
        return f"{changed}: start again to use what you have decided." if n else ""

    def _missing(self) -> str:
        """What has to be done before phase 2 can say something; empty if nothing."""
        dataset = self._workspace.dataset
        if dataset is None:
            return ""
        if self._workspace.store.current_run() is None:
            return "Phase 2 needs the scores of phase 1: start it on the Detect tab first."
        if not dataset.n_by_split.get("test"):
            return (
                "This data set has no test split, so the accuracy on unseen images cannot be told."
            )
        n_left = self._workspace.review.progress().n_left
        left = f"{counted(n_left, 'suspect')} still undecided; phase 2 leaves them out."
        return " ".join([left] * bool(n_left) + [self._unreviewed_test()]).strip()

    def _unreviewed_test(self) -> str:
        """That labels which phase 2 is tested on are doubtful; empty if none is."""
        test = self._workspace.review.split_review("test")
        if test.n_scored == 0:
            return "The test images have no scores yet; the next phase 1 makes them reviewable."
        if not test.n_left:
            return ""
        are = "is" if test.n_left == 1 else "are"
        return (
            f"{counted(test.n_left, 'suspect')} among the test images {are} undecided: review them "
            "first, under Filter, test images, or the accuracy is measured on doubtful labels."
        )

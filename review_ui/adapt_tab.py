"""The Adapt tab: start phase 2, watch it, and see what the curated set is worth."""

from __future__ import annotations

from typing import Any

import gradio as gr

from deft_core.workspace import Workspace
from review_ui.evaluation_report import EvaluationReport, report_view
from review_ui.run_panel import RunPanel
from review_ui.widgets import counted, notice, shown


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

    def wire(self, page: gr.Blocks) -> None:
        self._panel.wire(page, tab=self.tab, view=self.view, outputs=self.outputs)

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills."""
        return [
            *self._panel.outputs,
            self._needs,
            *self._report.outputs,
        ]

    def view(self) -> list[Any]:
        """Everything on the tab as it stands."""
        panel = self._panel.view()
        run = self._panel.latest()
        dataset = self._workspace.dataset
        report = report_view(run.report if run else None, dataset.class_names if dataset else ())
        return [*panel, shown(self._missing()), *report]

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

"""The Detect tab: start phase 1, watch it, and see what it found."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from deft_core.run_view import RunView
from deft_core.selection import CLEAN_THRESHOLD
from deft_core.store import ImportedRun
from deft_core.terminal import phase1_warning
from deft_core.workspace import Workspace
from review_ui import plots
from review_ui.run_panel import RunPanel
from review_ui.widgets import counted, figure_row, figures, notice

HARDLY_LEARNED = (
    "Nearly all clean probabilities lie close to 50 %: phase 1 has hardly learned to tell right "
    "labels from wrong ones. Train for more epochs, or take a preset that was made for this model."
)
UNDECIDED_WITHIN = 0.1
MOST_UNDECIDED = 0.9


class DetectTab:
    """Empty: what phase 1 is for. Busy: live progress. Done: figures, histogram, way to review."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._panel = RunPanel(workspace, kind="phase1", start_label="Start phase 1")

    def layout(self) -> None:
        with gr.Tab("Detect", id="detect", elem_id="detect-tab") as self.tab:
            gr.Markdown(
                "## Detect\n\nPhase 1 learns a positive and a negative prompt for each class and "
                "tells how likely each given label is right. It runs in the background: this page "
                "may be closed."
            )
            self._panel.layout()
            with gr.Column(visible=False) as self._result:
                self._source = gr.Markdown(latex_delimiters=[])
                self._found = figure_row()
                self._doubt = notice()
                self._histogram = gr.Plot(show_label=False, container=False)
                self.review = gr.Button("Review", variant="primary", elem_classes="next-step")
                self._unreadable = gr.Dataframe(
                    headers=["file", "problem"],
                    label="Left out because they cannot be read",
                    interactive=False,
                    visible=False,
                )
            self._panel.layout_past()

    def wire(self, page: gr.Blocks) -> None:
        self._panel.wire(page, tab=self.tab, view=self.view, outputs=self.outputs)

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills."""
        return [
            *self._panel.outputs,
            self._result,
            self._source,
            self._found,
            self._doubt,
            self._histogram,
            self.review,
            self._unreadable,
        ]

    def view(self) -> list[Any]:
        """Everything on the tab as it stands."""
        panel = self._panel.view()
        run = self._panel.latest()
        current = self._workspace.store.current_run()
        if current is None or (run and not run.is_finished):
            return [*panel, *self._no_result()]
        return [*panel, *self._result_view(run, source=current)]

    def _no_result(self) -> list[Any]:
        return [
            gr.Column(visible=False),
            "",
            figures(()),
            "",
            None,
            gr.Button(),
            gr.Dataframe(visible=False),
        ]

    def _result_view(self, run: RunView | None, *, source: ImportedRun) -> list[Any]:
        """What the queue was made of, by the run `source`; a later one that failed has not changed
        it."""
        progress = self._workspace.review.progress()
        unreadable = run.report["unreadable"] if run and run.report else []
        n_left = progress.n_left
        points = self._workspace.review.points()
        return [
            gr.Column(visible=True),
            f"**Found by {source.run_id}** in round {source.round}",
            figures(
                [
                    (f"{progress.n_samples:,}", "images scored"),
                    (f"{progress.n_flagged:,}", "flagged"),
                    (f"{progress.n_decided:,}", "of them decided"),
                ]
            ),
            phase1_warning(source.report)
            or ("" if tells_apart(points.p_clean) else HARDLY_LEARNED),
            plots.clean_probability_histogram(points.p_clean, is_clean=points.is_clean),
            gr.Button(f"Review {counted(n_left, 'suspect')}" if n_left else "Open the review"),
            gr.Dataframe(
                value=[[one["file_name"], one["problem"]] for one in unreadable],
                visible=bool(unreadable),
            ),
        ]


def tells_apart(p_clean: NDArray[np.float32]) -> bool:
    """Whether more than a few of the clean probabilities say something, either way."""
    is_undecided = np.abs(p_clean - CLEAN_THRESHOLD) < UNDECIDED_WITHIN
    return bool(is_undecided.mean() <= MOST_UNDECIDED) if len(p_clean) else True

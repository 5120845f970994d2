"""The Export tab: what would be written, and the button that writes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np

from deft_core import selection
from deft_core.errors import DataError
from deft_core.export import Exported
from deft_core.workspace import Workspace
from review_ui.widgets import (
    LOOKED_AT,
    PRESSED,
    counted,
    figure_row,
    figures,
    literal,
    notice,
    shown,
    shows_errors,
)

FORMATS = (
    ("One CSV file with every image, its labels and verdict", "csv"),
    ("Class folders with copies of the curated images", "folders"),
    ("The newest phase 2's classifier, for timm or open_clip, with a model card", "model"),
    ("The same, and as ONNX for onnxruntime", "model-onnx"),
)


class ExportTab:
    """Empty: what is missing. Busy: the button waits. Done: the path, the counts, the download."""

    def __init__(
        self, workspace: Workspace, *, clock: Callable[[], datetime] = datetime.now
    ) -> None:
        self._workspace = workspace
        self._clock = clock

    def layout(self) -> None:
        with gr.Tab("Export", id="export", elem_id="export-tab") as self.tab:
            gr.Markdown(
                "## Export\n\nYour images stay as they are; an export is written into the "
                "workspace."
            )
            self._figures = figure_row()
            self._needs = notice()
            self._format = gr.Radio(list(FORMATS), value="csv", label="Format")
            self._export = gr.Button("Export", variant="primary", elem_classes="next-step")
            self._done = notice(tone="good")

    def wire(self, page: gr.Blocks) -> None:
        self._export.click(
            shows_errors(self._write),
            self._format,
            self._done,
            **{**PRESSED, "show_progress": "minimal"},
        )
        for event in (page.load, self.tab.select):
            event(
                shows_errors(self.view),
                None,
                [self._figures, self._needs, self._export],
                **LOOKED_AT,
            )

    def view(self) -> list[Any]:
        """Counts of what would be written now, and what is missing."""
        dataset = self._workspace.dataset
        if dataset is None:
            needs = shown("Bring in images on the Overview tab first.")
            return [figures(()), needs, gr.Button(interactive=False)]
        samples = self._workspace.store.samples()
        curated = selection.curated_set(samples).curated_label
        n_curated = int(np.count_nonzero(curated != selection.NO_LABEL))
        progress = self._workspace.review.progress()
        pairs = [
            (f"{samples.num_rows:,}", "images"),
            (f"{n_curated:,}", "in the curated set"),
            (f"{progress.n_relabelled:,}", "relabelled"),
            (f"{progress.by_verdict['exclude']:,}", "excluded"),
            (f"{progress.n_left:,}", "suspects undecided"),
        ]
        needs = (
            f"{counted(progress.n_left, 'suspect')} undecided: the CSV file lists them with the "
            "given label and without a verdict, the class folders leave them out."
            if progress.n_left
            else ""
        )
        return [figures(pairs), shown(needs), gr.Button(interactive=True)]

    def _write(self, form: str) -> Any:
        if self._workspace.dataset is None:
            raise DataError("There is nothing to export.", "Bring in a data set first.")
        when = f"{self._clock():%Y%m%d-%H%M%S}"
        if form in ("model", "model-onnx"):
            to = self._workspace.exports / f"model-{when}"
            told = self._workspace.export_model(to=to, has_onnx=form == "model-onnx")
            return shown(f"**Written:** the classifier of {told['run_id']}\n\n{literal(str(to))}")
        name = f"labels-{when}"
        is_csv = form == "csv"
        to = self._workspace.exports / (f"{name}.csv" if is_csv else name)
        exported = self._workspace.export(form, to=to)
        return shown(_told(exported, is_csv=is_csv))


def _told(exported: Exported, *, is_csv: bool) -> str:
    """What was written and where."""
    counts = (
        f"{counted(exported.n_samples, 'image')}, {exported.n_curated:,} of them in the curated "
        f"set, {exported.n_relabelled:,} relabelled"
    )
    link = f"\n\n[Download the CSV file](/exports/{quote(exported.path.name)})" if is_csv else ""
    return f"**Written:** {counts}\n\n{literal(str(exported.path))}{link}"

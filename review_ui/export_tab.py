"""The Export tab: what would be written, and the button that writes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np

from deft_core import selection
from deft_core.errors import DataError
from deft_core.export import FORMATS as LABEL_FORMATS
from deft_core.export import Exported
from deft_core.workspace import Workspace
from review_ui.background import Background
from review_ui.widgets import (
    LOOKED_AT,
    PRESSED,
    counted,
    figure_row,
    figures,
    literal,
    notice,
    progress_bar,
    shows_errors,
)

POLL_SECONDS = 0.5
FORMATS = (
    ("One CSV file with every image, its labels and verdict", "csv"),
    ("The same as one JSON object a line", "jsonl"),
    ("Class folders with copies of the curated images", "folders"),
    ("The newest phase 2's classifier, for timm or open_clip, with a model card", "model"),
    ("The same classifier, and as ONNX for onnxruntime", "model-onnx"),
    ("The newest phase 1's detector, for open_clip, with a model card", "detector"),
)


class ExportTab:
    """Empty: what is missing. Busy: how far it is. Done: the path, the counts, the download.
    Failed: why, until the next try."""

    def __init__(
        self, workspace: Workspace, *, clock: Callable[[], datetime] = datetime.now
    ) -> None:
        self._workspace = workspace
        self._clock = clock
        self._writing = Background()

    def layout(self) -> None:
        with gr.Tab("Export", id="export", elem_id="export-tab") as self.tab:
            gr.Markdown(
                "## Export\n\nYour images stay as they are; an export is written into the "
                "workspace."
            )
            self._figures = figure_row()
            self._needs = notice()
            self._format = gr.Radio(
                list(FORMATS), value="csv", label="Format", elem_classes="choices"
            )
            self._export = gr.Button("Export", variant="primary", elem_classes="next-step")
            self._stage = gr.Markdown(elem_classes="words")
            self._bar = progress_bar(label="Progress of the export")
            self._error = notice(tone="bad")
            self._done = notice(tone="good")
            self._timer = gr.Timer(POLL_SECONDS, active=False)

    def wire(self, page: gr.Blocks) -> None:
        self._export.click(shows_errors(self._start), self._format, self._work_outputs, **PRESSED)
        self._timer.tick(shows_errors(self._work_view), None, self._work_outputs, **LOOKED_AT)
        for event in (page.load, self.tab.select):
            event(
                shows_errors(self.view),
                None,
                [self._figures, self._needs, *self._work_outputs],
                **LOOKED_AT,
            )

    @property
    def _work_outputs(self) -> list[Any]:
        """What `_work_view` fills."""
        return [
            self._format,
            self._export,
            self._stage,
            self._bar,
            self._error,
            self._done,
            self._timer,
        ]

    def view(self) -> list[Any]:
        """Counts of what would be written now, what is missing, and how the last export stands."""
        if self._workspace.dataset is None:
            needs = "Bring in images on the Overview tab first."
            return [figures(()), needs, *self._work_view()]
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
            f"{counted(progress.n_left, 'suspect')} undecided: the tables list them with the "
            "given label and without a verdict, the class folders leave them out."
            if progress.n_left
            else ""
        )
        return [figures(pairs), needs, *self._work_view()]

    def _work_view(self) -> list[Any]:
        work = self._writing
        is_busy = work.is_busy
        has_data = self._workspace.dataset is not None
        return [
            gr.Radio(interactive=has_data and not is_busy),
            gr.Button(
                "Exporting ..." if is_busy else "Export", interactive=has_data and not is_busy
            ),
            (work.stage or "Getting ready") if is_busy else "",
            work.percent if is_busy else None,
            work.error,
            work.result,
            gr.Timer(active=is_busy),
        ]

    def _start(self, form: str) -> list[Any]:
        if self._workspace.dataset is None:
            raise DataError("There is nothing to export.", "Bring in a data set first.")
        self._writing.start(lambda: self._write(form))
        return self._work_view()

    def _write(self, form: str) -> str:
        """What was written and where, as Markdown."""
        when = f"{self._clock():%Y%m%d-%H%M%S}"
        exports = self._workspace.exports
        if form in LABEL_FORMATS:
            to = exports / f"labels-{when}{'' if form == 'folders' else f'.{form}'}"
            return _told(self._workspace.export(form, to=to, on_progress=self._count))
        return self._write_model(form, to=exports / f"{form.removesuffix('-onnx')}-{when}")

    def _write_model(self, form: str, *, to: Path) -> str:
        told = self._workspace.export_model(
            to=to,
            kind="phase1" if form == "detector" else "phase2",
            has_onnx=form == "model-onnx",
            on_stage=lambda stage, n_done, n_stages: self._writing.say(
                stage[0].upper() + stage[1:], n_done, n_stages
            ),
        )
        files = ", ".join(told["files"])
        return (
            f"**Written:** the {told['role']} of {told['run_id']}\n\n{literal(str(to))}\n\n"
            f"{literal(files)}"
        )

    def _count(self, n_done: int, n_total: int) -> None:
        self._writing.say(f"{n_done:,} of {counted(n_total, 'image')} written", n_done, n_total)


def _told(exported: Exported) -> str:
    """What was written and where."""
    path = exported.path
    counts = (
        f"{counted(exported.n_samples, 'image')}, {exported.n_curated:,} of them in the curated "
        f"set, {exported.n_relabelled:,} relabelled"
    )
    if path.is_dir() and exported.n_samples > exported.n_curated:
        counts += "; the others are of other splits, with the labels that stand"
    link = f"\n\n[Download the file](/exports/{quote(path.name)})" if path.is_file() else ""
    return f"**Written:** {counts}\n\n{literal(str(path))}{link}"

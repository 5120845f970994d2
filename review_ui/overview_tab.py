"""The Overview tab: bring a data set in, then see what is in it and how far the work is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pyarrow.compute as pc

from deft_core.shown import ReviewProgress
from deft_core.store import Dataset
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
    problem,
    progress_bar,
    shows_errors,
)

POLL_SECONDS = 0.5
SPLITS = ("train", "validation", "test")
SAME_PROMPT = "Phase 1 cannot tell them apart: give them names that say what differs."


class OverviewTab:
    """Empty: a field for the source. Busy: images read so far. Else: counts, what was left out."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._ingestion = Background()

    def layout(self) -> None:
        with gr.Tab("Overview", id="overview", elem_id="overview-tab") as self.tab:
            with gr.Column(visible=False) as self._intake:
                gr.Markdown(
                    "## Bring in a data set\n\nThe images stay where they are and are never "
                    "changed. Expected is a folder with one folder for each class (also below "
                    "`train`, `validation` and `test`), or a CSV file with the columns "
                    "`file_name` and `label`, and `split` if you like."
                )
                with gr.Row(equal_height=True, elem_classes="intake"):
                    self._source = gr.Textbox(
                        label="Folder or CSV file on this machine",
                        placeholder="/home/me/flowers",
                        scale=4,
                        max_lines=1,
                    )
                    self._ingest = gr.Button("Ingest", variant="primary", scale=0, min_width=140)
                self._reading = gr.Markdown(elem_classes="words")
                self._bar = progress_bar(label="Images read")
                self._error = notice(tone="bad")
            with gr.Column(visible=False) as self._contents:
                self._title = gr.Markdown(latex_delimiters=[])
                self._figures = figure_row()
                self._next = notice()
                self.go_on = gr.Button(variant="primary", elem_classes="next-step")
                self._same_prompt = notice(tone="bad")
                self._classes = gr.Dataframe(
                    headers=["class", "images", "flagged", "decided", "relabelled"],
                    datatype=["str", "number", "number", "number", "number"],
                    label="Classes (by given label)",
                    elem_classes="numbers",
                    interactive=False,
                    max_height=420,
                )
                self._left_out = gr.Dataframe(
                    headers=["file", "problem"],
                    label="Files left out",
                    interactive=False,
                    visible=False,
                    max_height=320,
                )
                self._conflicts = gr.Dataframe(
                    headers=["files with the same bytes", "their labels"],
                    label="The same image under different labels",
                    interactive=False,
                    visible=False,
                    max_height=320,
                )
            self._timer = gr.Timer(POLL_SECONDS, active=False)

    def wire(self, page: gr.Blocks) -> None:
        for event in (self._ingest.click, self._source.submit):
            event(shows_errors(self._start), self._source, self.outputs, **PRESSED)
        for event in (page.load, self._timer.tick, self.tab.select):
            event(shows_errors(self.view), None, self.outputs, **LOOKED_AT)

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills."""
        return [
            self._intake,
            self._ingest,
            self._reading,
            self._bar,
            self._error,
            self._contents,
            self._title,
            self._figures,
            self._next,
            self.go_on,
            self._same_prompt,
            self._classes,
            self._left_out,
            self._conflicts,
            self._timer,
        ]

    def view(self) -> list[Any]:
        """Everything on the tab as it stands."""
        is_busy = self._ingestion.is_busy  # Before what it leaves, so that nothing is missed.
        dataset = self._workspace.dataset
        contents = _no_contents() if dataset is None else self._contents_view(dataset)
        return [
            gr.Column(visible=dataset is None),
            gr.Button(interactive=not is_busy),
            self._reading_text() if is_busy else "",
            self._ingestion.percent if is_busy else None,
            self._ingestion.error,
            *contents,
            gr.Timer(active=is_busy),
        ]

    def next_tab(self) -> str:
        """The id of the tab on which the work goes on."""
        return _next_step(self._workspace.review.progress())[0]

    def _start(self, source: str) -> list[Any]:
        path = source.strip().strip("\"'")  # As file managers copy it.
        if path:
            self._ingestion.start(lambda: self._read(Path(path).expanduser()))
        else:
            self._ingestion.refuse(
                problem("Which folder or CSV file?", hint="Type its path on this machine.")
            )
        return self.view()

    def _read(self, source: Path) -> str:
        report = self._workspace.ingest(source, on_progress=self._ingestion.count)
        return counted(report.n_samples, "image")

    def _reading_text(self) -> str:
        ingestion = self._ingestion
        if not ingestion.n_total:
            return "Looking for images"
        return f"{ingestion.n_done:,} of {counted(ingestion.n_total, 'image')} read"

    def _contents_view(self, dataset: Dataset) -> list[Any]:
        progress = self._workspace.review.progress()
        report = dataset.report
        left_out = [[one["file_name"], one["problem"]] for one in report["unreadable"]]
        conflicts = [
            [", ".join(one["file_names"]), ", ".join(one["labels"])] for one in report["conflicts"]
        ]
        n_by_split = dataset.n_by_split
        splits = [(f"{n_by_split[one]:,}", f"in {one}") for one in SPLITS if one in n_by_split]
        pairs = [
            (f"{dataset.n_samples:,}", "images"),
            (f"{len(dataset.class_names):,}", "classes"),
            *(splits if len(splits) > 1 else []),
        ]
        if progress.n_samples:
            pairs += [
                (f"{progress.n_flagged:,}", f"flagged in round {progress.round}"),
                (f"{progress.n_decided:,}", "decided"),
                (f"{progress.n_left:,}", "left to review"),
            ]
        n_ever_decided = sum(progress.by_verdict.values())
        if n_ever_decided != progress.n_decided:
            pairs.append((f"{n_ever_decided:,}", "decided in all, suspects or not"))
        next_tab, next_step = _next_step(progress)
        return [
            gr.Column(visible=True),
            f"## {literal(dataset.root.name)}\n\n{literal(str(dataset.root))}",
            figures(pairs),
            next_step,
            f"Go to {next_tab.capitalize()}",
            _same_prompt(report["same_prompt"]),
            self._class_rows(dataset),
            gr.Dataframe(value=left_out, visible=bool(left_out)),
            gr.Dataframe(value=conflicts, visible=bool(conflicts)),
        ]

    def _class_rows(self, dataset: Dataset) -> list[list[Any]]:
        """One row a class: its name, how many samples carry it, how many of these are suspects
        among the training images, how many suspects are decided, how many samples relabelled."""
        samples = self._workspace.store.samples()
        labels = samples["given_label"]
        is_trained = pc.equal(samples["split"], "train")
        is_flagged = pc.and_(is_trained, pc.fill_null(pc.invert(samples["is_clean"]), False))
        is_decided = pc.and_(is_flagged, pc.is_valid(samples["verdict"]))
        is_relabelled = pc.fill_null(pc.not_equal(samples["reviewed_label"], labels), False)
        columns = [
            _counts_by_label(labels.filter(chosen), n_classes=len(dataset.class_names))
            for chosen in (pc.is_valid(labels), is_flagged, is_decided, is_relabelled)
        ]
        return [list(row) for row in zip(dataset.class_names, *columns, strict=True)]


def _next_step(progress: ReviewProgress) -> tuple[str, str]:
    """The id of the tab on which the work goes on, and what is to be done there."""
    if not progress.n_samples:
        return "detect", "**Next:** start phase 1, which finds the suspects."
    if progress.n_left:
        return "review", f"**Next:** {counted(progress.n_left, 'suspect')} to decide."
    return "adapt", "**Every suspect is decided.** Adapt a model to them, or export the labels."


def _no_contents() -> list[Any]:
    hidden = gr.Dataframe(visible=False)
    return [gr.Column(visible=False), "", figures(()), "", "", "", None, hidden, hidden]


def _same_prompt(groups: Sequence[Sequence[str]]) -> str:
    """What is wrong with class names that differ in case, underscores and spaces only."""
    lines = [f"The classes {', '.join(names)} give the same prompt." for names in groups]
    return problem("\n".join(lines), hint=SAME_PROMPT) if lines else ""


def _counts_by_label(labels: Any, *, n_classes: int) -> list[int]:
    counts = {one["values"]: one["counts"] for one in pc.value_counts(labels).to_pylist()}
    return [counts.get(label, 0) for label in range(n_classes)]

"""One kind of run as the reader sees it: start, live progress, cancel, and how it ended.

A run lives in its folder, so the panel keeps nothing: every look at the page, after a reload too,
shows what the folder says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from deft_core.errors import DeftError
from deft_core.run_view import RunView
from deft_core.runs import CONFIGS, RESUMABLE
from deft_core.terminal import duration
from deft_core.workspace import Workspace
from review_ui import plots
from review_ui.widgets import (
    LOOKED_AT,
    PRESSED,
    SettingsForm,
    figure_row,
    figures,
    literal,
    notice,
    problem,
    progress_bar,
    shown,
    shows_errors,
)

POLL_SECONDS = 1.0
OUTCOMES = {
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "crashed": "Stopped unexpectedly",
    "damaged": "Damaged",
}


class RunPanel:
    """Form, buttons and live view for the runs of one kind, "phase1" or "phase2"."""

    def __init__(self, workspace: Workspace, *, kind: str, start_label: str) -> None:
        self._workspace = workspace
        self._kind = kind
        self._start_label = start_label
        self.form = SettingsForm(CONFIGS[kind])

    def layout(self) -> None:
        self.form.layout()
        with gr.Row():
            self.start = gr.Button(self._start_label, variant="primary", scale=0, min_width=200)
            self.cancel = gr.Button("Cancel the run", visible=False, scale=0, min_width=160)
            self.resume = gr.Button("Go on with it", visible=False, scale=0, min_width=160)
        self.status = gr.Markdown(elem_classes="run-status", latex_delimiters=[])
        self.bar = progress_bar(label="Progress of the run")
        self.facts = figure_row()
        self.error = notice(tone="bad")
        self.losses = gr.Plot(visible=False, show_label=False, container=False)
        with gr.Accordion("End of the log", open=False, visible=False) as self.log_fold:
            self.log = gr.Textbox(
                show_label=False, lines=8, max_lines=16, interactive=False, elem_classes="log"
            )
        self.timer = gr.Timer(POLL_SECONDS, active=False)

    def wire(
        self,
        page: gr.Blocks,
        *,
        tab: gr.Tab,
        view: Callable[[], list[Any]],
        outputs: Sequence[Any],
    ) -> None:
        """Fills `outputs`, the panel's own among them, from `view` whenever something happens."""
        self.form.wire()
        page.load(shows_errors(self.form_values), None, self.form_outputs, **LOOKED_AT)
        for event in (page.load, self.timer.tick, tab.select):
            event(shows_errors(view), None, outputs, **LOOKED_AT)
        self.start.click(shows_errors(self._start), self.form.inputs, self.outputs, **PRESSED)
        self.cancel.click(shows_errors(self._cancel), None, self.outputs, **PRESSED)
        self.resume.click(shows_errors(self._resume), None, self.outputs, **PRESSED)

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills."""
        return [
            self.start,
            self.cancel,
            self.resume,
            self.status,
            self.bar,
            self.facts,
            self.error,
            self.losses,
            self.log_fold,
            self.log,
            self.timer,
        ]

    @property
    def form_outputs(self) -> list[Any]:
        """What `form_values` fills."""
        return [self.form.preset, *self.form.inputs]

    def latest(self) -> RunView | None:
        """The newest run of this kind."""
        return self._workspace.runs.latest(self._kind)

    def view(self) -> list[Any]:
        """Updates for `outputs` from what the run's folder says now."""
        self._workspace.runs.import_finished()
        run = self.latest()
        if run is None:
            return self._empty_view()
        is_busy = not run.is_finished
        losses = self._workspace.runs.losses(run.run_id) if is_busy else ()
        log_tail = self._workspace.runs.log_tail(run.run_id)
        has_failed = run.state in ("failed", "crashed", "damaged")
        return [
            gr.Button(interactive=not is_busy),
            gr.Button(visible=is_busy),
            gr.Button(visible=run.state in RESUMABLE),
            _headline(run),
            gr.HTML(value=_percent(run), visible=is_busy),
            figures(_facts(run) if is_busy else ()),
            shown(problem(run.error, hint=run.hint) if has_failed else ""),
            gr.Plot(
                value=plots.loss_curve(losses) if losses else None,
                visible=bool(losses) and is_busy,
            ),
            gr.Accordion(visible=has_failed and bool(log_tail), open=False),
            log_tail if has_failed else "",
            gr.Timer(active=is_busy),
        ]

    def form_values(self) -> list[Any]:
        """Preset and inputs: as the last run of this kind had them, or for the same model."""
        runs = [run for run in self._workspace.runs.list() if run.state != "damaged"]
        if not runs:
            return [gr.skip() for _ in self.form_outputs]
        same_kind = next((run for run in runs if run.kind == self._kind), None)
        if same_kind:
            values = self.form.values(same_kind.settings)
        else:
            last = runs[0].settings
            values = self.form.values_for_model(last["model"], pretrained=last["pretrained"])
        return [self.form.preset_of(values), *values]

    def _empty_view(self) -> list[Any]:
        has_data = self._workspace.dataset is not None
        return [
            gr.Button(interactive=has_data),
            gr.Button(visible=False),
            gr.Button(visible=False),
            "" if has_data else "Bring in images on the Overview tab first.",
            gr.HTML(visible=False),
            figures(()),
            shown(""),
            gr.Plot(visible=False),
            gr.Accordion(visible=False),
            "",
            gr.Timer(active=False),
        ]

    def _start(self, *values: Any) -> list[Any]:
        self._workspace.runs.start(self._kind, self.form.settings(values))
        return self.view()

    def _cancel(self) -> list[Any]:
        run = self.latest()
        if run is None:
            raise DeftError("There is no run to cancel.")
        self._workspace.runs.cancel(run.run_id)
        return self.view()

    def _resume(self) -> list[Any]:
        run = self.latest()
        if run is None:
            raise DeftError("There is no run to go on with.")
        self._workspace.runs.resume(run.run_id)
        return self.view()


def _headline(run: RunView) -> str:
    """One line: what the run is doing, or how it ended."""
    if run.is_finished:
        return f"**{OUTCOMES[run.state]}** after {duration(run.seconds)} ({run.run_id})"
    if run.progress is None:
        return f"**Starting** ({run.run_id})"
    parts = [f"**{run.progress.stage.capitalize()}**"]
    if run.progress.epochs:
        parts.append(f"epoch {run.progress.epoch} of {run.progress.epochs}")
    note = f"<br>{literal(run.progress.note)}" if run.progress.note else ""
    return ", ".join(parts) + f" ({run.run_id})" + note


def _facts(run: RunView) -> Sequence[tuple[str, str]]:
    progress = run.progress
    if progress is None:
        return [(duration(run.seconds), "since the start")]
    pairs = [(f"{progress.fraction:.0%}", "of the run done")]
    if progress.images_per_second:
        pairs.append((f"{progress.images_per_second:,.0f}", "images a second"))
    if progress.seconds_left is not None:
        pairs.append((duration(progress.seconds_left), "left"))
    if progress.loss is not None:
        pairs.append((f"{progress.loss:.3f}", "training loss"))
    return pairs


def _percent(run: RunView) -> float:
    return round(100 * run.progress.fraction, 1) if run.progress else 0.0

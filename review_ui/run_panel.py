"""One kind of run as the reader sees it: start, live progress, cancel, how it ended, and the
earlier ones.

A run lives in its folder, so the panel keeps nothing: every look at the page, after a reload too,
shows what the folder says. The page asks again every few seconds, and is answered only when
something has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from deft_core.errors import ConfigError, DiskFullError, RunError
from deft_core.run_folder import WAITING
from deft_core.run_view import RunView
from deft_core.runs import CONFIGS, RESUMABLE
from deft_core.terminal import duration, memory
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
    shows_errors,
)

BUSY_SECONDS = 1.0
IDLE_SECONDS = 3.0
ASK_FOR_ESTIMATE = "How long will it take?"
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
        self._runs = workspace.runs
        self._kind = kind
        self._start_label = start_label
        self.form = SettingsForm(CONFIGS[kind])

    def layout(self) -> None:
        self.form.layout()
        with gr.Row():
            self.start = gr.Button(self._start_label, variant="primary", scale=0, min_width=200)
            self.ask = gr.Button(ASK_FOR_ESTIMATE, scale=0, min_width=200)
            self.cancel = gr.Button("Cancel the run", visible=False, scale=0, min_width=160)
            self.resume = gr.Button("Go on", visible=False, scale=0, min_width=160)
        self.estimate = gr.Markdown(elem_classes=["words", "run-estimate"], latex_delimiters=[])
        self.status = gr.Markdown(elem_classes=["words", "run-status"], latex_delimiters=[])
        self.bar = progress_bar(label="Progress of the run")
        self.facts = figure_row()
        self.error = notice(tone="bad")
        self.advice = notice()
        self.losses = gr.Plot(visible=False, show_label=False, container=False)

    def layout_past(self) -> None:
        """What comes below the result: the log, and the runs that are over."""
        with gr.Accordion("End of the log", open=False, visible=False) as self.log_fold:
            self.log = gr.Textbox(
                show_label=False, lines=8, max_lines=16, interactive=False, elem_classes="log"
            )
        with gr.Accordion("Finished runs", open=False, visible=False) as self.history_fold:
            gr.Markdown("Runs of both phases are counted together, in the order of their start.")
            self.history = gr.Radio(label="Runs", show_label=False, container=False)
            self.delete = gr.Button("Delete it ...", scale=0, min_width=160)
            with gr.Column(visible=False) as self.confirmation:
                self.question = gr.Markdown()
                with gr.Row():
                    self.confirm = gr.Button("Delete", variant="stop", scale=0, min_width=160)
                    self.keep = gr.Button("Keep it", scale=0, min_width=160)
        self.seen = gr.State()
        self.timer = gr.Timer(IDLE_SECONDS)

    def wire(
        self,
        page: gr.Blocks,
        *,
        tab: gr.Tab,
        view: Callable[[], list[Any]],
        outputs: Sequence[Any],
    ) -> None:
        """Fills `outputs`, the panel's own among them, from `view` whenever something happens."""

        def changed(seen: Any) -> list[Any]:
            return [gr.skip() for _ in outputs] if seen == self._signature() else view()

        self.form.wire()
        page.load(shows_errors(self.form_values), None, self.form_outputs, **LOOKED_AT)
        for event in (page.load, tab.select):
            event(shows_errors(view), None, outputs, **LOOKED_AT)
        self.timer.tick(shows_errors(changed), self.seen, outputs, **LOOKED_AT)
        for button, act, inputs in (
            (self.start, self._start, self.form.inputs),
            (self.ask, self._ask, self.form.inputs),
            (self.cancel, self._cancel, None),
            (self.resume, self._resume, None),
        ):
            button.click(shows_errors(act), inputs, self.outputs, **PRESSED)
        self.delete.click(
            shows_errors(self._question), self.history, self.confirmation_outputs, **PRESSED
        )
        self.confirm.click(
            shows_errors(self._delete), self.history, self.confirmation_outputs, **PRESSED
        ).success(shows_errors(view), None, outputs, **LOOKED_AT)
        for event in (self.keep.click, self.history.input):
            event(self._no_question, None, self.confirmation_outputs, **LOOKED_AT)

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills."""
        return [
            self.start,
            self.ask,
            self.estimate,
            self.status,
            self.bar,
            self.facts,
            self.error,
            self.advice,
            self.cancel,
            self.resume,
            self.losses,
            self.log_fold,
            self.log,
            self.history_fold,
            self.history,
            self.seen,
            self.timer,
        ]

    @property
    def confirmation_outputs(self) -> list[Any]:
        """What the question before a run is deleted fills."""
        return [self.confirmation, self.question, self.delete]

    @property
    def form_outputs(self) -> list[Any]:
        """What `form_values` fills."""
        return [self.form.preset, *self.form.inputs]

    def latest(self) -> RunView | None:
        """The newest run of this kind."""
        return self._runs.latest(self._kind)

    def view(self) -> list[Any]:
        """Updates for `outputs` from what the run's folder says now."""
        # What changes while this looks is seen by the next look, for it has another signature.
        signature = self._signature()
        left_out = self._take_in()
        run, probe = self.latest(), self._runs.probe(self._kind)
        is_busy = run is not None and not run.is_finished
        is_probing = probe is not None and not probe.is_finished
        can_start = not is_busy and self._runs.has_input(self._kind)
        return [
            gr.Button(interactive=can_start),
            gr.Button(
                value="Stop trying" if is_probing else ASK_FOR_ESTIMATE,
                interactive=can_start,
            ),
            "" if is_busy else _estimate(probe),
            *(self._run_view(run, left_out=left_out) if run else self._empty_view()),
            *self._history_view(),
            None if left_out else signature,  # With None the next look tries to take in once more.
            gr.Timer(BUSY_SECONDS if is_busy or is_probing else IDLE_SECONDS),
        ]

    def form_values(self) -> list[Any]:
        """Preset and inputs: as the last run of this kind had them, or for the same model."""
        same_kind, current = self.latest(), self._workspace.store.current_run()
        try:
            if same_kind and same_kind.state != "damaged":
                values = self.form.values(same_kind.settings)
            elif current:
                last = current.settings
                values = self.form.values_for_model(last["model"], pretrained=last["pretrained"])
            else:
                return [gr.skip() for _ in self.form_outputs]
        except (ConfigError, KeyError):
            # Somebody has edited the settings of that run; they are no start for another.
            return [gr.skip() for _ in self.form_outputs]
        return [self.form.preset_of(values), *values]

    def _signature(self) -> list[Any]:
        """What the view of the run depends on, cheap to tell."""
        runs = (self.latest(), self._runs.probe(self._kind))
        return [
            self._runs.has_input(self._kind),
            *(
                (one.run_id, one.state, asdict(one.progress) if one.progress else None)
                if one
                else None
                for one in runs
            ),
        ]

    def _take_in(self) -> str:
        """Why results of finished runs had to be left out; empty if none had to."""
        try:
            self._runs.import_finished()
        except DiskFullError as error:
            return problem(error.message, hint=error.hint)
        return ""

    def _run_view(self, run: RunView, *, left_out: str) -> list[Any]:
        is_busy = not run.is_finished
        losses = self._runs.losses(run.run_id) if is_busy else ()
        log_tail = self._runs.log_tail(run.run_id)
        has_failed = run.state in ("failed", "crashed", "damaged")
        return [
            _headline(run),
            _percent(run) if run.state == "running" else None,
            figures(_facts(run) if run.state == "running" else ()),
            problem(run.error, hint=run.hint) if has_failed else left_out,
            _advice(run),
            gr.Button(visible=is_busy),
            gr.Button(f"Go on with {run.run_id}", visible=run.state in RESUMABLE),
            gr.Plot(value=plots.loss_curve(losses) if losses else None, visible=bool(losses)),
            gr.Accordion(visible=bool(log_tail)),
            log_tail,
        ]

    def _empty_view(self) -> list[Any]:
        has_data = self._workspace.dataset is not None
        return [
            "" if has_data else "Bring in images on the Overview tab first.",
            None,
            figures(()),
            "",
            "",
            gr.Button(visible=False),
            gr.Button(visible=False),
            gr.Plot(visible=False),
            gr.Accordion(visible=False),
            "",
        ]

    def _history_view(self) -> list[Any]:
        finished = [one for one in self._runs.list(self._kind) if one.is_finished]
        choices = [(_line(one), one.run_id) for one in finished]
        return [gr.Accordion(visible=bool(finished)), gr.Radio(choices=choices)]

    def _start(self, *values: Any) -> list[Any]:
        settings = self.form.settings(values)
        run = self.latest()
        if run and not run.is_finished:
            raise RunError(f"{run.run_id} is {run.state} already.", "Wait for it, or cancel it.")
        self._runs.stop_probe(self._kind)
        self._runs.start(self._kind, settings)
        return self.view()

    def _ask(self, *values: Any) -> list[Any]:
        probe = self._runs.probe(self._kind)
        if probe and not probe.is_finished:
            self._runs.stop_probe(self._kind)
            return self.view()
        settings = self.form.settings(values)
        known = self._runs.seconds_before(self._kind, settings)
        if known is None:
            self._runs.start_probe(self._kind, settings)
            return self.view()
        run_id, seconds = known
        self._runs.stop_probe(self._kind)
        updates = self.view()
        told = f"**About {duration(seconds)}**: {run_id} took that with the same settings."
        updates[self.outputs.index(self.estimate)] = told
        return updates

    def _cancel(self) -> list[Any]:
        run = self.latest()
        if run is None:
            raise RunError("There is no run to cancel.")
        self._runs.cancel(run.run_id)
        return self.view()

    def _resume(self) -> list[Any]:
        run = self.latest()
        if run is None:
            raise RunError("There is no run to go on with.")
        self._runs.resume(run.run_id)
        return self.view()

    def _question(self, run_id: str | None) -> list[Any]:
        if run_id is None:
            raise RunError("No run is chosen.", "Choose the one to delete.")
        size = memory(self._runs.size(run_id))
        return [
            gr.Column(visible=True),
            f"**Delete {run_id} with its model and log ({size})?** There is no way back. What the "
            "review shows of it stays, and so do all decisions.",
            gr.Button(visible=False),
        ]

    def _delete(self, run_id: str) -> list[Any]:
        self._runs.delete(run_id)
        return self._no_question()

    def _no_question(self) -> list[Any]:
        return [gr.Column(visible=False), "", gr.Button(visible=True)]


def _estimate(probe: RunView | None) -> str:
    """What a probe has found out, or is about to."""
    if probe is None:
        return ""
    if not probe.is_finished:
        if probe.state == WAITING and probe.progress:
            return f"Waiting to try some steps: {literal(probe.progress.note)}"
        return "Trying some steps with these settings, for about a quarter of a minute ..."
    if probe.report is None:
        return problem(probe.error or "The try was stopped.", hint=probe.hint)
    tried, told = probe.report, probe.settings
    return (
        f"**About {duration(tried['seconds'])}** on this machine for {told['epochs']} epochs with "
        f"{literal(told['model'])}, after {duration(tried['measured_seconds'])} of trying."
    )


def _advice(run: RunView) -> str:
    """What can be done about a run that waits or ended without a result."""
    if run.state == WAITING:
        return "It begins by itself when the device is free; this page may be closed."
    if run.state == "cancelled":
        return "It can go on; what comes out is the same as without the stop."
    if run.state == "failed":
        return (
            "Going on uses the settings that this run was started with. Where these were wrong, "
            "change them above and start a new run."
        )
    return ""


def _line(run: RunView) -> str:
    """A finished run in the list."""
    ended = f"{OUTCOMES[run.state].lower()} after {duration(run.seconds)}"
    started = f"started {run.started_at.astimezone():%d %b %H:%M}, " if run.started_at else ""
    return f"{run.run_id}: round {run.round}, {started}{ended}"


def _headline(run: RunView) -> str:
    """One line: what the run is doing, or how it ended."""
    if run.is_finished:
        return f"**{OUTCOMES[run.state]}** after {duration(run.seconds)} ({run.run_id})"
    if run.progress is None:
        return f"**Starting** ({run.run_id})"
    if run.state == WAITING:
        return f"**Waiting** ({run.run_id})<br>{literal(run.progress.note)}"
    parts = [f"**{run.progress.stage.capitalize()}**"]
    if run.progress.epochs:
        parts.append(f"epoch {run.progress.epoch} of {run.progress.epochs}")
    note = f"<br>{literal(run.progress.note)}" if run.progress.note else ""
    return ", ".join(parts) + f" ({run.run_id})" + note


def _facts(run: RunView) -> Sequence[tuple[str, str]]:
    progress = run.progress
    if progress is None or not progress.total:
        return []
    pairs = [(f"{progress.fraction:.0%}", "of the run done")]
    if progress.images_per_second:
        pairs.append((f"{progress.images_per_second:,.0f}", "images a second"))
    if progress.seconds_left is not None:
        pairs.append((duration(progress.seconds_left), "left"))
    if progress.loss is not None:
        pairs.append((f"{progress.loss:.3f}", "training loss"))
    if progress.memory_bytes:
        pairs.append((memory(progress.memory_bytes), f"of memory, {progress.device}"))
    return pairs


def _percent(run: RunView) -> float:
    return round(100 * run.progress.fraction, 1) if run.progress else 0.0

"""The runs of a workspace: phase1, phase2, status, resume, delete."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from deft_core.commands.child import work_through
from deft_core.commands.common import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    existing,
    print_result,
)
from deft_core.errors import ConfigError, RunError
from deft_core.run_folder import RunFolder
from deft_core.run_process import RunCancelled
from deft_core.run_view import RunView
from deft_core.runs import CONFIGS, Runs
from deft_core.terminal import ProgressLine, duration, summary


def run_command(kind: str, what: str) -> Callable[..., None]:
    """The command that starts a run of this kind and waits for it, or is its child process; its
    help says `what` it does."""

    def command(
        *, workspace: Path, run: Path | None, preset: str | None, is_json: bool, **settings: Any
    ) -> None:
        if run is None:
            _start_and_wait(
                kind, workspace=workspace, preset=preset, settings=settings, is_json=is_json
            )
            return
        if preset or any(value is not None for value in settings.values()):
            raise ConfigError("--run takes its settings from the run folder.", "Leave others out.")
        work_through(RunFolder(run), kind=kind)

    presets = ", ".join(CONFIGS[kind].presets)
    parameters = [
        _parameter("workspace", WorkspaceOption, default=DEFAULT_WORKSPACE),
        _parameter(
            "run", Annotated[Path | None, typer.Option(help="Work through this run folder here.")]
        ),
        _parameter(
            "preset",
            Annotated[
                str | None,
                typer.Option(help=f"Settings to begin with: {presets}.", show_default="paper"),
            ],
        ),
        _parameter("is_json", JsonOption, default=False),
        *(
            _parameter(
                one.name,
                Annotated[
                    type(one.default) | None,
                    typer.Option(help=_setting_help(one), show_default=str(one.default)),
                ],
            )
            for one in fields(CONFIGS[kind])
        ),
    ]
    # typer reads all of them.
    command.__doc__ = what
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _setting_help(one: Field[Any]) -> str:
    """What a setting does, and the values that it takes if they can be counted."""
    text, choices = one.metadata["help"], one.metadata["choices"]
    return f"{text} One of: {', '.join(choices)}." if choices else text


def _parameter(name: str, annotation: Any, *, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def status(*, workspace: WorkspaceOption = DEFAULT_WORKSPACE, is_json: JsonOption = False) -> None:
    """Show the data set, the runs and how far the review is."""
    with existing(workspace) as opened:
        dataset, runs, review = opened.dataset, opened.runs.list(), opened.review.progress()
    lines = [
        f"{dataset.n_samples:,} images of {len(dataset.class_names)} classes in {dataset.root}"
        if dataset
        else "No data set yet.",
        *(f"{run.run_id}: {run.state}, {duration(run.seconds)}" for run in runs),
        f"{review.n_flagged:,} of {review.n_samples:,} scored images are flagged, "
        f"{review.n_decided:,} of these decided, {review.n_relabelled:,} relabelled.",
    ]
    result = {
        "dataset": asdict(dataset) if dataset else None,
        "runs": [run_json(run) for run in runs],
        "review": asdict(review),
    }
    print_result(result, "\n".join(lines), is_json=is_json)


def resume(
    run_id: Annotated[str, typer.Argument(help="The run to go on with, such as phase1-001.")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    is_json: JsonOption = False,
) -> None:
    """Go on with a run that was cut off, from its last whole epoch."""
    with existing(workspace) as opened:
        opened.runs.resume(run_id)
        _finish(opened.runs, run_id, is_json=is_json)


def delete(
    run_id: Annotated[str, typer.Argument(help="The run to delete, such as phase1-001.")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    is_confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    is_json: JsonOption = False,
) -> None:
    """Delete a finished run's folder: its model and log. Its scores and all decisions stay."""
    with existing(workspace) as opened:
        view = opened.runs.view(run_id)
        if not is_confirmed:
            typer.confirm(
                f"Delete {run_id} ({view.state}) with its model and log?", abort=True, err=True
            )
        opened.runs.delete(run_id)
    print_result({"deleted": run_id}, f"Deleted {run_id}.", is_json=is_json)


def _start_and_wait(
    kind: str, *, workspace: Path, preset: str | None, settings: dict[str, Any], is_json: bool
) -> None:
    config = CONFIGS[kind].from_preset(preset or "paper", **settings)
    with existing(workspace) as opened:
        _finish(opened.runs, opened.runs.start(kind, config), is_json=is_json)


def _finish(runs: Runs, run_id: str, *, is_json: bool) -> None:
    """Follows a run to its end and says what it came to."""
    with ProgressLine(sys.stderr) as line:
        view = _wait(runs, run_id, line=line)
    if view.state == "cancelled":
        raise RunCancelled(f"{run_id} was cancelled.")
    if view.state != "done":
        raise RunError(f"{run_id} {view.state}: {view.error}", view.hint)
    print_result(
        run_json(view),
        f"{run_id} is done after {duration(view.seconds)}: {summary(view.kind, view.report or {})}",
        is_json=is_json,
    )


def _wait(runs: Runs, run_id: str, *, line: ProgressLine) -> RunView:
    try:
        return runs.wait(run_id, line.show)
    except KeyboardInterrupt:
        runs.cancel(run_id)
        return runs.wait(run_id)


def run_json(view: RunView) -> dict[str, Any]:
    wanted = ("run_id", "kind", "round", "state", "error", "hint", "seconds", "settings", "report")
    return {name: getattr(view, name) for name in wanted}

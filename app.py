"""Starts the application on this machine: `python app.py --help`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from deft_core.config import Phase1Config
from deft_core.errors import DeftError, RunError
from deft_core.presets import DATA
from deft_core.terminal import ProgressLine
from deft_core.workspace import Workspace

WORKSPACE = DATA / "workspace"
DEMO_WORKSPACE = DATA / "demo-workspace"
DEMO_DATA = DATA / "demo-data"


def main(
    *,
    workspace: Annotated[
        Path | None, typer.Option(help="Where labels and runs are kept. Default: data/workspace.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: the first free from 7860 on.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Try it on drawn pictures, in data/demo-workspace.")
    ] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and open nothing.")
    ] = False,
) -> None:
    """Find and fix wrong labels in an image-classification data set, in the browser."""
    try:
        with Workspace.open(workspace or (DEMO_WORKSPACE if demo else WORKSPACE)) as opened:
            # Gradio takes seconds to import; what is wrong before it is said at once.
            from review_ui.server import serve

            if demo:
                prepare_demo(opened)
            serve(opened, port=port, on_ready=lambda address: announce(address, not no_browser))
            for run in opened.runs.unfinished():
                print(f"{run.run_id} goes on in the background.", flush=True)
    except DeftError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


def announce(address: str, may_open: bool) -> None:
    """Says where the application is, and opens it if there is a screen."""
    print(f"Ready: {address}  (stop with Ctrl+C)", flush=True)
    if may_open and (sys.platform != "linux" or "DISPLAY" in os.environ):
        webbrowser.open(address)


def prepare_demo(workspace: Workspace) -> None:
    """Draws the demo data, ingests it and runs phase 1, each unless it is there already."""
    from deft_core.demo import write_demo

    with ProgressLine(sys.stderr) as line:
        if workspace.dataset is None:
            if not DEMO_DATA.exists():
                print(f"Drawing the demo pictures into {DEMO_DATA}", flush=True)
                write_demo(DEMO_DATA)
            workspace.ingest(DEMO_DATA, on_progress=line.counting("reading the pictures"))
        if workspace.store.current_run() is None:
            print("Running phase 1 on them, a few minutes and only once", flush=True)
            at_work = [run.run_id for run in workspace.runs.unfinished()]
            at_work = at_work or [workspace.runs.start("phase1", Phase1Config.from_preset("demo"))]
            run = workspace.runs.wait(at_work[0], line.show)
            if run.state != "done":
                raise RunError(run.error or f"{run.run_id} was {run.state}.", run.hint)


if __name__ == "__main__":
    typer.run(main)

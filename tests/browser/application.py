"""The real application in a process of its own.

It is forked from a process that has imported everything: Gradio alone takes seconds, and every test
has an application, some have three.
"""

from __future__ import annotations

import os
import signal
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from deft_core.workspace import Workspace
from tests.small_world import PATIENCE

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "tests.browser.gradio_imported"])


class App:
    """What `python app.py` does with a workspace; `address` is where it answers."""

    def __init__(self, workspace: Path, *, port: int = 0) -> None:
        self.workspace = workspace
        here, there = FORKS.Pipe(duplex=False)
        options = (workspace, port, tempfile.gettempdir(), there)
        self._process = FORKS.Process(target=serve_workspace, args=options)
        self._process.start()
        there.close()
        with here:
            # EOFError: it did not start, and its traceback is what was printed.
            self.address: str = here.recv()
        self.port = int(self.address.rpartition(":")[2])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends the application; the workspace is free to be opened afterwards."""
        if self._process.is_alive():
            assert self._process.pid is not None
            os.kill(self._process.pid, how)
            self._process.join(PATIENCE)
        assert self._process.exitcode is not None, "The application does not end."

    def decisions(self) -> dict[int, tuple[str, int | None]]:
        """Verdict and reviewed label of every decided sample, read after the application ended."""
        self.stop()
        with Workspace.open(self.workspace) as workspace:
            rows = workspace.store.log.current().to_pylist()
        return {row["sample_id"]: (row["verdict"], row["reviewed_label"]) for row in rows}


def serve_workspace(path: Path, port: int, scratch: str, ready: Connection) -> None:
    """What the process does; `ready` gets the address."""
    from review_ui.server import serve

    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    with Workspace.open(path) as workspace:
        serve(workspace, port=port, on_ready=ready.send)

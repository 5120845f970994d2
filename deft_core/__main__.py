"""The command line: `python -m deft_core COMMAND`.

Results go to standard output, as JSON with --json; progress and errors go to standard error. An
error that the user can mend ends with exit code 2, a cancelled run with 130.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import typer

from deft_core.commands.data import demo, export, ingest, prompts
from deft_core.commands.model import export_model, predict
from deft_core.commands.runs import delete, resume, run_command, status
from deft_core.commands.store import backup, verify
from deft_core.errors import EXIT_ERROR, DeftError
from deft_core.run_process import RunCancelled

EXIT_CANCELLED = 130

app = typer.Typer(
    help="Find and fix wrong labels in image-classification data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: Mapping[str, Callable[..., None]] = {
    "demo": demo,
    "ingest": ingest,
    "prompts": prompts,
    "phase1": run_command(
        "phase1", "Detect: train the dual prompts and score every training image."
    ),
    "phase2": run_command(
        "phase2", "Adapt: fine-tune a classifier on the curated set and test it."
    ),
    "status": status,
    "resume": resume,
    "delete": delete,
    "export": export,
    "export-model": export_model,
    "predict": predict,
    "verify": verify,
    "backup": backup,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


def main(arguments: list[str] | None = None) -> None:
    """Runs one command; the one place where errors of the command line are shown."""
    try:
        app(arguments, prog_name="python -m deft_core")
    except DeftError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    except RunCancelled as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_CANCELLED)


if __name__ == "__main__":
    main()

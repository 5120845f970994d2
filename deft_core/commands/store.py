"""What keeps the decisions of a workspace safe: verify and backup."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deft_core.commands.common import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    existing,
    no_workspace,
    print_result,
)
from deft_core.errors import EXIT_ERROR
from deft_core.workspace import back_up, is_workspace


def verify(
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    is_repaired: Annotated[
        bool, typer.Option("--repair", help="Make what is worked out from the log anew first.")
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Check that the log of decisions, its journal and what is worked out from them agree."""
    with existing(workspace) as opened:
        if is_repaired:
            opened.store.log.rebuild()
        found = opened.store.verify()
    lines = [f"{found.n_events:,} events."]
    if found.n_reapplied:
        lines.append(f"{found.n_reapplied:,} that the database had lost came from the journal.")
    if found.n_unlike_journal:
        lines.append(f"{found.n_unlike_journal:,} differ between the database and the journal.")
    if found.n_unknown_samples:
        lines.append(f"{found.n_unknown_samples:,} are about samples that do not exist.")
    lines += [f"{n:,} wrong rows in {table}." for table, n in found.differences.items() if n]
    lines.append("Everything agrees." if found.is_sound else "Something is wrong.")
    print_result({**asdict(found), "is_sound": found.is_sound}, "\n".join(lines), is_json=is_json)
    if not found.is_sound:
        raise typer.Exit(EXIT_ERROR)


def backup(
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    to: Annotated[Path, typer.Option(help="File to write; it must not exist.")],
    is_json: JsonOption = False,
) -> None:
    """Copy the store with all decisions into one file, also while the application runs."""
    if not is_workspace(workspace):
        raise no_workspace(workspace)
    written = back_up(workspace, to=to)
    print_result(
        {"path": str(written), "bytes": written.stat().st_size},
        f"Wrote {written} ({written.stat().st_size / 1e6:,.1f} MB).",
        is_json=is_json,
    )

"""What every command shares: its options, its workspace, and how it tells a result."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from deft_core.errors import StoreError
from deft_core.presets import DATA
from deft_core.workspace import Workspace, is_workspace

DEFAULT_WORKSPACE = DATA / "workspace"
LONGEST_LIST = 10

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        help="Folder that holds the store, the runs and the exports.",
        show_default=str(DEFAULT_WORKSPACE.relative_to(DATA.parent)),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="Print the result as JSON.")]


def existing(path: Path) -> Workspace:
    if not is_workspace(path):
        raise no_workspace(path)
    return Workspace.open(path)


def no_workspace(path: Path) -> StoreError:
    return StoreError(
        f"{path} is not a workspace.", f"python -m deft_core ingest SOURCE --workspace {path}"
    )


def first_of(lines: Iterable[str]) -> list[str]:
    everything = list(lines)
    n_more = len(everything) - LONGEST_LIST
    return everything[:LONGEST_LIST] + ([f"  and {n_more:,} more"] if n_more > 0 else [])


def print_result(result: dict[str, Any], text: str, *, is_json: bool) -> None:
    if is_json:
        text = json.dumps(result, indent=1, ensure_ascii=False, default=str)
    print(text)

"""What a phase 2's classifier is used for: export-model and predict."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deft_core.commands.common import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    first_of,
    print_result,
)
from deft_core.errors import ExportError
from deft_core.run_folder import Progress, RunFolder
from deft_core.terminal import ProgressLine
from deft_core.workspace import find_model, refuse_inside


def export_model(
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    run: Annotated[
        str,
        typer.Option(
            help="Run to take, such as phase2-002 or phase1-001, or its folder.",
            show_default="the newest phase 2",
        ),
    ] = "",
    to: Annotated[Path, typer.Option(help="New or empty folder to write.")],
    has_onnx: Annotated[
        bool, typer.Option("--onnx", help="Also as ONNX; needs requirements-onnx.txt.")
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Write a phase 2's classifier for timm or open_clip, or a phase 1's detector for open_clip,
    with a model card."""
    from deft_core import model_files

    refuse_inside(workspace, to)
    folder = RunFolder(find_model(workspace, run))
    with ProgressLine(sys.stderr) as line:
        exported = model_files.export_model(
            folder,
            to=to,
            has_onnx=has_onnx,
            on_stage=lambda stage: line.show(Progress(stage=stage)),
        )
    checked = ", ".join(f"{name}: {one:.1g}" for name, one in exported.differences.items())
    print_result(
        asdict(exported),
        f"Wrote {exported.path}: the {exported.role} of {exported.run_id}. Read again, its logits "
        f"differ by no more than ({checked}).",
        is_json=is_json,
    )


def predict(
    folder: Annotated[Path, typer.Argument(help="Folder with images at any depth.")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: Annotated[
        str,
        typer.Option(
            help="Folder that export-model wrote, or a phase 2 such as phase2-002.",
            show_default="the newest phase 2",
        ),
    ] = "",
    to: Annotated[
        Path | None, typer.Option(help="CSV file to write; otherwise the rows are printed.")
    ] = None,
    is_forced: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    top: Annotated[int, typer.Option(help="Likeliest labels to give for each image.", min=1)] = 5,
    batch_size: Annotated[int, typer.Option(help="Images worked through at once.", min=1)] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    is_json: JsonOption = False,
) -> None:
    """Tell the classes of all images below a folder."""
    from deft_core import model_files
    from deft_core import predict as prediction

    if to:
        refuse_inside(workspace, to)
    if to and to.exists() and not is_forced:
        raise ExportError(f"{to} exists.", "Choose another name, or --force.")
    path = find_model(workspace, model)
    with ProgressLine(sys.stderr) as line:
        line.show(Progress(stage="loading the model"))
        loaded = model_files.load(path)
        found = prediction.predict(
            folder, loaded, top=top, batch_size=batch_size, device=device, on_progress=line.show
        )
    if to:
        prediction.save_csv(found, to)
    elif not is_json:
        prediction.write_csv(found, sys.stdout)
        return
    problems = [f"  {one.file_name}: {one.problem}" for one in found if one.problem]
    lines = [f"Wrote {to}: the classes of {len(found) - len(problems):,} images."]
    if problems:
        lines += [f"{len(problems):,} cannot be read:", *first_of(problems)]
    result = {"path": str(to) if to else None, "predictions": [one.to_json() for one in found]}
    print_result(result, "\n".join(lines), is_json=is_json)

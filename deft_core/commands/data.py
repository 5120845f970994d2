"""What goes into a workspace and its labels out of it: demo, ingest, prompts, export."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from deft_core.commands.common import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    existing,
    first_of,
    print_result,
)
from deft_core.config import Phase1Config
from deft_core.errors import ConfigError
from deft_core.export import FORMATS
from deft_core.noise import MODES as NOISE_MODES
from deft_core.prompts import read_prompts
from deft_core.terminal import ProgressLine
from deft_core.workspace import Workspace

N_PREVIEWED = 512


def demo(
    directory: Annotated[Path, typer.Argument(help="New or empty folder for the pictures.")],
    *,
    seed: Annotated[int, typer.Option(help="Seed of every picture and wrong label.")] = 0,
    n_train: Annotated[int, typer.Option(help="Training pictures.")] = 1600,
    n_test: Annotated[int, typer.Option(help="Test pictures; their labels are right.")] = 400,
    noise_mode: Annotated[
        str, typer.Option(help=f"Kind of wrong labels: {', '.join(NOISE_MODES)}.")
    ] = "sym",
    noise_ratio: Annotated[float, typer.Option(help="Share of training labels to redraw.")] = 0.2,
    is_json: JsonOption = False,
) -> None:
    """Draw a data set of pictures in which some labels are wrong."""
    from deft_core.demo import write_demo

    with ProgressLine(sys.stderr) as line:
        report = write_demo(
            directory,
            seed=seed,
            n_train=n_train,
            n_test=n_test,
            noise_mode=noise_mode,
            noise_ratio=noise_ratio,
            on_progress=line.counting("drawing"),
        )
    print_result(
        asdict(report),
        f"Drew {report.n_train:,} training and {report.n_test:,} test pictures of "
        f"{len(report.class_names)} classes in {report.directory}; "
        f"{report.n_noisy:,} training labels are wrong.",
        is_json=is_json,
    )


def ingest(
    source: Annotated[
        Path, typer.Argument(help="Folder with class folders or a labels.csv, or a CSV file.")
    ],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that a CSV file's paths start from; by default its own."),
    ] = None,
    is_json: JsonOption = False,
) -> None:
    """Take a data set into a workspace; its files are only read."""
    with ProgressLine(sys.stderr) as line:
        report = Workspace.take_in(
            workspace, source, root=root, on_progress=line.counting("reading")
        )
    n_classes = len(report.n_by_class)
    lines = [f"Took in {report.n_samples:,} images of {n_classes} classes ({report.layout})."]
    if report.unreadable:
        lines.append(f"Left out {len(report.unreadable):,} that cannot be read:")
        lines += first_of(f"  {one.file_name}: {one.problem}" for one in report.unreadable)
    if report.conflicts:
        lines.append(f"{len(report.conflicts):,} images come with different labels:")
        lines += first_of(f"  {', '.join(one.file_names)}" for one in report.conflicts)
    lines += [
        f"The classes {', '.join(names)} give the same prompt." for names in report.same_prompt
    ]
    print_result(report.to_json(), "\n".join(lines), is_json=is_json)


def prompts(
    changes: Annotated[
        list[str] | None, typer.Argument(help='Changes such as "AnnualCrop=annual crop land".')
    ] = None,
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    file: Annotated[
        Path | None, typer.Option(help="CSV file with the columns class,prompt.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Try them on some images, without training.")
    ] = False,
    model: Annotated[str, typer.Option(help="Model of the preview.")] = Phase1Config.model,
    pretrained: Annotated[
        str, typer.Option(help="Weights of the preview.")
    ] = Phase1Config.pretrained,
    is_json: JsonOption = False,
) -> None:
    """Show or change the words that stand for each class in its prompts."""
    wanted = {**(read_prompts(file) if file else {}), **_pairs(changes or [])}
    with existing(workspace) as opened:
        words = opened.set_prompts(wanted)
        found = _preview(opened, words, model=model, pretrained=pretrained) if preview else {}
        names = opened.dataset.class_names if opened.dataset else ()
    by_class = found.get("by_class", {})
    lines = [
        f"{name}: {prompt}" + (f"  ({by_class[label]:.0%})" if label in by_class else "")
        for label, (name, prompt) in enumerate(zip(names, words, strict=True))
    ]
    if preview:
        lines.append(
            f"The nearest prompt is that of the given label for {found['accuracy']:.1%} of "
            f"{found['n']:,} images."
        )
    result = {"prompts": dict(zip(names, words, strict=True)), **found}
    print_result(result, "\n".join(lines), is_json=is_json)


def export(
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    format: Annotated[str, typer.Option(help=f"One of: {', '.join(FORMATS)}.")] = "csv",
    to: Annotated[Path, typer.Option(help="File or folder to write.")],
    is_forced: Annotated[
        bool, typer.Option("--force", metavar="", help="Replace an existing table.")
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Write the decisions as a table, or the curated set as class folders."""
    with existing(workspace) as opened, ProgressLine(sys.stderr) as line:
        exported = opened.export(
            format, to=to, is_forced=is_forced, on_progress=line.counting("writing")
        )
    print_result(
        asdict(exported),
        f"Wrote {exported.path}: {exported.n_samples:,} images, {exported.n_curated:,} of them in "
        f"the curated set, {exported.n_relabelled:,} with another label than given.",
        is_json=is_json,
    )


def _pairs(changes: Iterable[str]) -> dict[str, str]:
    """Class names and prompts from "NAME=PROMPT"."""
    pairs = [one.partition("=") for one in changes]
    for name, equals, _ in pairs:
        if not equals:
            raise ConfigError(f'"{name}" changes nothing.', 'Write it as "CLASS=PROMPT".')
    return {name: prompt for name, _, prompt in pairs}


def _preview(
    workspace: Workspace, words: Sequence[str], *, model: str, pretrained: str
) -> dict[str, Any]:
    # Only a preview pays for torch.
    from deft_core import zero_shot

    dataset, samples = workspace.dataset, workspace.store.samples()
    assert dataset is not None
    chosen = np.random.default_rng(0).permutation(len(samples))[:N_PREVIEWED]
    samples = samples.take(pa.array(np.sort(chosen)))
    found = zero_shot.preview(
        dataset.root,
        samples,
        prompts=words,
        model=model,
        pretrained=pretrained,
        cache=workspace.cache,
    )
    return asdict(found)

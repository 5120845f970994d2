"""The command line: `python -m deft_core COMMAND`.

Results go to standard output, as JSON with --json; progress and errors go to standard error. An
error that the user can mend ends with exit code 2, a cancelled run with 130.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from deft_core.config import DATA, PRESETS, Phase1Config, Phase2Config, TrainingConfig
from deft_core.errors import EXIT_ERROR, ConfigError, DeftError, ExportError, RunError, StoreError
from deft_core.export import FORMATS
from deft_core.noise import MODES as NOISE_MODES
from deft_core.probe import probing
from deft_core.prompts import read_prompts
from deft_core.run_folder import Progress, RunFolder
from deft_core.run_process import RunCancelled, assist, execute
from deft_core.run_view import RunView
from deft_core.runs import CONFIGS, Runs
from deft_core.terminal import ProgressLine, duration, summary
from deft_core.turns import in_turn
from deft_core.workspace import Workspace, back_up, find_model, is_workspace, refuse_inside

DEFAULT_WORKSPACE = DATA / "workspace"
EXIT_CANCELLED = 130
LONGEST_LIST = 10
N_PREVIEWED = 512

app = typer.Typer(
    help="Find and fix wrong labels in image-classification data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        help="Folder that holds the store, the runs and the exports.",
        show_default=str(DEFAULT_WORKSPACE.relative_to(DATA.parent)),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="Print the result as JSON.")]


@app.command()
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
    _print(
        asdict(report),
        f"Drew {report.n_train:,} training and {report.n_test:,} test pictures of "
        f"{len(report.class_names)} classes in {report.directory}; "
        f"{report.n_noisy:,} training labels are wrong.",
        is_json=is_json,
    )


@app.command()
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
        lines += _first(f"  {one.file_name}: {one.problem}" for one in report.unreadable)
    if report.conflicts:
        lines.append(f"{len(report.conflicts):,} images come with different labels:")
        lines += _first(f"  {', '.join(one.file_names)}" for one in report.conflicts)
    lines += [
        f"The classes {', '.join(names)} give the same prompt." for names in report.same_prompt
    ]
    _print(report.to_json(), "\n".join(lines), is_json=is_json)


@app.command()
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
    with _existing(workspace) as opened:
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
    _print(result, "\n".join(lines), is_json=is_json)


@app.command()
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
    with _existing(workspace) as opened, ProgressLine(sys.stderr) as line:
        exported = opened.export(
            format, to=to, is_forced=is_forced, on_progress=line.counting("writing")
        )
    _print(
        asdict(exported),
        f"Wrote {exported.path}: {exported.n_samples:,} images, {exported.n_curated:,} of them in "
        f"the curated set, {exported.n_relabelled:,} with another label than given.",
        is_json=is_json,
    )


@app.command("export-model")
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
    _print(
        asdict(exported),
        f"Wrote {exported.path}: the {exported.role} of {exported.run_id}. Read again, its logits "
        f"differ by no more than ({checked}).",
        is_json=is_json,
    )


@app.command()
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
    with ProgressLine(sys.stderr) as line:
        line.show(Progress(stage="loading the model"))
        loaded = model_files.load(find_model(workspace, model))
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
        lines += [f"{len(problems):,} cannot be read:", *_first(problems)]
    result = {"path": str(to) if to else None, "predictions": [one.to_json() for one in found]}
    _print(result, "\n".join(lines), is_json=is_json)


@app.command()
def status(*, workspace: WorkspaceOption = DEFAULT_WORKSPACE, is_json: JsonOption = False) -> None:
    """Show the data set, the runs and how far the review is."""
    with _existing(workspace) as opened:
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
        "runs": [_run_json(run) for run in runs],
        "review": asdict(review),
    }
    _print(result, "\n".join(lines), is_json=is_json)


@app.command()
def resume(
    run_id: Annotated[str, typer.Argument(help="The run to go on with, such as phase1-001.")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    is_json: JsonOption = False,
) -> None:
    """Go on with a run that was cut off, from its last whole epoch."""
    with _existing(workspace) as opened:
        opened.runs.resume(run_id)
        _finish(opened.runs, run_id, is_json=is_json)


@app.command()
def delete(
    run_id: Annotated[str, typer.Argument(help="The run to delete, such as phase1-001.")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    is_confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    is_json: JsonOption = False,
) -> None:
    """Delete a finished run's folder: its model and log. Its scores and all decisions stay."""
    with _existing(workspace) as opened:
        view = opened.runs.view(run_id)
        if not is_confirmed:
            typer.confirm(
                f"Delete {run_id} ({view.state}) with its model and log?", abort=True, err=True
            )
        opened.runs.delete(run_id)
    _print({"deleted": run_id}, f"Deleted {run_id}.", is_json=is_json)


@app.command()
def verify(
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    is_repaired: Annotated[
        bool, typer.Option("--repair", help="Make what is worked out from the log anew first.")
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Check that the log of decisions, its journal and what is worked out from them agree."""
    with _existing(workspace) as opened:
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
    _print({**asdict(found), "is_sound": found.is_sound}, "\n".join(lines), is_json=is_json)
    if not found.is_sound:
        raise typer.Exit(EXIT_ERROR)


@app.command()
def backup(
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    to: Annotated[Path, typer.Option(help="File to write; it must not exist.")],
    is_json: JsonOption = False,
) -> None:
    """Copy the store with all decisions into one file, also while the application runs."""
    if not is_workspace(workspace):
        raise _no_workspace(workspace)
    written = back_up(workspace, to=to)
    _print(
        {"path": str(written), "bytes": written.stat().st_size},
        f"Wrote {written} ({written.stat().st_size / 1e6:,.1f} MB).",
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
        samples["file_name"].to_pylist(),
        samples["given_label"].to_numpy(),
        prompts=words,
        model=model,
        pretrained=pretrained,
        cache=workspace.cache,
    )
    return asdict(found)


def _run_command(kind: str) -> Callable[..., None]:
    """The command that starts a run of this kind and waits for it, or is its child process."""

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
        _work_through(RunFolder(run), kind=kind)

    presets = ", ".join(PRESETS[CONFIGS[kind]])
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
    # typer reads both.
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


app.command("phase1", help="Detect: train the dual prompts and score every training image.")(
    _run_command("phase1")
)
app.command("phase2", help="Adapt: fine-tune a classifier on the curated set and test it.")(
    _run_command("phase2")
)


def _start_and_wait(
    kind: str, *, workspace: Path, preset: str | None, settings: dict[str, Any], is_json: bool
) -> None:
    config = CONFIGS[kind].from_preset(preset or "paper", **settings)
    with _existing(workspace) as opened:
        _finish(opened.runs, opened.runs.start(kind, config), is_json=is_json)


def _finish(runs: Runs, run_id: str, *, is_json: bool) -> None:
    """Follows a run to its end and says what it came to."""
    with ProgressLine(sys.stderr) as line:
        view = _wait(runs, run_id, line=line)
    if view.state == "cancelled":
        raise RunCancelled(f"{run_id} was cancelled.")
    if view.state != "done":
        raise RunError(f"{run_id} {view.state}: {view.error}", view.hint)
    _print(
        _run_json(view),
        f"{run_id} is done after {duration(view.seconds)}: {summary(view.kind, view.report or {})}",
        is_json=is_json,
    )


def _wait(runs: Runs, run_id: str, *, line: ProgressLine) -> RunView:
    try:
        return runs.wait(run_id, line.show)
    except KeyboardInterrupt:
        runs.cancel(run_id)
        return runs.wait(run_id)


def _work_through(folder: RunFolder, *, kind: str) -> None:
    found = folder.config()["kind"]
    if found != kind:
        raise RunError(f"{folder.path} is a {found} run, not {kind}.", f"Use the command {found}.")
    if not _is_first_process():
        assist(folder, _stage)
        return
    # Only the child process pays for it.
    from deft_core.curves import Curves

    stage = probing(_stage) if folder.config().get("is_probe") else _stage
    with ProgressLine(sys.stderr) as line, Curves(folder) as curves:

        def show(progress: Progress) -> None:
            line.show(progress)
            curves.add(progress)

        execute(folder, stage, on_progress=show)


def _stage(folder: RunFolder) -> Generator[Progress, None, None]:
    """The work of a run, when it has its turn on its devices."""
    # Only the child process pays for torch, and a failing import is a failed run.
    from deft_core import classifier, clip, phase1, phase2, training

    task = folder.config()
    settings = CONFIGS[task["kind"]].from_json(task["settings"])
    assert isinstance(settings, TrainingConfig)
    # A misspelled model is told at once, and not after hours of waiting.
    if isinstance(settings, Phase2Config):
        classifier.check_model(settings)
    else:
        clip.check_exists(settings.model, settings.pretrained)
    stages = {"phase1": phase1.run, "phase2": phase2.run}
    yield from in_turn(
        stages[task["kind"]](folder),
        run=folder.path,
        devices=training.devices_of(settings),
        is_first=_is_first_process(),
    )


def _is_first_process() -> bool:
    """Whether this process reports for its run, and not one beside it that accelerate started."""
    return os.environ.get("RANK", "0") == "0"


def _existing(path: Path) -> Workspace:
    if not is_workspace(path):
        raise _no_workspace(path)
    return Workspace.open(path)


def _no_workspace(path: Path) -> StoreError:
    return StoreError(
        f"{path} is not a workspace.", f"python -m deft_core ingest SOURCE --workspace {path}"
    )


def _run_json(view: RunView) -> dict[str, Any]:
    wanted = ("run_id", "kind", "round", "state", "error", "hint", "seconds", "settings", "report")
    return {name: getattr(view, name) for name in wanted}


def _first(lines: Iterable[str]) -> list[str]:
    everything = list(lines)
    n_more = len(everything) - LONGEST_LIST
    return everything[:LONGEST_LIST] + ([f"  and {n_more:,} more"] if n_more > 0 else [])


def _print(result: dict[str, Any], text: str, *, is_json: bool) -> None:
    if is_json:
        text = json.dumps(result, indent=1, ensure_ascii=False, default=str)
    print(text)


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

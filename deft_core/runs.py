"""A run is a folder and a detached child process. This is both ends of it, without torch.

`Runs` starts, watches, cancels and imports; it never waits for a child except in `wait`. `execute`
is what the child does: it works through a stage and keeps the folder's status true.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from deft_core import selection
from deft_core.config import Config, Phase1Config, Phase2Config
from deft_core.errors import DeftError, RunError
from deft_core.run_folder import UNFINISHED, Progress, RunFolder
from deft_core.selection import NO_LABEL
from deft_core.store import Store, utc_now

CONFIGS: Mapping[str, type[Config]] = {"phase1": Phase1Config, "phase2": Phase2Config}
SCORES_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int32()),
        ("p_clean", pa.float32()),
        ("is_clean", pa.bool_()),
        ("pos_sim", pa.float32()),
        ("neg_sim", pa.float32()),
        ("margin", pa.float32()),
        ("mean_gap", pa.float32()),
        ("mean_margin", pa.float32()),
        ("predicted_label", pa.int32()),
        ("predicted_pos_sim", pa.float32()),
        ("predicted_neg_sim", pa.float32()),
        ("top_labels", pa.list_(pa.int32())),
        ("top_pos_sims", pa.list_(pa.float32())),
        ("top_neg_sims", pa.list_(pa.float32())),
    ]
)
RESUMABLE = ("crashed", "cancelled", "failed")
NEIGHBOURS = "neighbours.parquet"
NEIGHBOURS_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int32()),
        ("nearest", pa.list_(pa.int32())),
        ("nearest_given", pa.list_(pa.int32())),
        ("nearest_predicted", pa.list_(pa.int32())),
    ]
)
MOST_NEIGHBOURS = 10
ERROR_OF_ASSISTANT = "error.json"
RUN_ID = re.compile(r"phase[12]-[0-9]+")
PROGRAM = (sys.executable, "-m", "deft_core")
POLL_SECONDS = 0.5

Stage = Callable[[RunFolder], Generator[Progress, None, None]]


class RunCancelled(Exception):  # noqa: N818 - it went as asked.
    """A run ended because it was told to."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as it stands: queued, running, done, failed, cancelled, crashed, or damaged, when its
    folder cannot be read and `error` says why. `losses` holds (fraction, loss) pairs."""

    run_id: str
    kind: str
    round: int
    state: str
    progress: Progress | None
    losses: list[tuple[float, float]]
    error: str
    hint: str
    seconds: float
    settings: dict[str, Any]
    report: dict[str, Any] | None
    log_tail: str

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED


class Runs:
    """The runs of a workspace, one at a time."""

    def __init__(
        self, path: Path, *, store: Store, cache: Path, program: Sequence[str] = PROGRAM
    ) -> None:
        self._path = path
        self._cache = cache
        self._program = program
        self._store = store
        self._lock = threading.RLock()

    def start(self, kind: str, settings: Config) -> str:
        """The id of a new run, which works in a process of its own from now on."""
        if kind not in CONFIGS or not isinstance(settings, CONFIGS[kind]):
            raise RunError(f'There is no "{kind}" run with {type(settings).__name__}.')
        with self._lock:
            self._refuse_second_run()
            folder = self._prepare(kind, settings=settings)
            self._spawn(folder, kind=kind)
        return folder.run_id

    def view(self, run_id: str) -> RunView:
        """How a run stands; RunError when there is none with this id."""
        return self._view(self._folder(run_id))

    def list(self) -> tuple[RunView, ...]:
        """Every run, newest first."""
        return tuple(map(self._view, reversed(self._folders())))

    def resume(self, run_id: str) -> None:
        """Let a run that ended without a result go on from its last checkpoint."""
        with self._lock:
            folder = self._folder(run_id)
            state = self._state(folder)
            if state not in RESUMABLE:
                raise RunError(
                    f"{run_id} is {state}; only a run that was cut off can go on.",
                    "Start a new run.",
                )
            self._refuse_second_run()
            kind = folder.config()["kind"]
            (folder.path / "cancel.json").unlink(missing_ok=True)
            folder.set_status("queued")
            self._spawn(folder, kind=kind)

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop; the second time it is killed. Nothing happens to a finished one."""
        with self._lock:
            folder = self._folder(run_id)
            if self._state(folder) not in UNFINISHED:
                return
            has_been_asked = (folder.path / "cancel.json").exists()
            folder.write_json("cancel.json", {"asked_at": utc_now().isoformat()})
            process = _process(folder)
            if process:
                # It leads a group of its own, to which its workers belong.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL if has_been_asked else signal.SIGTERM)

    def import_finished(self) -> tuple[str, ...]:
        """The runs whose results the store has taken in just now, each in one transaction.

        A run with results that cannot be used has failed, and says why.
        """
        imported = []
        with self._lock:
            known = {run.run_id for run in self._store.runs()}
            for folder in self._folders():
                if folder.run_id in known or _claimed_state(folder) != "done":
                    continue
                try:
                    self._import(folder)
                except DeftError as error:
                    folder.set_status("failed", error=error.message, hint=error.hint)
                else:
                    imported.append(folder.run_id)
        return tuple(imported)

    def wait(self, run_id: str, on_progress: Callable[[Progress], None] | None = None) -> RunView:
        """The run when it is finished and, if it is done, imported."""
        folder = self._folder(run_id)
        last: Progress | None = None
        while True:
            is_finished = self._state(folder) not in UNFINISHED
            progress = folder.latest_progress()
            if progress and progress != last and on_progress:
                on_progress(progress)
            last = progress
            if is_finished:
                self.import_finished()
                return self.view(run_id)
            time.sleep(POLL_SECONDS)

    # --- starting

    def _prepare(self, kind: str, *, settings: Config) -> RunFolder:
        dataset = self._store.dataset()
        if dataset is None:
            raise RunError("This workspace holds no data set.", "Ingest one first.")
        current = self._store.current_run()
        if kind == "phase2" and current is None:
            raise RunError("Phase 2 needs the scores of phase 1.", "Run phase 1 first.")
        if not dataset.n_by_split.get("train"):
            raise RunError(
                "This data set has no training images.",
                'Ingest it again with the split "train" for the images to learn from.',
            )
        n_before = current.round if current else 0
        config = {
            "kind": kind,
            "round": n_before + 1 if kind == "phase1" else n_before,
            "created_at": utc_now().isoformat(),
            "root": str(dataset.root),
            "cache": str(self._cache),
            "class_names": list(dataset.class_names),
            "prompts": list(dataset.prompts),
            "settings": settings.to_json(),
        }
        self._path.mkdir(parents=True, exist_ok=True)
        path = self._path / f"{kind}-{self._next_number():03d}"
        return RunFolder.create(path, config=config, samples=_run_samples(self._store.samples()))

    def _refuse_second_run(self) -> None:
        unfinished = [view for view in self.list() if not view.is_finished]
        if unfinished:
            raise RunError(
                f"{unfinished[0].run_id} is {unfinished[0].state}; one run works at a time.",
                "Wait for it, or cancel it.",
            )

    def _spawn(self, folder: RunFolder, *, kind: str) -> None:
        package_root = str(Path(__file__).resolve().parent.parent)
        search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
        program = _launched(self._program, settings=folder.config()["settings"])
        with (folder.path / "log.txt").open("ab") as log:
            child = subprocess.Popen(
                [*program, kind, "--run", str(folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": search_path},
            )
        # Reaps the child when it ends, whether anyone still looks at this run or not.
        threading.Thread(target=child.wait, daemon=True).start()
        folder.write_json("proc.json", {"pid": child.pid})

    def _next_number(self) -> int:
        taken = [path.name for path in self._path.iterdir() if RUN_ID.fullmatch(path.name)]
        taken += [run.run_id for run in self._store.runs()]
        return max(map(_number, taken), default=0) + 1

    # --- watching

    def _folders(self) -> tuple[RunFolder, ...]:
        """The whole run folders, oldest first."""
        ids = [path.parent.name for path in self._path.glob("*/status.json")]
        ordered = sorted(filter(RUN_ID.fullmatch, ids), key=_number)
        return tuple(RunFolder(self._path / run_id) for run_id in ordered)

    def _folder(self, run_id: str) -> RunFolder:
        folder = RunFolder(self._path / run_id)
        if not (RUN_ID.fullmatch(run_id) and (folder.path / "status.json").exists()):
            raise RunError(f'There is no run "{run_id}".')
        return folder

    def _state(self, folder: RunFolder) -> str:
        with self._lock:
            # The process is looked for first: what it wrote before it ended is then surely read.
            is_alive = _process(folder) is not None
            state = _claimed_state(folder)
        if is_alive or state not in UNFINISHED:
            return state
        return "cancelled" if (folder.path / "cancel.json").exists() else "crashed"

    def _view(self, folder: RunFolder) -> RunView:
        state = self._state(folder)
        try:
            return _whole_view(folder, state=state)
        except RunError as error:
            return _damaged_view(folder, error=error)

    # --- importing

    def _import(self, folder: RunFolder) -> None:
        config = folder.config()
        self._store.add_run(
            folder.run_id,
            kind=config["kind"],
            round=config["round"],
            imported_at=utc_now(),
            settings=config["settings"],
            report=folder.read_json("report.json"),
            scores=_queue_scores(folder) if config["kind"] == "phase1" else None,
            neighbours=_neighbours(folder) if (folder.path / NEIGHBOURS).exists() else None,
        )


def _launched(program: Sequence[str], *, settings: Mapping[str, Any]) -> Sequence[str]:
    """The program as it is, or by way of `accelerate launch` when several processes share a run."""
    n_processes = settings.get("n_processes", 1)
    if n_processes == 1:
        return program
    python, *rest = program
    # Its option --cpu would start a single process; which device each works on the run knows.
    options = ["--multi_gpu", "--num_processes", str(n_processes), "--num_machines", "1"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    return [python, "-m", "accelerate.commands.launch", *options, *rest]


def execute(
    folder: RunFolder, stage: Stage, *, on_progress: Callable[[Progress], None] | None = None
) -> None:
    """Work through a stage in this process; the folder's status says how it ended.

    A run that was cut off before goes on. SIGTERM closes the stage at its next report. DeftError is
    for the user to mend and is kept with its hint; anything else is a bug, leaves its traceback in
    the log and goes on to the caller.
    """
    state, other = folder.status().state, _process(folder)
    if state == "done":
        raise RunError(f"{folder.run_id} is done.", "Start a new run.")
    if other and other.pid not in (os.getpid(), os.getppid()):
        raise RunError(
            f"{folder.run_id} is {state} in process {other.pid}.", "Wait for it, or cancel it."
        )
    if other is None:
        folder.write_json("proc.json", {"pid": os.getpid()})
    (folder.path / ERROR_OF_ASSISTANT).unlink(missing_ok=True)
    with _terminations() as is_told_to_stop:
        folder.set_status("running")
        try:
            with closing(stage(folder)) as reports:
                for progress in reports:
                    folder.add_progress(progress)
                    if on_progress:
                        on_progress(progress)
                    if is_told_to_stop():
                        raise RunCancelled
        except BaseException as error:
            elsewhere = _error_of_assistant(folder)
            if elsewhere:
                folder.set_status("failed", error=elsewhere.message, hint=elsewhere.hint)
                raise elsewhere from error
            # Workers of the stage get the signal too, and their ends look like failures of it.
            if is_told_to_stop() or isinstance(error, KeyboardInterrupt):
                folder.set_status("cancelled")
                raise RunCancelled(f"{folder.run_id} was cancelled.") from error
            if isinstance(error, DeftError):
                folder.set_status("failed", error=error.message, hint=error.hint)
            else:
                folder.set_status(
                    "failed",
                    error=f"This is a bug: {type(error).__name__}: {error}",
                    hint="The log of the run ends with the traceback; please report it.",
                )
            raise
        folder.set_status("done")


def assist(folder: RunFolder, stage: Stage) -> None:
    """Work through a stage beside the process that executes it and alone reports.

    What the user can mend is left in the folder for that process, which sees only that this one
    is gone.
    """
    try:
        for _ in stage(folder):
            pass
    except DeftError as error:
        told = {"error": error.message, "hint": error.hint}
        folder.write_json(ERROR_OF_ASSISTANT, told)
        raise


def _error_of_assistant(folder: RunFolder) -> DeftError | None:
    if not (folder.path / ERROR_OF_ASSISTANT).exists():
        return None
    told = folder.read_json(ERROR_OF_ASSISTANT)
    return RunError(told["error"], told["hint"])


@contextmanager
def _terminations() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come since the block began."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _claimed_state(folder: RunFolder) -> str:
    """The state that the folder's status claims, or "damaged" if it cannot be read."""
    try:
        return folder.status().state
    except RunError:
        return "damaged"


def _process(folder: RunFolder) -> psutil.Process | None:
    """The run's process if it lives.

    Ids are used again and clocks are set, but no other process is started with this run's folder.
    """
    try:
        process = psutil.Process(folder.read_json("proc.json")["pid"])
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return process if not is_zombie and str(folder.path) in process.cmdline() else None
    except (RunError, KeyError, TypeError, ValueError, psutil.Error):
        return None


def _whole_view(folder: RunFolder, *, state: str) -> RunView:
    config, status, reports = folder.config(), folder.status(), folder.progress()
    started_at = datetime.fromisoformat(config["created_at"]).timestamp()
    ended_at = time.time() if state in UNFINISHED else status.changed_at
    error, hint = status.error, status.hint
    if state == "crashed":
        error = "The process of this run ended without a word."
        hint = "It may have run out of memory; the log shows its last lines. Start it again."
    return RunView(
        run_id=folder.run_id,
        kind=config["kind"],
        round=config["round"],
        state=state,
        progress=reports[-1] if reports else None,
        losses=[(one.fraction, one.loss) for one in reports if one.loss is not None],
        error=error,
        hint=hint,
        seconds=max(0.0, ended_at - started_at),
        settings=config["settings"],
        report=folder.read_json("report.json") if state == "done" else None,
        log_tail=_log_tail(folder),
    )


def _damaged_view(folder: RunFolder, *, error: RunError) -> RunView:
    return RunView(
        run_id=folder.run_id,
        kind=folder.run_id.partition("-")[0],
        round=0,
        state="damaged",
        progress=None,
        losses=[],
        error=error.message,
        hint=error.hint,
        seconds=0.0,
        settings={},
        report=None,
        log_tail=_log_tail(folder),
    )


def _log_tail(folder: RunFolder) -> str:
    return folder.tail("log.txt").decode(errors="replace")


def _number(run_id: str) -> int:
    return int(run_id.rpartition("-")[2])


def _run_samples(samples: pa.Table) -> pa.Table:
    """What a run is told of the samples of every split. `final_label` is the reviewed label, the
    given one of a sample that is not reviewed, or none; those of the curated set have a curated
    label."""
    chosen = selection.curated_set(samples)
    final, curated = chosen.final_label, chosen.curated_label
    return pa.table(
        {
            "sample_id": samples["sample_id"],
            "file_name": samples["file_name"],
            "sha256": samples["sha256"],
            "split": samples["split"],
            "given_label": samples["given_label"],
            "final_label": pa.array(final, pa.int32(), mask=final == NO_LABEL),
            "is_reviewed": pc.is_valid(samples["verdict"]),
            "curated_label": pa.array(curated, pa.int32(), mask=curated == NO_LABEL),
        }
    )


def _queue_scores(folder: RunFolder) -> pa.Table:
    """The checked scores of a phase 1, in queue order, with what the selection says of each."""
    scores = _checked_scores(folder)
    samples = folder.samples().sort_by("sample_id")
    sample_id, p_clean = scores["sample_id"].to_numpy(), scores["p_clean"].to_numpy()
    given = samples["given_label"].to_numpy()[
        np.searchsorted(samples["sample_id"].to_numpy(), sample_id)
    ]
    suggested = selection.suggested_labels(scores["predicted_label"].to_numpy(), given=given)
    scores = scores.append_column(
        "suggested_label", pa.array(suggested, pa.int32(), mask=suggested == NO_LABEL)
    )
    scores = scores.take(selection.queue_order(p_clean, sample_id=sample_id))
    return scores.append_column("position", pa.array(range(scores.num_rows), pa.int32()))


def _checked_scores(folder: RunFolder) -> pa.Table:
    scores = folder.read_table("scores.parquet")
    try:
        scores = scores.select(SCORES_SCHEMA.names).cast(SCORES_SCHEMA)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise _bad_scores(folder, str(error)) from error
    sample_id = scores["sample_id"].to_numpy()
    p_clean = scores["p_clean"].to_numpy()
    labels = pa.chunked_array(
        [*scores["predicted_label"].chunks, *pc.list_flatten(scores["top_labels"]).chunks],
        pa.int32(),
    ).to_numpy()
    n_classes = len(folder.config()["class_names"])
    if any(column.null_count for column in scores.columns):
        raise _bad_scores(folder, "there are empty values")
    if len(np.unique(sample_id)) != len(sample_id):
        raise _bad_scores(folder, "a sample is scored twice")
    if not np.isin(sample_id, folder.samples()["sample_id"].to_numpy()).all():
        raise _bad_scores(folder, "a sample is not one of the run's samples")
    if not ((p_clean >= 0) & (p_clean <= 1)).all():
        raise _bad_scores(folder, "a p_clean is not between 0 and 1")
    if not ((labels >= 0) & (labels < n_classes)).all():
        raise _bad_scores(folder, f"a label is not one of {n_classes} classes")
    return scores


def _neighbours(folder: RunFolder) -> pa.Table:
    """The checked neighbours that a phase 1 found, in order of sample id."""
    table = folder.read_table(NEIGHBOURS)
    try:
        table = table.select(NEIGHBOURS_SCHEMA.names).cast(NEIGHBOURS_SCHEMA)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise _bad_neighbours(folder, str(error)) from error
    known = folder.samples()["sample_id"].to_numpy()
    for name in NEIGHBOURS_SCHEMA.names:
        column = table[name]
        if column.null_count:
            raise _bad_neighbours(folder, f"{name} has empty values")
        if pa.types.is_list(column.type):
            if (pc.max(pc.list_value_length(column)).as_py() or 0) > MOST_NEIGHBOURS:
                raise _bad_neighbours(folder, f"{name} has more than {MOST_NEIGHBOURS}")
            column = pc.list_flatten(column)
        if not np.isin(column.to_numpy(), known).all():
            raise _bad_neighbours(folder, f"{name} names a sample that is not the run's")
    if pc.count_distinct(table["sample_id"]).as_py() != table.num_rows:
        raise _bad_neighbours(folder, "a sample stands there twice")
    return table.sort_by("sample_id")


def _bad_neighbours(folder: RunFolder, problem: str) -> RunError:
    return RunError(
        f"The neighbours of {folder.run_id} cannot be used: {problem}.", "Run phase 1 again."
    )


def _bad_scores(folder: RunFolder, problem: str) -> RunError:
    return RunError(
        f"The scores of {folder.run_id} cannot be used: {problem}.", "Run phase 1 again."
    )

"""A run is a folder and a detached child process. This is the end of it that starts and watches.

`Runs` never waits for a child except in `wait`. What the child does is in `run_process.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pyarrow as pa
import pyarrow.compute as pc

from deft_core import selection
from deft_core.config import Config, Phase1Config, Phase2Config
from deft_core.errors import DeftError, DiskFullError, RunError
from deft_core.failures import explaining
from deft_core.full_disk import telling_full_disk
from deft_core.run_files import NEIGHBOURS, PREDICTIONS, SAMPLES, TABLES
from deft_core.run_folder import UNFINISHED, Progress, RunFolder
from deft_core.run_process import find_process, is_asked_to_stop
from deft_core.run_results import check_data_set, neighbours, predictions, queue_scores
from deft_core.run_view import RunView, claimed_state, state_of, view_of
from deft_core.selection import NO_LABEL
from deft_core.store import ImportedRun, Store, utc_now
from deft_core.whole_files import writing_whole

CONFIGS: Mapping[str, type[Config]] = {"phase1": Phase1Config, "phase2": Phase2Config}
RESUMABLE = ("crashed", "cancelled", "failed")
RUN_ID = re.compile(r"phase[12]-[0-9]+")
NEWEST = "newest.txt"
"""Beside the runs: the id of the one that was started last."""
PROGRAM = (sys.executable, "-m", "deft_core")
POLL_SECONDS = 0.5
SECONDS_TO_APPEAR = 0.01


class Runs:
    """The runs of a workspace. Of those that are started one works on each device, others wait."""

    def __init__(
        self, path: Path, *, store: Store, cache: Path, program: Sequence[str] = PROGRAM
    ) -> None:
        self._path = path
        self._cache = cache
        self._program = program
        self._store = store
        self._lock = threading.RLock()
        self._remove_deleted()

    def start(self, kind: str, settings: Config) -> str:
        """The id of a new run, which works in a process of its own from now on."""
        if kind not in CONFIGS or not isinstance(settings, CONFIGS[kind]):
            raise RunError(f'There is no "{kind}" run with settings of {settings.title}.')
        with self._lock:
            self._path.mkdir(parents=True, exist_ok=True)
            folder = self._prepare(f"{kind}-{self._next_number():03d}", kind, settings=settings)
            with explaining(folder), writing_whole(self._path / NEWEST) as newest:
                newest.write_text(folder.run_id, encoding="ascii")
            self._spawn(folder, kind, settings=settings)
        return folder.run_id

    def has_input(self, kind: str) -> bool:
        """Whether there is what a run of this kind starts from: a data set and, for phase 2, the
        scores of a phase 1."""
        if self._store.dataset() is None:
            return False
        return kind == "phase1" or self._store.current_run_id() is not None

    def seconds_before(self, kind: str, settings: Config) -> tuple[str, float] | None:
        """The newest run that was done with these settings, and how long it took."""
        for run in self.list(kind):
            if run.report and run.settings == settings.to_json():
                return run.run_id, float(run.report["seconds"])
        return None

    def start_probe(self, kind: str, settings: Config) -> None:
        """Begin to find out how long a run would take; `probe` tells."""
        if settings.to_json()["n_processes"] > 1:
            raise RunError(
                "How long several processes take is not tried.",
                "Start the run: after some seconds it says what time is left.",
            )
        with self._lock:
            self.stop_probe(kind)
            folder = self._prepare(_probe_name(kind), kind, settings=settings, is_probe=True)
            self._spawn(folder, kind, settings=settings)

    def probe(self, kind: str) -> RunView | None:
        """How the last probe of this kind stands, if it is still there."""
        folder = RunFolder(self._path / _probe_name(kind))
        return self._view(folder) if (folder.path / "status.json").exists() else None

    def stop_probe(self, kind: str) -> None:
        """Stop a probe that is at work, and forget what it found."""
        with self._lock:
            folder = RunFolder(self._path / _probe_name(kind))
            process = find_process(folder)
            if process:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                process.wait()
            shutil.rmtree(folder.path, ignore_errors=True)

    def view(self, run_id: str) -> RunView:
        """How a run stands; RunError when there is none with this id."""
        return self._view(self._folder(run_id))

    def list(self, kind: str = "") -> tuple[RunView, ...]:
        """Every run, or those of one kind, newest first."""
        return tuple(self._view(one) for one in reversed(self._folders()) if _is_of(one, kind))

    def latest(self, kind: str = "") -> RunView | None:
        """The newest run, or the newest of one kind."""
        folders = (one for one in reversed(self._folders()) if _is_of(one, kind))
        return next(map(self._view, folders), None)

    def unfinished(self) -> tuple[RunView, ...]:
        """The runs that wait or work, newest first."""
        return tuple(run for run in self.list() if not run.is_finished)

    def n_outdated(self, run_id: str) -> int:
        """How many samples have since joined or left the curated set that a run was given, or have
        another label in it. RunError when it was given another data set."""
        folder, samples = self._folder(run_id), self._store.samples()
        self._check_data_set(folder, samples)
        then = folder.samples().sort_by("sample_id")["curated_label"]
        now = _run_samples(samples).sort_by("sample_id")["curated_label"]
        return int(
            (then.fill_null(NO_LABEL).to_numpy() != now.fill_null(NO_LABEL).to_numpy()).sum()
        )

    def losses(self, run_id: str) -> tuple[Progress, ...]:
        """The reports of a run that have a loss, as one curve."""
        return tuple(self._folder(run_id).losses())

    def log_tail(self, run_id: str) -> str:
        """The end of what a run printed."""
        return self._folder(run_id).tail("log.txt").decode(errors="replace")

    def size(self, run_id: str) -> int:
        """The bytes that a run's folder takes up."""
        files = self._folder(run_id).path.rglob("*")
        return sum(one.stat().st_size for one in files if one.is_file())

    def resume(self, run_id: str) -> None:
        """Let a run that ended without a result go on from its last checkpoint. ConfigError when
        somebody has given it settings that do not exist."""
        with self._lock:
            folder = self._folder(run_id)
            state = self._state(folder)
            if state not in RESUMABLE:
                raise RunError(
                    f"{run_id} is {state}; only a run that was cut off can go on.",
                    "Start a new run.",
                )
            task = folder.config()
            settings = CONFIGS[task["kind"]].from_json(task["settings"])
            with explaining(folder):
                folder.set_status("queued")
            self._spawn(folder, task["kind"], settings=settings)

    def delete(self, run_id: str) -> None:
        """Remove the folder of a run that is finished: its log, model and reports. All decisions
        stay, and so do its scores, which the store takes in first if it has not yet."""
        with self._lock:
            folder = self._folder(run_id)
            if self._state(folder) in UNFINISHED:
                raise RunError(f"{run_id} is {self._state(folder)}.", "Cancel it first.")
            if run_id in [one.run_id for one in self._not_taken_in()]:
                self.import_finished()
            # What is cut off here is no longer a run.
            folder.path.rename(folder.path.with_name(f".{run_id}.{uuid4().hex}.deleted"))
        self._remove_deleted()

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop; the second time it is killed. Nothing happens to a finished one."""
        with self._lock:
            folder = self._folder(run_id)
            process = find_process(folder)
            if process is None or self._state(folder) not in UNFINISHED:
                return
            has_been_asked = is_asked_to_stop(folder)
            # A full disk does not keep a run from being stopped.
            with suppress(OSError):
                folder.write_json("cancel.json", {"pid": process.pid})
            # Its workers, and what a launcher started, end with it.
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL if has_been_asked else signal.SIGTERM)

    def import_finished(self) -> tuple[str, ...]:
        """The runs whose results the store has taken in just now, each in one transaction.

        A run with results that cannot be used has failed, and says why. Those for which the disk
        has no room are left for the next time: DiskFullError.
        """
        imported = []
        with self._lock:
            for folder in self._not_taken_in():
                try:
                    self._import(folder)
                except DiskFullError:
                    raise
                except DeftError as error:
                    with telling_full_disk(folder.path):
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

    def _remove_deleted(self) -> None:
        for doomed in self._path.glob(".*.deleted"):
            shutil.rmtree(doomed, ignore_errors=True)

    # --- starting

    def _prepare(
        self, name: str, kind: str, *, settings: Config, is_probe: bool = False
    ) -> RunFolder:
        dataset = self._store.dataset()
        if dataset is None:
            raise RunError("This workspace holds no data set.", "Ingest one first.")
        if not dataset.n_by_split.get("train"):
            raise RunError(
                "This data set has no training images.",
                'Ingest it again with the split "train" for the images to learn from.',
            )
        if not self.has_input(kind):
            raise RunError("Phase 2 needs the scores of phase 1.", "Run phase 1 first.")
        current = self._store.current_run()
        samples = self._store.samples()
        told = _run_samples(samples)
        config = {
            "kind": kind,
            "round": _round(kind, current, told),
            "created_at": utc_now().isoformat(),
            "root": str(dataset.root),
            "cache": str(self._cache),
            "class_names": list(dataset.class_names),
            "prompts": list(dataset.prompts),
            "settings": settings.to_json(),
            "is_probe": is_probe,
            "labels": selection.label_provenance(samples),
        }
        path = self._path / name
        with explaining(RunFolder(path)):
            return RunFolder.create(path, config=config, samples=told)

    def _spawn(self, folder: RunFolder, kind: str, *, settings: Config) -> None:
        package_root = str(Path(__file__).resolve().parent.parent)
        search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
        program = _launched(self._program, n_processes=settings.to_json()["n_processes"])
        command = [*program, kind, "--run", str(folder.path)]
        environment = {**os.environ, "PYTHONPATH": search_path}
        with explaining(folder):
            with (folder.path / "log.txt").open("ab") as log:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=environment,
                )
            # Reaps the child when it ends, whether anyone still looks at this run or not.
            threading.Thread(target=child.wait, daemon=True).start()
            folder.write_json("proc.json", {"pid": child.pid})
        # For a moment a new process has no command line yet, by which it is known.
        while child.poll() is None and find_process(folder) is None:
            time.sleep(SECONDS_TO_APPEAR)

    def _next_number(self) -> int:
        taken = [path.name for path in self._path.iterdir() if RUN_ID.fullmatch(path.name)]
        taken += [run.run_id for run in self._store.runs()]
        # The newest may be gone; a page that still shows it must never mean another one.
        taken += filter(RUN_ID.fullmatch, [RunFolder(self._path).tail(NEWEST).decode("latin-1")])
        return max(map(_run_number, taken), default=0) + 1

    # --- watching

    def _folders(self) -> tuple[RunFolder, ...]:
        return run_folders(self._path)

    def _folder(self, run_id: str) -> RunFolder:
        folder = RunFolder(self._path / run_id)
        if not (RUN_ID.fullmatch(run_id) and (folder.path / "status.json").exists()):
            raise RunError(f'There is no run "{run_id}".', "Was its folder deleted?")
        return folder

    def _state(self, folder: RunFolder) -> str:
        # While a child is being started its folder says queued, and there is no process yet.
        with self._lock:
            return state_of(folder)

    def _view(self, folder: RunFolder) -> RunView:
        return view_of(folder, state=self._state(folder))

    # --- importing

    def _not_taken_in(self) -> tuple[RunFolder, ...]:
        """The runs that are done and that the store does not know, oldest first."""
        known = {run.run_id for run in self._store.runs()}
        folders = (one for one in self._folders() if one.run_id not in known)
        return tuple(one for one in folders if claimed_state(one) == "done")

    def _check_data_set(self, folder: RunFolder, samples: pa.Table) -> None:
        dataset = self._store.dataset()
        class_names = dataset.class_names if dataset else ()
        check_data_set(folder, samples, class_names=class_names)

    def _import(self, folder: RunFolder) -> None:
        self._check_data_set(folder, self._store.samples())
        config = folder.config()
        self._store.add_run(
            folder.run_id,
            kind=config["kind"],
            round=config["round"],
            imported_at=utc_now(),
            settings=config["settings"],
            report=folder.report(),
            scores=queue_scores(folder) if config["kind"] == "phase1" else None,
            neighbours=neighbours(folder) if (folder.path / NEIGHBOURS).exists() else None,
            predictions=predictions(folder) if (folder.path / PREDICTIONS).exists() else None,
            told=_told(folder.samples()),
        )


def _round(kind: str, current: ImportedRun | None, told: pa.Table) -> int:
    """The round of a new run that is told this of the samples: a new one begins with the first
    phase 1 that learns of a decision."""
    if current is None:
        return 1
    is_same = kind == "phase2" or current.told == _told(told)
    return current.round if is_same else current.round + 1


def _told(samples: pa.Table) -> str:
    """A digest of what a run is told of the decisions on these samples."""
    rows = samples.sort_by("sample_id")
    columns = (rows["sample_id"], rows["final_label"].fill_null(NO_LABEL), rows["is_reviewed"])
    content = b"".join(column.to_numpy().tobytes() for column in columns)
    return hashlib.sha256(content).hexdigest()


def _launched(program: Sequence[str], *, n_processes: int) -> Sequence[str]:
    """The program as it is, or by way of `accelerate launch` when several processes share a run."""
    if n_processes == 1:
        return program
    python, *rest = program
    # Its option --cpu would start a single process; which device each works on the run knows.
    options = ["--multi_gpu", "--num_processes", str(n_processes), "--num_machines", "1"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    return [python, "-m", "accelerate.commands.launch", *options, *rest]


def run_folders(path: Path) -> tuple[RunFolder, ...]:
    """The whole run folders in a folder, oldest first."""
    ids = [found.parent.name for found in path.glob("*/status.json")]
    ordered = sorted(filter(RUN_ID.fullmatch, ids), key=_run_number)
    return tuple(RunFolder(path / run_id) for run_id in ordered)


def _probe_name(kind: str) -> str:
    return f"probe-{kind}"


def _is_of(folder: RunFolder, kind: str) -> bool:
    return folder.run_id.startswith(kind)


def _run_number(run_id: str) -> int:
    """The number at the end of a run's id, which grows from run to run."""
    return int(run_id.rpartition("-")[2])


def _run_samples(samples: pa.Table) -> pa.Table:
    """What a run is told of the samples of every split. `final_label` is the reviewed label, the
    given one of a sample that is not reviewed, or none; those of the curated set have a curated
    label; `is_selected` is what phase 1 found before any decision, or none."""
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
            "is_selected": samples["is_selected"],
            "curated_label": pa.array(curated, pa.int32(), mask=curated == NO_LABEL),
        }
    ).cast(TABLES[SAMPLES])

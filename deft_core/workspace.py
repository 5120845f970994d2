"""A workspace: the folder that holds one data set's store, runs, caches and exports.

store.duckdb         samples, scores and decisions    runs/<run id>/   one folder a run
store.journal.jsonl  every decision once more         exports/         where exports go by default
server.json          where the application answers    backups/         copies of the store
cache/               previews; may be deleted
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.request import ProxyHandler, Request, build_opener
from uuid import uuid4

from deft_core.errors import (
    EXIT_ERROR,
    DataError,
    DiskFullError,
    ExportError,
    RunError,
    StoreError,
    StoreTakenError,
)
from deft_core.export import Exported, export
from deft_core.full_disk import telling_full_disk
from deft_core.ingest import Ingested, IngestReport, read_source
from deft_core.prompts import changed_prompts
from deft_core.review import Review
from deft_core.run_view import claimed_state
from deft_core.runs import PROGRAM, Runs, run_folders
from deft_core.store import BACKUPS, Dataset, Store, utc_now
from deft_core.terminal import EXPORT_STAGES
from deft_core.whole_files import writing_whole

STORE = "store.duckdb"
SERVER = "server.json"
EXPORTS = "exports"
ANSWER_SECONDS = 600

OnProgress = Callable[[int, int], None]
OnStage = Callable[[str, int, int], None]


class Workspace:
    """What the browser side and the command line work with; open it with `Workspace.open`."""

    def __init__(self, path: Path, *, store: Store) -> None:
        self.path = path
        self.store = store
        self.review = Review(store)
        self.runs = Runs(path / "runs", store=store, cache=self.cache)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The workspace at `path`, made when missing. What runs left behind while nobody looked is
        imported, if the disk has room. StoreError when another process has it open."""
        try:
            with telling_full_disk(path):
                for name in ("runs", "cache", EXPORTS):
                    (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} cannot hold a workspace: {error.strerror}.", "Choose another --workspace."
            ) from error
        store = Store(path / STORE)
        try:
            workspace = cls(path.resolve(), store=store)
            with suppress(DiskFullError):
                workspace.runs.import_finished()
        except BaseException:
            store.close()
            raise
        return workspace

    @classmethod
    def take_in(
        cls,
        path: Path,
        source: Path,
        *,
        root: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> IngestReport:
        """What the workspace at `path` took in from `source`, see `read_source`. A new workspace is
        made when the source has been read, so that a bad one leaves nothing behind."""
        if is_workspace(path):
            with cls.open(path) as workspace:
                return workspace.ingest(source, root=root, on_progress=on_progress)
        ingested = _read(source, root=root, workspace=path, on_progress=on_progress)
        with cls.open(path) as workspace:
            return workspace._add(ingested)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the store for other processes; runs go on."""
        self.store.close()

    def copy_store(self) -> Path:
        """A copy of the store in the folder `backups`, as it is at one moment."""
        return self.store.copy(name=f"store-{utc_now():%Y%m%d-%H%M%S}-{uuid4().hex[:6]}.duckdb")

    @property
    def cache(self) -> Path:
        """Where previews of images may be kept."""
        return self.path / "cache"

    @property
    def exports(self) -> Path:
        """Where exports go by default."""
        return self.path / EXPORTS

    @property
    def dataset(self) -> Dataset | None:
        """The data set, or None before one is ingested."""
        return self.store.dataset()

    def ingest(
        self, source: Path, *, root: Path | None = None, on_progress: OnProgress | None = None
    ) -> IngestReport:
        """What was taken in from `source` and what was left out; a workspace has one data set."""
        present = self.dataset
        if present:
            raise DataError(
                f"{self.path} already holds {present.n_samples} samples of {present.root}.",
                "Use a new workspace for another data set or a new version of this one.",
            )
        return self._add(_read(source, root=root, workspace=self.path, on_progress=on_progress))

    def _add(self, ingested: Ingested) -> IngestReport:
        self.store.add_dataset(
            ingested.root,
            class_names=ingested.class_names,
            samples=ingested.samples,
            report=ingested.report.to_json(),
            ingested_at=utc_now(),
        )
        return ingested.report

    def set_prompts(self, changes: Mapping[str, str]) -> tuple[str, ...]:
        """The words for each class in prompts, after some of them were changed by class name."""
        dataset = self.dataset
        if dataset is None:
            raise DataError("This workspace holds no data set.", "Ingest one first.")
        prompts = changed_prompts(dataset.class_names, dataset.prompts, changes=changes)
        if changes:
            self.store.set_prompts(prompts)
        return prompts

    def export(
        self,
        format: str,
        *,
        to: Path,
        is_forced: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Exported:
        """What was written at `to` in one of `export.FORMATS`; only a forced table replaces one."""
        refuse_inside(self.path, to)
        return export(
            self.store, format=format, to=to, is_forced=is_forced, on_progress=on_progress
        )

    def export_model(
        self,
        *,
        to: Path,
        kind: str = "phase2",
        has_onnx: bool = False,
        on_stage: OnStage = lambda *_: None,
    ) -> dict[str, Any]:
        """What the command export-model tells of the model of the newest run of this kind, written
        to `to`.

        It works in a process of its own, for this one never imports torch. `on_stage` gets the name
        of each of its stages, how many went before and how many there are.
        """
        run = find_model(self.path, kind=kind)
        options = ["--workspace", self.path, "--run", run, "--to", to.resolve(), "--json"]
        stages = EXPORT_STAGES if has_onnx else EXPORT_STAGES[:-1]
        said = []
        with subprocess.Popen(
            [*PROGRAM, "export-model", *map(str, options), *(["--onnx"] if has_onnx else [])],
            cwd=Path(__file__).resolve().parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if line.strip() in stages:
                    on_stage(line.strip(), stages.index(line.strip()), len(stages))
            printed = process.stdout.read()
        errors = "".join(said)
        if process.returncode == EXIT_ERROR:
            (told,) = re.findall(r"^Error: (.*)", errors.strip(), flags=re.M | re.S)
            message, _, hint = told.partition("\nHint: ")
            raise ExportError(message, hint)
        if process.returncode != 0:
            raise RuntimeError(errors)
        exported: dict[str, Any] = json.loads(printed)
        return exported


def back_up(path: Path, *, to: Path) -> Path:
    """The new file `to`, a copy of the store of the workspace at `path`. The application that has
    it open is asked for one; StoreError when another process has it open, or `to` exists."""
    if to.exists():
        raise StoreError(f"{to} exists already.", "Choose another --to.")
    try:
        with Workspace.open(path) as opened:
            copy = opened.copy_store()
    except StoreTakenError as taken:
        copy = _ask_application(path, taken=taken)
    try:
        with telling_full_disk(to), writing_whole(to) as temporary:
            shutil.copyfile(copy, temporary)
    except OSError as error:
        raise StoreError(
            f"{to} cannot be written: {error.strerror}.", "Choose another --to."
        ) from error
    copy.unlink()
    return to


def _ask_application(path: Path, *, taken: StoreTakenError) -> Path:
    """The copy that the application made which has the workspace open."""
    try:
        server = json.loads((path / SERVER).read_text(encoding="utf-8"))
        port = int(server["port"]) if server["pid"] == taken.pid else None
    except (OSError, ValueError, KeyError, TypeError):
        port = None
    if port is None:
        raise taken
    request = Request(f"http://127.0.0.1:{port}/api/v1/backup", method="POST")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=ANSWER_SECONDS) as answer:
            name = json.load(answer)["name"]
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"The application (process {taken.pid}) made no copy: {error}",
            "Close it, then try again.",
        ) from error
    return path / BACKUPS / Path(name).name


def refuse_inside(path: Path, to: Path) -> None:
    """ExportError when `to` lies in the workspace at `path`, but not below its exports."""
    workspace, place = path.resolve(), to.resolve()
    exports = workspace / EXPORTS
    if place.is_relative_to(workspace) and exports not in place.parents:
        raise ExportError(
            f"{to} lies in the workspace {workspace}.",
            f"Choose a place below {exports}, or one outside of the workspace.",
        )


def find_model(path: Path, name: str = "", *, kind: str = "phase2") -> Path:
    """The folder `name`, or that of the run with this id in the workspace at `path`; without a name
    that of the newest one of this kind that is done. The store stays closed, so an application that
    has it open is not in the way. RunError when there is none."""
    runs = path / "runs"
    if name:
        known = [place for place in (Path(name), runs / name) if place.is_dir()]
        if not known:
            raise RunError(f'There is no folder and no run "{name}".', f"Runs are in {runs}.")
        return known[0]
    done = [
        folder.path
        for folder in run_folders(runs)
        if folder.run_id.startswith(kind) and claimed_state(folder) == "done"
    ]
    if not done:
        phase = kind.replace("phase", "phase ")
        raise RunError(f"{path} has no {phase} that is done.", f"Run {phase} first.")
    return done[-1]


def is_workspace(path: Path) -> bool:
    """Whether a workspace has been made at `path`."""
    return (path / STORE).exists()


def _read(
    source: Path, *, root: Path | None, workspace: Path, on_progress: OnProgress | None
) -> Ingested:
    """The data set at `source`; DataError when the workspace lies in it, for it is only read."""
    data = root or (source.parent if source.is_file() else source)
    if workspace.resolve().is_relative_to(data.resolve()):
        raise DataError(
            f"The workspace {workspace} lies in the data set {data}, which is never written to.",
            "Choose a --workspace outside of it.",
        )
    return read_source(source, root=root, on_progress=on_progress)

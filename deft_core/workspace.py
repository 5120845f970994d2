"""A workspace: the folder that holds one data set's store, runs, caches and exports.

store.duckdb    samples, scores and decisions       runs/<run id>/   one folder a run
cache/          previews; may be deleted            exports/         where exports go by default
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

from deft_core.errors import DataError, StoreError
from deft_core.export import Exported, export
from deft_core.ingest import IngestReport, read_source
from deft_core.review import Review, utc_now
from deft_core.runs import Runs
from deft_core.store import Dataset, Store


class Workspace:
    """What the browser side and the command line work with; open it with `Workspace.open`."""

    def __init__(self, path: Path, *, store: Store) -> None:
        self.path = path
        self.store = store
        self.review = Review(store)
        self.runs = Runs(path / "runs", store=store)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The workspace at `path`, made when missing. What runs left behind while nobody looked is
        imported. StoreError when another process has it open."""
        try:
            for name in ("runs", "cache", "exports"):
                (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} cannot hold a workspace: {error.strerror}.", "Choose another --workspace."
            ) from error
        workspace = cls(path.resolve(), store=Store(path / "store.duckdb"))
        workspace.runs.import_finished()
        return workspace

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the store for other processes; runs go on."""
        self.store.close()

    @property
    def cache(self) -> Path:
        """Where previews of images may be kept."""
        return self.path / "cache"

    @property
    def exports(self) -> Path:
        """Where exports go by default."""
        return self.path / "exports"

    @property
    def dataset(self) -> Dataset | None:
        """The data set, or None before one is ingested."""
        return self.store.dataset()

    def ingest(
        self, source: Path, *, on_progress: Callable[[int, int], None] | None = None
    ) -> IngestReport:
        """What was taken in from `source` and what was left out; a workspace has one data set."""
        present = self.dataset
        if present:
            raise DataError(
                f"{self.path} already holds {present.n_samples} samples of {present.root}.",
                "Use a new workspace for another data set or a new version of this one.",
            )
        ingested = read_source(source, on_progress=on_progress)
        self.store.add_dataset(
            ingested.root,
            class_names=ingested.class_names,
            samples=ingested.samples,
            report=ingested.report.to_json(),
            ingested_at=utc_now(),
        )
        return ingested.report

    def export(
        self,
        format: str,
        *,
        to: Path,
        is_forced: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Exported:
        """What was written at `to` as "csv" or "folders"; only a forced csv replaces a file."""
        return export(
            self.store, format=format, to=to, is_forced=is_forced, on_progress=on_progress
        )

    def image_path(self, sample_id: int) -> Path:
        """The image of a known sample, the only way from a client's words to a file."""
        dataset = self.dataset
        if dataset is None:
            raise DataError("This workspace holds no data set.", "Ingest one first.")
        return dataset.root / self.store.sample(sample_id).file_name

"""What a disk without room keeps from being written: it is said, and everything goes on later."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deft_core import checkpoint
from deft_core.config import Phase1Config
from deft_core.decisions import Decision
from deft_core.demo import write_demo
from deft_core.errors import DiskFullError, RunError
from deft_core.failures import explained
from deft_core.run_folder import RunFolder
from deft_core.store import Store, journal_path
from deft_core.workspace import Workspace, back_up
from review_ui.images import Images, SourceFile
from tests.small_world import add_scores, fingerprint, make_store, write_class_folders
from tests.test_runs import worked_through


@contextmanager
def no_room(pid: int = 0, *, behind: int = 0) -> Iterator[None]:
    """A block in which a process, this one for 0, can write nothing to its files behind so many
    bytes, as if its quota were used up."""
    process = psutil.Process(pid or os.getpid())
    soft, hard = process.rlimit(resource.RLIMIT_FSIZE)
    process.rlimit(resource.RLIMIT_FSIZE, (behind, hard))
    try:
        yield
    finally:
        process.rlimit(resource.RLIMIT_FSIZE, (soft, hard))


def make_workspace(path: Path) -> Workspace:
    """A workspace with four scored samples."""
    store = make_store([0, 1, 0, 1], n_classes=2, path=path / "store.duckdb")
    add_scores(store, [0.1, 0.2, 0.3, 0.4])
    return Workspace(path, store=store)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """The same, open until the test ends."""
    with make_workspace(tmp_path) as opened:
        yield opened


def keep(workspace: Workspace, sample_id: int) -> None:
    uid = f"keep {sample_id}"
    workspace.review.decide([Decision(uid=uid, group=uid, sample_id=sample_id, verdict="keep")])


def write_checkpoint(folder: RunFolder, tensor: Tensor) -> None:
    checkpoint.save(folder, {"weights": [tensor]})


def write_weights(folder: RunFolder, tensor: Tensor) -> None:
    with folder.writing("model.safetensors") as path:
        save_file({"weight": tensor}, path)


def test_a_data_set_is_taken_in_when_there_is_room_again(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data")
    with Workspace.open(tmp_path / "w") as workspace:
        with no_room(), pytest.raises(DiskFullError, match=r"store\.duckdb is full") as caught:
            workspace.ingest(data)

        assert "Make room" in caught.value.hint
        assert workspace.dataset is None
        assert workspace.ingest(data).n_samples == 4


def test_a_new_workspace_is_made_when_there_is_room_again(tmp_path: Path) -> None:
    with no_room(), pytest.raises(DiskFullError, match=r"store\.duckdb is full"):
        Workspace.open(tmp_path)

    with Workspace.open(tmp_path) as workspace:
        assert workspace.dataset is None


def test_a_decision_is_saved_when_it_is_sent_again(workspace: Workspace) -> None:
    with no_room():
        for _ in range(2):
            with pytest.raises(DiskFullError, match="is full"):
                keep(workspace, 0)
        assert workspace.review.progress().n_decided == 0
    keep(workspace, 0)

    assert workspace.review.progress().n_decided == 1
    assert workspace.store.verify().is_sound


def test_a_decision_without_its_line_in_the_journal_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with make_store([0] * 40, path=path) as store:
        add_scores(store, [0.1] * 40)
        for sample_id in range(39):
            keep(Workspace(tmp_path, store=store), sample_id)
    size = journal_path(path).stat().st_size
    with Store(path) as store:
        workspace = Workspace(tmp_path, store=store)
        with (
            no_room(behind=size + 10),
            pytest.raises(DiskFullError, match=r"journal\.jsonl is full"),
        ):
            keep(workspace, 39)

        assert store.verify().n_unlike_journal == 1
        keep(workspace, 39)
        assert store.verify().is_sound

    with Store(path) as store:
        assert store.log.n_events() == 40


def test_an_engine_that_has_given_its_file_up_is_begun_anew(
    workspace: Workspace, tmp_path: Path
) -> None:
    keep(workspace, 0)
    with no_room():
        workspace.store._database.checkpoint()
        assert workspace.review.progress().n_decided == 1
        with pytest.raises(DiskFullError):
            keep(workspace, 1)
    keep(workspace, 1)

    assert workspace.review.progress().n_decided == 2
    assert workspace.store.verify().is_sound


def test_a_store_is_closed_without_room_and_has_everything_afterwards(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    keep(workspace, 0)
    with no_room():
        workspace.close()

    with Workspace.open(tmp_path) as again:
        assert again.review.progress().n_decided == 1
        assert again.store.verify().is_sound


def test_results_of_a_run_are_taken_in_when_there_is_room_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    worked_through(tmp_path / "runs" / "phase1-002", store=workspace.store)

    with no_room(), pytest.raises(DiskFullError):
        workspace.runs.import_finished()

    assert workspace.runs.view("phase1-002").state == "done"
    assert workspace.runs.import_finished() == ("phase1-002",)


def test_results_that_cannot_be_used_keep_nothing_shut_without_room(tmp_path: Path) -> None:
    with make_workspace(tmp_path) as workspace:
        folder = worked_through(tmp_path / "runs" / "phase1-002", store=workspace.store)
    (folder.path / "scores.parquet").write_bytes(b"PAR1")

    with no_room(), Workspace.open(tmp_path) as workspace:
        assert workspace.runs.view("phase1-002").state == "done"

    with Workspace.open(tmp_path) as workspace:
        assert workspace.runs.view("phase1-002").state == "failed"


def test_results_that_are_not_taken_in_are_not_deleted(
    workspace: Workspace, tmp_path: Path
) -> None:
    worked_through(tmp_path / "runs" / "phase1-002", store=workspace.store)
    runs = workspace.runs
    runs.import_finished()
    worked_through(tmp_path / "runs" / "phase1-003", store=workspace.store)

    with no_room():
        with pytest.raises(DiskFullError):
            runs.delete("phase1-003")
        runs.delete("phase1-002")

    assert [run.run_id for run in runs.list()] == ["phase1-003"]
    assert runs.import_finished() == ("phase1-003",)


def test_a_run_that_cannot_be_written_down_leaves_nothing(
    workspace: Workspace, tmp_path: Path
) -> None:
    with no_room(), pytest.raises(RunError, match="is full"):
        workspace.runs.start("phase1", Phase1Config(device="cpu"))

    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("write", [write_checkpoint, write_weights])
def test_tensors_without_room_end_a_run_with_what_to_do(
    tmp_path: Path, write: Callable[[RunFolder, Tensor], None]
) -> None:
    with make_store([0, 1]) as store:
        folder = worked_through(tmp_path / "phase1-001", store=store)
    before = fingerprint(folder.path)

    with no_room(behind=4096), pytest.raises(Exception) as caught:  # noqa: PT011 - any of theirs.
        write(folder, torch.zeros(1_000_000))

    told = explained(caught.value, folder)
    assert told is not None
    assert told.message.endswith("is full.")
    assert fingerprint(folder.path) == before


def test_copies_and_exports_are_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    backup, table, pictures = (tmp_path / name for name in ("copy.duckdb", "a.csv", "pictures"))
    with no_room():
        with pytest.raises(DiskFullError, match="is full"):
            workspace.copy_store()
        with pytest.raises(DiskFullError, match="is full"):
            workspace.export("csv", to=tmp_path / "exports" / "a.csv")
        with pytest.raises(DiskFullError, match="is full"):
            write_demo(pictures, n_train=1, n_test=0)
    workspace.close()
    with no_room(behind=100_000), pytest.raises(DiskFullError, match="is full"):
        back_up(tmp_path, to=backup)

    assert not any(path.exists() for path in (backup, table, pictures))


def test_a_picture_is_shown_and_not_kept(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "data")
    with Workspace.open(tmp_path / "w") as workspace:
        workspace.ingest(root)
        sample = workspace.store.sample(0)
    source = SourceFile(root=root, file_name=sample.file_name, sha256=sample.sha256)
    images = Images(tmp_path / "cache", find=lambda _: source)

    with no_room():
        picture = images.picture(0, px=64)

    assert picture[:2] == b"\xff\xd8"
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []

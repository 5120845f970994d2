"""Runs with real child processes: how they start, end, fail, stop, die and are taken in."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft_core.config import Phase1Config, Phase2Config
from deft_core.decisions import Decision
from deft_core.errors import ConfigError, RunError
from deft_core.review import Review
from deft_core.run_folder import Progress, RunFolder
from deft_core.run_process import assist, execute, find_process, is_asked_to_stop
from deft_core.run_view import view_of
from deft_core.runs import Runs
from deft_core.selection import undecided
from deft_core.store import Store
from deft_core.whole_files import writing_whole
from deft_core.workspace import Workspace
from tests import stage_script
from tests.small_world import NOW, PATIENCE, fingerprint, make_store

PROGRAM = (sys.executable, str(Path(__file__).with_name("stage_script.py")))


@pytest.fixture
def store() -> Iterator[Store]:
    with make_store([0, 1, 0, 1], n_classes=2) as opened:
        yield opened


@pytest.fixture
def runs(tmp_path: Path, store: Store) -> Iterator[Runs]:
    opened = Runs(tmp_path, store=store, cache=tmp_path / "cache", program=PROGRAM)
    yield opened
    for view in opened.list():
        if not view.is_finished:
            opened.cancel(view.run_id)
            opened.cancel(view.run_id)
            opened.wait(view.run_id)


class StageSeenError(Exception):
    """Ends a wait from its callback."""


def wait_for_stage(runs: Runs, run_id: str, *, stage: str) -> None:
    """Returns when the run has reported the stage."""

    def check(progress: Progress) -> None:
        if progress.stage == stage:
            raise StageSeenError

    with pytest.raises(StageSeenError):
        runs.wait(run_id, check)


def process_of(folder: RunFolder) -> psutil.Process:
    """The process that works on a run."""
    process = find_process(folder)
    assert process is not None
    return process


def start(runs: Runs, script: str, *, device: str = "auto") -> str:
    return runs.start("phase1", Phase1Config(model=script, device=device))


@pytest.fixture
def cut_off(runs: Runs, tmp_path: Path) -> RunFolder:
    """The folder of a run that has crashed."""
    return RunFolder(tmp_path / runs.wait(start(runs, "killed")).run_id)


def worked_through(path: Path, *, store: Store) -> RunFolder:
    """A good run that was done in this process, and that the store does not know yet."""
    columns = ["sample_id", "file_name", "sha256", "split", "given_label"]
    folder = RunFolder.create(
        path,
        config={
            "kind": "phase1",
            "round": 1,
            "created_at": NOW.isoformat(),
            "root": "/data",
            "cache": str(path.parent / "cache"),
            "class_names": ["class 0", "class 1"],
            "prompts": ["class 0", "class 1"],
            "settings": Phase1Config(model="good").to_json(),
        },
        samples=undecided(store.samples().select(columns)),
    )
    execute(folder, stage_script.stage)
    return folder


# --- a good run


def test_a_run_from_start_to_scores(runs: Runs, store: Store) -> None:
    seen: list[Progress] = []

    run_id = start(runs, "good")
    assert run_id == "phase1-001"
    view = runs.wait(run_id, seen.append)

    assert (view.state, view.error, view.kind, view.round) == ("done", "", "phase1", 1)
    assert view.report is not None
    assert (view.report["n_scored"], view.report["curated"]) == (4, [None] * 4)
    assert [(one.fraction, one.loss) for one in runs.losses(run_id)] == [(0.5, 0.5)]
    assert view.seconds > 0
    assert seen[-1].stage == "training"
    page = Review(store).queue()
    assert [(one.sample_id, one.p_clean) for one in page.samples] == [(0, 0), (1, 0.25), (2, 0.5)]
    assert [one.suggested_label for one in page.samples] == [1, 0, 1]
    assert runs.import_finished() == ()


def test_the_next_round_is_told_the_curated_set(runs: Runs, store: Store) -> None:
    runs.wait(start(runs, "good"))
    Review(store).decide(
        [
            Decision(uid="a", group="a", sample_id=0, verdict="relabel", label=1),
            Decision(uid="b", group="b", sample_id=3, verdict="exclude"),
        ]
    )

    view = runs.wait(start(runs, "good"))

    assert (view.run_id, view.round) == ("phase1-002", 2)
    assert view.report is not None
    assert view.report["curated"] == [1, None, None, None]
    assert [one.run_id for one in runs.list()] == ["phase1-002", "phase1-001"]
    current = store.current_run()
    assert current is not None
    assert (current.run_id, current.round) == ("phase1-002", 2)


def test_a_new_round_begins_with_the_first_run_that_learns_of_a_decision(
    runs: Runs, store: Store
) -> None:
    rounds = [runs.wait(start(runs, "good")).round for _ in range(2)]
    Review(store).decide([Decision(uid="a", group="a", sample_id=0, verdict="keep")])
    rounds += [runs.wait(start(runs, "good")).round for _ in range(2)]

    assert rounds == [1, 1, 2, 2]


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_a_round_does_not_end_with_the_folder_of_its_run(
    runs: Runs, store: Store, tmp_path: Path, how: str
) -> None:
    Review(store).decide([Decision(uid="a", group="a", sample_id=3, verdict="exclude")])
    runs.wait(start(runs, "good"))
    if how == "deleted":
        runs.delete("phase1-001")
    else:
        (tmp_path / "phase1-001" / "samples.parquet").write_bytes(b"PAR1")

    assert runs.wait(start(runs, "good")).round == 1

    Review(store).decide([Decision(uid="b", group="b", sample_id=3, verdict="unsure")])
    assert runs.wait(start(runs, "good")).round == 1
    Review(store).decide([Decision(uid="c", group="c", sample_id=3, verdict="keep")])
    assert runs.wait(start(runs, "good")).round == 2


def test_results_are_taken_in_by_whoever_looks_next(
    runs: Runs, store: Store, tmp_path: Path
) -> None:
    run_id = start(runs, "good")
    wait_for_stage(runs, run_id, stage="training")
    another = Runs(tmp_path, store=store, cache=tmp_path / "cache", program=PROGRAM)

    assert another.wait(run_id).state == "done"

    assert [run.run_id for run in store.runs()] == [run_id]


# --- runs that end badly


def test_an_error_that_the_user_can_mend(runs: Runs, store: Store) -> None:
    view = runs.wait(start(runs, "user error"))

    assert (view.state, view.error, view.hint) == ("failed", "cat.jpg is gone.", "Put it back.")
    assert store.runs() == []


def test_a_bug_leaves_its_traceback(runs: Runs) -> None:
    view = runs.wait(start(runs, "bug"))

    assert view.state == "failed"
    assert view.error == "This is a bug: ZeroDivisionError: one by none"
    log = runs.log_tail(view.run_id)
    assert "Traceback" in log
    assert log.strip().endswith("ZeroDivisionError: one by none")


def test_a_process_that_is_killed_has_crashed(runs: Runs) -> None:
    view = runs.wait(start(runs, "killed"))

    assert view.state == "crashed"
    assert view.hint
    assert start(runs, "good") == "phase1-002"


def test_a_run_that_crashed_goes_on_in_its_folder(runs: Runs, store: Store) -> None:
    run_id = start(runs, "killed once")
    assert runs.wait(run_id).state == "crashed"

    runs.resume(run_id)

    assert runs.wait(run_id).state == "done"
    assert [view.run_id for view in runs.list()] == [run_id]
    assert [run.run_id for run in store.runs()] == [run_id]


def test_what_a_process_that_was_killed_left_half_written_is_removed(
    cut_off: RunFolder,
) -> None:
    (cut_off.path / ".checkpoint.pt.12ab.tmp").write_bytes(b"half of it")
    (cut_off.path / ".cancel.json.34cd.tmp").write_bytes(b"{")

    with pytest.raises(ZeroDivisionError):
        execute(cut_off, lambda folder: stage_script.work(folder, script="bug"))

    assert [path.name for path in cut_off.path.glob(".*")] == [".cancel.json.34cd.tmp"]


def test_a_run_that_was_cancelled_can_go_on_and_be_cancelled_again(runs: Runs) -> None:
    run_id = start(runs, "endless")
    wait_for_stage(runs, run_id, stage="endless")
    runs.cancel(run_id)
    assert runs.wait(run_id).state == "cancelled"

    runs.resume(run_id)
    assert not runs.view(run_id).is_finished
    runs.cancel(run_id)

    assert runs.wait(run_id).state == "cancelled"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("bad scores", "cannot be used: a p_clean is not between 0 and 1."),
        ("torn scores", "phase1-001/scores.parquet is damaged:"),
        ("no results", "has no report.json"),
    ],
)
def test_results_that_cannot_be_used_fail_the_run(
    runs: Runs, store: Store, script: str, error: str
) -> None:
    view = runs.wait(start(runs, script))

    assert view.state == "failed"
    assert error in view.error
    assert store.current_run() is None


# --- cancelling


def test_cancel__lets_the_stage_clean_up(runs: Runs, tmp_path: Path) -> None:
    run_id = start(runs, "endless")
    wait_for_stage(runs, run_id, stage="endless")

    runs.cancel(run_id)

    assert runs.wait(run_id).state == "cancelled"
    assert (tmp_path / run_id / "cleaned up").exists()
    assert json.loads((tmp_path / run_id / "status.json").read_text())["state"] == "cancelled"


def test_cancel__before_the_child_is_ready_to_hear(runs: Runs) -> None:
    run_id = start(runs, "good")

    runs.cancel(run_id)

    assert runs.wait(run_id).state == "cancelled"


def test_cancel__twice_kills(runs: Runs) -> None:
    run_id = start(runs, "deaf")
    wait_for_stage(runs, run_id, stage="deaf")

    runs.cancel(run_id)
    assert runs.view(run_id).state == "running"
    runs.cancel(run_id)

    assert runs.wait(run_id).state == "cancelled"


def test_cancel__leaves_a_finished_run_alone(runs: Runs) -> None:
    run_id = start(runs, "good")
    runs.wait(run_id)

    runs.cancel(run_id)

    assert runs.view(run_id).state == "done"


# --- whose turn it is


def test_a_second_run_waits_for_the_first_and_starts_by_itself(runs: Runs) -> None:
    first = start(runs, "endless")
    wait_for_stage(runs, first, stage="endless")

    second = start(runs, "good")
    wait_for_stage(runs, second, stage="waiting")
    view = runs.view(second)
    assert (view.state, view.is_finished) == ("waiting", False)
    assert view.progress is not None
    assert view.progress.note == "phase1-001 works on auto."
    elsewhere = start(runs, "good", device="cpu")
    assert runs.wait(elsewhere).state == "done"
    runs.cancel(first)

    assert runs.wait(second).state == "done"


def test_runs_get_the_device_in_the_order_in_which_they_were_started(
    runs: Runs, tmp_path: Path
) -> None:
    first = start(runs, "endless")
    wait_for_stage(runs, first, stage="endless")
    later = []
    for _ in range(4):
        later.append(start(runs, "good"))
        wait_for_stage(runs, later[-1], stage="waiting")
    notes = [RunFolder(tmp_path / run_id).latest_progress() for run_id in later]
    assert [note and note.note.partition("auto. ")[2] for note in notes] == [
        "",
        "One more run waits before this one.",
        "2 more runs wait before this one.",
        "3 more runs wait before this one.",
    ]

    # Neither a run that is killed while it waits nor one that is cancelled holds the others up.
    process_of(RunFolder(tmp_path / later[0])).kill()
    runs.cancel(later[2])
    runs.cancel(first)
    states = [runs.wait(run_id).state for run_id in later]

    assert states == ["crashed", "done", "cancelled", "done"]
    began = [
        json.loads(line)["time"]
        for run_id in (later[1], later[3])
        for line in (tmp_path / run_id / "progress.jsonl").read_text().splitlines()
        if json.loads(line)["stage"] == "loading"
    ]
    assert began == sorted(began)


def test_a_run_of_another_workspace_is_waited_for_by_its_name(
    runs: Runs, store: Store, tmp_path: Path
) -> None:
    other = Runs(tmp_path / "b" / "runs", store=store, cache=tmp_path / "cache", program=PROGRAM)
    wait_for_stage(runs, start(runs, "endless"), stage="endless")

    second = other.start("phase1", Phase1Config(model="good"))
    wait_for_stage(other, second, stage="waiting")

    progress = other.view(second).progress
    assert progress is not None
    assert progress.note == f"phase1-001 of the workspace {tmp_path.parent} works on auto."
    runs.cancel("phase1-001")
    assert other.wait(second).state == "done"


def test_a_run_that_waits_can_be_cancelled_and_go_on(runs: Runs) -> None:
    first = start(runs, "endless")
    wait_for_stage(runs, first, stage="endless")
    second = start(runs, "good")
    wait_for_stage(runs, second, stage="waiting")

    runs.cancel(second)
    assert runs.wait(second).state == "cancelled"
    runs.resume(second)
    wait_for_stage(runs, second, stage="waiting")
    assert not runs.view(first).is_finished
    runs.cancel(first)

    assert runs.wait(second).state == "done"


def test_a_run_that_was_killed_keeps_nobody_waiting(runs: Runs, tmp_path: Path) -> None:
    first = start(runs, "endless")
    wait_for_stage(runs, first, stage="endless")
    second = start(runs, "good")
    wait_for_stage(runs, second, stage="waiting")

    process_of(RunFolder(tmp_path / first)).kill()

    assert runs.wait(second).state == "done"
    assert runs.view(first).state == "crashed"


# --- what the machine refuses


def test_a_full_disk_fails_the_run_with_what_to_do(runs: Runs) -> None:
    view = runs.wait(start(runs, "no room"))

    assert view.state == "failed"
    assert view.error.endswith("is full.")
    assert "deleting old runs" in view.hint


def test_a_full_memory_fails_the_run_with_what_to_do(runs: Runs) -> None:
    view = runs.wait(start(runs, "no memory"))

    assert (view.state, view.error) == ("failed", "The memory is full: cannot allocate 5 GB")
    assert "smaller batch size" in view.hint


def test_a_probe_that_the_machine_does_not_start_says_why(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(subprocess, "Popen", refuse)

    with pytest.raises(RunError, match="The memory is full"):
        runs.start_probe("phase1", Phase1Config(model="good"))


def test_a_run_whose_folder_is_deleted_ends_and_stops_nothing(runs: Runs, tmp_path: Path) -> None:
    run_id = start(runs, "endless")
    wait_for_stage(runs, run_id, stage="endless")
    process = process_of(RunFolder(tmp_path / run_id))

    (tmp_path / run_id).rename(tmp_path / "moved away")

    process.wait(timeout=PATIENCE)
    with pytest.raises(RunError, match="There is no run"):
        runs.wait(run_id)
    assert runs.list() == ()
    assert "was deleted while it was worked on" in (tmp_path / "moved away" / "log.txt").read_text()
    assert runs.wait(start(runs, "good")).state == "done"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"epochs": "many"}, "epochs must be a whole number, found 'many'"),
        ({"n_processes": "two"}, "n_processes must be a whole number, found 'two'"),
        ({"speed": 1}, 'Phase 1 has no setting "speed"'),
    ],
)
def test_a_run_does_not_go_on_with_settings_that_do_not_exist(
    runs: Runs, cut_off: RunFolder, settings: dict[str, Any], error: str
) -> None:
    cut_off.write_json("config.json", {**cut_off.config(), "settings": settings})

    with pytest.raises(ConfigError, match=error):
        runs.resume(cut_off.run_id)

    assert runs.view(cut_off.run_id).state == "crashed"


# --- deleting


def test_delete__keeps_scores_and_decisions(runs: Runs, store: Store, tmp_path: Path) -> None:
    run_id = start(runs, "good")
    runs.wait(run_id)
    decision = Decision(uid="a", group="a", sample_id=0, verdict="relabel", label=1)
    Review(store).decide([decision])
    before = store.log.current()

    runs.delete(run_id)

    assert runs.list() == ()
    assert [path.name for path in tmp_path.iterdir()] == ["newest.txt"]
    assert store.log.current() == before
    assert [one.sample_id for one in Review(store).queue().samples] == [1, 2]
    assert start(runs, "good") == "phase1-002"


def test_delete__the_number_of_a_run_without_results_is_not_given_again(
    runs: Runs, tmp_path: Path
) -> None:
    runs.wait(start(runs, "good"))
    runs.wait(start(runs, "user error"))

    runs.delete("phase1-002")

    assert start(runs, "good") == "phase1-003"
    runs.wait("phase1-003")
    (tmp_path / "newest.txt").write_bytes(b"\xff")
    assert start(runs, "good") == "phase1-004"


def test_delete__goes_on_where_it_was_cut_off(store: Store, tmp_path: Path) -> None:
    left = tmp_path / ".phase1-001.12ab.deleted"
    left.mkdir()
    (left / "checkpoint.pt").write_bytes(b"large")

    Runs(tmp_path, store=store, cache=tmp_path / "cache", program=PROGRAM)

    assert list(tmp_path.iterdir()) == []


def test_delete__takes_in_first_what_nobody_has_taken_in(
    runs: Runs, store: Store, tmp_path: Path
) -> None:
    worked_through(tmp_path / "phase1-001", store=store)

    runs.delete("phase1-001")

    assert runs.list() == ()
    assert [run.run_id for run in store.runs()] == ["phase1-001"]
    assert [one.sample_id for one in Review(store).queue().samples] == [0, 1, 2]


def test_delete__not_a_run_at_work(runs: Runs) -> None:
    run_id = start(runs, "endless")
    wait_for_stage(runs, run_id, stage="endless")

    with pytest.raises(RunError, match="phase1-001 is running") as caught:
        runs.delete(run_id)

    assert caught.value.hint == "Cancel it first."
    assert not runs.view(run_id).is_finished


# --- folders that are damaged


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.json", b"{", "config.json is damaged: Invalid JSON: EOF while parsing"),
        ("config.json", b"{}", "config.json is damaged: kind: Field required"),
        ("config.json", b"[1]", "config.json is damaged: Input should be an object"),
        ("config.json", None, "has no config.json"),
        ("status.json", b"{", "status.json is damaged"),
        ("status.json", b"{}", "status.json is damaged: state: Field required"),
        ("status.json", b"\xff", "status.json is damaged"),
        ("report.json", b"{", "report.json is damaged"),
    ],
)
def test_a_damaged_folder_says_so_and_stops_nothing(
    runs: Runs, store: Store, tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    runs.import_finished()
    if content is None:
        (folder.path / name).unlink()
    else:
        (folder.path / name).write_bytes(content)

    (view,) = runs.list()

    assert (view.run_id, view.kind, view.state) == ("phase1-001", "phase1", "damaged")
    assert problem in view.error
    assert view.hint
    assert runs.wait("phase1-001") == view
    assert runs.import_finished() == ()
    runs.cancel("phase1-001")


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("config.json", {"round": 2**40}, "config.json is damaged: round: "),
        ("config.json", {"created_at": "today"}, "config.json is damaged: created_at: "),
        ("config.json", {"prompts": []}, "config.json is damaged: there are 0 prompts for 2 "),
        ("config.json", {"labels": {}}, "config.json is damaged: labels.n_train: "),
        ("status.json", {"state": "dancing"}, "status.json is damaged: state: "),
        ("report.json", {"seconds": None}, "report.json is damaged: seconds: "),
        ("report.json", {"n_flagged": "many"}, "report.json is damaged: n_flagged: "),
        ("report.json", {"unreadable": [{}]}, "report.json is damaged: unreadable.0.file_name: "),
    ],
)
def test_a_file_that_was_edited_to_nonsense_damages_its_run(
    runs: Runs, store: Store, tmp_path: Path, name: str, changes: dict[str, Any], problem: str
) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    runs.import_finished()
    edit(folder, name, changes)

    (view,) = runs.list()

    assert view.state == "damaged"
    assert problem in view.error


def edit(folder: RunFolder, name: str, changes: dict[str, Any]) -> None:
    """Changes values in a JSON file, as somebody does by hand."""
    values = json.loads((folder.path / name).read_text(encoding="utf-8"))
    (folder.path / name).write_text(json.dumps({**values, **changes}), encoding="utf-8")


@pytest.mark.parametrize("pid", ["1e400", "-1", '"one"', "null", "1.5", str(2**70)])
def test_a_process_id_that_is_none_is_no_process(cut_off: RunFolder, pid: str) -> None:
    for name in ("proc.json", "cancel.json"):
        (cut_off.path / name).write_text(f'{{"pid": {pid}}}')

    assert find_process(cut_off) is None
    assert not is_asked_to_stop(cut_off)


def test_a_word_of_another_process_that_is_none_damages_its_run(
    runs: Runs, cut_off: RunFolder
) -> None:
    cut_off.write_json("error.json", {"error": ["No."]})

    view = runs.view(cut_off.run_id)

    assert view.state == "damaged"
    assert "error.json is damaged: error: " in view.error


def test_a_run_can_start_beside_a_damaged_one(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "phase1-001").mkdir()
    (tmp_path / "phase1-001" / "status.json").write_text("{}")

    assert runs.wait(start(runs, "good")).state == "done"

    assert [view.state for view in runs.list()] == ["done", "damaged"]


def predictions(**changes: list[Any]) -> pa.Table:
    """What a classifier predicts for two of the samples."""
    columns: dict[str, list[Any]] = {
        "sample_id": [2, 0],
        "predicted_label": [1, 0],
        "p_predicted": [0.875, 0.75],
        "p_given": [0.125, 0.75],
        "margin": [-0.75, 0.5],
    }
    return pa.table({**columns, **changes})


LISTS = pa.list_(pa.float32())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"top_pos_sims": pa.array([[0.5]] * 4, LISTS)}, "the lists of a sample differ in length"),
        ({"top_labels": pa.array([[0, None]] * 4)}, "top_labels has empty values"),
        ({"pos_sim": pa.array([math.nan] * 4, pa.float32())}, "a pos_sim is no number"),
        ({"top_neg_sims": pa.array([[0.5, math.inf]] * 4, LISTS)}, "a top_neg_sims is no number"),
        ({"predicted_label": pa.array([0, 1, 2, 0])}, "a label is not one of 2 classes"),
        ({"sample_id": pa.array([[0]] * 4)}, "scores.parquet is damaged"),
        ({"is_clean": None}, "scores.parquet is damaged: there is no column is_clean"),
    ],
)
def test_scores_that_cannot_be_shown_fail_the_run(
    runs: Runs, store: Store, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    change_columns(folder, "scores.parquet", changes)

    assert runs.import_finished() == ()

    assert problem in runs.view("phase1-001").error
    assert store.runs() == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"final_label": None}, "samples.parquet is damaged: there is no column final_label"),
        ({"sample_id": None}, "samples.parquet is damaged: there is no column sample_id"),
        ({"sample_id": pa.array(["a", "b", "c", "d"])}, "samples.parquet is damaged"),
        ({"split": pa.array([None] * 4, pa.string())}, "split has empty values"),
        ({"final_label": pa.array([0, 1, 2, 0])}, "a label is not one of 2 classes"),
    ],
)
def test_samples_that_cannot_be_used_fail_the_run(
    runs: Runs, store: Store, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    change_columns(folder, "samples.parquet", changes)

    assert runs.import_finished() == ()

    assert problem in runs.view("phase1-001").error
    assert store.runs() == []


def test_a_run_is_taken_in_where_the_data_set_is_the_same(
    runs: Runs, store: Store, tmp_path: Path
) -> None:
    with make_store([0, 1, 0, 1], n_classes=2) as twin:
        worked_through(tmp_path / "phase1-001", store=twin)

    assert runs.import_finished() == ("phase1-001",)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sample_id", [1, 0, 2, 3]),
        ("file_name", [f"class {i % 2}/{i + 1}.jpg" for i in range(4)]),
        ("sha256", [f"{i + 1:064x}" for i in range(4)]),
        ("split", ["train", "train", "train", "test"]),
        ("given_label", [0, 1, 0, 0]),
    ],
)
def test_a_run_on_another_data_set_is_not_taken_in(
    runs: Runs, store: Store, tmp_path: Path, name: str, values: list[Any]
) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    change_columns(folder, "samples.parquet", {name: pa.array(values)})

    assert runs.import_finished() == ()

    view = runs.view("phase1-001")
    assert (view.state, store.runs()) == ("failed", [])
    assert view.error == "phase1-001 is about other images or labels than those of this workspace."
    assert "in which it was started" in view.hint
    with pytest.raises(RunError, match="other images or labels"):
        runs.n_outdated("phase1-001")


@pytest.mark.parametrize("given", [[0, 1, 0], [0, 1, 0, 1, 0]])
def test_a_run_on_more_or_fewer_images_is_not_taken_in(
    runs: Runs, tmp_path: Path, given: list[int]
) -> None:
    with make_store(given, n_classes=2) as other:
        worked_through(tmp_path / "phase1-001", store=other)

    assert runs.import_finished() == ()
    assert "other images or labels" in runs.view("phase1-001").error


def test_a_run_on_other_classes_is_not_taken_in(runs: Runs, store: Store, tmp_path: Path) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    edit(folder, "config.json", {"class_names": ["class 1", "class 0"]})

    assert runs.import_finished() == ()
    assert "other images or labels" in runs.view("phase1-001").error


def test_a_workspace_that_cannot_be_opened_is_left_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_store([0, 1, 0, 1], n_classes=2, path=tmp_path / "store.duckdb") as store:
        worked_through(tmp_path / "runs" / "phase1-001", store=store)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("A bug.")

    monkeypatch.setattr(pq, "read_table", fail)
    with pytest.raises(ZeroDivisionError):
        Workspace.open(tmp_path)

    assert not [one.path for one in psutil.Process().open_files() if str(tmp_path) in one.path]


def change_columns(folder: RunFolder, name: str, changes: dict[str, pa.Array | None]) -> None:
    """Gives columns of a table other values, or takes them away."""
    table = pq.read_table(folder.path / name)
    for column, values in changes.items():
        table = table.drop_columns(column)
        if values is not None:
            table = table.append_column(column, values)
    pq.write_table(table, folder.path / name)


def test_predictions_come_in_and_say_where_the_classifier_disagrees(
    runs: Runs, store: Store, tmp_path: Path
) -> None:
    worked_through(tmp_path / "phase1-001", store=store)
    folder = worked_through(tmp_path / "phase2-002", store=store)
    evaluation = [{"trained_on": "curated", "n_train": 4, "test": None}]
    folder.write_json("report.json", folder.report() | {"evaluation": evaluation})
    folder.write_json("config.json", folder.config() | {"kind": "phase2"})
    folder.write_table("predictions.parquet", predictions())

    assert runs.import_finished() == ("phase1-001", "phase2-002")

    review = Review(store)
    assert "The classifier disagrees: class 0 12%, class 1 88%." in review.sample(2).changes
    assert review.sample(0).changes == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sample_id": [0, 9]}, "a sample is not one of the run's samples"),
        ({"p_given": [None, 0.5]}, "p_given has empty values"),
        ({"p_given": [float("nan"), 0.5]}, "a p_given is not between 0 and 1"),
        ({"predicted_label": [0, 2]}, "a label is not one of 2 classes"),
        ({"margin": ["a", "b"]}, "predictions.parquet is damaged"),
    ],
)
def test_predictions_that_cannot_be_used_fail_the_run(
    runs: Runs, store: Store, tmp_path: Path, changes: dict[str, list[Any]], problem: str
) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    folder.write_table("predictions.parquet", predictions(**changes))

    assert runs.import_finished() == ()

    assert problem in runs.view("phase1-001").error
    assert store.runs() == []


def test_neighbours_come_in_with_the_scores(runs: Runs, store: Store, tmp_path: Path) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    folder.write_table("neighbours.parquet", neighbours())

    assert runs.import_finished() == ("phase1-001",)

    assert store.neighbours(0) == {"nearest": [1, 2], "nearest_given": [2], "nearest_predicted": []}
    assert store.neighbours(3) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"nearest": [[9], []]}, "nearest names a sample that is not the run's"),
        ({"nearest": [None, []]}, "nearest has empty values"),
        ({"nearest": [[1] * 11, []]}, "nearest has more than 10"),
        ({"sample_id": [1, 1]}, "a sample stands there twice"),
    ],
)
def test_neighbours_that_cannot_be_used_fail_the_run(
    runs: Runs, store: Store, tmp_path: Path, changes: dict[str, list[Any]], problem: str
) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    folder.write_table("neighbours.parquet", neighbours(**changes))

    assert runs.import_finished() == ()

    assert problem in runs.view("phase1-001").error
    assert store.runs() == []


def neighbours(**changes: list[Any]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "sample_id": [1, 0],
        "nearest": [[0], [1, 2]],
        "nearest_given": [[], [2]],
        "nearest_predicted": [[], []],
    }
    table = pa.table(columns | changes)
    types = [pa.int32(), *[pa.list_(pa.int32())] * 3]
    return table.cast(pa.schema(list(zip(columns, types, strict=True))))


@pytest.mark.parametrize("content", [b"PAR1", None])
def test_results_without_whole_samples_fail_the_run(
    runs: Runs, store: Store, tmp_path: Path, content: bytes | None
) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    (folder.path / "samples.parquet").unlink()
    if content:
        (folder.path / "samples.parquet").write_bytes(content)

    assert runs.import_finished() == ()

    view = runs.view("phase1-001")
    assert view.state == "failed"
    assert "samples.parquet" in view.error
    assert store.runs() == []


def test_a_folder_may_be_deleted_while_it_is_listed(
    runs: Runs, store: Store, tmp_path: Path
) -> None:
    worked_through(tmp_path / "phase1-001", store=store)

    def come_and_go() -> None:
        for _ in range(100):
            shutil.copytree(tmp_path / "phase1-001", tmp_path / "phase1-002")
            shutil.rmtree(tmp_path / "phase1-002")

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(come_and_go)
        while not coming.done():
            assert runs.list()[-1].run_id == "phase1-001"


# --- reports


def test_progress__leaves_out_what_is_no_report(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert (folder.progress(), folder.latest_progress()) == ([], None)
    folder.add_progress(Progress(stage="one"))
    with (tmp_path / "progress.jsonl").open("a") as file:
        file.write(
            '{"stage": "tw\n[]\n{"epoch": 1}\n{"stage": "newer", "mood": "good"}\n{"stage": '
        )

    expected = [Progress(stage="one"), Progress(stage="newer")]
    assert folder.progress() == expected
    assert folder.latest_progress() == expected[-1]


@pytest.mark.parametrize(
    "values",
    [
        {"stage": 1},
        {"fraction": "a"},
        {"fraction": math.nan},
        {"seconds": None},
        {"seconds": math.inf},
        {"loss": "low"},
        {"epoch": 1.5},
        {"memory_bytes": -1},
    ],
)
def test_progress__leaves_out_a_report_of_other_types(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    folder = RunFolder(tmp_path)
    folder.add_progress(Progress(stage="training", fraction=0.5, loss=math.nan))
    with (tmp_path / "progress.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "training", "loss": 1.0, **values}) + "\n")

    assert [one.fraction for one in folder.losses()] == [0.5]
    assert folder.seconds_worked() == 0


def test_progress__of_very_many_reports_is_thinned_up_to_the_latest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    lines = (json.dumps({"stage": "training", "done": done}) for done in range(1, 20_001))
    (tmp_path / "progress.jsonl").write_text("\n".join(lines) + "\n")

    done = [one.done for one in folder.progress()]

    assert len(done) == 500
    assert {later - earlier for earlier, later in pairwise(done)} == {40}
    assert done[-1] == 20_000
    assert folder.latest_progress() == Progress(stage="training", done=20_000)


def test_progress__of_a_very_large_file_is_read_in_part(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with (tmp_path / "progress.jsonl").open("w") as file:
        for done in range(1, 20_001):
            file.write(json.dumps({"stage": "training", "done": done, "note": "n" * 300}) + "\n")

    done = [one.done for one in folder.progress()]

    assert len(done) == 500
    assert all(30 < later - earlier < 50 for earlier, later in pairwise(done))
    assert done[-1] == 20_000
    # More than any memory holds.
    with (tmp_path / "progress.jsonl").open("r+b") as file:
        file.truncate(2**42)
    folder.add_progress(Progress(stage="late"))
    folder.add_progress(Progress(stage="last"))
    assert folder.progress()[-1] == Progress(stage="last")


def test_losses__do_not_jump_back_where_a_run_went_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for fraction, loss in ((0.1, 3.0), (0.2, 2.0), (0.3, 1.0), (0.0, None), (0.2, 2.5), (0.4, 0.5)):
        folder.add_progress(Progress(stage="training", fraction=fraction, loss=loss))

    curve = [(one.fraction, one.loss) for one in folder.losses()]

    assert curve == [(0.1, 3.0), (0.2, 2.5), (0.4, 0.5)]


def test_writing_whole__two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    with writing_whole(tmp_path / "a") as first, writing_whole(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")

    assert (tmp_path / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_seconds__are_those_of_all_parts_without_waiting(tmp_path: Path, store: Store) -> None:
    """The clock goes on by a second whenever a report comes, and at the end."""
    folder = worked_through(tmp_path / "phase1-001", store=store)
    (folder.path / "progress.jsonl").unlink()
    folder.set_status("queued")

    def stage(_folder: RunFolder) -> Generator[Progress, None, None]:
        yield Progress(stage="waiting", note="phase1-000 works on cpu.")
        yield Progress(stage="waiting", note="phase1-000 works on cpu.")
        yield Progress(stage="training", fraction=0.5, loss=1.0)
        if len(parts) > 1:
            parts.pop()
            raise RunError("Not yet.")

    parts = ["first", "second"]
    with pytest.raises(RunError, match="Not yet"):
        execute(folder, stage, clock=count().__next__)
    assert folder.seconds_worked() == 2
    execute(folder, stage, clock=count().__next__)

    assert folder.seconds_worked() == 4
    assert view_of(folder, state="failed").seconds == 4
    assert [one.loss for one in folder.losses()] == [1.0]


# --- what is refused


def test_execute__not_a_done_run(store: Store, tmp_path: Path) -> None:
    folder = worked_through(tmp_path / "phase1-001", store=store)
    before = fingerprint(tmp_path)

    with pytest.raises(RunError, match="phase1-001 is done") as caught:
        execute(folder, stage_script.stage)

    assert caught.value.hint
    assert fingerprint(tmp_path) == before


def test_execute__not_a_run_that_another_process_works_on(runs: Runs, tmp_path: Path) -> None:
    run_id = start(runs, "endless")
    wait_for_stage(runs, run_id, stage="endless")

    with pytest.raises(RunError, match=r"phase1-001 is running in process \d+") as caught:
        execute(RunFolder(tmp_path / run_id), stage_script.stage)

    assert caught.value.hint == "Wait for it, or cancel it."
    assert runs.view(run_id).state == "running"


@pytest.mark.parametrize("script", ["good", "endless"])
def test_resume__not_a_run_that_is_done_or_at_work(runs: Runs, script: str) -> None:
    run_id = start(runs, script)
    wait_for_stage(runs, run_id, stage={"good": "training", "endless": "endless"}[script])
    state = runs.wait(run_id).state if script == "good" else runs.view(run_id).state

    with pytest.raises(RunError, match=f"phase1-001 is {state}; only a run that was cut off"):
        runs.resume(run_id)

    assert runs.view(run_id).state == state


def test_start__needs_a_data_set(tmp_path: Path) -> None:
    with Store(":memory:") as empty:
        runs = Runs(tmp_path, store=empty, cache=tmp_path / "cache", program=PROGRAM)

        with pytest.raises(RunError, match="holds no data set"):
            start(runs, "good")

    assert not list(tmp_path.iterdir())


def fail_beside(folder: RunFolder, error: Exception) -> None:
    """What another process of a run does that fails so."""

    def stage(_folder: RunFolder) -> Generator[Progress, None, None]:
        yield Progress(stage="training")
        raise error

    with pytest.raises(RunError):
        assist(folder, stage)


@pytest.mark.parametrize("is_signalled", [False, True])
def test_execute__tells_what_stopped_another_process_of_the_run(
    cut_off: RunFolder, is_signalled: bool
) -> None:
    def first(folder: RunFolder) -> Generator[Progress, None, None]:
        yield Progress(stage="training")
        fail_beside(folder, RunError("No image of this part can be read.", "Mount the disk."))
        if is_signalled:
            # As a launcher does to the others.
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("connection reset by peer")

    with pytest.raises(RunError, match="No image of this part"):
        execute(cut_off, first)

    status = cut_off.status()
    assert (status.state, status.hint) == ("failed", "Mount the disk.")


def test_a_run_that_was_killed_tells_what_stopped_another_process_of_it(
    runs: Runs, cut_off: RunFolder
) -> None:
    fail_beside(cut_off, MemoryError("cannot allocate 5 GB"))

    view = runs.view(cut_off.run_id)

    assert (view.state, view.error) == ("crashed", "The memory is full: cannot allocate 5 GB")


def test_start__needs_training_images(tmp_path: Path) -> None:
    with make_store([0, 1], splits=["test", "test"]) as store:
        runs = Runs(tmp_path / "runs", store=store, cache=tmp_path / "cache", program=PROGRAM)
        with pytest.raises(RunError, match="no training images"):
            runs.start("phase1", Phase1Config())


def test_start__phase2_needs_scores(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Phase 2 needs the scores of phase 1"):
        runs.start("phase2", Phase2Config())

    assert not list(tmp_path.iterdir())


def test_start__settings_of_another_kind(runs: Runs) -> None:
    with pytest.raises(RunError, match='no "phase2" run with settings of Phase 1'):
        runs.start("phase2", Phase1Config())
    with pytest.raises(RunError, match='no "phase3" run'):
        runs.start("phase3", Phase1Config())


@pytest.mark.parametrize("run_id", ["phase1-009", "../phase1-001", "", "phase1-001/.."])
def test_view__unknown_run(runs: Runs, run_id: str) -> None:
    runs.wait(start(runs, "good"))

    with pytest.raises(RunError, match="There is no run"):
        runs.view(run_id)


# --- telling the living from the dead


def test_a_used_again_process_id_is_not_the_run(runs: Runs, tmp_path: Path) -> None:
    run_id = start(runs, "killed")
    runs.wait(run_id)
    RunFolder(tmp_path / run_id).write_json("proc.json", {"pid": os.getpid()})

    assert runs.view(run_id).state == "crashed"


def test_a_live_run_is_known_by_its_folder_whatever_the_clock_says(
    runs: Runs, tmp_path: Path
) -> None:
    run_id = start(runs, "endless")
    folder = RunFolder(tmp_path / run_id)
    edit(folder, "proc.json", {"start_time": 1.0})

    assert not runs.view(run_id).is_finished


@contextmanager
def going_on_by_hand(runs: Runs, folder: RunFolder) -> Iterator[int]:
    """The id of a process that goes on with a run, as from a script: by a relative path, and in the
    group of whoever started it. It is at work."""
    command = [*PROGRAM, "phase1", "--run", folder.run_id]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(command, cwd=folder.path.parent, env=environment) as child:
        try:
            deadline = time.monotonic() + PATIENCE
            while runs.view(folder.run_id).state != "running":
                assert time.monotonic() < deadline
            yield child.pid
            child.wait(timeout=PATIENCE)
        finally:
            child.kill()


def test_a_run_that_somebody_works_through_by_hand_can_be_cancelled(
    runs: Runs, tmp_path: Path
) -> None:
    run_id = start(runs, "endless")
    runs.cancel(run_id)
    runs.wait(run_id)

    with going_on_by_hand(runs, RunFolder(tmp_path / run_id)):
        runs.cancel(run_id)

    assert RunFolder(tmp_path / run_id).status().state == "cancelled"


def test_a_run_that_went_on_was_not_asked_to_stop(runs: Runs, tmp_path: Path) -> None:
    run_id = start(runs, "endless")
    runs.cancel(run_id)
    assert runs.wait(run_id).state == "cancelled"

    with going_on_by_hand(runs, RunFolder(tmp_path / run_id)) as pid:
        os.kill(pid, signal.SIGKILL)

    assert runs.view(run_id).state == "crashed"


@pytest.mark.parametrize("how", ["killed", "cancelled twice"])
def test_what_a_launcher_started_ends_with_it(
    runs: Runs, store: Store, tmp_path: Path, how: str
) -> None:
    launch = (
        "import os, signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.run(sys.argv[1:], env={**os.environ, 'RANK': '0'}, start_new_session=True)"
    )
    program = (sys.executable, "-c", launch, *PROGRAM)
    launched = Runs(tmp_path, store=store, cache=tmp_path / "cache", program=program)
    first = start(launched, "endless")
    wait_for_stage(launched, first, stage="endless")

    if how == "killed":
        process_of(RunFolder(tmp_path / first)).kill()
    else:
        launched.cancel(first)
        launched.cancel(first)

    assert runs.wait(start(runs, "good")).state == "done"
    assert runs.view(first).state == {"killed": "crashed"}.get(how, "cancelled")


def test_a_folder_whose_process_never_came_is_crashed(runs: Runs, tmp_path: Path) -> None:
    run_id = start(runs, "killed")
    runs.wait(run_id)
    (tmp_path / run_id / "proc.json").unlink()

    assert runs.view(run_id).state == "crashed"


def test_the_number_of_a_broken_folder_is_not_used_again(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "phase2-007").mkdir()
    (tmp_path / "notes").mkdir()

    assert start(runs, "good") == "phase1-008"
    assert [view.run_id for view in runs.list()] == ["phase1-008"]


def test_a_child_outlives_the_store_of_its_starter(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with make_store([0, 1, 0, 1], n_classes=2, path=path) as store:
        runs = Runs(tmp_path / "runs", store=store, cache=tmp_path / "cache", program=PROGRAM)
        run_id = start(runs, "endless")
        wait_for_stage(runs, run_id, stage="endless")

    with Store(path) as store:
        runs = Runs(tmp_path / "runs", store=store, cache=tmp_path / "cache", program=PROGRAM)
        view = runs.view(run_id)
        assert view.state == "running"
        process = json.loads((tmp_path / "runs" / run_id / "proc.json").read_text())
        os.kill(process["pid"], signal.SIGTERM)
        assert runs.wait(run_id).state == "cancelled"

"""The command line: the whole loop as a user types it, and its errors."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from deft_core.__main__ import main
from deft_core.config import Config, Phase1Config
from deft_core.decisions import Decision
from deft_core.errors import DataError, ExportError, RunError
from deft_core.run_folder import Progress, RunFolder
from deft_core.runs import CONFIGS
from deft_core.selection import undecided
from deft_core.store import Store
from deft_core.turns import in_turn
from deft_core.workspace import STORE, Workspace, find_model
from tests.small_world import PATIENCE, add_scores, fingerprint, write_class_folders, write_image
from tests.tiny_clip import write_tiny_clip
from tools.kill_review import Application


def run(*arguments: str | Path) -> None:
    """The command in this process; it must end well."""
    main([str(argument) for argument in arguments])


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """What the command prints with --json."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(*arguments, "--json")
    assert caught.value.code == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the command that must fail says on standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"local-dir:{write_tiny_clip(tmp_path_factory.mktemp('model') / 'tiny')}"


@pytest.fixture
def workspace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A workspace with four images of two classes, which lie in tmp_path / "pets"."""
    write_class_folders(tmp_path / "pets")
    run_json(capsys, "ingest", tmp_path / "pets", "--workspace", tmp_path / "ws")
    return tmp_path / "ws"


# --- the whole loop


def test_the_whole_loop(tmp_path: Path, tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    in_workspace = ("--workspace", tmp_path / "ws")
    model = ("--model", tiny_clip, "--pretrained", "", "--epochs", "1", "--batch-size", "8")
    source = tmp_path / "demo"

    drawn = run_json(capsys, "demo", source, "--n-train", "24", "--n-test", "8")
    before = fingerprint(source)
    taken = run_json(capsys, "ingest", source, *in_workspace)
    detected = run_json(capsys, "phase1", *in_workspace, *model, "--vpt-tokens", "2")
    adapted = run_json(capsys, "phase2", *in_workspace, *model, "--compares-with", "none")
    written = run_json(capsys, "export", *in_workspace, "--to", tmp_path / "labels.csv")
    exported = run_json(capsys, "export-model", *in_workspace, "--to", tmp_path / "model")
    with Workspace.open(tmp_path / "ws") as opened:
        from_page = opened.export_model(to=opened.exports / "model")
    told = run_json(
        capsys,
        *("predict", source / "test", "--model", tmp_path / "model"),
        *("--top", "2", "--to", tmp_path / "new" / "predictions.csv"),
    )
    below_a_file = ("--to", tmp_path / "labels.csv" / "predictions.csv")
    unwritten = refused(capsys, "predict", source / "test", *in_workspace, *below_a_file)
    of_run = run_json(capsys, "predict", source / "test", *in_workspace, "--top", "2")
    status = run_json(capsys, "status", *in_workspace)

    assert drawn["n_train"] == 24
    assert taken["n_samples"] == 32
    assert (detected["run_id"], detected["state"]) == ("phase1-001", "done")
    assert detected["report"]["n_scored"] == 24
    assert detected["settings"]["vpt_tokens"] == 2
    assert adapted["run_id"] == "phase2-002"
    (evaluation,) = adapted["report"]["evaluation"]
    assert (evaluation["trained_on"], evaluation["test"]["n"]) == ("curated", 8)
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == written["n_samples"] == 32
    assert exported["run_id"] == from_page["run_id"] == "phase2-002"
    assert set(exported["files"]) == set(from_page["files"])
    assert told["predictions"] == of_run["predictions"]
    assert "predictions.csv cannot be written" in unwritten
    with (tmp_path / "new" / "predictions.csv").open(newline="") as file:
        labels = [row["predicted_label"] for row in csv.DictReader(file)]
    assert labels == [one["top"][0]["label"] for one in told["predictions"]]
    assert len(labels) == 8
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| training images with a given label | 24 |" in card
    assert status["dataset"]["n_samples"] == 32
    assert [one["state"] for one in status["runs"]] == ["done", "done"]
    assert status["review"]["n_samples"] == 24
    assert fingerprint(source) == before


def test_prompts__are_changed_tried_and_used_by_the_next_run(
    workspace: Path, tiny_clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["prompts", "cat=tabby cat", "--workspace", workspace]
    preview = ["--preview", "--model", tiny_clip, "--pretrained", ""]

    changed = run_json(capsys, *changes, *preview)
    shown = run_json(capsys, "prompts", "--workspace", workspace)
    clash = refused(capsys, "prompts", "cat=dog", "--workspace", workspace)
    nothing = refused(capsys, "prompts", "cat", "--workspace", workspace)
    with Workspace.open(workspace) as opened:
        run_id = opened.runs.start("phase1", Phase1Config())
        opened.runs.cancel(run_id)
        opened.runs.wait(run_id)
    config = json.loads((workspace / "runs" / run_id / "config.json").read_text())

    assert changed["prompts"] == shown["prompts"] == {"cat": "tabby cat", "dog": "dog"}
    assert 0 <= changed["accuracy"] <= 1
    assert changed["n"] == 4
    assert "would have the same prompt" in clash
    assert '"cat" changes nothing' in nothing
    assert config["prompts"] == ["tabby cat", "dog"]


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Child processes hear Ctrl+C also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_cancels_the_run_and_says_so(workspace: Path, tiny_clip: str) -> None:
    model = ("--model", tiny_clip, "--pretrained", "", "--epochs", "100000")
    with subprocess.Popen(
        [sys.executable, "-m", "deft_core", "phase1", "--workspace", str(workspace), *model],
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        assert command.stderr.readline()
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=PATIENCE)

    assert command.returncode == 130
    assert errors.endswith("phase1-001 was cancelled.\n")
    with Workspace.open(workspace) as opened:
        assert opened.runs.view("phase1-001").state == "cancelled"


def test_delete__asks_first(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace.open(workspace) as opened:
        run_id = opened.runs.start("phase1", Phase1Config())
        opened.runs.cancel(run_id)
        opened.runs.wait(run_id)
    unknown = refused(capsys, "delete", "phase1-009", "--workspace", workspace)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    with pytest.raises(SystemExit) as caught:
        run("delete", run_id, "--workspace", workspace)
    assert caught.value.code == 1
    assert (workspace / "runs" / run_id).exists()

    deleted = run_json(capsys, "delete", run_id, "--workspace", workspace, "--yes")

    assert 'There is no run "phase1-009"' in unknown
    assert deleted == {"deleted": run_id}
    assert not (workspace / "runs" / run_id).exists()


def test_a_run_folder_is_worked_through_here(
    workspace: Path, tiny_clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = CONFIGS["phase1"].from_preset(
        "paper", model=tiny_clip, pretrained="", epochs=1, vpt_tokens=1
    )
    with Workspace.open(workspace) as opened:
        samples = opened.store.samples()
    config = {
        "kind": "phase1",
        "round": 1,
        "created_at": "2026-01-01T00:00:00+00:00",
        "root": str(tmp_path / "pets"),
        "cache": str(tmp_path / "cache"),
        "class_names": ["cat", "dog"],
        "prompts": ["cat", "dog"],
        "settings": settings.to_json(),
    }
    folder = RunFolder.create(
        tmp_path / "elsewhere" / "phase1-001",
        config=config,
        samples=undecided(
            samples.select(["sample_id", "file_name", "sha256", "split", "given_label"])
        ),
    )

    assert "is a phase1 run, not phase2" in refused(capsys, "phase2", "--run", folder.path)
    assert "--run takes its settings" in refused(
        capsys, "phase1", "--run", folder.path, "--epochs", "3"
    )
    with pytest.raises(SystemExit) as caught:
        run("phase1", "--run", folder.path)

    assert caught.value.code == 0
    assert folder.status().state == "done"
    assert folder.read_table("scores.parquet").num_rows == 4

    before = fingerprint(folder.path)
    errors = refused(capsys, "phase1", "--run", folder.path)
    assert errors == "Error: phase1-001 is done.\nHint: Start a new run.\n"
    assert fingerprint(folder.path) == before


def test_several_processes_come_to_the_results_of_one(
    tmp_path: Path, tiny_clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_class_folders(tmp_path / "pets", n=7)
    run_json(capsys, "ingest", source, "--workspace", tmp_path / "ws")
    # Of a batch of five, one process has three parts and the other has two.
    model = ("--model", tiny_clip, "--pretrained", "", "--vpt-tokens", "2", "--device", "cpu")
    sizes = ("--epochs", "3", "--batch-size", "5", "--part-size", "1", "--n-processes", "2")
    adapting = ("--image-side", "all", "--learning-rate", "0.01", "--patience", "3")
    options = ("--workspace", tmp_path / "ws", *model, *sizes)

    run_json(capsys, "phase1", *options)
    with Workspace.open(tmp_path / "ws") as workspace:
        workspace.review.decide(
            [Decision(uid=f"{i}", group=f"{i}", sample_id=i, verdict="keep") for i in range(14)]
        )
    run_json(capsys, "phase2", *options, *adapting, "--validation-share", "0.3")

    two = RunFolder(tmp_path / "ws" / "runs" / "phase1-001")
    one = worked_through_alone(two, tmp_path / "phase1-001")
    mine, other = two.read_table("scores.parquet"), one.read_table("scores.parquet")
    assert mine["sample_id"].equals(other["sample_id"])
    for name in ("p_clean", "pos_sim", "neg_sim", "margin", "mean_gap", "mean_margin"):
        assert mine[name].to_pylist() == pytest.approx(other[name].to_pylist(), abs=1e-4)
    assert two.report()["n_scored"] == 14

    two = RunFolder(tmp_path / "ws" / "runs" / "phase2-002")
    one = worked_through_alone(two, tmp_path / "phase2-002")
    mine, other = two.read_table("predictions.parquet"), one.read_table("predictions.parquet")
    assert mine["sample_id"].equals(other["sample_id"])
    for name in ("p_predicted", "p_given", "margin"):
        assert mine[name].to_pylist() == pytest.approx(other[name].to_pylist(), abs=1e-4)


def worked_through_alone(folder: RunFolder, path: Path) -> RunFolder:
    """A copy of a run of several processes, worked through by this one."""
    config = folder.config()
    alone = {**config, "settings": {**config["settings"], "n_processes": 1}}
    copy = RunFolder.create(path, config=alone, samples=folder.samples())
    with pytest.raises(SystemExit):
        run(config["kind"], "--run", path)
    return copy


def test_resume__goes_on_when_what_was_wrong_is_mended(
    workspace: Path, tmp_path: Path, tiny_clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    in_workspace = ("--workspace", workspace)
    model = ("--model", tiny_clip, "--pretrained", "", "--epochs", "2", "--vpt-tokens", "2")
    (tmp_path / "pets").rename(tmp_path / "moved")
    errors = refused(capsys, "phase1", *in_workspace, *model)
    failure = r"^Error: phase1-001 failed: None of the training images .*\nHint: "
    assert re.search(failure, errors, flags=re.MULTILINE)
    (tmp_path / "moved").rename(tmp_path / "pets")

    resumed = run_json(capsys, "resume", "phase1-001", *in_workspace)

    assert (resumed["run_id"], resumed["state"]) == ("phase1-001", "done")
    assert resumed["report"]["n_scored"] == 4
    assert "only a run that was cut off" in refused(capsys, "resume", "phase1-001", *in_workspace)


def test_resume__an_unknown_run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no run" in refused(capsys, "resume", "phase1-009", "--workspace", workspace)


# --- errors


def test_ingest__a_second_time_says_what_is_there(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = refused(capsys, "ingest", tmp_path / "pets", "--workspace", workspace)

    assert errors == (
        f"Error: {workspace} already holds 4 samples of {tmp_path / 'pets'}.\n"
        "Hint: Use a new workspace for another data set or a new version of this one.\n"
    )
    with Workspace.open(workspace) as opened:
        assert opened.store.samples().num_rows == 4


def test_ingest__bad_source_leaves_no_workspace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = refused(capsys, "ingest", tmp_path / "gone", "--workspace", tmp_path / "ws")

    assert errors.startswith(f"Error: {tmp_path / 'gone'} does not exist.\nHint: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["my data", "my data/ws", "my data/cat/../ws", "link/ws"])
@pytest.mark.parametrize("source", ["my data", "my data/all.csv"])
def test_ingest__never_into_a_workspace_in_the_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, source: str
) -> None:
    root = write_class_folders(tmp_path / "my data")
    (root / "all.csv").write_text("path,label\ncat/0.png,cat\ndog/0.png,dog\n")
    (tmp_path / "link").symlink_to(root)
    before = fingerprint(tmp_path)

    errors = refused(capsys, "ingest", tmp_path / source, "--workspace", tmp_path / place)

    assert f"lies in the data set {root}, which is never written to" in errors
    assert "Choose a --workspace outside of it." in errors
    assert fingerprint(tmp_path) == before


def test_ingest__an_open_workspace_refuses_the_data_set_it_lies_in(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "pets")
    with Workspace.open(root / "ws") as opened:
        with pytest.raises(DataError, match="lies in the data set"):
            opened.ingest(root)

        assert opened.dataset is None


def test_ingest__tells_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_class_folders(tmp_path / "pets")
    for number in range(12):
        (root / "cat" / f"empty {number:02}.jpg").touch()
    (root / "dog" / "twin.png").write_bytes((root / "cat" / "0.png").read_bytes())
    write_image(root / "Dog" / "2.png", seed=2)

    with pytest.raises(SystemExit):
        run("ingest", root, "--workspace", tmp_path / "ws")

    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "Took in 6 images of 3 classes (class folders).",
        "Left out 12 that cannot be read:",
        "  cat/empty 00.jpg: the file is empty",
    ]
    assert lines[-4:] == [
        "  and 2 more",
        "1 images come with different labels:",
        "  cat/0.png, dog/twin.png",
        "The classes Dog, dog give the same prompt.",
    ]


@pytest.mark.parametrize("command", ["status", "phase1", "phase2", "export"])
def test_commands_on_no_workspace_make_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    options = ["--to", tmp_path / "out"] if command == "export" else []

    errors = refused(capsys, command, "--workspace", tmp_path / "ws", *options)

    assert errors.startswith(f"Error: {tmp_path / 'ws'} is not a workspace.\n")
    assert not list(tmp_path.iterdir())


def test_phase1__settings_are_checked_before_anything_starts(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = refused(capsys, "phase1", "--workspace", workspace, "--device", "tpu")
    assert 'device is "tpu"' in errors
    errors = refused(capsys, "phase1", "--workspace", workspace, "--preset", "best")
    assert errors.endswith("Hint: Presets: paper, paper-real-noise, fast, demo, demo-fast.\n")
    assert not list((workspace / "runs").iterdir())


def test_phase2__before_phase1(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = refused(capsys, "phase2", "--workspace", workspace)

    assert errors == "Error: Phase 2 needs the scores of phase 1.\nHint: Run phase 1 first.\n"


def test_run__a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no config.json" in refused(capsys, "phase1", "--run", tmp_path / "gone")
    assert not list(tmp_path.iterdir())


def test_workspace__opens_beside_a_damaged_run(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "runs" / "phase1-001").mkdir()
    (workspace / "runs" / "phase1-001" / "status.json").write_text("{")

    status = run_json(capsys, "status", "--workspace", workspace)

    assert [one["state"] for one in status["runs"]] == ["damaged"]


@pytest.mark.parametrize("place", ["store.duckdb", "labels.csv", "runs/labels.csv", "exports"])
def test_export__in_the_workspace_only_below_its_exports(
    workspace: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    before = (workspace / "store.duckdb").stat().st_ino

    for format in ("csv", "folders"):
        errors = refused(
            capsys,
            *("export", "--workspace", workspace, "--format", format),
            *("--to", workspace / place, *(["--force"] if format == "csv" else [])),
        )
        assert f"lies in the workspace {workspace}" in errors

    assert (workspace / "store.duckdb").stat().st_ino == before
    to = workspace / "exports" / "labels.csv"
    assert run_json(capsys, "export", "--workspace", workspace, "--to", to)["n_samples"] == 4


# --- verify and backup


def test_verify__says_that_everything_agrees_and_what_does_not(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Workspace.open(workspace) as opened:
        opened.review.decide([Decision(uid="a", group="a", sample_id=0, verdict="keep")])
    found = run_json(capsys, "verify", "--workspace", workspace)
    assert found["is_sound"]
    assert (found["n_events"], found["n_unlike_journal"]) == (1, 0)

    with duckdb.connect(workspace / STORE) as connection:
        connection.execute("update current_decisions set verdict = 'both'")
    with pytest.raises(SystemExit) as caught:
        run("verify", "--workspace", workspace)
    assert caught.value.code == 2
    assert "wrong rows in current_decisions" in capsys.readouterr().out

    assert run_json(capsys, "verify", "--workspace", workspace, "--repair")["is_sound"]


def test_backup__copies_the_store_and_replaces_nothing(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "copy.duckdb"
    assert run_json(capsys, "backup", "--workspace", workspace, "--to", to)["path"] == str(to)
    with Store(to) as copy:
        assert copy.samples().num_rows == 4
    assert list((workspace / "backups").iterdir()) == []
    assert "exists already" in refused(capsys, "backup", "--workspace", workspace, "--to", to)
    elsewhere = tmp_path / "none" / "copy.duckdb"
    message = refused(capsys, "backup", "--workspace", workspace, "--to", elsewhere)
    assert "cannot be written" in message


def test_backup__while_the_application_runs(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Workspace.open(workspace) as opened:
        store_id = opened.store.id
    application = Application(workspace)
    try:
        item = {"type": "decide", "uid": "a", "group": "a", "sample_id": 0, "verdict": "keep"}
        application.post("decisions", {"store": store_id, "items": [item]})
        run_json(capsys, "backup", "--workspace", workspace, "--to", tmp_path / "copy.duckdb")
        assert "another process" in refused(capsys, "verify", "--workspace", workspace)
    finally:
        application.kill()
    with Store(tmp_path / "copy.duckdb") as copy:
        assert copy.log.n_events() == 1
    run_json(capsys, "backup", "--workspace", workspace, "--to", tmp_path / "again.duckdb")


def test_backup__names_a_holder_that_is_not_the_application(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(workspace / STORE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        copy = tmp_path / "copy.duckdb"
        message = refused(capsys, "backup", "--workspace", workspace, "--to", copy)
        assert f"id {holder.pid}" in message
        holder.communicate("\n")


def test_demo__impossible_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "seed" in refused(capsys, "demo", tmp_path / "demo", "--seed", "-1")
    assert not list(tmp_path.iterdir())


def test_workspace__a_file_is_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ws").write_text("mine")
    source = write_class_folders(tmp_path / "pets")

    errors = refused(capsys, "ingest", source, "--workspace", tmp_path / "ws")

    assert f"Error: {tmp_path / 'ws'} cannot hold a workspace: Not a directory." in errors


# --- models


def test_models__before_there_is_one(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_workspace = ("--workspace", workspace)
    to = ("--to", tmp_path / "model")

    for command in (["export-model", *to], ["predict", tmp_path / "pets"]):
        errors = refused(capsys, *command, *in_workspace)
        assert errors == (
            f"Error: {workspace} has no phase 2 that is done.\nHint: Run phase 2 first.\n"
        )
    errors = refused(capsys, "export-model", *to, *in_workspace, "--run", "phase2-009")
    assert 'no folder and no run "phase2-009"' in errors
    errors = refused(capsys, "predict", tmp_path / "pets", "--model", tmp_path / "pets")
    assert "holds no classifier" in errors
    errors = refused(capsys, "export-model", "--to", workspace / "runs" / "mine", *in_workspace)
    assert f"lies in the workspace {workspace}" in errors
    with Workspace.open(workspace) as opened, pytest.raises(RunError, match="no phase 2"):
        opened.export_model(to=opened.exports / "model")
    assert not (tmp_path / "model").exists()


def test_models__copied_and_damaged_runs_are_no_models(workspace: Path) -> None:
    for name, text in (("phase2-001", "torn"), ("phase2-001-copy", '{"state": "done"}')):
        (workspace / "runs" / name).mkdir()
        (workspace / "runs" / name / "status.json").write_text(text)

    with pytest.raises(RunError, match="no phase 2 that is done"):
        find_model(workspace)


def test_export_model__what_the_page_is_told_when_it_fails(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder.create(
        workspace / "runs" / "phase2-001",
        config={
            "kind": "phase2",
            "round": 1,
            "created_at": "2026-01-02T03:04:05+00:00",
            "root": str(tmp_path / "pets"),
            "cache": str(workspace / "cache"),
            "class_names": ["cat", "dog"],
            "prompts": ["cat", "dog"],
            "settings": {},
        },
        samples=pa.table({}),
    )

    with Workspace.open(workspace) as opened:
        folder.set_status("done")  # Its results are not imported any more.
        with pytest.raises(ExportError) as caught:
            opened.export_model(to=opened.exports / "model")
        with pytest.raises(ExportError, match="lies in the workspace"):
            opened.export_model(to=opened.path / "runs" / "model")

    assert caught.value.message.endswith("holds no classifier.")
    assert caught.value.hint.startswith("Give a folder that export-model has written")


def test_predict__replaces_a_file_only_when_forced(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text("mine")

    errors = refused(
        capsys,
        "predict",
        tmp_path / "pets",
        "--workspace",
        workspace,
        "--to",
        tmp_path / "mine.csv",
    )

    assert "mine.csv exists" in errors
    assert (tmp_path / "mine.csv").read_text() == "mine"


@pytest.mark.parametrize(("kind", "model"), [("phase1", "ViT-B-99"), ("phase2", "timm:resnte18")])
def test_a_misspelled_model_is_told_while_the_device_is_taken(
    workspace: Path, capsys: pytest.CaptureFixture[str], kind: str, model: str
) -> None:
    with Workspace.open(workspace) as opened:
        add_scores(opened.store, [0.9, 0.9, 0.9, 0.9])
    other = in_turn(
        iter([Progress(stage="training")]), run=workspace / "other", devices={"cpu": "cpu"}
    )
    with closing(other):
        next(other)
        settings = ("--model", model, "--pretrained", "", "--device", "cpu")

        error = refused(capsys, kind, *settings, "--workspace", workspace)

    assert f'has no model named "{model.removeprefix("timm:")}"' in error


def test_predict__never_writes_over_the_store(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = ("--to", workspace / STORE, "--force")

    errors = refused(capsys, "predict", tmp_path / "pets", "--workspace", workspace, *over)

    assert f"lies in the workspace {workspace}" in errors


# --- help


@pytest.mark.parametrize(("kind", "config"), CONFIGS.items())
def test_help__shows_every_setting_with_its_default(
    kind: str,
    config: type[Config],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")

    with pytest.raises(SystemExit):
        run(kind, "--help")

    shown = capsys.readouterr().out
    for one in fields(config):
        assert f"--{one.name.replace('_', '-')}" in shown
        assert one.metadata["help"] in shown
        assert ", ".join(one.metadata["choices"]) in shown
        assert f"[default: ({one.default})]" in shown


def test_help__is_short_about_the_default_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("status", "--help")

    assert "(data/workspace)" in capsys.readouterr().out

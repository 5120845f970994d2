"""A run's child process with a stage that needs no model: it does what the setting `model` says."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow as pa

from deft_core.errors import DataError
from deft_core.run_folder import Progress, RunFolder
from deft_core.run_process import execute
from deft_core.turns import in_turn


def stage(folder: RunFolder) -> Generator[Progress, None, None]:
    """Follows the script that the run's settings name."""
    settings = folder.config()["settings"]
    yield from in_turn(
        work(folder, script=settings["model"]),
        run=folder.path,
        devices={settings["device"]: settings["device"]},
    )


def work(folder: RunFolder, *, script: str) -> Generator[Progress, None, None]:
    """What the script says."""
    yield Progress(stage="loading", fraction=0.0)
    if script == "user error":
        raise DataError("cat.jpg is gone.", "Put it back.")
    if script == "no room":
        with Path("/dev/full").open("w") as full:
            full.write("a checkpoint")
    if script == "no memory":
        raise MemoryError("cannot allocate 5 GB")
    if script == "bug":
        raise ZeroDivisionError("one by none")
    if script in ("killed", "killed once") and not (folder.path / "cut off").exists():
        if script == "killed once":
            (folder.path / "cut off").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if script == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        yield Progress(stage="deaf", fraction=0.1)
        while True:
            signal.pause()
    try:
        n_reports = 0
        while script == "endless":
            n_reports += 1
            # As a step of a training would take.
            time.sleep(0.01)
            yield Progress(stage="endless", done=n_reports, fraction=0.5, loss=1.0)
    finally:
        (folder.path / "cleaned up").touch()
    yield Progress(stage="training", fraction=0.5, loss=0.5)
    if script != "no results":
        write_results(folder, is_bad=script == "bad scores")
    if script == "torn scores":
        (folder.path / "scores.parquet").write_bytes(b"PAR1")


def write_results(folder: RunFolder, *, is_bad: bool) -> None:
    """The results of a phase 1 that finds every given label as likely as its sample id says."""
    samples = folder.samples()
    given = samples["given_label"].to_numpy()
    n = len(given)
    sims = np.full(n, 0.5, dtype=np.float32)
    scores = {
        "sample_id": samples["sample_id"],
        "p_clean": (np.arange(n) / n + (2 if is_bad else 0)).astype(np.float32),
        "is_clean": np.arange(n) / n > 0.5,
        "pos_sim": sims,
        "neg_sim": sims,
        "margin": sims,
        "mean_gap": sims,
        "mean_margin": sims,
        "predicted_label": pa.array(1 - given, pa.int32()),
        "predicted_pos_sim": sims,
        "predicted_neg_sim": sims,
        "top_labels": [[0, 1]] * n,
        "top_pos_sims": [[0.5, 0.25]] * n,
        "top_neg_sims": [[0.5, 0.25]] * n,
    }
    folder.write_table("scores.parquet", pa.table(scores))
    folder.write_json(
        "report.json",
        {
            "n_scored": n,
            "n_flagged": int((np.arange(n) / n <= 0.5).sum()),
            "unreadable": [],
            "device": "none",
            "seconds": 1.0,
            "curated": samples["curated_label"].to_pylist(),
        },
    )


if __name__ == "__main__":
    execute(RunFolder(Path(sys.argv[-1])), stage)

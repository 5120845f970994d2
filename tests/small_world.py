"""Small data sets, stores and runs that tests share: real files and real DuckDB."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from deft_core import selection
from deft_core.ingest import SAMPLE_SCHEMA
from deft_core.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PATIENCE = 300
"""Seconds after which a test gives up waiting for a process, however busy the machine is."""


class Clock:
    """A clock that goes on by a second each time it is read."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def write_image(path: Path, *, seed: int, size: tuple[int, int] = (12, 8)) -> Path:
    """An image of noise; the format goes by the suffix, the bytes by the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_class_folders(root: Path, *, names: Sequence[str] = ("cat", "dog"), n: int = 2) -> Path:
    """`n` images in a folder for each class."""
    for number, name in enumerate(names):
        for index in range(n):
            write_image(root / name / f"{index}.png", seed=1000 * number + index)
    return root


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder with its digest and the time it was last written."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.lstat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if not path.is_fifo()
    }


def make_store(
    given: Sequence[int],
    *,
    n_classes: int = 3,
    path: Path | str = ":memory:",
    root: Path = Path("/data"),
    splits: Sequence[str] | None = None,
) -> Store:
    """A store with one sample for each given label; there are no files behind them."""
    store = Store(path)
    n = len(given)
    samples = pa.table(
        {
            "sample_id": range(n),
            "file_name": [f"class {label}/{i}.jpg" for i, label in enumerate(given)],
            "sha256": [f"{i:064x}" for i in range(n)],
            "split": splits or ["train"] * n,
            "given_label": given,
            "width": [4] * n,
            "height": [4] * n,
        }
    )
    store.add_dataset(
        root,
        class_names=[f"class {label}" for label in range(n_classes)],
        samples=samples.cast(SAMPLE_SCHEMA),
        report={},
        ingested_at=NOW,
    )
    return store


def standing_labels(store: Store) -> np.ndarray:
    """The reviewed label of each sample where it has one, else the given one."""
    samples = store.samples()
    final = selection.curated_set(samples).final_label
    return np.where(final == selection.NO_LABEL, samples["given_label"].to_numpy(), final)


def add_predictions(
    store: Store,
    predicted: Sequence[int],
    p_predicted: Sequence[float],
    *,
    run_id: str = "phase2-002",
    round: int = 1,
) -> None:
    """What a classifier predicts for samples 0, 1, 2 ..., as an imported phase 2; all that is left
    goes to the label with which the sample stands."""
    n = len(predicted)
    labels, chosen = standing_labels(store)[:n], np.array(predicted)
    p = np.array(p_predicted, dtype=np.float32)
    p_given = np.where(chosen == labels, p, 1 - p)
    predictions = pa.table(
        {
            "sample_id": pa.array(range(n), pa.int32()),
            "scored_label": pa.array(labels, pa.int32()),
            "predicted_label": pa.array(chosen, pa.int32()),
            "p_predicted": p,
            "p_given": p_given,
            "margin": 2 * p_given - 1,
            "is_sure": selection.is_sure(p),
        }
    )
    store.add_run(
        run_id,
        kind="phase2",
        round=round,
        imported_at=NOW,
        settings={},
        report={},
        predictions=predictions,
    )


def add_scores(
    store: Store,
    p_clean: Sequence[float],
    *,
    predicted: Sequence[int] | None = None,
    run_id: str = "phase1-001",
    round: int = 1,
    neighbours: pa.Table | None = None,
    sims: Sequence[tuple[float, float]] | None = None,
    top_labels: Sequence[int] | None = None,
) -> None:
    """Scores of samples 0, 1, 2 ... as an imported phase 1; `sims` are their similarities to the
    positive and to the negative prompt, `top_labels` the classes that each resembles."""
    n = len(p_clean)
    pos_sims, neg_sims = zip(*(sims or [(0.3, 0.2)] * n), strict=True)
    labels = standing_labels(store)[:n]
    chosen = np.array(predicted) if predicted is not None else labels
    suggested = selection.suggested_labels(chosen, labels=labels)
    top = [top_labels or (int(label), 0) for label in chosen]
    scores = pa.table(
        {
            "sample_id": pa.array(range(n), pa.int32()),
            "scored_label": pa.array(labels, pa.int32()),
            "p_clean": pa.array(p_clean, pa.float32()),
            "pos_sim": pa.array(pos_sims, pa.float32()),
            "neg_sim": pa.array(neg_sims, pa.float32()),
            "margin": pa.array([0.1] * n, pa.float32()),
            "mean_gap": pa.array([1.0] * n, pa.float32()),
            "mean_margin": pa.array([1.0] * n, pa.float32()),
            "is_clean": np.array(p_clean, dtype=np.float32) > 0.5,
            "predicted_label": pa.array(chosen, pa.int32()),
            "predicted_pos_sim": pa.array([0.4] * n, pa.float32()),
            "predicted_neg_sim": pa.array([0.1] * n, pa.float32()),
            "suggested_label": pa.array(suggested, pa.int32(), mask=suggested < 0),
            "top_labels": [list(one) for one in top],
            "top_pos_sims": [[0.4, *[0.3] * (len(one) - 1)] for one in top],
            "top_neg_sims": [[0.1, *[0.2] * (len(one) - 1)] for one in top],
        }
    )
    order = selection.queue_order(
        scores["p_clean"].to_numpy(), sample_id=scores["sample_id"].to_numpy()
    )
    scores = scores.take(order).append_column("position", pa.array(range(n), pa.int32()))
    store.add_run(
        run_id,
        kind="phase1",
        round=round,
        imported_at=NOW,
        settings={},
        report={"n_scored": n},
        scores=scores,
        neighbours=neighbours,
    )

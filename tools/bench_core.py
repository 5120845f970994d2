"""Prints how fast images are taken in and how long a reviewer waits for the store.

python tools/bench_core.py [n_samples] [n_images]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from deft_core import selection
from deft_core.decisions import Decision
from deft_core.ingest import SAMPLE_SCHEMA, read_source
from deft_core.review import Review
from deft_core.store import Store

N_CLASSES = 100
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def bench_ingest(folder: Path, *, n_images: int, size: tuple[int, int]) -> None:
    """Reads a folder of smooth random JPEG pictures."""
    rng = np.random.default_rng(0)
    for number in range(n_images):
        path = folder / str(number % 10) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size).save(path, quality=90)
    started = time.perf_counter()
    read_source(folder)
    rate = n_images / (time.perf_counter() - started)
    print(f"ingest {size[0]} x {size[1]} JPEG   {rate:8.0f} images/s")


def bench_review(path: Path, *, n_samples: int) -> None:
    """Times each use case of the review desk; a fifth of the samples are decided already."""
    store = filled_store(path, n_samples=n_samples)
    review = Review(store)
    for start in range(0, n_samples // 5, 1000):
        review.decide(decisions(f"old {start}", range(start, start + 1000)))
    deep = str(n_samples // 4)
    report("queue, first page of 50", lambda _: review.queue())
    report("queue, deep page of 50", lambda _: review.queue(after=deep))
    report("item", lambda i: review.sample(i))
    report("decide 1", lambda i: review.decide(decisions(f"one {i}", [i])))
    report("decide 100", lambda i: review.decide(decisions(f"many {i}", range(i, i + 100))))
    report("undo", lambda i: review.undo(uid=f"undo {i}"))
    report("progress", lambda _: review.progress())
    report("points", lambda _: review.points())
    store.close()
    print(f"{'store':28s}{path.stat().st_size / 1e6:8.1f} MB")


def filled_store(path: Path, *, n_samples: int) -> Store:
    """A store of scored samples with no files behind them; about half are flagged."""
    rng = np.random.default_rng(0)
    given = rng.integers(0, N_CLASSES, n_samples, dtype=np.int32)
    top = np.argsort(rng.random((n_samples, 5)), axis=1).astype(np.int32)
    p_clean = rng.random(n_samples, dtype=np.float32)
    sims = rng.random((n_samples, 5), dtype=np.float32)
    ids = np.arange(n_samples, dtype=np.int32)
    samples = {
        "sample_id": ids,
        "file_name": [f"class {label}/{i:07}.jpg" for i, label in enumerate(given)],
        "sha256": [f"{i:064x}" for i in range(n_samples)],
        "split": ["train"] * n_samples,
        "given_label": given,
        "width": np.full(n_samples, 500),
        "height": np.full(n_samples, 375),
    }
    scores = pa.table(
        {
            "sample_id": ids,
            "p_clean": p_clean,
            "pos_sim": sims[:, 0],
            "neg_sim": sims[:, 1],
            "margin": sims[:, 1],
            "mean_gap": sims[:, 1],
            "mean_margin": sims[:, 1],
            "is_clean": p_clean > 0.5,
            "scored_label": given,
            "predicted_label": top[:, 0],
            "predicted_pos_sim": sims[:, 0],
            "predicted_neg_sim": sims[:, 1],
            "suggested_label": top[:, 0],
            "top_labels": list(top),
            "top_pos_sims": list(sims),
            "top_neg_sims": list(sims),
        }
    ).take(selection.queue_order(p_clean, sample_id=ids))
    store = Store(path)
    store.add_dataset(
        Path("/data"),
        class_names=[f"class {label}" for label in range(N_CLASSES)],
        samples=pa.table(samples).cast(SAMPLE_SCHEMA),
        report={},
        ingested_at=NOW,
    )
    store.add_run(
        "phase1-001",
        kind="phase1",
        round=1,
        imported_at=NOW,
        settings={},
        report={},
        scores=scores.append_column("position", pa.array(ids)),
    )
    return store


def decisions(group: str, sample_ids: range | list[int]) -> list[Decision]:
    """Keep for each sample, to be undone together."""
    return [
        Decision(uid=f"{group}-{i}", group=group, sample_id=i, verdict="keep") for i in sample_ids
    ]


def report(name: str, use: Callable[[int], object], *, n: int = 40) -> None:
    """Prints the median and the 95th percentile of `n` uses."""
    milliseconds = []
    for i in range(n):
        started = time.perf_counter()
        use(i)
        milliseconds.append(1000 * (time.perf_counter() - started))
    median = statistics.median(milliseconds)
    p95 = sorted(milliseconds)[int(0.95 * n)]
    print(f"{name:28s}{median:8.1f} ms   p95 {p95:6.1f} ms")


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    n_samples, n_images = arguments + [100_000, 2_000][len(arguments) :]
    with tempfile.TemporaryDirectory() as scratch:
        bench_ingest(Path(scratch) / "small", n_images=n_images, size=(128, 128))
        bench_ingest(Path(scratch) / "large", n_images=n_images // 4, size=(500, 375))
        bench_review(Path(scratch) / "store.duckdb", n_samples=n_samples)

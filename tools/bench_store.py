"""Prints how fast the store answers at a million samples and as many decisions, and how many
decisions a second it takes from eight clients that decide at once.

python -m tools.bench_store [--samples N] [--seconds S]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deft_core.decisions import Decision
from deft_core.review import Review
from deft_core.store import Filter, Sort, Store
from tools.bench_core import N_CLASSES, decisions, filled_store, report

N_CLIENTS = 8
PAGE = 20


def bench_questions(store: Store, *, n_samples: int) -> None:
    """Times every question of the desk when half of the samples have been decided twice; page and
    count is what a queue asks for: the rows of 50 samples and how many match in all."""
    review = Review(store)
    half = Filter(name="all", given=tuple(range(N_CLASSES // 2)))
    n_half = review.count(half).n_matching
    for verdict in ("keep", "unsure"):
        started = time.perf_counter()
        review.decide_matching(half, uid=f"bulk {verdict}", verdict=verdict, n_expected=n_half)
        seconds = time.perf_counter() - started
        print(f"{f'apply to {n_half:,}':34s}{1000 * seconds:8.0f} ms")
    print(f"{n_samples:,} samples, {store.log.n_events():,} decisions")
    some = tuple(np.random.default_rng(0).choice(n_samples, 10_000, replace=False).tolist())
    filters = {
        "suspects": Filter(),
        "all": Filter(name="all"),
        "disagreements": Filter(name="disagreements"),
        "given and suggested": Filter(given=(70,), suggested=(3, 4)),
        "p_clean from 0.1 to 0.2": Filter(name="all", p_min=0.1, p_max=0.2),
        "verdict and reviewer": Filter(name="all", verdicts=("unsure",), reviewers=("me",)),
        "text in the path": Filter(name="all", text="0077"),
        "10,000 ids of a lasso": Filter(name="all", sample_ids=some),
    }
    for name, wanted in filters.items():
        report(f"page and count: {name}", lambda _, wanted=wanted: review.queue(wanted))
        report(f"count: {name}", lambda _, wanted=wanted: review.count(wanted))
    for sort in ("margin", "random", "class"):
        order = Sort(name=sort, seed=1)
        place = review.queue(sort=order, limit=200).next
        report(
            f"page and count by {sort}",
            lambda _, order=order, place=place: review.queue(sort=order, after=place),
        )
    report("page with leases", lambda _: review.queue(is_leased=True))
    report("confusion of the suspects", lambda _: review.confusion(Filter()))
    report("confusion of all", lambda _: review.confusion(Filter(name="all")))
    report("progress", lambda _: review.progress())
    report("one sample", review.sample)
    report("history of one sample", review.history)
    report("agreement", lambda _: review.agreement(), n=10)
    report("decide 1", lambda i: review.decide(decisions(f"one {i}", [i])))
    report("decide 24", lambda i: review.decide(decisions(f"page {i}", grid(i))))
    report("undo a named group", lambda i: review.undo(uid=f"undo {i}", group=f"page {i}"))
    report("redo", lambda i: review.redo(uid=f"redo {i}", undo=f"undo {39 - i}"))
    report("copy of the store", lambda i: store.copy(name=f"{i}.duckdb"), n=3)
    report("verify", lambda _: store.verify(), n=1)


def grid(page: int) -> range:
    """The sample ids of a page of the grid."""
    return range(1000 + 24 * page, 1000 + 24 * (page + 1))


@dataclass
class Client:
    """One reviewer who leases pages and decides what is on them, one by one."""

    name: str
    review: Review
    milliseconds: list[float] = field(default_factory=list)
    sample_ids: list[int] = field(default_factory=list)

    def work(self, *, until: float) -> None:
        """Decide until the moment on the monotonic clock, or until nothing is left."""
        while time.monotonic() < until:
            page = self.review.queue(limit=PAGE, reviewer=self.name, is_leased=True)
            if not page.samples:
                return
            for sample in page.samples:
                uid = f"{self.name}-{sample.sample_id}"
                decision = Decision(
                    uid=uid, group=uid, sample_id=sample.sample_id, verdict="exclude"
                )
                started = time.perf_counter()
                self.review.decide([decision], reviewer=self.name)
                self.milliseconds.append(1000 * (time.perf_counter() - started))
                self.sample_ids.append(sample.sample_id)


def bench_clients(store: Store, *, seconds: float) -> None:
    """Eight reviewers at once on one store; a sample that two of them got counts as a failure."""
    review = Review(store)
    clients = [Client(name=f"reviewer {number}", review=review) for number in range(N_CLIENTS)]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=client.work, kwargs={"until": until}) for client in clients]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    every = sorted(one for client in clients for one in client.milliseconds)
    ids = [one for client in clients for one in client.sample_ids]
    print(
        f"{N_CLIENTS} clients for {elapsed:.0f} s: {len(ids) / elapsed:.0f} decisions/s, "
        f"median {statistics.median(every):.1f} ms, p95 {every[int(0.95 * len(every))]:.1f} ms, "
        f"{len(ids) - len(set(ids))} handed out twice"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        filled_store(Path(scratch) / "store.duckdb", n_samples=options.samples) as store,
    ):
        bench_questions(store, n_samples=options.samples)
        bench_clients(store, seconds=options.seconds)

"""What the decisions of one round are worth: to the classifier, and to the next round's queue.

    python -m tools.bench_rounds --noise sym:0.2 sym:0.4 --seeds 0 1 2

For each noise and seed a demo set goes through the real application, every run in its own process:
phase 1, truth as the reviewer of the worst 200 of the queue, phase 2, phase 1 again. With
`--mistakes 0.1` the reviewer gets a tenth of the decisions wrong: keeps a wrong label, or replaces
a right one with the suggested label.

First come accuracy and macro F1 on the true test labels after the same training on the given
labels, on what phase 1 selects, and on the curated set. Then what the second round finds: how many
wrong labels round 1 left unflagged, how many of these and of all wrong labels not yet decided each
rule flags, how many samples it flags, and for its new suspects, which round 1 did not flag, how
many there are and which share of them is wrong. "queue" is the rule that the application goes by.
Last come the decisions that get a second look, and how many of the mistakes are among them.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from deft_core.config import Config, Phase1Config, Phase2Config
from deft_core.decisions import Decision
from deft_core.demo import CLASS_NAMES, write_demo
from deft_core.run_folder import RunFolder
from deft_core.store import Filter
from deft_core.workspace import Workspace
from tools.bench_runs import parse_noise, showing_errors

N_DECIDED = 200
N_CLASSES = len(CLASS_NAMES)
UNSURE = (0.1, 0.3, 0.5)
COLUMNS = ("missed", "found", "wrong left", "flagged", "all flagged", "new", "precision")


@dataclass(frozen=True)
class Round:
    """What the training samples are, by row, when the second round begins."""

    is_wrong: np.ndarray
    is_decided: np.ndarray
    was_flagged: np.ndarray


def main() -> None:
    with showing_errors():
        print_tables(parse_arguments())


def print_tables(arguments: argparse.Namespace) -> None:
    """Prints the figures of every noise and seed as they come."""
    print(f"{'noise':>8}{'seed':>5}  {'':<28}", *(f"{name:>11}" for name in COLUMNS))
    for noise in arguments.noise:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                play(Path(scratch), noise=noise, seed=seed, arguments=arguments)


def play(scratch: Path, *, noise: str, seed: int, arguments: argparse.Namespace) -> None:
    """Goes through one round and the beginning of the next, and prints a line for each figure."""
    mode, ratio = parse_noise(noise)
    demo, begin = scratch / "demo", f"{noise:>8}{seed:>5}  "
    write_demo(demo, seed=seed, n_test=arguments.n_test, noise_mode=mode, noise_ratio=ratio)
    Workspace.take_in(scratch / "workspace", demo)
    with Workspace.open(scratch / "workspace") as workspace:
        true = true_labels(workspace)
        run(workspace, "phase1", Phase1Config.from_preset("demo", seed=seed))
        was_flagged = ~of_training(workspace, "is_clean").astype(bool)
        is_mistaken = decide_worst(workspace, true, mistakes=arguments.mistakes, seed=seed)
        adaptation = Phase2Config.from_preset("demo", seed=seed, compares_with="both")
        adapted = run(workspace, "phase2", adaptation)
        for one in adapted.report()["evaluation"]:
            test = one["test"]
            figures = f"{test['accuracy']:>11.3f}{test['macro_f1']:>11.3f}{one['n_train']:>11,}"
            print(f"{begin}{'trained on ' + one['trained_on']:<28}{figures}", flush=True)

        detected = run(workspace, "phase1", Phase1Config.from_preset("demo", seed=seed))
        state = Round(
            is_wrong=of_training(workspace, "given_label") != true[rows_of_training(workspace)],
            is_decided=of_training(workspace, "verdict") != None,  # noqa: E711 - by element.
            was_flagged=was_flagged,
        )
        for name, flagged in rules(workspace, detected, adapted):
            print(f"{begin}{name:<28}", *measure(flagged, state), flush=True)
        print(f"{begin}{second_looks(workspace, is_mistaken)}", flush=True)


def run(workspace: Workspace, kind: str, settings: Config) -> RunFolder:
    """A finished run of the workspace."""
    run_id = workspace.runs.start(kind, settings)
    view = workspace.runs.wait(run_id)
    if view.state != "done":
        raise SystemExit(
            f"{run_id} is {view.state}: {view.error}\n{workspace.runs.log_tail(run_id)}"
        )
    return RunFolder(workspace.path / "runs" / run_id)


def true_labels(workspace: Workspace) -> np.ndarray:
    """The true label of every sample, by sample id."""
    dataset = workspace.dataset
    assert dataset is not None
    with (dataset.root / "truth.csv").open(newline="", encoding="utf-8") as file:
        names = {row["file_name"]: row["true_label"] for row in csv.DictReader(file)}
    files = workspace.store.samples()["file_name"].to_pylist()
    return np.array([dataset.class_names.index(names[one]) for one in files])


def decide_worst(
    workspace: Workspace, true: np.ndarray, *, mistakes: float, seed: int
) -> dict[int, bool]:
    """Truth as the reviewer of the first samples of the queue, but for a share of mistakes; whether
    the decision was one, by sample id."""
    random = np.random.default_rng(seed)
    samples = workspace.review.queue(limit=N_DECIDED).samples
    is_mistaken = {one.sample_id: bool(random.random() < mistakes) for one in samples}
    decisions = []
    for one in samples:
        label = int(true[one.sample_id])
        if is_mistaken[one.sample_id]:
            is_right, others = label == one.given_label, {one.suggested_label} - {None, label}
            label = min(others, default=(label + 1) % N_CLASSES) if is_right else one.given_label
        is_kept = label == one.given_label
        decisions.append(
            Decision(
                uid=f"truth-{one.sample_id}",
                group=f"truth-{one.sample_id}",
                sample_id=one.sample_id,
                verdict="keep" if is_kept else "relabel",
                label=None if is_kept else label,
            )
        )
    workspace.review.decide(decisions, reviewer="truth")
    return is_mistaken


def second_looks(workspace: Workspace, is_mistaken: dict[int, bool]) -> str:
    """How many decisions get a second look, and how many of the mistakes are among them."""
    page = workspace.review.queue(Filter(name="second look"), limit=N_DECIDED)
    n_found = sum(is_mistaken[one.sample_id] for one in page.samples)
    n_mistakes = sum(is_mistaken.values())
    return f"{len(page.samples)} second looks, at {n_found} of {n_mistakes} mistaken decisions"


def rows_of_training(workspace: Workspace) -> np.ndarray:
    return np.flatnonzero(workspace.store.samples()["split"].to_numpy() == "train")


def of_training(workspace: Workspace, column: str) -> np.ndarray:
    """A column of the store's training samples."""
    values = workspace.store.samples()[column].to_numpy()
    return values[rows_of_training(workspace)]


def rules(
    workspace: Workspace, detected: RunFolder, adapted: RunFolder
) -> Iterator[tuple[str, np.ndarray]]:
    """Which training samples each rule would flag in the second round."""
    training = rows_of_training(workspace)
    scores, predictions = read(detected, "scores.parquet"), read(adapted, "predictions.parquet")
    p_clean, mean_margin = (scores[name].to_numpy() for name in ("p_clean", "mean_margin"))
    p_clean, mean_margin = p_clean[training], mean_margin[training]
    p_given = predictions["p_given"].to_numpy()[training]
    yield "queue", ~of_training(workspace, "is_clean").astype(bool)
    yield "phase 1 alone", p_clean <= 0.5
    yield "mean margin alone", mean_margin < 0
    yield "margin of the last state", scores["margin"].to_numpy()[training] < 0
    for limit in UNSURE:
        yield f"classifier below {limit}", p_given < limit
    for limit in UNSURE:
        yield f"phase 1 or that, {limit}", (p_clean <= 0.5) | (p_given < limit)
    ranks = p_clean.argsort().argsort() + p_given.argsort().argsort()
    n_flagged = int((~of_training(workspace, "is_clean").astype(bool)).sum())
    yield "ranks of both, as many", ranks < np.sort(ranks)[n_flagged]


def read(folder: RunFolder, name: str) -> pa.Table:
    """A table of results with one row for every sample, in order of sample id."""
    return folder.read_table(name).sort_by("sample_id")


def measure(is_flagged: np.ndarray, state: Round) -> list[str]:
    """The figures of the columns for the samples that are not decided yet."""
    is_flagged = is_flagged & ~state.is_decided
    is_missed = state.is_wrong & ~state.was_flagged
    is_left = state.is_wrong & ~state.is_decided
    is_new = is_flagged & ~state.was_flagged
    counts = (
        is_missed.sum(),
        (is_flagged & is_missed).sum(),
        is_left.sum(),
        (is_flagged & is_left).sum(),
        is_flagged.sum(),
        is_new.sum(),
    )
    precision = (is_new & state.is_wrong).sum() / max(is_new.sum(), 1)
    return [*(f"{count:>11}" for count in counts), f"{precision:>11.2f}"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise", nargs="+", default=["sym:0.2", "sym:0.4"], metavar="MODE:RATIO")
    parser.add_argument("--n-test", type=int, default=2000, help="test images (default 2000)")
    parser.add_argument("--mistakes", type=float, default=0.0, metavar="SHARE")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""How well phase 1 finds the wrong labels of the demo set.

    python -m tools.bench_detect --seeds 0 1 2 --noise-ratio 0.2

One line a seed: precision and recall of the clean selection, AUROC of 1 - p_clean as a detector of
wrong labels, how often the suggested label is the true one on wrong samples, and, beside it, the F1
of the selection against that of plain zero-shot label matching (a label is clean if it is CLIP's
zero-shot guess).
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch

from deft_core import clip, phase1, selection
from deft_core.config import Phase1Config
from deft_core.demo import write_demo
from deft_core.ingest import Ingested, read_source
from deft_core.run_folder import RunFolder
from deft_core.training import ImageLoader

COLUMNS = ("noise", "seed", "precision", "recall", "F1", "F1 zero-shot", "AUROC", "suggestion", "s")


@dataclass(frozen=True)
class Truth:
    """Given and true labels of the training samples, by row of the samples' table."""

    given: np.ndarray
    true: np.ndarray

    @property
    def is_clean(self) -> np.ndarray:
        return self.given == self.true


def main() -> None:
    arguments = parse_arguments()
    print(("{:>13}" * len(COLUMNS)).format(*COLUMNS), flush=True)
    for ratio in arguments.noise_ratio:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                row = measure(Path(scratch), arguments.noise_mode, ratio, seed, arguments.settings)
            noise = f"{arguments.noise_mode} {ratio:.0%}"
            print(f"{noise:>13}{seed:>13}", *(f"{value:>12.3f}" for value in row), flush=True)


def measure(
    scratch: Path, mode: str, ratio: float, seed: int, changes: list[str]
) -> tuple[float, ...]:
    """The figures of one demo set."""
    demo = scratch / "demo"
    write_demo(demo, seed=seed, noise_mode=mode, noise_ratio=ratio)
    data = read_source(demo)
    is_train = pc.equal(data.samples["split"], "train")
    data = replace(data, samples=data.samples.filter(is_train))
    truth = read_truth(data)
    settings = Phase1Config.from_preset("demo", seed=seed, **parse_changes(changes))

    started = time.monotonic()
    folder = RunFolder.create(scratch / "run", config=task(data, settings), samples=data.samples)
    for _ in phase1.run(folder):
        pass
    seconds = time.monotonic() - started
    scores = folder.read_table("scores.parquet")
    p_clean = scores["p_clean"].to_numpy()
    is_clean = selection.is_clean(p_clean)
    suggested = scores["predicted_label"].to_numpy()[~truth.is_clean]
    matches = zero_shot_guess(demo, data, settings) == truth.given
    precision, recall, f1 = clean_selection(is_clean, truth.is_clean)
    return (
        precision,
        recall,
        f1,
        clean_selection(matches, truth.is_clean)[2],
        auroc(1 - p_clean, ~truth.is_clean),
        float((suggested == truth.true[~truth.is_clean]).mean()),
        seconds,
    )


def read_truth(data: Ingested) -> Truth:
    with (data.root / "truth.csv").open(newline="", encoding="utf-8") as file:
        names = {row["file_name"]: row["true_label"] for row in csv.DictReader(file)}
    true = [data.class_names.index(names[one]) for one in data.samples["file_name"].to_pylist()]
    return Truth(given=data.samples["given_label"].to_numpy(), true=np.array(true))


def task(data: Ingested, settings: Phase1Config) -> dict[str, object]:
    return {
        "kind": "phase1",
        "round": 1,
        "created_at": datetime.now(UTC).isoformat(),
        "root": str(data.root),
        "class_names": list(data.class_names),
        "settings": settings.to_json(),
    }


@torch.no_grad()
def zero_shot_guess(root: Path, data: Ingested, settings: Phase1Config) -> np.ndarray:
    """The class whose prompt "a drawing of a ..." is nearest, per sample."""
    model = clip.load(settings.model, settings.pretrained)
    text = model.encode_text([f"a drawing of a {name}." for name in data.class_names])
    loader = ImageLoader(
        root,
        data.samples["file_name"].to_pylist(),
        image_size=model.image_size,
        batch_size=settings.batch_size,
        seed=0,
        device=torch.device("cpu"),
    )
    guesses = [(model.encode_image(batch.images) @ text.T).argmax(1) for batch in loader.in_order()]
    return torch.cat(guesses).numpy()


def clean_selection(selected: np.ndarray, is_clean: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of a selection of clean samples."""
    hits = float(np.sum(selected & is_clean))
    precision, recall = hits / max(selected.sum(), 1), hits / max(is_clean.sum(), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def auroc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative; ties count half."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    midranks = (ends - (counts - 1) / 2)[ranks]
    n_positive, n_negative = is_positive.sum(), (~is_positive).sum()
    area = midranks[is_positive].sum() - n_positive * (n_positive + 1) / 2
    return float(area / (n_positive * n_negative))


def parse_changes(pairs: list[str]) -> dict[str, object]:
    """`name=value` pairs with numbers and true or false read as such."""
    split = (pair.split("=", 1) for pair in pairs)
    return {name: value if is_text(name) else json.loads(value) for name, value in split}


def is_text(name: str) -> bool:
    return isinstance(Phase1Config().to_json().get(name, ""), str)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise-mode", default="sym")
    parser.add_argument("--noise-ratio", type=float, nargs="+", default=[0.2])
    parser.add_argument(
        "--set",
        dest="settings",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="settings of phase 1 to change from the demo preset",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()

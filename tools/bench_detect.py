"""How well phase 1 and other detectors find wrong labels whose truth is known.

    python -m tools.bench_detect --noise sym:0.2 sym:0.4 pair:0.2 idn:0.3 --seeds 0 1 2
    python -m tools.bench_detect --data FOLDER --set model=ViT-B-16 pretrained=openai

Without --data a demo set is drawn for each noise and seed; FOLDER is a data set with a truth.csv
(file_name, true_label). One line a detector: precision, recall and F1 of what it selects as clean,
AUROC and average precision of its score as a detector of wrong labels, and how often its suggested
label is the true one on wrong samples. `DeFT` is the paper's clean probability of the last state;
`mean gap` and `mean margin` average pos_y - neg_y and the margin of the positive prompts over the
epochs of the same run; `fast` trains the prompts alone, with the preset demo-fast. Zero-shot means
the prompts "a photo of a" and "a drawing of a" without training.
"""

from __future__ import annotations

import argparse
import csv
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow.compute as pc
import torch
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, roc_auc_score

from deft_core import phase1
from deft_core.config import Phase1Config
from deft_core.demo import write_demo
from deft_core.errors import DataError
from deft_core.ingest import Ingested, read_source
from deft_core.loading import n_cores
from deft_core.noise import MODES
from deft_core.prompts import default_prompt
from deft_core.run_folder import RunFolder
from tools import baselines
from tools.baselines import Detected
from tools.bench_runs import new_run, parse_changes, parse_noise, showing_errors

COLUMNS = ("precision", "recall", "F1", "AUROC", "AP", "suggestion", "seconds")
TEMPLATES = ("a photo of a {}.", "a drawing of a {}.")
EPOCHS_OF_SMALL_LOSS = 2
TRUTH_HINT = "Expected one line for each training image with the columns file_name and true_label."


@dataclass(frozen=True)
class Benchmark:
    """The training samples of a data set with their given and true labels, by row."""

    name: str
    data: Ingested
    true: np.ndarray

    @property
    def given(self) -> np.ndarray:
        return self.data.samples["given_label"].to_numpy()


def main() -> None:
    with showing_errors():
        print_table(parse_arguments())


def print_table(arguments: argparse.Namespace) -> None:
    """Prints the figures of every detector as they come."""
    changes = parse_changes(arguments.settings, Phase1Config)
    print(f"# {platform.processor() or platform.machine()}, {n_cores()} cores, {describe_gpu()}")
    print(f"{'noise':>10}{'seed':>6}  {'detector':<20}", *(f"{name:>11}" for name in COLUMNS))
    for seed in arguments.seeds:
        for noise in [arguments.data] if arguments.data else arguments.noise:
            with tempfile.TemporaryDirectory() as scratch:
                benchmark = read_benchmark(noise, seed=seed, scratch=Path(scratch))
                for detector, detected, seconds in detect(benchmark, seed, changes, Path(scratch)):
                    figures = [*measure(detected, benchmark), seconds]
                    print(
                        f"{benchmark.name:>10}{seed:>6}  {detector:<20}",
                        *(f"{figure:>11.3f}" for figure in figures[:-1]),
                        f"{seconds:>11.0f}",
                        flush=True,
                    )


def describe_gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def read_benchmark(noise: str | Path, *, seed: int, scratch: Path) -> Benchmark:
    """The data set in a folder, or a new demo set with noise such as "sym:0.2".

    DataError when its truth is not known, or no label is wrong.
    """
    root = scratch / "demo"
    if isinstance(noise, str):
        mode, ratio = parse_noise(noise)
        write_demo(root, seed=seed, n_test=0, noise_mode=mode, noise_ratio=ratio)
    else:
        root = noise
    data = read_source(root)
    is_train = pc.equal(data.samples["split"], "train")
    data = replace(data, samples=data.samples.filter(is_train))
    benchmark = Benchmark(str(noise).rpartition("/")[2], data, read_truth(data))
    if (benchmark.given == benchmark.true).all():
        raise DataError(
            f"No label of {benchmark.name} is wrong: there is nothing to detect.",
            "Choose a ratio above 0, or a data set with wrong labels.",
        )
    return benchmark


def read_truth(data: Ingested) -> np.ndarray:
    """The true label of each sample from the data set's truth.csv."""
    path = data.root / "truth.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            names = {row["file_name"]: row["true_label"] for row in csv.DictReader(file)}
    except FileNotFoundError as error:
        raise DataError(f"{data.root} has no truth.csv.", TRUTH_HINT) from error
    except KeyError as error:
        raise DataError(f"{path} has no column {error}.", TRUTH_HINT) from error
    label_of = {name: label for label, name in enumerate(data.class_names)}
    files = data.samples["file_name"].to_pylist()
    unknown = [one for one in files if names.get(one) not in label_of]
    if unknown:
        raise DataError(f"{path} names no class of {unknown[0]} that exists.", TRUTH_HINT)
    return np.array([label_of[names[one]] for one in files])


def detect(
    benchmark: Benchmark, seed: int, changes: dict[str, object], scratch: Path
) -> Iterator[tuple[str, Detected, float]]:
    """Every detector's name, what it says, and how long it took."""
    settings = Phase1Config.from_preset("demo", seed=seed, **changes)
    given = benchmark.given

    run, seconds = work(benchmark, settings, scratch)
    scores = run.read_table("scores.parquet")
    predicted = scores["predicted_label"].to_numpy()
    for name, column, threshold in (
        ("DeFT", "p_clean", 0.5),
        ("DeFT, mean gap", "mean_gap", 0.0),
        ("DeFT, mean margin", "mean_margin", 0.0),
        ("DeFT, last margin", "margin", 0.0),
    ):
        score = scores[column].to_numpy()
        yield name, Detected(score, score > threshold, predicted), seconds

    fast = Phase1Config.from_preset("demo-fast", seed=seed, **changes)
    run, seconds = work(benchmark, replace(fast, image_side="none"), scratch)
    scores = run.read_table("scores.parquet")
    score, predicted = scores["p_clean"].to_numpy(), scores["predicted_label"].to_numpy()
    yield "DeFT fast", Detected(score, score > 0.5, predicted), seconds
    logits, features = zero_shot(run, benchmark, settings)
    yield "zero-shot match", baselines.label_match(logits, given), 0
    yield "zero-shot margin", baselines.margin(logits, given), 0
    started = time.monotonic()
    learned = baselines.confident_learning(features, given)
    yield "confident learning", learned, time.monotonic() - started

    epochs = EPOCHS_OF_SMALL_LOSS
    warm = replace(settings, epochs=epochs, warmup_epochs=epochs)
    run, seconds = work(benchmark, warm, scratch)
    yield "small loss", baselines.small_loss(trained_logits(run, benchmark, warm), given), seconds


def work(benchmark: Benchmark, settings: Phase1Config, scratch: Path) -> tuple[RunFolder, float]:
    """A finished phase 1 on the benchmark's samples, and its seconds; DataError when it could not
    read one of them."""
    run = new_run(
        scratch / f"run-{uuid4().hex}",
        settings,
        root=benchmark.data.root,
        class_names=benchmark.data.class_names,
        samples=benchmark.data.samples,
    )
    started = time.monotonic()
    for _ in phase1.run(run):
        pass
    for one in run.report()["unreadable"]:
        raise DataError(
            f"{one['file_name']} cannot be read: {one['problem']}", "Take it out of the data set."
        )
    return run, time.monotonic() - started


@torch.no_grad()
def zero_shot(
    run: RunFolder, benchmark: Benchmark, settings: Phase1Config
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the untrained model and the image features that it was asked with."""
    names = list(map(default_prompt, benchmark.data.class_names))
    detector = phase1.build_detector(settings, names)
    features = np.load(run.path / "features.npy").astype(np.float32)
    texts = [detector.clip.encode_text([one.format(name) for name in names]) for one in TEMPLATES]
    text = torch.nn.functional.normalize(sum(texts), dim=-1)
    scale = detector.clip.logit_scale.item()
    return scale * features @ text.numpy().T, features


@torch.no_grad()
def trained_logits(run: RunFolder, benchmark: Benchmark, settings: Phase1Config) -> np.ndarray:
    """Positive logits of every sample after a run, from its features and its prompts."""
    prompts = list(map(default_prompt, benchmark.data.class_names))
    detector = phase1.build_detector(settings, prompts)
    detector.load_state_dict(load_file(run.path / "detector.safetensors"), strict=False)
    features = torch.from_numpy(np.load(run.path / "features.npy").astype(np.float32))
    return detector.compare(features, detector.text_features()).pos.numpy()


def measure(detected: Detected, benchmark: Benchmark) -> tuple[float, ...]:
    """The figures of the columns, without the seconds."""
    is_right = benchmark.given == benchmark.true
    hits = float((detected.is_clean & is_right).sum())
    precision, recall = hits / max(detected.is_clean.sum(), 1), hits / is_right.sum()
    return (
        precision,
        recall,
        2 * precision * recall / max(precision + recall, 1e-9),
        float(roc_auc_score(~is_right, -detected.score)),
        float(average_precision_score(~is_right, -detected.score)),
        float((detected.suggested == benchmark.true)[~is_right].mean()),
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--noise", nargs="+", default=["sym:0.2"], metavar="MODE:RATIO", help=", ".join(MODES)
    )
    parser.add_argument("--data", type=Path, help="a data set with a truth.csv")
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

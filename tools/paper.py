"""The paper's tables again: detection and adaptation on its seven data sets, one command each.

    python -m tools.paper cifar-100 --data cifar-100-python --to results
    python -m tools.paper cifar-100 --data cifar-100-python --to results --noise idn-raw:0.4
    python -m tools.paper clothing1m --data Clothing1M --to results

DATA is a folder as it was published; a wrong one is told what it must hold. Images stay where they
are and are only read; the pixels of CIFAR-100 become PNG files in the folder of --to. There, each
row of a table gets a folder of its own: labels.csv with the given labels, truth.csv with the true
ones, which no run sees, and a workspace, which the application can open. The same command again
goes on where it was cut off, with the settings it began with.

One line a row: precision, recall and F1 of what phase 1 selects as clean, in percent of the
training images whose true label is known, and the test accuracy of phase 2; behind them what the
paper (Wei et al., NeurIPS 2024) reports for real noise. `sym-all` and `idn-raw` make noise as the
published reference does.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from deft_core import noise
from deft_core.config import Config, Phase1Config, Phase2Config
from deft_core.errors import ConfigError, DataError, RunError
from deft_core.pictures import open_picture
from deft_core.prompts import read_prompts
from deft_core.run_folder import UNFINISHED, RunFolder
from deft_core.runs import RESUMABLE, Runs, RunView
from deft_core.terminal import ProgressLine
from deft_core.whole_files import writing_whole_folder
from deft_core.workspace import Workspace, is_workspace
from tools import paper_data
from tools.bench_runs import parse_changes, parse_noise, showing_errors
from tools.paper_data import Loader, PaperData, Picture

SYNTHETIC = tuple(
    f"{mode}:{ratio}"
    for mode, ratios in (("sym-all", (0.2, 0.4, 0.6)), ("idn-raw", (0.2, 0.3, 0.4)))
    for ratio in ratios
)
GIVEN = "given"
"""In the place of noise: the labels stay as they come."""

COLUMNS = ("precision", "recall", "F1", "accuracy")


@dataclass(frozen=True, kw_only=True)
class Table:
    """How the paper treats a data set, and what it came to.

    Instance-dependent noise looks at pictures of `side` pixels. Of more than `most_train` training
    images, as many are drawn, the same number of each class while they last.
    """

    load: Loader
    preset: str = "paper"
    phase1: Mapping[str, Any] = field(default_factory=dict)
    noise: tuple[str, ...] = SYNTHETIC
    side: int = 64
    most_train: int | None = None
    published: Mapping[str, float] = field(default_factory=dict)


TABLES: Mapping[str, Table] = {
    "cifar-100": Table(load=paper_data.load_cifar_100, side=32),
    "tiny-imagenet": Table(load=paper_data.load_tiny_imagenet),
    "stanford-cars": Table(load=paper_data.load_stanford_cars),
    "cub-200-2011": Table(load=paper_data.load_cub_200),
    "cifar-100n": Table(
        load=paper_data.load_cifar_100n,
        preset="paper-real-noise",
        noise=(GIVEN,),
        published={"precision": 88.43, "accuracy": 79.04},
    ),
    "clothing1m": Table(
        load=paper_data.load_clothing1m,
        preset="paper-real-noise",
        phase1={"batch_size": 32},
        noise=(GIVEN,),
        most_train=32_000,
        published={"accuracy": 72.44},
    ),
    "webvision": Table(
        load=paper_data.load_webvision,
        preset="paper-real-noise",
        noise=(GIVEN,),
        published={"accuracy": 85.12},
    ),
}


def main() -> None:
    with showing_errors():
        print_table(parse_arguments())


def print_table(arguments: argparse.Namespace) -> None:
    """Prints a row for each noise as it comes."""
    table = TABLES[arguments.dataset]
    phase1 = parse_changes(arguments.phase1, Phase1Config)
    phase2 = parse_changes(arguments.phase2, Phase2Config)
    settings = (
        Phase1Config.from_preset(
            table.preset, **{**table.phase1, "seed": arguments.seed, **phase1}
        ),
        Phase2Config.from_preset(
            arguments.backbone or table.preset,
            **{"compares_with": "none", "seed": arguments.seed, **phase2},
        ),
    )
    data = table.load(arguments.data, arguments.to / f"{arguments.dataset}-pictures")
    data = balanced_part(data, most_train=table.most_train, seed=arguments.seed)
    print(f"{'noise':>12}{'seed':>6}", *(f"{name:>11}" for name in COLUMNS), "  paper")
    for kind in arguments.noise or table.noise:
        folder = arguments.to / f"{arguments.dataset}-{kind.replace(':', '-')}-{arguments.seed}"
        figures = work(
            folder,
            lambda kind=kind: with_noise(data, kind, side=table.side, seed=arguments.seed),
            root=data.root,
            settings=settings,
            prompts=read_prompts(arguments.prompts) if arguments.prompts else {},
        )
        row = (f"{figures[name]:>11.2f}" if name in figures else f"{'-':>11}" for name in COLUMNS)
        paper = ", ".join(f"{name} {value}" for name, value in table.published.items())
        print(f"{kind:>12}{arguments.seed:>6}", *row, f"  {paper}", flush=True)


def balanced_part(data: PaperData, *, most_train: int | None, seed: int) -> PaperData:
    """The data with at most `most_train` training images, drawn at random, of each class as many
    while they last."""
    train = [one for one in data.pictures if one.split == "train"]
    if most_train is None or len(train) <= most_train:
        return data
    order = np.random.default_rng(seed).permutation(len(train))
    n_of_class: dict[int, int] = {}
    ranks = {}
    for i in order:
        n_of_class[train[i].given] = ranks[i] = n_of_class.get(train[i].given, 0) + 1
    chosen = sorted(sorted(order, key=lambda i: ranks[i])[:most_train])
    others = tuple(one for one in data.pictures if one.split != "train")
    return replace(data, pictures=tuple(train[i] for i in chosen) + others)


def with_noise(data: PaperData, kind: str, *, side: int, seed: int) -> PaperData:
    """The data with synthetic noise such as "sym:0.2" in its training labels."""
    if kind == GIVEN:
        return data
    mode, ratio = parse_noise(kind)
    train = [one for one in data.pictures if one.split == "train"]
    pixels = small_pixels(data.root, train, side=side) if mode.startswith("idn") else np.empty(0)
    noisy, _ = noise.add_noise(
        np.array([one.given for one in train]),
        len(data.class_names),
        mode=mode,
        ratio=ratio,
        pixels=pixels,
        rng=np.random.default_rng(seed),
    )
    changed = [replace(one, given=int(label)) for one, label in zip(train, noisy, strict=True)]
    others = [one for one in data.pictures if one.split != "train"]
    return replace(data, pictures=(*changed, *others))


def small_pixels(root: Path, pictures: Sequence[Picture], *, side: int) -> np.ndarray:
    """Red, green and blue of each picture at `side` by `side` pixels, uint8 (n, 3 side²); black for
    what cannot be read, which the workspace will report."""
    found = np.zeros((len(pictures), side * side * 3), np.uint8)

    def read(row: int) -> None:
        with suppress(DataError):
            picture = open_picture(root / pictures[row].file_name, at_least=side)
            found[row] = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR)).ravel()

    with ThreadPoolExecutor() as pool, ProgressLine(sys.stderr) as line:
        show = line.counting("reading")
        for row, _ in enumerate(pool.map(read, range(len(pictures)))):
            show(row + 1, len(pictures))
    return found


def work(
    folder: Path,
    label: Callable[[], PaperData],
    *,
    root: Path,
    settings: tuple[Phase1Config, Phase2Config],
    prompts: Mapping[str, str],
) -> dict[str, float]:
    """The figures of a row, whose folder is made by `label` or there already."""
    labels, place = folder / "labels", folder / "workspace"
    if not labels.exists():
        with writing_whole_folder(labels) as written:
            write_tables(written, label())
    if not is_workspace(place):
        with ProgressLine(sys.stderr) as line:
            on_progress = line.counting("taking in")
            Workspace.take_in(place, labels / "labels.csv", root=root, on_progress=on_progress)
    with Workspace.open(place) as workspace:
        workspace.set_prompts(prompts)
        detected, adapted = (
            finish(workspace.runs, kind, one)
            for kind, one in zip(("phase1", "phase2"), settings, strict=True)
        )
        samples = workspace.store.samples()
    scores = RunFolder(place / "runs" / detected.run_id).read_table("scores.parquet")
    train = samples.filter(pc.equal(samples["split"], "train"))
    scored = train.select(["sample_id", "file_name"]).join(
        scores.select(["sample_id", "is_clean"]), "sample_id", join_type="inner"
    )
    selected = dict(
        zip(scored["file_name"].to_pylist(), scored["is_clean"].to_pylist(), strict=True)
    )
    figures = measure(selected, labels)
    evaluation = {one["trained_on"]: one["test"] for one in (adapted.report or {})["evaluation"]}
    test = evaluation["curated"]
    return {**figures, "accuracy": 100 * test["accuracy"]} if test else figures


def write_tables(folder: Path, data: PaperData) -> None:
    """Writes what ingest reads, and the truth apart from it."""
    names = data.class_names
    given = [(one.file_name, one.split, names[one.given]) for one in data.pictures]
    true = [(one.file_name, names[one.true]) for one in data.pictures if one.true is not None]
    for file_name, header, rows in (
        ("labels.csv", ("file_name", "split", "label"), given),
        ("truth.csv", ("file_name", "true_label"), true),
    ):
        with (folder / file_name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def finish(runs: Runs, kind: str, settings: Config) -> RunView:
    """A finished run of this kind: the one that is there or at work, one that goes on, or a new
    one. ConfigError when there is one with other settings: its figures are not these."""
    known = [view for view in runs.list() if view.kind == kind and view.state != "failed"]
    for view in known:
        if view.settings != settings.to_json():
            raise ConfigError(
                f"{view.run_id} was made with other settings, and the folder holds one row.",
                "Give another folder with --to.",
            )
    done = [view for view in known if view.state == "done"]
    if done:
        return done[0]
    if known and known[0].state in (*UNFINISHED, *RESUMABLE):
        run_id = known[0].run_id
        if known[0].is_finished:
            runs.resume(run_id)
    else:
        run_id = runs.start(kind, settings)
    with ProgressLine(sys.stderr) as line:
        view = runs.wait(run_id, line.show)
    if view.state != "done":
        raise RunError(f"{run_id} {view.state}: {view.error}", view.hint)
    return view


def measure(selected: Mapping[str, bool], labels: Path) -> dict[str, float]:
    """Precision, recall and F1 of the selection in percent, over the files whose truth is known;
    nothing where no truth is."""
    given, true = (
        dict(read_columns(labels / name, "file_name", column))
        for name, column in (("labels.csv", "label"), ("truth.csv", "true_label"))
    )
    known = [file for file in selected if file in true]
    if not known:
        return {}
    is_clean = np.array([selected[file] for file in known])
    is_right = np.array([given[file] == true[file] for file in known])
    hits = float((is_clean & is_right).sum())
    precision, recall = hits / max(is_clean.sum(), 1), hits / max(is_right.sum(), 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"precision": 100 * precision, "recall": 100 * recall, "F1": 100 * f1}


def read_columns(path: Path, first: str, second: str) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row[first], row[second]) for row in csv.DictReader(file)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", choices=TABLES)
    parser.add_argument("--data", type=Path, required=True, help="the data set as published")
    parser.add_argument("--to", type=Path, required=True, help="where labels and runs are kept")
    parser.add_argument(
        "--noise",
        nargs="+",
        metavar="MODE:RATIO",
        help=f"instead of the paper's: {', '.join(noise.MODES)}, or {GIVEN} for the labels as they "
        "come",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--prompts", type=Path, help="CSV file with the columns class,prompt, for better words"
    )
    parser.add_argument(
        "--backbone",
        choices=Phase2Config.presets,
        metavar="PRESET",
        help="preset of phase 2 instead of the data set's: " + ", ".join(Phase2Config.presets),
    )
    for phase in ("phase1", "phase2"):
        parser.add_argument(
            f"--{phase}",
            nargs="*",
            default=[],
            metavar="NAME=VALUE",
            help=f"settings of {phase} to change from the paper's",
        )
    return parser.parse_args()


if __name__ == "__main__":
    main()

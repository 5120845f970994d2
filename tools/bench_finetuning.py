"""Which way of fine-tuning suffers least from wrong labels: the comparison of DeFT's first figure.

    python -m tools.bench_finetuning --noise sym:0.0 sym:0.2 sym:0.4 --seeds 0

Full fine-tuning and visual prompts with a linear head, and visual prompts with the text encoder as
the classifier, all trained on the given labels. One line each: accuracy on test images whose labels
are right.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from deft_core import phase2
from deft_core.config import Phase2Config
from deft_core.demo import write_demo
from deft_core.ingest import Ingested, read_source
from tools.bench_runs import new_run, parse_noise, showing_errors

WAYS = {
    "full, linear head": {"image_side": "all", "head": "linear", "learning_rate": 0.004},
    "linear probe": {"image_side": "none", "head": "linear", "learning_rate": 0.1},
    "VPT, linear head": {"image_side": "vpt-deep", "head": "linear", "learning_rate": 0.1},
    "VPT, text classifier": {"image_side": "vpt-deep", "head": "text", "learning_rate": 0.1},
}


def main() -> None:
    with showing_errors():
        print_table(parse_arguments())


def print_table(arguments: argparse.Namespace) -> None:
    """Prints the figures of every way of fine-tuning as they come."""
    print(f"{'noise':>10}{'seed':>6}  {'fine-tuning':<22}{'accuracy':>10}{'macro F1':>10}")
    for noise in arguments.noise:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                mode, ratio = parse_noise(noise)
                demo = Path(scratch) / "demo"
                write_demo(demo, seed=seed, noise_mode=mode, noise_ratio=ratio)
                data = read_source(demo)
                for way, changes in WAYS.items():
                    settings = Phase2Config.from_preset(
                        "demo", seed=seed, vpt_tokens=4, compares_with="none", **changes
                    )
                    test = work(data, settings, Path(scratch) / way)
                    figures = f"{test['accuracy']:>10.3f}{test['macro_f1']:>10.3f}"
                    print(f"{noise:>10}{seed:>6}  {way:<22}{figures}", flush=True)


def work(data: Ingested, settings: Phase2Config, path: Path) -> dict[str, Any]:
    """The test of a phase 2 that believes every given label."""
    run = new_run(
        path, settings, root=data.root, class_names=data.class_names, samples=data.samples
    )
    for _ in phase2.run(run):
        pass
    (entry,) = run.read_json("report.json")["evaluation"]
    return entry["test"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--noise", nargs="+", default=["sym:0.0", "sym:0.2", "sym:0.4"], metavar="MODE:RATIO"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()

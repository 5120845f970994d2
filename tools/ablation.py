"""Is adaptation necessary, and how much should learn? The ablation of the paper, on demo sets.

    python -m tools.ablation --noise sym:0.2 sym:0.4 --seeds 0 1 2

Accuracy on test images whose labels are right: without adaptation (zero-shot, and the positive
prompts of phase 1), with little of the model fine-tuned (linear probe, visual prompts), and with
all of it; each trained on the given labels and on those that phase 1 selected as clean.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deft_core import phase1, phase2, zero_shot
from deft_core.config import Phase1Config, Phase2Config
from deft_core.demo import write_demo
from deft_core.ingest import Ingested, read_source
from deft_core.presets import DEMO_MODEL
from deft_core.prompts import default_prompt
from deft_core.run_folder import RunFolder
from tools.bench_runs import new_run, parse_noise, showing_errors

WAYS = {
    "linear probe": {"image_side": "none", "head": "linear", "learning_rate": 0.1},
    "VPT, linear head": {"image_side": "vpt-deep", "head": "linear", "learning_rate": 0.1},
    "VPT, text classifier": {"image_side": "vpt-deep", "head": "text", "learning_rate": 0.1},
    "full, linear head": {"image_side": "all", "head": "linear", "learning_rate": 0.004},
}


def main() -> None:
    with showing_errors():
        print_table(parse_arguments())


def print_table(arguments: argparse.Namespace) -> None:
    """Prints the figures of every way as they come."""
    print(f"{'noise':>10}{'seed':>6}  {'what learns':<28}{'on given':>10}{'on selected':>13}")
    for noise in arguments.noise:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                demo = Path(scratch) / "demo"
                mode, ratio = parse_noise(noise)
                write_demo(
                    demo,
                    seed=seed,
                    n_train=arguments.n_train,
                    noise_mode=mode,
                    noise_ratio=ratio,
                )
                data = read_source(demo)
                start = f"{noise:>10}{seed:>6}"
                detected = detect(data, Path(scratch) / "phase1", seed=seed)
                nothing = zero_shot_accuracy(data, cache=Path(scratch) / "cache")
                print(f"{start}  {'nothing: zero-shot':<28}{nothing:>10.3f}", flush=True)
                prompts = prompts_accuracy(detected)
                print(f"{start}  {'phase 1 alone':<28}{'':>10}{prompts:>13.3f}", flush=True)
                for way, changes in WAYS.items():
                    settings = Phase2Config.from_preset("demo", seed=seed, vpt_tokens=4, **changes)
                    given, selected = adapt(data, detected, settings, Path(scratch) / way)
                    print(f"{start}  {way:<28}{given:>10.3f}{selected:>13.3f}", flush=True)


def detect(data: Ingested, path: Path, *, seed: int) -> RunFolder:
    """A finished phase 1."""
    settings = Phase1Config.from_preset("demo", seed=seed)
    run = new_run(
        path, settings, root=data.root, class_names=data.class_names, samples=data.samples
    )
    for _ in phase1.run(run):
        pass
    return run


def zero_shot_accuracy(data: Ingested, *, cache: Path) -> float:
    """How often the nearest "a photo of a ..." is that of the label of a test image."""
    test = data.samples.filter(pc.equal(data.samples["split"], "test"))
    return zero_shot.preview(
        data.root,
        test,
        prompts=list(map(default_prompt, data.class_names)),
        model=DEMO_MODEL,
        pretrained="",
        cache=cache,
    ).accuracy


def prompts_accuracy(detected: RunFolder) -> float:
    """How often the nearest positive prompt of phase 1 is that of the label of a test image."""
    scores = detected.read_table("scores.parquet").select(["sample_id", "predicted_label"])
    scored = detected.samples().join(scores, "sample_id")
    test = scored.filter(pc.equal(scored["split"], "test"))
    return float((test["predicted_label"].to_numpy() == test["given_label"].to_numpy()).mean())


def adapt(
    data: Ingested, detected: RunFolder, settings: Phase2Config, path: Path
) -> tuple[float, float]:
    """Test accuracies of phase 2 on all given labels and on those that phase 1 selected."""
    run = new_run(
        path, settings, root=data.root, class_names=data.class_names, samples=data.samples
    )
    run.write_table("samples.parquet", selected_alone(run.samples(), detected))
    for _ in phase2.run(run):
        pass
    given, selected = run.report()["evaluation"]
    return given["test"]["accuracy"], selected["test"]["accuracy"]


def selected_alone(samples: pa.Table, detected: RunFolder) -> pa.Table:
    """The samples with a curated label on those alone that phase 1 found clean."""
    scores = detected.read_table("scores.parquet")
    clean = scores.filter(scores["is_clean"])["sample_id"]
    is_clean = pc.is_in(samples["sample_id"], clean.combine_chunks())
    curated = pc.if_else(is_clean, samples["curated_label"], None)
    column = samples.schema.get_field_index("curated_label")
    return samples.set_column(column, "curated_label", curated)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--noise", nargs="+", default=["sym:0.2", "sym:0.4"], metavar="MODE:RATIO")
    parser.add_argument("--n-train", type=int, default=1600, help="training pictures")
    return parser.parse_args()


if __name__ == "__main__":
    main()

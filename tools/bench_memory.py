"""Whether scoring needs more memory for more samples.

    python -m tools.bench_memory --n 2000 100000

Each number of samples, links to the pictures of a small demo set, is scored with the untrained demo
model in a process of its own. Prints images per second and the peak memory of that process and of
its largest worker, which decodes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from deft_core import phase1
from deft_core.config import Phase1Config
from deft_core.demo import CLASS_NAMES, write_demo
from deft_core.engine import Engine
from deft_core.run_folder import RunFolder
from deft_core.training import Meter, open_images
from tools.bench_runs import new_run

N_PICTURES = 64


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        print(json.dumps(score(arguments.n[0])))
        return
    print(f"{'samples':>10}{'images/s':>10}{'peak MiB':>10}{'worker MiB':>12}")
    for n in arguments.n:
        command = [sys.executable, "-m", "tools.bench_memory", "--worker", "--n", str(n)]
        child = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(child.stdout.splitlines()[-1])
        print(f"{n:>10,}{found['rate']:>10.0f}{found['peak']:>10.0f}{found['worker']:>12.0f}")


def score(n: int) -> dict[str, float]:
    """Images per second, and peaks in MiB of this process and its largest worker."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = linked_run(Path(scratch), n=n)
        settings = Phase1Config.from_json(folder.config()["settings"])
        engine, samples = Engine(settings), folder.samples()
        detector = phase1.build_detector(settings, CLASS_NAMES).to(engine.device)
        size = detector.clip.image_size
        images = open_images(folder, samples, image_size=size, engine=engine, settings=settings)
        standing = phase1.Standing.of(samples, device=engine.device)
        detection = phase1.Detection(detector, standing, engine=engine, settings=settings)
        started = time.monotonic()
        for _ in detection.score(images, folder, meter=Meter(n)):
            pass
        seconds = time.monotonic() - started
        del images
    kibibytes = {
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
    }
    return {"rate": n / seconds, **{name: value / 1024 for name, value in kibibytes.items()}}


def linked_run(scratch: Path, *, n: int) -> RunFolder:
    """A phase 1 on `n` links to a few pictures."""
    write_demo(scratch / "demo", seed=0, n_train=N_PICTURES, n_test=0)
    pictures = sorted((scratch / "demo" / "train").rglob("*.jpg"))
    links = scratch / "links"
    links.mkdir()
    for i in range(n):
        (links / f"{i}.jpg").symlink_to(pictures[i % len(pictures)])
    samples = pa.table(
        {
            "sample_id": pa.array(range(n), pa.int32()),
            "file_name": [f"{i}.jpg" for i in range(n)],
            "sha256": [f"{i:064x}" for i in range(n)],
            "split": ["train"] * n,
            "given_label": pa.array([i % len(CLASS_NAMES) for i in range(n)], pa.int32()),
        }
    )
    settings = Phase1Config.from_preset("demo", keeps_squares=False)
    return new_run(scratch / "run", settings, root=links, class_names=CLASS_NAMES, samples=samples)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, nargs="+", default=[2000, 100_000])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Runs that are done, on pictures of three colours and a real tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from safetensors.torch import save_file

from deft_core import clip, phase2
from deft_core.classifier import build_classifier
from deft_core.config import Phase1Config, Phase2Config
from deft_core.detector import Detector
from deft_core.run_folder import RunFolder
from tests.tiny_clip import write_tiny_clip

CLASS_NAMES = ["red | <b>", "green", "blue"]
N = 12
PICTURE = "my pets/00.png"
LABELS = {
    "n_train": 9,
    "by_verdict": {"keep": 1, "relabel": 2, "exclude": 1},
    "n_changed": 2,
    "n_undecided_clean": 4,
    "n_undecided_flagged": 1,
    "n_reviewers": 2,
    "n_rounds": 1,
}
TEST = {
    "n": 4,
    "n_reviewed": 1,
    "accuracy": 0.75,
    "on_reviewed": 1.0,
    "on_given": 0.5,
    "macro_f1": 0.7,
    "ece": 0.125,
    "mean_confidence": 0.75,
    "per_class": [],
    "confusion": [],
}
RAN = {"unreadable": [], "device": "cpu", "seconds": 1.0}
REPORT = {
    "evaluation": [
        {"trained_on": "given", "n_train": 9, "test": {**TEST, "accuracy": 0.5}},
        {"trained_on": "curated", "n_train": 7, "test": TEST},
    ],
    **RAN,
}


def write_world(secret: Path) -> Path:
    """The folder `secret` with pictures of 32 by 32 pixels in "my pets" and a tiny CLIP in
    "model"."""
    random = np.random.default_rng(0)
    (secret / "my pets").mkdir(parents=True)
    for i in range(N):
        pixels = random.integers(0, 90, (32, 32, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 150
        Image.fromarray(pixels).save(secret / "my pets" / f"{i:02d}.png")
    write_tiny_clip(secret / "model")
    return secret


def make_run(path: Path, world: Path, **settings: Any) -> RunFolder:
    """A phase 2 that is to be worked through, on the tiny CLIP unless the settings name a model."""
    small = {"epochs": 1, "batch_size": 6, "device": "cpu", "image_size": 32, "vpt_tokens": 2}
    model = {"model": f"local-dir:{world / 'model'}", "pretrained": "", "learning_rate": 0.05}
    chosen = Phase2Config(**{**small, **model, "compares_with": "none", **settings})
    return create_run(path, world, chosen, kind="phase2")


def create_run(
    path: Path, world: Path, settings: Phase1Config | Phase2Config, *, kind: str
) -> RunFolder:
    """A run on the pictures of which all labels are right."""
    labels = pa.array([i % 3 for i in range(N)], pa.int32())
    samples = pa.table(
        {
            "sample_id": pa.array(range(N), pa.int32()),
            "file_name": [f"{i:02d}.png" for i in range(N)],
            "sha256": [f"{i:064x}" for i in range(N)],
            "split": ["train"] * 9 + ["test"] * 3,
            "given_label": labels,
            "final_label": labels,
            "curated_label": labels,
            "is_selected": [True] * N,
            "is_reviewed": [False] * N,
        }
    )
    config = {
        "kind": kind,
        "round": 1,
        "created_at": "2026-01-02T03:04:05+00:00",
        "root": str(world / "my pets"),
        "cache": str(path.parent / "cache"),
        "class_names": CLASS_NAMES,
        "prompts": ["red", "green", "blue"],
        "settings": settings.to_json(),
        "labels": LABELS,
    }
    return RunFolder.create(path, config=config, samples=samples)


def trained_run(path: Path, world: Path, **settings: Any) -> RunFolder:
    """A phase 2 that is done."""
    folder = make_run(path, world, **settings)
    list(phase2.run(folder))
    folder.set_status("done")
    return folder


def shaken_run(path: Path, world: Path, **settings: Any) -> RunFolder:
    """A phase 2 whose training was a random step of all that learns, which is quick."""
    folder = make_run(path, world, **settings)
    torch.manual_seed(0)
    config = Phase2Config.from_json(folder.config()["settings"])
    classifier = build_classifier(config, ["red", "green", "blue"])
    with torch.no_grad():
        for one in classifier.parameters():
            one.add_(0.1 * torch.randn_like(one) * one.requires_grad)
    save_file(classifier.state_dict(), folder.path / "model.safetensors")
    folder.write_json("report.json", REPORT)
    folder.set_status("done")
    return folder


def shaken_detector(path: Path, world: Path, **settings: Any) -> tuple[RunFolder, dict[str, float]]:
    """A phase 1 whose training was a random step of all that learns; and how likely the classes of
    the picture would be right as its label, the nearest class first."""
    small = {"device": "cpu", "vpt_tokens": 2, "n_context": 2}
    chosen = Phase1Config(model=f"local-dir:{world / 'model'}", pretrained="", **small, **settings)
    folder = create_run(path, world, chosen, kind="phase1")
    torch.manual_seed(0)
    detector = Detector(clip.load(chosen.model), ["red", "green", "blue"], chosen).eval()
    with torch.no_grad():
        learned = {name: one for name, one in detector.named_parameters() if one.requires_grad}
        for one in learned.values():
            one.add_(0.1 * torch.randn_like(one))
        picture = Image.open(world / PICTURE).resize((16, 16), Image.Resampling.BICUBIC)
        dual = detector(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None])
    save_file(learned, folder.path / "detector.safetensors")
    folder.write_json("report.json", {"n_scored": 9, "n_flagged": 3, **RAN})
    folder.set_status("done")
    nearest = dual.pos[0].argsort(descending=True).tolist()
    p_clean = (dual.pos - dual.neg)[0].sigmoid().tolist()
    return folder, {CLASS_NAMES[label]: p_clean[label] for label in nearest}

"""A real CLIP, small enough to run in milliseconds, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}


def write_tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    """The folder, holding a model that open_clip loads as local-dir:."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = open_clip.CLIP(**ARCHITECTURE)
    config = {
        "model_cfg": ARCHITECTURE,
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.3, 0.2]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder

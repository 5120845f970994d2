"""What comes with the application: the place of its data, and named changes to the settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Presets = Mapping[str, Mapping[str, Any]]

DATA = Path(__file__).resolve().parent.parent / "data"
"""Where the demo model lies, and where workspaces live by default."""

DEMO_MODEL = f"local-dir:{DATA / 'demo-clip'}"

# An epoch of the demo has 25 steps; the negative prompt must be right before it selects, and with
# one wrong class for each image it is not on every seed.
DEMO_PHASE1: Mapping[str, Any] = {
    "model": DEMO_MODEL,
    "pretrained": "",
    "vpt_tokens": 4,
    "learning_rate": 0.3,
    "warmup_epochs": 4,
    "n_complementary": 8,
    # At this rate a single step can be so long that the contexts leave the words behind, or the
    # visual prompts the pictures, and never come back.
    "gradient_limit": 1.0,
}

PHASE1: Presets = {
    # CIFAR-100, Tiny-ImageNet, Stanford Cars and CUB-200-2011 with synthetic noise.
    "paper": {},
    # CIFAR-100N, Clothing1M and WebVision.
    "paper-real-noise": {"recipe": "real-noise", "warmup_epochs": 5},
    "fast": {"image_side": "none"},
    "demo": DEMO_PHASE1,
    "demo-fast": {**DEMO_PHASE1, "image_side": "none"},
}

PHASE2: Presets = {
    "paper": {},
    "paper-real-noise": {"epochs": 5},
    "linear-probe": {"image_side": "none", "learning_rate": 0.1},
    "adapter": {"image_side": "vpt-deep", "head": "text", "learning_rate": 0.03},
    # The other backbones of the paper, with the weights and the optimisers of its reference.
    "paper-vit-b16-augreg": {
        "model": "timm:vit_base_patch16_224",
        "pretrained": "augreg_in1k",
        "learning_rate": 1e-2,
        "momentum": 0.0,
        "weight_decay": 1e-5,
    },
    "paper-resnet50": {
        "model": "timm:resnet50",
        "pretrained": "a1_in1k",
        "optimiser": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
    },
    "paper-convnext-tiny": {
        "model": "timm:convnext_tiny",
        "pretrained": "fb_in1k",
        "optimiser": "adamw",
        "learning_rate": 1e-4,
        "weight_decay": 1e-4,
    },
    "paper-mae-vit-b16": {
        "model": "timm:vit_base_patch16_224",
        "pretrained": "mae",
        "optimiser": "adamw",
        "learning_rate": 1e-4,
        "weight_decay": 1e-3,
    },
    "demo": {"model": DEMO_MODEL, "pretrained": "", "learning_rate": 0.004},
}

PRESET_HELPS: Mapping[str, str] = {
    "paper": "As published, with a large model: for a GPU.",
    "paper-real-noise": "As published for labels that people or the web got wrong: for a GPU.",
    "fast": "Encodes each image once and learns the prompts alone: the quickest without a GPU.",
    "demo": "The small model that comes with the application, for the demo pictures.",
    "demo-fast": "The small model for the demo pictures, encoding each of them once.",
    "linear-probe": "Encodes each image once and learns a linear layer alone: quick.",
    "adapter": "Learns visual prompts beside the text encoder's classes: few numbers to learn.",
    "paper-vit-b16-augreg": "The paper's ViT-B/16 of timm instead of a CLIP.",
    "paper-resnet50": "The paper's ResNet-50 of timm instead of a CLIP.",
    "paper-convnext-tiny": "The paper's ConvNeXt-T of timm instead of a CLIP.",
    "paper-mae-vit-b16": "The paper's ViT-B/16 of a masked auto-encoder instead of a CLIP.",
}
"""What each preset is for."""

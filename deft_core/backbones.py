"""The one door to timm: its image models by name, each as a tower and a linear head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
from timm.models import get_pretrained_cfg, save_for_hf, split_model_name_tag
from torch import nn

from deft_core import weights
from deft_core.clip import Normalise
from deft_core.config import TIMM_PREFIX
from deft_core.errors import ConfigError

PREFERRED = "hub"
"""Stands for the weights that timm itself prefers for a model."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen tower from normalised images to features, and the head that belongs behind it.

    `head_name` is where timm has the head among the model's modules.
    """

    tower: nn.Module
    head: nn.Linear
    head_name: str
    image_size: int
    normalise: Normalise


def load(
    model: str,
    pretrained: str = "",
    *,
    n_classes: int,
    image_size: int = 0,
    has_weights: bool = True,
) -> Backbone:
    """The model `timm:NAME` with a new head for `n_classes`.

    `pretrained` is one of timm's tags, "hub" for the one that timm prefers, a file of weights, or
    empty for random ones, which it also gets without `has_weights`: a file may then be gone.
    `image_size` 0 stands for the model's own. Raises ConfigError if timm has no such model or
    weights, if they are not here, or if the model does not end in one linear layer over square
    images.
    """
    name, config = _found(model, pretrained, has_weights=has_weights)
    options: dict[str, Any] = {}
    if image_size and config.fixed_input_size:
        options["img_size"] = image_size
    is_file = has_weights and _is_file(pretrained)
    if is_file:
        options["pretrained_cfg_overlay"] = {"file": pretrained}
    is_loaded = has_weights and bool(pretrained)
    with weights.loading(
        name,
        pretrained,
        is_from_hub=is_loaded and not is_file,
        fetch=f"import timm; timm.create_model('{name}', pretrained=True)",
    ):
        made: nn.Module = timm.create_model(
            name, pretrained=is_loaded, num_classes=n_classes, **options
        )
    head = made.get_submodule(config.classifier)
    if not isinstance(head, nn.Linear):
        raise _refusal(name)
    made.set_submodule(config.classifier, nn.Identity())
    return Backbone(
        tower=made.requires_grad_(False),
        head=head,
        head_name=config.classifier,
        image_size=image_size or config.input_size[-1],
        normalise=Normalise(config.mean, config.std),
    )


def save(backbone: Backbone, folder: Path, *, class_names: Sequence[str]) -> None:
    """Write the tower, its head put back, so that timm loads it as local-dir:FOLDER."""
    backbone.tower.set_submodule(backbone.head_name, backbone.head)
    mean, deviation = backbone.normalise.statistics()
    size = backbone.image_size
    save_for_hf(
        backbone.tower,
        str(folder),
        model_config={"label_names": list(class_names)},
        data_config={
            "input_size": (3, size, size),
            "mean": mean,
            "std": deviation,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
        },
        safe_serialization=True,
    )


def load_whole(folder: Path) -> nn.Module:
    """The model that `save` has written: normalised images to logits."""
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return model


def check_exists(model: str, pretrained: str) -> tuple[str, Any]:
    """The full name of `timm:NAME` and what timm knows of it; ConfigError unless `load` can look
    for this model. Nothing is fetched."""
    return _found(model, pretrained)


def _found(model: str, pretrained: str, *, has_weights: bool = True) -> tuple[str, Any]:
    name = _full_name(model.removeprefix(TIMM_PREFIX), pretrained, has_weights=has_weights)
    return name, _config(name)


def _full_name(name: str, pretrained: str, *, has_weights: bool) -> str:
    """The model's name with the tag of its weights; ConfigError when there are none such."""
    architecture, own_tag = split_model_name_tag(name)
    if not timm.is_model(architecture):
        close = get_close_matches(architecture, timm.list_models(), n=3)
        raise ConfigError(
            f'timm has no model named "{architecture}".',
            f"Did you mean {' or '.join(close)}?" if close else "timm.list_models() names them.",
        )
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
    is_named = pretrained not in ("", PREFERRED) and not _is_file(pretrained)
    if is_named and not has_weights:
        is_named = pretrained in tags
    tag = pretrained if is_named else own_tag
    if tag and tag not in tags:
        raise ConfigError(
            f'The timm model "{architecture}" has no weights "{tag}", and there is no such file.',
            f'Known weights: {", ".join(tags) or "none"}. "{PREFERRED}" takes those that timm '
            "prefers; leave the setting empty for random ones.",
        )
    return f"{architecture}.{tag}" if tag else architecture


def _is_file(pretrained: str) -> bool:
    return os.path.isfile(pretrained)  # noqa: PTH113 - most often it is a tag


def _config(name: str) -> Any:
    """What timm knows of a model; ConfigError for one that the loader or the head do not suit."""
    config = get_pretrained_cfg(name)
    if config is None or not isinstance(config.classifier, str):
        raise _refusal(name)
    n_channels, height, width = config.input_size
    if n_channels != 3 or height != width:
        raise _refusal(name)
    return config


def _refusal(name: str) -> ConfigError:
    return ConfigError(
        f'The timm model "{name}" does not end in one linear layer over square colour images.',
        "Models that work: vit_base_patch16_224, resnet50, convnext_tiny and most others.",
    )

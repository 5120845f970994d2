"""What phase 2 trains: an image tower, of which some or all learns, and a head over the classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn
from torch.nn import functional as F

from deft_core import backbones, clip
from deft_core.adapters import adapt_image_side, adapt_tower
from deft_core.config import TIMM_PREFIX, Phase2Config
from deft_core.prompts import PHOTO


class Classifier(nn.Module):
    """Images of `image_size` pixels to a logit for each class.

    `added` holds what was put into the tower to learn there, if it has parameters of its own.
    """

    def __init__(
        self,
        tower: nn.Module,
        head: nn.Module,
        *,
        image_size: int,
        normalise: clip.Normalise,
        added: nn.Module,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.normalise = normalise
        self.head = head
        self.added = added
        self.tower = tower

    def forward(self, images: Real[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch n_cls"]:
        return self.head(self.features(images))

    def features(self, images: Real[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """What the head tells the classes by."""
        return self.tower(self.normalise(images))


class TextHead(nn.Module):
    """Similarities to texts, whose unit-length features times the logit scale are `weight`;
    nothing in it learns."""

    weight: Float[Tensor, "n_texts dim"]

    def __init__(self, weight: Float[Tensor, "n_texts dim"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch n_texts"]:
        return clip.similarities(F.normalize(features.float(), dim=-1), self.weight)


def build_classifier(
    settings: Phase2Config, prompts: Sequence[str], *, has_weights: bool = True
) -> Classifier:
    """The classifier that `settings` describe, untrained; `prompts` are the words for each class.

    Without `has_weights` its weights are random, because all of them will be loaded into it. Raises
    ConfigError for a model or weights that do not exist or cannot be used so.
    """
    build = _of_timm if settings.model.startswith(TIMM_PREFIX) else _of_clip
    return build(settings, prompts, has_weights=has_weights)


def check_model(settings: Phase2Config) -> None:
    """ConfigError for a model or weights that nobody knows; nothing is fetched."""
    library = backbones if settings.model.startswith(TIMM_PREFIX) else clip
    library.check_exists(settings.model, settings.pretrained)


def _of_clip(settings: Phase2Config, prompts: Sequence[str], *, has_weights: bool) -> Classifier:
    model = clip.load(
        settings.model,
        settings.pretrained,
        image_size=settings.image_size,
        has_weights=has_weights,
    )
    head: nn.Module = (
        _photo_head(model, prompts)
        if settings.head == "text"
        # It reads the features before CLIP's projection, as in the reference.
        else nn.Linear(model.visual.proj.shape[0], len(prompts))
    )
    if settings.head == "linear":
        model.visual.proj = None
    return Classifier(
        model.visual,
        head,
        image_size=model.image_size,
        normalise=model.normalise,
        added=adapt_image_side(model, settings),
    )


def _photo_head(model: clip.Clip, prompts: Sequence[str]) -> TextHead:
    """A head that compares with "a photo of a <prompt>"."""
    with torch.no_grad():
        text = model.encode_text([PHOTO.format(prompt) for prompt in prompts])
        return TextHead(model.logit_scale * text)


def _of_timm(settings: Phase2Config, prompts: Sequence[str], *, has_weights: bool) -> Classifier:
    backbone = backbones.load(
        settings.model,
        settings.pretrained,
        n_classes=len(prompts),
        image_size=settings.image_size,
        has_weights=has_weights,
    )
    adapt_tower(backbone.tower, settings, image_size=backbone.image_size)
    return Classifier(
        backbone.tower,
        backbone.head,
        image_size=backbone.image_size,
        normalise=backbone.normalise,
        added=nn.Module(),
    )

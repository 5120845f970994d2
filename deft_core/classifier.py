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
    """Scaled similarities to "a photo of a <prompt>"; nothing in it learns."""

    weight: Float[Tensor, "n_cls dim"]

    def __init__(self, model: clip.Clip, prompts: Sequence[str]) -> None:
        super().__init__()
        with torch.no_grad():
            text = model.encode_text([PHOTO.format(prompt) for prompt in prompts])
            self.register_buffer("weight", model.logit_scale * text)

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch n_cls"]:
        return clip.similarities(F.normalize(features.float(), dim=-1), self.weight)


def build_classifier(
    settings: Phase2Config,
    prompts: Sequence[str],
    *,
    has_weights: bool = True,
    is_quick: bool | None = None,
) -> Classifier:
    """The classifier that `settings` describe, untrained; `prompts` are the words for each class.

    Without `has_weights` none are fetched or read, because all of them will be loaded into it; they
    may be gone, so `is_quick` says whether a CLIP's activation is QuickGELU. Raises ConfigError for
    a model or weights that do not exist or cannot be used so.
    """
    if settings.model.startswith(TIMM_PREFIX):
        return _of_timm(settings, prompts, has_weights=has_weights)
    return _of_clip(settings, prompts, has_weights=has_weights, is_quick=is_quick)


def check_model(settings: Phase2Config) -> None:
    """ConfigError for a model or weights that nobody knows; nothing is fetched."""
    library = backbones if settings.model.startswith(TIMM_PREFIX) else clip
    library.check_exists(settings.model, settings.pretrained)


def _of_clip(
    settings: Phase2Config, prompts: Sequence[str], *, has_weights: bool, is_quick: bool | None
) -> Classifier:
    model = clip.load(
        settings.model,
        settings.pretrained,
        image_size=settings.image_size,
        has_weights=has_weights,
        is_quick=is_quick,
    )
    head: nn.Module = (
        TextHead(model, prompts)
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

"""The detector of Denoising Fine-Tuning: dual prompts over a frozen CLIP whose image side learns.

    prompt_k+ = [V]1+ ... [V]M+ [CLS]_k .        what an image of class k looks like
    prompt_k- = [V]1- ... [V]M- [CLS]_k .        the threshold that it has to pass

A given label is believed while the image is closer to its class's positive prompt than to the
negative one. (DeFT, Wei et al., NeurIPS 2024; the prompts as in CoOp, Zhou et al., IJCV 2022.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from deft_core.adapters import adapt_image_side
from deft_core.clip import Clip, similarities
from deft_core.config import Phase1Config
from deft_core.errors import ConfigError

CONTEXT_DEVIATION = 0.02


@dataclass(frozen=True)
class DualLogits:
    """Similarities to the positive and negative prompt of every class, times the logit scale."""

    pos: Float[Tensor, "batch n_cls"]
    neg: Float[Tensor, "batch n_cls"]


@dataclass(frozen=True)
class DualFeatures:
    """Unit-length text features of the positive and negative prompt of every class."""

    pos: Float[Tensor, "n_cls dim"]
    neg: Float[Tensor, "n_cls dim"]


class DualPrompts(nn.Module):
    """The two learnable contexts beside the frozen embeddings of the class names."""

    words: Float[Tensor, "n_cls n_words width"]
    places: Int[Tensor, "n_cls length"]
    ends: Int[Tensor, " n_cls"]

    def __init__(self, clip: Clip, prompt_names: Sequence[str], settings: Phase1Config) -> None:
        super().__init__()
        n_context = settings.n_context
        tokens = clip.tokenize([f"{name}." for name in prompt_names])
        longest = tokens.shape[1] + n_context
        if longest > clip.context_length:
            raise ConfigError(
                f"{n_context} context vectors and the longest class name need {longest} text "
                f"tokens; the model reads {clip.context_length}.",
                "Use fewer context vectors or shorter class names.",
            )
        start = _context_start(clip, settings)
        shape = (len(prompt_names), *start.shape) if settings.has_class_contexts else start.shape
        self.positive = nn.Parameter(start.expand(shape).clone())
        self.negative = nn.Parameter(start.expand(shape).clone())
        for context in (self.positive, self.negative):
            with torch.no_grad():
                is_random = (start == 0).all(dim=-1, keepdim=True)
                context.add_(torch.randn_like(context) * CONTEXT_DEVIATION * is_random)
        ends = tokens.argmax(dim=-1)
        places = _places(ends, n_words=tokens.shape[1], settings=settings)
        n_before = 0 if settings.has_class_contexts else _n_before_name(settings)
        self.n_shared = 1 + n_before
        self.register_buffer("words", clip.embed_tokens(tokens).detach(), persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("ends", ends + n_context, persistent=False)

    def forward(self) -> tuple[Tensor, Tensor, Int[Tensor, " n_cls"]]:
        """Embeddings of the positive and negative prompts: the tokens that all classes share, each
        class's own after them, and where each prompt ends; see `Clip.encode_prompts`."""
        both = torch.stack([self._prompts(self.positive), self._prompts(self.negative)])
        return both[:, 0, : self.n_shared], both[:, :, self.n_shared :], self.ends

    def _prompts(self, context: Tensor) -> Float[Tensor, "n_cls length width"]:
        parts = torch.cat([self.words, context.expand(len(self.words), -1, -1)], dim=1)
        return parts.gather(1, self.places[:, :, None].expand(-1, -1, parts.shape[-1]))


def _context_start(clip: Clip, settings: Phase1Config) -> Float[Tensor, "n_context width"]:
    """Embeddings of the words that a context starts from, at its end; zeros before them."""
    start = torch.zeros(settings.n_context, clip.text_width)
    if not settings.context_start:
        return start
    tokens = clip.tokenize([settings.context_start])[:, 1:-1]
    n_words = tokens.shape[1]
    if n_words > settings.n_context:
        raise ConfigError(
            f'"{settings.context_start}" is {n_words} text tokens; the contexts have '
            f"{settings.n_context} vectors.",
            "Use more context vectors or fewer words.",
        )
    start[settings.n_context - n_words :] = clip.embed_tokens(tokens)[0].detach()
    return start


def _places(
    ends: Int[Tensor, " n_cls"], *, n_words: int, settings: Phase1Config
) -> Int[Tensor, "n_cls length"]:
    """Where each token of a prompt stands among the words and, behind them, the context vectors.

    The words are [start] name . [end]; the context goes before the name, around it, or between the
    name and the full stop.
    """
    n_context = settings.n_context
    context = torch.arange(n_words, n_words + n_context)
    n_before = _n_before_name(settings)
    rows = []
    for end in ends.tolist():
        name, rest = torch.arange(1, end - 1), torch.arange(end - 1, n_words)
        parts = (torch.zeros(1).long(), context[:n_before], name, context[n_before:], rest)
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def _n_before_name(settings: Phase1Config) -> int:
    """How many context vectors stand before the class name."""
    n_context = settings.n_context
    return {"end": n_context, "middle": n_context // 2, "front": 0}[settings.class_position]


class Detector(nn.Module):
    """Images to dual logits; only the two contexts and the image side learn."""

    def __init__(self, clip: Clip, prompt_names: Sequence[str], settings: Phase1Config) -> None:
        super().__init__()
        self.clip = clip
        self.prompts = DualPrompts(clip, prompt_names, settings)
        self.added = adapt_image_side(clip, settings)

    def text_features(self) -> DualFeatures:
        """Both prompt sets, encoded in one pass."""
        return DualFeatures(*self.clip.encode_prompts(*self.prompts()))

    def compare(self, image_features: Float[Tensor, "batch dim"], text: DualFeatures) -> DualLogits:
        """The scaled similarities; the image side learns from the positive prompts alone."""
        scale = self.clip.logit_scale
        return DualLogits(
            pos=similarities(scale * image_features, text.pos),
            neg=similarities(scale * image_features.detach(), text.neg),
        )

    def aligned_parameters(self) -> list[nn.Parameter]:
        """What learns from the alignment loss; the negative prompt learns from the dual loss."""
        return [
            one
            for one in self.parameters()
            if one.requires_grad and one is not self.prompts.negative
        ]

    def forward(self, images: Real[Tensor, "batch 3 size size"]) -> DualLogits:
        return self.compare(self.clip.encode_image(images), self.text_features())


class PromptsAlone(nn.Module):
    """A detector on images that have been encoded before: image features to dual logits."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image_features: Float[Tensor, "batch dim"]) -> DualLogits:
        return self.detector.compare(image_features, self.detector.text_features())

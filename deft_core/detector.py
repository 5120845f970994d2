"""The detector of Denoising Fine-Tuning: dual prompts over a frozen CLIP with visual prompts.

    prompt_k+ = [V]1+ ... [V]M+ [CLS]_k .        what an image of class k looks like
    prompt_k- = [V]1- ... [V]M- [CLS]_k .        the threshold that it has to pass

A given label is believed while the image is closer to its class's positive prompt than to the
negative one. (DeFT, Wei et al., NeurIPS 2024; the prompts as in CoOp, Zhou et al., IJCV 2022.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from deft_core.adapters import VisualPrompts
from deft_core.clip import Clip
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
    """The two learnable contexts before the frozen embeddings of the class names."""

    names: Float[Tensor, "n_cls length width"]
    ends: Int[Tensor, " n_cls"]

    def __init__(
        self, clip: Clip, prompt_names: Sequence[str], *, n_context: int, has_class_contexts: bool
    ) -> None:
        super().__init__()
        tokens = clip.tokenize([f"{name}." for name in prompt_names])
        longest = tokens.shape[1] + n_context
        if longest > clip.context_length:
            raise ConfigError(
                f"{n_context} context vectors and the longest class name need {longest} text "
                f"tokens; the model reads {clip.context_length}.",
                "Use fewer context vectors or shorter class names.",
            )
        classes = [len(prompt_names)] if has_class_contexts else []
        shape = (*classes, n_context, clip.text_width)
        self.positive = nn.Parameter(torch.randn(shape) * CONTEXT_DEVIATION)
        self.negative = nn.Parameter(torch.randn(shape) * CONTEXT_DEVIATION)
        self.register_buffer("names", clip.embed_tokens(tokens).detach(), persistent=False)
        self.register_buffer("ends", tokens.argmax(dim=-1) + n_context, persistent=False)

    def forward(self) -> tuple[Float[Tensor, "two_n_cls length width"], Int[Tensor, " two_n_cls"]]:
        """Token embeddings of all positive, then all negative prompts, and where each ends."""
        both = torch.cat([self._prompts(self.positive), self._prompts(self.negative)])
        return both, self.ends.repeat(2)

    def _prompts(self, context: Tensor) -> Float[Tensor, "n_cls length width"]:
        start, rest = self.names[:, :1], self.names[:, 1:]
        return torch.cat([start, context.expand(len(start), -1, -1), rest], dim=1)


class Detector(nn.Module):
    """Images to dual logits; only the two contexts and the visual prompts learn."""

    def __init__(
        self,
        clip: Clip,
        prompt_names: Sequence[str],
        *,
        n_context: int = 16,
        has_class_contexts: bool = False,
        vpt_tokens: int = 20,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.prompts = DualPrompts(
            clip, prompt_names, n_context=n_context, has_class_contexts=has_class_contexts
        )
        self.visual_prompts = VisualPrompts(clip, n_tokens=vpt_tokens) if vpt_tokens else None

    def text_features(self) -> DualFeatures:
        """Both prompt sets, encoded in one pass."""
        features = self.clip.encode_embeddings(*self.prompts())
        return DualFeatures(*features.chunk(2))

    def compare(self, image_features: Float[Tensor, "batch dim"], text: DualFeatures) -> DualLogits:
        """The scaled similarities; the image side learns from the positive prompts alone."""
        scale = self.clip.logit_scale
        return DualLogits(
            pos=scale * image_features @ text.pos.T,
            neg=scale * image_features.detach() @ text.neg.T,
        )

    def forward(self, images: UInt8[Tensor, "batch 3 size size"]) -> DualLogits:
        return self.compare(self.clip.encode_image(images), self.text_features())

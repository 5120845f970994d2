"""Visual prompt tuning, deep: learnable tokens at every layer of a frozen Vision Transformer.

Visual Prompt Tuning (Jia et al., ECCV 2022) as DeFT uses it: before each block the tokens of the
block before are cut off and the layer's own prompt is put after the patch tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deft_core.clip import Clip

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
Call = tuple[Arguments, Keywords]


class VisualPrompts(nn.Module):
    """Prompts in every block of a CLIP's image tower, from construction on."""

    def __init__(self, clip: Clip, *, n_tokens: int) -> None:
        super().__init__()
        visual = clip.visual
        blocks = visual.transformer.resblocks
        self.n_kept, width = visual.positional_embedding.shape
        self.tokens = nn.Parameter(torch.empty(len(blocks), n_tokens, width))
        bound = math.sqrt(6 / (3 * math.prod(visual.conv1.kernel_size) + width))
        nn.init.uniform_(self.tokens, -bound, bound)
        for layer, block in enumerate(blocks):
            block.register_forward_pre_hook(self._put_in(layer), with_kwargs=True)

    def _put_in(self, layer: int) -> Callable[[nn.Module, Arguments, Keywords], Call]:
        def append(_block: nn.Module, args: Arguments, kwargs: Keywords) -> Call:
            hidden: Float[Tensor, "batch length width"] = args[0]
            prompt = self.tokens[layer].to(hidden.dtype).expand(len(hidden), -1, -1)
            return (torch.cat([hidden[:, : self.n_kept], prompt], dim=1), *args[1:]), kwargs

        return append

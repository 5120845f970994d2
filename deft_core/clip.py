"""The one door to open_clip: load a CLIP, freeze it, encode images and token embeddings.

The text tower is causal, so tokens after the end-of-text token cannot change its feature: every
text is cut to the longest one and costs what it needs, not 77 tokens. Only models whose image
tower is open_clip's own Vision Transformer pass, because visual prompts live between its blocks.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int, Real
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from deft_core import weights
from deft_core.errors import ConfigError

CONFIG = "open_clip_config.json"
LOCAL_PREFIX = "local-dir:"
HUB_PREFIX = "hf-hub:"


class Normalise(nn.Module):
    """Values from 0 to 255 to the mean and deviation that a model was trained with."""

    channels: Float[Tensor, "2 3 1 1"]

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        channels = torch.tensor([mean, deviation]).view(2, 3, 1, 1) * 255
        self.register_buffer("channels", channels, persistent=False)

    def forward(
        self, images: Real[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        mean, deviation = self.channels
        return (images.float() - mean) / deviation

    def statistics(self) -> tuple[list[float], list[float]]:
        """The mean and the deviation of each channel, for values from 0 to 1."""
        mean, deviation = (self.channels.flatten(1) / 255).tolist()
        return mean, deviation


class Clip(nn.Module):
    """A frozen CLIP: normalised features of images and of texts given as token embeddings."""

    def __init__(self, model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.image_size = _image_size(model.visual)
        self.normalise = Normalise(
            model.visual.image_mean or open_clip.OPENAI_DATASET_MEAN,
            model.visual.image_std or open_clip.OPENAI_DATASET_STD,
        )

    @property
    def visual(self) -> VisionTransformer:
        return self.model.visual

    @property
    def text_width(self) -> int:
        return self.model.token_embedding.embedding_dim

    @property
    def context_length(self) -> int:
        return self.model.context_length

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """Inverse temperature of the similarities, `exp(logit_scale)`; frozen."""
        return self.model.logit_scale.exp()

    def train(self, mode: bool = True) -> Clip:
        """Itself, always in evaluation mode: nothing of a frozen tower depends on the mode."""
        return super().train(False)

    def compile_image_tower(self) -> None:
        """Let torch.compile translate the image tower, where the time goes, at its first use."""
        self.model.visual.compile()

    def encode_image(self, images: Real[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """Unit-length features of images with values from 0 to 255."""
        if len(images) == 0:
            return torch.empty(0, self.model.text_projection.shape[1], device=images.device)
        return F.normalize(self.visual(self.normalise(images)).float(), dim=-1)

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "n length"]:
        """Tokens from start-of-text to end-of-text, cut to the longest text; 0 after the end."""
        tokens = self.tokenizer(list(texts), context_length=self.context_length)
        longest = int(tokens.argmax(dim=-1).max()) + 1
        return tokens[:, :longest].to(self.model.positional_embedding.device)

    def embed_tokens(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n length width"]:
        return self.model.token_embedding(tokens)

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Unit-length features of spelled-out texts."""
        tokens = self.tokenize(texts)
        return self.encode_embeddings(self.embed_tokens(tokens), tokens.argmax(dim=-1))

    def encode_prompts(
        self,
        shared: Float[Tensor, "n_sets n_shared width"],
        own: Float[Tensor, "n_sets n n_own width"],
        ends: Int[Tensor, " n"],
    ) -> Float[Tensor, "n_sets n dim"]:
        """Unit-length features of `n` prompts in each set, which begin with the same tokens.

        The tower is causal, so the shared tokens of a set are the same in all of its prompts at
        every layer: they are worked through once. `ends` counts from the start of a prompt.
        """
        model, n_shared, n_own = self.model, shared.shape[1], own.shape[2]
        positions = model.positional_embedding
        shared = shared + positions[:n_shared]
        own = own + positions[n_shared : n_shared + n_own]
        for block in model.transformer.resblocks:
            shared, own = _through_block(block, shared, own)
        rows = torch.arange(len(ends), device=ends.device)
        features = model.ln_final(own[:, rows, ends - n_shared]) @ model.text_projection
        return F.normalize(features.float(), dim=-1)

    def encode_embeddings(
        self, embeddings: Float[Tensor, "n length width"], ends: Int[Tensor, " n"]
    ) -> Float[Tensor, "n dim"]:
        """Unit-length features of texts given as token embeddings without their positions.

        `ends` is the place of each text's end-of-text token, where the tower is read.
        """
        model, length = self.model, embeddings.shape[1]
        hidden = embeddings + model.positional_embedding[:length]
        hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
        rows = torch.arange(len(ends), device=ends.device)
        features = model.ln_final(hidden[rows, ends]) @ model.text_projection
        return F.normalize(features.float(), dim=-1)


def _image_size(tower: Any) -> int:
    size = tower.image_size
    return size[0] if isinstance(size, tuple) else size


def similarities(
    images: Float[Tensor, "n dim"], texts: Float[Tensor, "n_cls dim"]
) -> Float[Tensor, "n n_cls"]:
    """The product of each image's features with each text's, in fp32 under any autocast: scaled by
    CLIP's temperature they lie between 16 and 32, where bf16 knows steps of 1/8."""
    with torch.autocast(images.device.type, enabled=False):
        return images.float() @ texts.float().T


def _through_block(
    block: ResidualAttentionBlock,
    shared: Float[Tensor, "n_sets n_shared width"],
    own: Float[Tensor, "n_sets n n_own width"],
) -> tuple[Float[Tensor, "n_sets n_shared width"], Float[Tensor, "n_sets n n_own width"]]:
    """What a causal block makes of tokens that `n` sequences share and of their own after them."""
    n_heads = block.attn.num_heads
    n_sets, n, n_own, width = own.shape
    n_shared = shared.shape[1]
    q, k, v = _heads(block, shared, n_heads=n_heads)
    own_q, own_k, own_v = _heads(block, own.flatten(0, 1), n_heads=n_heads)

    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    all_k, all_v = (
        torch.cat([before.repeat_interleave(n, dim=0), after], dim=2)
        for before, after in ((k, own_k), (v, own_v))
    )
    sees = torch.ones(n_own, n_shared + n_own, dtype=torch.bool, device=own.device)
    sees = sees.tril(diagonal=n_shared)
    own_attended = F.scaled_dot_product_attention(own_q, all_k, all_v, attn_mask=sees)

    shared = shared + block.ls_1(block.attn.out_proj(attended.transpose(1, 2).flatten(2)))
    own_attended = own_attended.transpose(1, 2).reshape(n_sets, n, n_own, width)
    own = own + block.ls_1(block.attn.out_proj(own_attended))
    return tuple(x + block.ls_2(block.mlp(block.ln_2(x))) for x in (shared, own))


def _heads(
    block: ResidualAttentionBlock, hidden: Float[Tensor, "n length width"], *, n_heads: int
) -> tuple[Tensor, ...]:
    """Queries, keys and values of every token, each of shape (n, head, length, width of a head)."""
    attention = block.attn
    every = F.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
    return every.unflatten(-1, (3, n_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def load(
    model: str, pretrained: str = "", *, image_size: int = 0, has_weights: bool = True
) -> Clip:
    """The named model with its weights, frozen; without `has_weights` they are random.

    `model` is an open_clip name (then `pretrained` is a weights tag or file), `hf-hub:...`, or
    `local-dir:FOLDER`; `image_size` 0 is its own. Raises ConfigError if it does not exist, has no
    weights here, or has towers that dual prompts cannot be put into.
    """
    check_exists(model, pretrained, has_weights=has_weights)
    is_tag = bool(open_clip.get_pretrained_cfg(model, pretrained))
    fetch = f"import open_clip; open_clip.create_model('{model}', '{pretrained}')"
    with (
        weights.loading(
            model,
            pretrained,
            is_from_hub=is_tag or model.startswith(HUB_PREFIX),
            fetch=fetch,
        ),
        nullcontext() if has_weights else _unwarned(),
    ):
        loaded = open_clip.create_model(
            model,
            pretrained=pretrained if pretrained and (has_weights or is_tag) else None,
            load_weights=has_weights,
            device="cpu",
            force_quick_gelu=needs_quick_gelu(model, pretrained),
            force_image_size=image_size or None,
            require_pretrained=has_weights,
        )
        tokenizer = open_clip.get_tokenizer(model)
    check_towers(model, loaded)
    return Clip(loaded, tokenizer)


def save(clip: Clip, folder: Path, *, model: str) -> None:
    """Write a CLIP, which was loaded by the name `model`, so that open_clip loads it as
    local-dir:FOLDER."""
    save_config(folder / CONFIG, clip.visual, clip.normalise, model=model)
    state = {name: value.contiguous() for name, value in clip.model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def save_config(path: Path, tower: Any, normalise: Normalise, *, model: str) -> None:
    """Write what open_clip must know to make the model of this name, as it is used here, anew:
    then neither the weights that it began with nor the model hub are needed for it."""
    config = open_clip.get_model_config(model)
    config["vision_cfg"]["image_size"] = _image_size(tower)
    if has_quick_gelu(tower):
        config["quick_gelu"] = True
    mean, deviation = normalise.statistics()
    preprocessing = {"mean": mean, "std": deviation, "interpolation": "bicubic"}
    saved = {"model_cfg": config, "preprocess_cfg": {**preprocessing, "resize_mode": "shortest"}}
    path.write_text(json.dumps(saved, indent=1), encoding="utf-8")


def empty_text_tower(clip: Clip) -> None:
    """Fill all but the image tower's blocks with zeros, so that it says nothing, not nonsense."""
    with torch.no_grad():
        for name, value in clip.model.named_parameters():
            if not name.startswith("visual.") or name == "visual.proj":
                value.zero_()


def needs_quick_gelu(model: str, pretrained: str) -> bool:
    """Whether these weights were trained with the activation QuickGELU, as OpenAI's were.

    open_clip only warns, and then runs them with another activation than they know.
    """
    known = open_clip.get_pretrained_cfg(model, pretrained) or {}
    return bool(known.get("quick_gelu")) or _is_of_openai(pretrained)


def has_quick_gelu(tower: nn.Module) -> bool:
    """Whether the activation of an image tower is QuickGELU."""
    return any(isinstance(module, QuickGELU) for module in tower.modules())


def _is_of_openai(pretrained: str) -> bool:
    """Whether these are OpenAI's weights in a file: they came as TorchScript archives."""
    if not zipfile.is_zipfile(pretrained):
        return False
    with zipfile.ZipFile(pretrained) as archive:
        return any("/code/" in name for name in archive.namelist())


@contextmanager
def _unwarned() -> Iterator[None]:
    """No warnings in the log: open_clip's that a model is random, when its weights come later."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def check_exists(model: str, pretrained: str, *, has_weights: bool = True) -> None:
    """ConfigError unless `load` can look for this model; nothing is fetched."""
    if model.startswith(LOCAL_PREFIX):
        folder = Path(model.removeprefix(LOCAL_PREFIX))
        if not (folder / CONFIG).is_file():
            raise ConfigError(
                f"The model folder {folder} has no {CONFIG}.",
                f"A local-dir: model is a folder with {CONFIG} and its weights.",
            )
        return
    if model.startswith(HUB_PREFIX):
        return
    if model not in open_clip.list_models():
        raise ConfigError(
            f'open_clip has no model named "{model}".',
            "Models that work: ViT-B-16, ViT-B-32, ViT-L-14, local-dir:FOLDER, hf-hub:NAME.",
        )
    _check_architecture(model)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if has_weights and pretrained not in tags and not os.path.isfile(pretrained):  # noqa: PTH113
        raise ConfigError(
            f'The model "{model}" has no weights "{pretrained}", and there is no such file.',
            f"Known weights: {', '.join(tags)}.",
        )


def check_towers(name: str, model: Any) -> None:
    """ConfigError unless both towers are ones that prompts can be put into."""
    tower = model.visual
    is_native = isinstance(model, open_clip.CLIP) and isinstance(tower, VisionTransformer)
    if not (is_native and tower.pool_type == "tok" and tower.attn_pool is None):
        raise _refusal(name, "image tower", "a plain open_clip Vision Transformer")
    blocks = model.transformer.resblocks
    is_plain = all(type(block) is ResidualAttentionBlock for block in blocks)
    if model.attn_mask is None or model.text_pool_type != "argmax" or not is_plain:
        raise _refusal(name, "text tower", "a plain causal transformer")


def _check_architecture(name: str) -> None:
    """ConfigError for a model whose towers cannot do, before its weights are fetched."""
    config = open_clip.get_model_config(name)
    vision = config["vision_cfg"]
    if vision.get("timm_model_name") or isinstance(vision.get("layers"), list):
        raise _refusal(name, "image tower", "a plain open_clip Vision Transformer")
    if config.get("custom_text") or config["text_cfg"].get("hf_model_name"):
        raise _refusal(name, "text tower", "a plain causal transformer")


def _refusal(name: str, tower: str, expected: str) -> ConfigError:
    return ConfigError(
        f'The {tower} of "{name}" is not {expected}.',
        "Models that work: ViT-B-16, ViT-B-32, ViT-L-14.",
    )

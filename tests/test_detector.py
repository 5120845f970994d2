"""The detector against a longhand transcription of the paper's formulas on a tiny real CLIP."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deft_core import clip, losses, phase1
from deft_core.detector import Detector
from deft_core.errors import ConfigError
from tests.tiny_clip import write_tiny_clip

NAMES = ["cat", "fire truck", "umbrella"]
GIVEN = torch.tensor([0, 1, 2, 1, 0])
COMPLEMENTARY = torch.tensor([1, 2, 0, 0, 2])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(model_folder: Path) -> clip.Clip:
    return clip.load(f"local-dir:{model_folder}")


@pytest.fixture
def images() -> Tensor:
    random = torch.Generator().manual_seed(3)
    return torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8, generator=random)


def build(model: clip.Clip, **settings: int | bool) -> Detector:
    torch.manual_seed(2)
    detector = Detector(model, NAMES, **{"n_context": 4, "vpt_tokens": 3, **settings})
    with torch.no_grad():
        # Far from the initial values, so that selected and unselected samples both occur.
        detector.prompts.positive.normal_()
        detector.prompts.negative.normal_()
    return detector


@pytest.mark.parametrize("has_class_contexts", [False, True])
@pytest.mark.parametrize("is_warmup", [True, False])
def test_loss_and_gradients_equal_the_longhand_formulas(
    model: clip.Clip, images: Tensor, has_class_contexts: bool, is_warmup: bool
) -> None:
    detector = build(model, has_class_contexts=has_class_contexts)
    learned = [one for one in detector.parameters() if one.requires_grad]

    logits = detector(images)
    is_selected = losses.p_clean(logits.pos, logits.neg, GIVEN) > 0.5
    assert is_selected.any()
    assert not is_selected.all()
    loss = phase1.step_loss(logits, GIVEN, COMPLEMENTARY, is_warmup=is_warmup)
    gradients = torch.autograd.grad(loss, learned)
    longhand = longhand_loss(detector, images, is_warmup=is_warmup)
    expected = torch.autograd.grad(longhand, learned)

    assert loss.item() == pytest.approx(longhand.item(), abs=1e-5)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def longhand_loss(detector: Detector, images: Tensor, *, is_warmup: bool) -> Tensor:
    """The published training step, sample by sample: full-length texts, two text passes."""
    model = detector.clip.model
    features = F.normalize(longhand_vpt(detector, images), dim=-1)
    positive = longhand_text(detector, detector.prompts.positive)
    negative = longhand_text(detector, detector.prompts.negative)
    scale = model.logit_scale.exp()
    pos = scale * features @ positive.T
    neg = scale * features.detach() @ negative.T

    dual, alignment, n_selected = torch.zeros(()), torch.zeros(()), 0
    for i, (label, wrong) in enumerate(zip(GIVEN.tolist(), COMPLEMENTARY.tolist(), strict=True)):
        pairs = torch.stack([pos[i].detach(), neg[i]], dim=-1).softmax(dim=-1)
        p_yes, p_no = pairs[:, 0].clamp(min=1e-5), pairs[:, 1].clamp(min=1e-5)
        is_selected = bool(is_warmup or pairs[label, 0] > 0.5)
        believed = label if is_selected else int(pos[i].argmax())
        dual = dual - p_yes[believed].log() - p_no[wrong].log()
        if is_selected:
            n_selected += 1
            alignment = alignment - pos[i].log_softmax(dim=0)[label]
    return dual / len(GIVEN) + alignment / max(n_selected, 1)


def longhand_text(detector: Detector, context: Tensor) -> Tensor:
    """[start] [V]1..[V]M name . [end], padded to the model's full context length."""
    model, n_context = detector.clip.model, detector.prompts.positive.shape[-2]
    tokens = detector.clip.tokenizer([f"{name}." for name in NAMES], context_length=32)
    features = []
    for k, row in enumerate(tokens):
        embedded = model.token_embedding(row)
        own = context[k] if context.ndim == 3 else context
        sequence = torch.cat([embedded[:1], own, embedded[1 : 32 - n_context]])
        hidden = (sequence + model.positional_embedding)[None]
        for block in model.transformer.resblocks:
            hidden = block(hidden, attn_mask=model.attn_mask)
        end = int(row.argmax()) + n_context
        features.append(model.ln_final(hidden[0, end]) @ model.text_projection)
    return F.normalize(torch.stack(features), dim=-1)


def longhand_vpt(detector: Detector, images: Tensor) -> Tensor:
    """The image tower written out, with each layer's prompt after the patches."""
    tower = detector.clip.visual
    hooks, prompts = [], detector.visual_prompts
    assert prompts is not None
    for block in tower.transformer.resblocks:
        hooks.append(dict(block._forward_pre_hooks))
        block._forward_pre_hooks.clear()
    mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1) * 255
    std = torch.tensor([0.25, 0.3, 0.2]).view(3, 1, 1) * 255
    patches = tower.conv1((images.float() - mean) / std).flatten(2).transpose(1, 2)
    hidden = torch.cat([tower.class_embedding.expand(len(images), 1, -1), patches], dim=1)
    hidden = tower.ln_pre(hidden + tower.positional_embedding)
    n_kept = hidden.shape[1]
    for layer, block in enumerate(tower.transformer.resblocks):
        prompt = prompts.tokens[layer].expand(len(images), -1, -1)
        hidden = block(torch.cat([hidden[:, :n_kept], prompt], dim=1))
    for block, own in zip(tower.transformer.resblocks, hooks, strict=True):
        block._forward_pre_hooks.update(own)
    return tower.ln_post(hidden)[:, 0] @ tower.proj


def test_spelled_out_context_equals_the_text_encoder(model: clip.Clip) -> None:
    detector = build(model)
    words = model.tokenize(["a photo of a"])[:, 1:5]
    with torch.no_grad():
        detector.prompts.positive.copy_(model.embed_tokens(words)[0])

    features = detector.text_features().pos

    expected = model.encode_text([f"a photo of a {name}." for name in NAMES])
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


def test_cut_text_equals_open_clips_full_length(model: clip.Clip) -> None:
    texts = ["a cat", "a picture of a very long fire truck."]

    expected = model.model.encode_text(model.tokenizer(texts, context_length=32), normalize=True)

    torch.testing.assert_close(model.encode_text(texts), expected, atol=1e-6, rtol=1e-5)


def test_only_the_prompts_learn(model: clip.Clip) -> None:
    detector = build(model)

    learned = {name for name, one in detector.named_parameters() if one.requires_grad}

    assert learned == {"prompts.positive", "prompts.negative", "visual_prompts.tokens"}


def test_dual_loss_alone_trains_only_the_negative_context(model: clip.Clip, images: Tensor) -> None:
    detector = build(model)

    logits = detector(images)
    losses.dual_prompt_loss(logits.pos, logits.neg, GIVEN, COMPLEMENTARY).backward()

    assert detector.prompts.negative.grad is not None
    assert not detector.prompts.positive.grad.any()
    assert detector.visual_prompts is not None
    assert detector.visual_prompts.tokens.grad is None


def test_without_visual_prompts_the_images_are_encoded_as_pretrained(
    model: clip.Clip, images: Tensor
) -> None:
    before = model.encode_image(images)

    without = Detector(model, NAMES, n_context=4, vpt_tokens=0).clip.encode_image(images)
    prompted = Detector(model, NAMES, n_context=4, vpt_tokens=4).clip.encode_image(images)

    torch.testing.assert_close(without, before, rtol=0, atol=0)
    assert not torch.allclose(prompted, before)


def test_context_longer_than_the_model_reads_is_refused(model: clip.Clip) -> None:
    with pytest.raises(ConfigError, match="need 33 text tokens; the model reads 32"):
        Detector(model, ["cat", "dog"], n_context=29)

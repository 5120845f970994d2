"""The detector against a longhand transcription of the paper's formulas on a tiny real CLIP."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deft_core import clip
from deft_core.config import IMAGE_SIDES, Phase1Config
from deft_core.detector import Detector, PromptsAlone
from deft_core.engine import Engine
from deft_core.errors import ConfigError
from deft_core.loading import Batch
from deft_core.phase1 import DRAWS, DualPromptObjective, Standing
from tests.tiny_clip import write_tiny_clip

NAMES = ["cat", "fire truck", "umbrella"]
GIVEN = torch.tensor([0, 1, 2, 1, 0, 2, 0, 1])
N = len(GIVEN)
EPOCH = 2
CONTEXTS: list[dict[str, Any]] = [
    {"class_position": position, "has_class_contexts": has_own}
    for position in ("end", "middle", "front")
    for has_own in (False, True)
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> clip.Clip:
    return clip.load(f"local-dir:{write_tiny_clip(tmp_path_factory.mktemp('models') / 'tiny')}")


@pytest.fixture
def model(loaded: clip.Clip) -> clip.Clip:
    """A model that a test may change; the tokenizer is large and never changes."""
    return copy.deepcopy(loaded, {id(loaded.tokenizer): loaded.tokenizer})


@pytest.fixture
def images() -> Tensor:
    random = torch.Generator().manual_seed(3)
    return torch.randint(256, (N, 3, 16, 16), dtype=torch.uint8, generator=random)


def configure(**settings: Any) -> Phase1Config:
    """Settings in which the epoch `EPOCH` comes after the warm-up unless they say else."""
    small = {"n_context": 4, "vpt_tokens": 3, "rank": 2, "device": "cpu", "seed": 5}
    return Phase1Config(**{**small, **settings})


def build(model: clip.Clip, settings: Phase1Config) -> Detector:
    torch.manual_seed(2)
    detector = Detector(model, NAMES, settings)
    with torch.no_grad():
        # Far from the initial values, so that selected and unselected samples both occur.
        detector.prompts.positive.normal_()
        detector.prompts.negative.normal_()
    return detector


def learned(detector: Detector) -> dict[str, nn.Parameter]:
    return {name: one for name, one in detector.named_parameters() if one.requires_grad}


# --- one step of training


def undecided(labels: Tensor) -> Standing:
    is_confirmed = torch.zeros_like(labels, dtype=torch.bool)
    return Standing(labels=labels, is_confirmed=is_confirmed, trained_rows=np.arange(len(labels)))


def step(
    detector: Detector,
    images: Tensor,
    settings: Phase1Config,
    *,
    part_size: int = N,
    epoch: int = EPOCH,
    given: Tensor = GIVEN,
) -> tuple[float, dict[str, Tensor]]:
    """The loss of one batch and its gradients, as a training finds them."""
    detector.zero_grad(set_to_none=True)
    engine = Engine(settings)
    objective = DualPromptObjective(
        detector, detector, undecided(given), engine=engine, settings=settings
    )
    objective.begin_epoch(epoch)
    objective.begin_batch()
    n = len(given)
    for part in Batch(images, torch.arange(n), n).split(part_size):
        engine.backward(objective.loss(part, epoch) / n)
    loss = objective.end_batch(n).item()
    gradients = {}
    for name, one in learned(detector).items():
        assert one.grad is not None, name
        gradients[name] = one.grad.clone()
    return loss, gradients


def assert_equals_longhand(detector: Detector, images: Tensor, settings: Phase1Config) -> None:
    loss, gradients = step(detector, images, settings)

    longhand, has_both = longhand_loss(detector, images, settings)
    expected = torch.autograd.grad(longhand, list(learned(detector).values()))
    assert has_both or settings.warmup_epochs == EPOCH, "some are selected, and some are not"
    assert loss == pytest.approx(longhand.item(), abs=1e-5)
    for (name, mine), other in zip(gradients.items(), expected, strict=True):
        assert other.any(), name
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("contexts", CONTEXTS, ids=str)
@pytest.mark.parametrize("recipe", ["synthetic", "real-noise"])
@pytest.mark.parametrize("warmup_epochs", [0, EPOCH])
@pytest.mark.parametrize("n_complementary", [1, 3])
def test_loss_and_gradients_equal_the_longhand_formulas(
    model: clip.Clip,
    images: Tensor,
    contexts: dict[str, Any],
    recipe: str,
    warmup_epochs: int,
    n_complementary: int,
) -> None:
    settings = configure(
        **contexts, recipe=recipe, warmup_epochs=warmup_epochs, n_complementary=n_complementary
    )
    assert_equals_longhand(build(model, settings), images, settings)


def test_the_real_noise_recipe_believes_all_labels_in_its_first_epoch_alone(
    model: clip.Clip, images: Tensor
) -> None:
    settings = configure(recipe="real-noise", warmup_epochs=5)
    detector = build(model, settings)

    for epoch in (1, 2, 5, 6):
        loss, _ = step(detector, images, settings, epoch=epoch)
        longhand, _ = longhand_loss(detector, images, settings, epoch=epoch)
        assert loss == pytest.approx(longhand.item(), abs=1e-5)


@pytest.mark.parametrize(
    "image_side",
    [
        {"image_side": "vpt-deep"},
        {"image_side": "vpt-deep", "vpt_layers": 1},
        {"image_side": "vpt-deep", "vpt_layers": 2},
        {"image_side": "vpt-shallow"},
    ],
    ids=str,
)
def test_visual_prompts_equal_the_tower_written_out(
    model: clip.Clip, images: Tensor, image_side: dict[str, Any]
) -> None:
    settings = configure(**image_side, warmup_epochs=EPOCH)
    detector = build(model, settings)

    features = detector.clip.encode_image(images)

    longhand = F.normalize(longhand_vpt(detector, images, settings), dim=-1)
    torch.testing.assert_close(features, longhand, rtol=1e-5, atol=1e-6)
    assert_equals_longhand(detector, images, settings)


@pytest.mark.parametrize("part_size", [1, 3])
@pytest.mark.parametrize("image_side", IMAGE_SIDES)
@pytest.mark.parametrize("recipe", ["synthetic", "real-noise"])
def test_a_batch_cut_in_parts_has_the_same_gradients(
    model: clip.Clip, images: Tensor, part_size: int, image_side: str, recipe: str
) -> None:
    settings = configure(image_side=image_side, recipe=recipe, warmup_epochs=0)
    detector = build(model, settings)

    whole, gradients = step(detector, images, settings)
    cut, gradients_of_parts = step(detector, images, settings, part_size=part_size)

    assert cut == pytest.approx(whole, abs=1e-5)
    for name, expected in gradients.items():
        torch.testing.assert_close(
            gradients_of_parts[name], expected, rtol=1e-4, atol=1e-5, msg=name
        )


def test_an_empty_selection_trains_the_negative_prompt_alone(
    model: clip.Clip, images: Tensor
) -> None:
    settings = configure(warmup_epochs=0)
    detector = build(model, settings)
    with torch.no_grad():
        logits = detector(images)
    gaps = logits.pos - logits.neg
    # The class whose threshold is passed least: no image is selected with it.
    given = gaps.argmin(dim=1)
    assert (gaps.amin(dim=1) < 0).all()

    loss, gradients = step(detector, images, settings, given=given)

    assert np.isfinite(loss)
    assert gradients.pop("prompts.negative").any()
    assert all(not one.any() for one in gradients.values())


def test_a_batch_of_one_class_trains_with_numbers(model: clip.Clip, images: Tensor) -> None:
    settings = configure(warmup_epochs=0)
    detector = build(model, settings)

    loss, gradients = step(detector, images, settings, given=torch.full((N,), 2))

    assert np.isfinite(loss)
    assert all(torch.isfinite(one).all() for one in gradients.values())


def test_wrong_classes_are_other_classes_each_as_often(model: clip.Clip) -> None:
    settings = configure(n_complementary=3)
    given = torch.arange(3).repeat(1000)
    detector = build(model, settings)
    objective = DualPromptObjective(
        detector, detector, undecided(given), engine=Engine(settings), settings=settings
    )

    draws = []
    for epoch in (1, 2, 1):
        objective.begin_epoch(epoch)
        draws.append(objective._draws.clone())

    assert draws[0].shape == (3000, 3)
    assert (draws[0] != given[:, None]).all()
    counts = draws[0][given == 1].ravel().bincount(minlength=3).tolist()
    assert counts == pytest.approx([1500, 0, 1500], abs=150)
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])


def test_the_trace_is_the_gap_and_the_margin_of_each_sample(
    model: clip.Clip, images: Tensor
) -> None:
    settings = configure()
    detector = build(model, settings)
    objective = DualPromptObjective(
        detector, detector, undecided(GIVEN), engine=Engine(settings), settings=settings
    )
    objective.begin_epoch(EPOCH)
    objective.begin_batch()
    rows = torch.tensor([6, 1, 4])
    objective.loss(Batch(images[rows], rows, 3), EPOCH)

    trace = objective.trace()

    with torch.no_grad():
        logits = detector(images)
    expected = np.zeros((2, N))
    for i in rows.tolist():
        label = GIVEN[i]
        others = [k for k in range(3) if k != label]
        expected[0, i] = logits.pos[i, label] - logits.neg[i, label]
        expected[1, i] = logits.pos[i, label] - logits.pos[i, others].max()
    np.testing.assert_allclose(trace, expected, rtol=1e-4, atol=1e-5)


def test_similarities_are_not_rounded_in_mixed_precision(model: clip.Clip, images: Tensor) -> None:
    detector = build(model, configure())
    with torch.no_grad():
        features, text = model.encode_image(images), detector.text_features()
        exact = detector.compare(features, text)

        with torch.autocast("cpu", torch.bfloat16):
            mixed = detector.compare(features, text)

    torch.testing.assert_close(mixed.pos, exact.pos, rtol=0, atol=0)
    torch.testing.assert_close(mixed.neg, exact.neg, rtol=0, atol=0)


# --- the published training step, sample by sample: full-length texts, two text passes


def longhand_loss(
    detector: Detector, images: Tensor, settings: Phase1Config, *, epoch: int = EPOCH
) -> tuple[Tensor, bool]:
    """The loss, and whether selected and unselected samples both occur."""
    model = detector.clip.model
    features = F.normalize(longhand_vpt(detector, images, settings), dim=-1)
    positive = longhand_text(detector, detector.prompts.positive, settings)
    negative = longhand_text(detector, detector.prompts.negative, settings)
    scale = model.logit_scale.exp()
    pos = scale * features @ positive.T
    neg = scale * features.detach() @ negative.T
    is_warmup = epoch <= settings.warmup_epochs
    is_real_noise = settings.recipe == "real-noise"
    draws = longhand_draws(settings, epoch=epoch)

    dual, alignment, n_aligned, n_selected = torch.zeros(()), torch.zeros(()), 0, 0
    for i, label in enumerate(GIVEN.tolist()):
        pairs = torch.stack([pos[i].detach(), neg[i]], dim=-1).softmax(dim=-1)
        p_yes, p_no = pairs[:, 0].clamp(min=1e-5), pairs[:, 1].clamp(min=1e-5)
        is_selected = bool(pairs[label, 0] > 0.5)
        if is_real_noise:
            is_selected = is_selected and int(pairs[:, 0].argmax()) == label
        n_selected += is_selected
        believes_given = epoch == 1 if is_real_noise else is_warmup
        believed = label if is_selected or believes_given else int(pos[i].argmax())
        wrong = sum((p_no[k].log() for k in draws[i]), torch.zeros(())) / len(draws[i])
        dual = dual - p_yes[believed].log() - wrong
        if is_selected or is_warmup:
            n_aligned += 1
            alignment = alignment - pos[i].log_softmax(dim=0)[label]
            if is_warmup and is_real_noise:
                target = torch.full((len(NAMES),), 1e-4)
                target[label] = 1.0
                alignment = alignment - (pos[i].softmax(dim=0) * target.log()).sum()
    return dual / N + alignment / max(n_aligned, 1), 0 < n_selected < N


def longhand_draws(settings: Phase1Config, *, epoch: int) -> list[list[int]]:
    """The wrong classes of each sample: some steps on from the given one, never round to it."""
    random = np.random.default_rng([settings.seed, epoch, DRAWS])
    steps = random.integers(1, len(NAMES), (N, settings.n_complementary))
    return [
        [(label + int(one)) % len(NAMES) for one in own]
        for label, own in zip(GIVEN.tolist(), steps, strict=True)
    ]


def longhand_text(detector: Detector, context: Tensor, settings: Phase1Config) -> Tensor:
    """[start] name and context as they stand . [end], padded to the model's full length."""
    model = detector.clip.model
    n = settings.n_context
    n_before = {"end": n, "middle": n // 2, "front": 0}[settings.class_position]
    tokens = detector.clip.tokenizer([f"{name}." for name in NAMES], context_length=32)
    features = []
    for k, row in enumerate(tokens):
        embedded = model.token_embedding(row)
        own = context[k] if settings.has_class_contexts else context
        end = int(row.argmax())
        start, name, rest = embedded[:1], embedded[1 : end - 1], embedded[end - 1 : 32 - n]
        sequence = torch.cat([start, own[:n_before], name, own[n_before:], rest])
        hidden = (sequence + model.positional_embedding)[None]
        for block in model.transformer.resblocks:
            hidden = block(hidden, attn_mask=model.attn_mask)
        features.append(model.ln_final(hidden[0, end + n]) @ model.text_projection)
    return F.normalize(torch.stack(features), dim=-1)


def longhand_vpt(detector: Detector, images: Tensor, settings: Phase1Config) -> Tensor:
    """The image tower written out, with the prompts of its layers after the patches."""
    tower = detector.clip.visual
    blocks = list(tower.transformer.resblocks)
    hooks = [dict(block._forward_pre_hooks) for block in blocks]
    for block in blocks:
        block._forward_pre_hooks.clear()
    mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1) * 255
    std = torch.tensor([0.25, 0.3, 0.2]).view(3, 1, 1) * 255
    patches = tower.conv1((images.float() - mean) / std).flatten(2).transpose(1, 2)
    hidden = torch.cat([tower.class_embedding.expand(len(images), 1, -1), patches], dim=1)
    hidden = tower.ln_pre(hidden + tower.positional_embedding)
    n_kept = hidden.shape[1]
    tokens = dict(detector.named_parameters())["added.tokens"]
    n_plain = len(blocks) - (settings.vpt_layers or len(blocks))
    for layer, block in enumerate(blocks):
        if settings.image_side == "vpt-deep" and layer >= n_plain:
            prompt = tokens[layer - n_plain].expand(len(images), -1, -1)
            hidden = torch.cat([hidden[:, :n_kept], prompt], dim=1)
        if settings.image_side == "vpt-shallow" and layer == 0:
            hidden = torch.cat([hidden, tokens[0].expand(len(images), -1, -1)], dim=1)
        hidden = block(hidden)
    for block, own in zip(blocks, hooks, strict=True):
        block._forward_pre_hooks.update(own)
    return tower.ln_post(hidden)[:, 0] @ tower.proj


# --- the texts


def test_contexts_that_start_from_words_equal_the_text_encoder(model: clip.Clip) -> None:
    settings = configure(context_start="a photo of a")

    features = Detector(model, NAMES, settings).text_features()

    expected = model.encode_text([f"a photo of a {name}." for name in NAMES])
    torch.testing.assert_close(features.pos, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.neg, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("position", "text"), [("middle", "a photo {} of a."), ("front", "{} a photo of a.")]
)
def test_the_class_name_may_stand_elsewhere_among_the_words(
    model: clip.Clip, position: str, text: str
) -> None:
    settings = configure(
        context_start="a photo of a", class_position=position, has_class_contexts=True
    )

    features = Detector(model, NAMES, settings).text_features().pos

    expected = model.encode_text([text.format(name) for name in NAMES])
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("has_own", [False, True])
def test_vectors_before_the_first_words_are_random(model: clip.Clip, has_own: bool) -> None:
    settings = configure(context_start="photo of", n_context=6, has_class_contexts=has_own)

    prompts = Detector(model, NAMES, settings).prompts

    words = model.embed_tokens(model.tokenize(["photo of"]))[0, 1:-1]
    for context in (prompts.positive, prompts.negative):
        assert context.shape == ((3, 6, 16) if has_own else (6, 16))
        assert torch.equal(context[..., 4:, :], words.expand_as(context[..., 4:, :]))
        assert 0.01 < context[..., :4, :].std() < 0.03
    assert not torch.equal(prompts.positive[..., :4, :], prompts.negative[..., :4, :])


def test_more_words_than_context_vectors_are_refused(model: clip.Clip) -> None:
    with pytest.raises(ConfigError, match='"a photo of a" is 4 text tokens; the contexts have 3'):
        Detector(model, NAMES, configure(context_start="a photo of a", n_context=3))


def test_cut_text_equals_open_clips_full_length(model: clip.Clip) -> None:
    texts = ["a cat", "a picture of a very long fire truck."]

    expected = model.model.encode_text(model.tokenizer(texts, context_length=32), normalize=True)

    torch.testing.assert_close(model.encode_text(texts), expected, atol=1e-6, rtol=1e-5)


def test_context_longer_than_the_model_reads_is_refused(model: clip.Clip) -> None:
    with pytest.raises(ConfigError, match="need 33 text tokens; the model reads 32"):
        Detector(model, ["cat", "dog"], configure(n_context=29))


# --- what learns in the image tower


def named_as(names: Sequence[str], *wanted: str) -> bool:
    """Whether each name ends in one of the wanted ways, and each way is found."""
    return all(name.endswith(wanted) for name in names) and all(
        any(name.endswith(one) for name in names) for one in wanted
    )


@pytest.mark.parametrize(
    ("image_side", "n_learned", "wanted"),
    [
        # Two blocks with four linear layers (qkv, out, c_fc, c_proj), two layer norms each.
        ("vpt-deep", 1, ("added.tokens",)),
        ("vpt-shallow", 1, ("added.tokens",)),
        ("lora", 2 * 4 * 2, ("lora_A.default.weight", "lora_B.default.weight")),
        (
            "dora",
            2 * 2 * 3,
            (
                "lora_A.default.weight",
                "lora_B.default.weight",
                "lora_magnitude_vector.default.weight",
            ),
        ),
        ("norms", 2 * (2 * 2 + 2), ("default.weight", "default.bias")),
        ("biases", 2 * (4 + 2) + 2, ("bias",)),
        (
            "adapters",
            2 * 6,
            ("norm.weight", "norm.bias", "down.weight", "down.bias", "up.weight", "up.bias"),
        ),
        ("none", 0, ()),
    ],
)
def test_what_learns(
    model: clip.Clip, image_side: str, n_learned: int, wanted: tuple[str, ...]
) -> None:
    settings = configure(image_side=image_side)

    names = list(learned(Detector(model, NAMES, settings)))

    assert {"prompts.positive", "prompts.negative"} <= set(names)
    on_image_side = [name for name in names if not name.startswith("prompts.")]
    assert len(on_image_side) == n_learned
    assert named_as(on_image_side, *wanted)
    assert not any("transformer" in name and "visual" not in name for name in on_image_side)


def test_with_all_the_whole_image_tower_and_nothing_else_learns(model: clip.Clip) -> None:
    names = set(learned(Detector(model, NAMES, configure(image_side="all"))))

    tower = {f"clip.model.visual.{name}" for name, _ in model.visual.named_parameters()}
    assert names == tower | {"prompts.positive", "prompts.negative"}


@pytest.mark.parametrize("image_side", ["lora", "dora", "norms", "biases", "adapters", "all"])
def test_the_image_side_starts_as_pretrained_and_its_gradients_arrive(
    model: clip.Clip, images: Tensor, image_side: str
) -> None:
    before = model.encode_image(images)
    settings = configure(image_side=image_side, warmup_epochs=EPOCH)
    detector = build(model, settings)

    torch.testing.assert_close(model.encode_image(images), before, rtol=1e-6, atol=1e-6)
    _, gradients = step(detector, images, settings)
    # What is multiplied by a factor that starts at zero learns from the second step on.
    waiting = {
        name
        for name in gradients
        if "lora_A" in name or (name.startswith("added.") and ".up." not in name)
    }
    assert {name for name, gradient in gradients.items() if not gradient.any()} == waiting


@pytest.mark.parametrize("image_side", ["lora", "dora", "adapters"])
def test_every_added_part_learns_after_the_first_step(
    model: clip.Clip, images: Tensor, image_side: str
) -> None:
    settings = configure(image_side=image_side, warmup_epochs=EPOCH)
    detector = build(model, settings)
    _, first = step(detector, images, settings)
    with torch.no_grad():
        for name, one in learned(detector).items():
            one.sub_(0.1 * first[name])

    _, second = step(detector, images, settings)

    for name, gradient in second.items():
        assert gradient.any(), name


def test_without_an_image_side_the_images_are_encoded_as_pretrained(
    model: clip.Clip, images: Tensor
) -> None:
    before = model.encode_image(images)

    without = Detector(model, NAMES, configure(image_side="none")).clip.encode_image(images)
    torch.testing.assert_close(without, before, rtol=0, atol=0)

    prompted = Detector(model, NAMES, configure(image_side="vpt-deep")).clip.encode_image(images)
    assert not torch.allclose(prompted, before)


def test_prompts_alone_on_encoded_images_equal_the_detector(
    model: clip.Clip, images: Tensor
) -> None:
    detector = build(model, configure(image_side="none"))

    whole = detector(images)
    alone = PromptsAlone(detector)(model.encode_image(images))

    torch.testing.assert_close(alone.pos, whole.pos)
    torch.testing.assert_close(alone.neg, whole.neg)


def test_the_dual_loss_trains_only_the_negative_context(model: clip.Clip, images: Tensor) -> None:
    settings = configure()
    detector = build(model, settings)

    logits = detector(images)
    logits.neg.sum().backward()

    assert detector.prompts.negative.grad is not None
    assert detector.prompts.negative.grad.any()
    for name, one in learned(detector).items():
        if name != "prompts.negative":
            assert one.grad is None or not one.grad.any(), name
    assert detector.prompts.negative not in set(detector.aligned_parameters())
    assert len(detector.aligned_parameters()) == len(learned(detector)) - 1


@pytest.mark.parametrize("image_side", ["vpt-deep", "lora", "dora", "adapters", "none"])
def test_what_is_frozen_stays_as_it_was_to_the_last_bit(
    model: clip.Clip, images: Tensor, image_side: str
) -> None:
    settings = configure(image_side=image_side)
    detector = build(model, settings)
    with torch.no_grad():
        for one in learned(detector).values():
            one.normal_(std=0.1)
    before = {name: one.detach().clone() for name, one in detector.named_parameters()}

    for _ in range(3):
        step(detector, images, settings)

    for name, one in detector.named_parameters():
        assert torch.equal(one, before[name]), name

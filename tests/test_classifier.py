"""Classifiers on the image tower of a CLIP and on timm's models: what learns, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from deft_core import clip
from deft_core.classifier import Classifier, build_classifier
from deft_core.config import TIMM_IMAGE_SIDES, Phase2Config
from deft_core.errors import ConfigError
from tests.tiny_clip import write_tiny_clip

CLASS_NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a tiny CLIP."""
    return f"local-dir:{write_tiny_clip(tmp_path_factory.mktemp('clip') / 'model')}"


def build(model: str, **changes: Any) -> Classifier:
    torch.manual_seed(0)
    settings = Phase2Config(model=model, pretrained=changes.pop("pretrained", ""), **changes)
    return build_classifier(settings, CLASS_NAMES).eval()


def pixels(size: int, *, n: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


# --- the image tower of a CLIP


def test_full_fine_tuning_trains_the_whole_tower_and_leaves_out_the_prompts(model: str) -> None:
    classifier = build(model)

    assert all(one.requires_grad for one in classifier.parameters())
    assert not any("token_embedding" in name for name, _ in classifier.named_parameters())
    assert classifier(pixels(16)).shape == (2, 3)


@pytest.mark.parametrize(
    ("image_side", "head", "learning"),
    [
        ("none", "linear", {"head.weight", "head.bias"}),
        ("vpt-deep", "linear", {"head.weight", "head.bias", "added.tokens"}),
        ("vpt-deep", "text", {"added.tokens"}),
    ],
)
def test_what_the_settings_name_learns(
    model: str, image_side: str, head: str, learning: set[str]
) -> None:
    classifier = build(model, image_side=image_side, head=head, vpt_tokens=2)

    assert {name for name, one in classifier.named_parameters() if one.requires_grad} == learning
    assert classifier(pixels(16)).shape == (2, 3)


def test_the_text_head_starts_as_zero_shot_classification(model: str) -> None:
    loaded = clip.load(model)
    text = loaded.encode_text([f"a photo of a {name}." for name in CLASS_NAMES])
    expected = loaded.logit_scale * loaded.encode_image(pixels(16)) @ text.T

    classifier = build(model, image_side="all", head="text")

    torch.testing.assert_close(classifier(pixels(16)), expected, rtol=1e-5, atol=1e-5)
    features = classifier.features(pixels(16))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = classifier.head(features)
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)


def test_a_clip_can_be_given_larger_images(model: str) -> None:
    classifier = build(model, image_size=32)

    assert classifier.image_size == 32
    assert classifier(pixels(32)).shape == (2, 3)


@pytest.mark.parametrize("name", ["local-dir", "timm:resnet18"])
def test_a_classifier_is_rebuilt_without_weights_from_its_state(model: str, name: str) -> None:
    name = model if name == "local-dir" else name
    trained = build(name, image_size=32)
    settings = Phase2Config(model=name, pretrained="", image_size=32)

    rebuilt = build_classifier(settings, CLASS_NAMES, has_weights=False).eval()
    assert not torch.equal(rebuilt(pixels(32)), trained(pixels(32)))
    rebuilt.load_state_dict(trained.state_dict())

    assert torch.equal(rebuilt(pixels(32)), trained(pixels(32)))


def test_a_rebuilt_clip_needs_no_weights_that_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    settings = Phase2Config(model="ViT-S-32-alt", pretrained="/gone/weights.pt")

    with pytest.raises(ConfigError, match="there is no such file"):
        build_classifier(settings, CLASS_NAMES)
    classifier = build_classifier(settings, CLASS_NAMES, has_weights=False)

    assert classifier.image_size == 224
    assert not caplog.records


# --- timm


@pytest.mark.parametrize("image_side", TIMM_IMAGE_SIDES)
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_on_timm_models_gradients_come_to_all_that_learns(name: str, image_side: str) -> None:
    classifier = build(f"timm:{name}", image_size=32, image_side=image_side).train()
    learning = {name: one for name, one in classifier.named_parameters() if one.requires_grad}

    classifier(pixels(32)).sum().backward()

    assert all(one.grad is not None for one in learning.values())
    in_tower = {name for name in learning if name.startswith("tower.")}
    marks = {"lora": "lora_", "dora": "lora_", "norms": "", "biases": "bias", "all": ""}
    assert bool(in_tower) == (image_side != "none")
    assert all(marks[image_side] in name for name in in_tower)
    n_parameters = len(list(classifier.parameters()))
    assert (len(learning) == n_parameters) == (image_side == "all")


def test_random_weights_follow_the_seed() -> None:
    first, second = (build("timm:resnet18").state_dict() for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_timm_weights_come_from_a_file_without_its_head(tmp_path: Path) -> None:
    theirs = timm.create_model("resnet18")
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")

    classifier = build("timm:resnet18", pretrained=str(tmp_path / "weights.safetensors"))

    assert torch.equal(classifier.tower.conv1.weight, theirs.conv1.weight)
    assert classifier.head.weight.shape == (3, 512)


@pytest.mark.parametrize(
    ("name", "pretrained", "problem", "hint"),
    [
        ("resnt18", "", 'no model named "resnt18"', "resnet18"),
        ("resnet18", "openai", 'no weights "openai"', "a1_in1k"),
        ("resnet18.bogus", "", 'no weights "bogus"', "a1_in1k"),
        ("test_resnet", "a tag", 'no weights "a tag"', "r160_in1k"),
        ("deit_tiny_distilled_patch16_224", "", "one linear layer", "resnet50"),
    ],
)
def test_timm_models_that_cannot_be_had_are_refused_by_name(
    name: str, pretrained: str, problem: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        build(f"timm:{name}", pretrained=pretrained)

    assert hint in caught.value.hint


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not weights")

    with pytest.raises(ConfigError, match="could not be loaded"):
        build("timm:resnet18", pretrained=str(path))


def test_low_rank_adapters_that_a_model_would_pass_by_are_refused() -> None:
    with pytest.raises(
        ConfigError, match='"lora" does not work with "timm:eva02_tiny_patch14_224"'
    ):
        build("timm:eva02_tiny_patch14_224", image_side="lora")

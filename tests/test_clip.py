"""Loading: what works, and what is refused before any work starts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import open_clip
import pytest
import torch

from deft_core import clip
from deft_core.errors import ConfigError
from tests.tiny_clip import ARCHITECTURE, write_tiny_clip


def test_a_local_folder_loads_with_its_weights_frozen(tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path / "tiny", seed=5)

    model = clip.load(f"local-dir:{folder}")

    torch.manual_seed(5)
    expected = open_clip.CLIP(**ARCHITECTURE).visual.conv1.weight
    torch.testing.assert_close(model.visual.conv1.weight, expected)
    assert not any(one.requires_grad for one in model.parameters())
    assert model.image_size == 16


def test_images_are_normalised_as_the_model_was_trained(tmp_path: Path) -> None:
    model = clip.load(f"local-dir:{write_tiny_clip(tmp_path / 'tiny')}")
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 16, 16)

    values = model.normalise(images)[:, :, 0, 0]

    expected = torch.tensor([[-2.0, -0.4 / 0.3, -1.5], [2.0, 2.0, 3.5]])
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("local-dir:/nowhere/at/all", "", "has no open_clip_config.json"),
        ("ViT-B-61", "openai", 'no model named "ViT-B-61"'),
        ("ViT-B-16", "opanai", 'has no weights "opanai"'),
        ("ViT-B-16", "", 'has no weights ""'),
    ],
)
def test_a_model_that_is_not_there_is_named(model: str, pretrained: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        clip.load(model, pretrained)


def test_weights_that_cannot_be_fetched_are_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    damaged = tmp_path / "weights.pt"
    damaged.write_bytes(b"not weights")

    with pytest.raises(ConfigError, match="could not be loaded") as caught:
        clip.load("ViT-B-32", str(damaged))

    assert "weights file" in caught.value.hint


def test_a_tower_without_transformer_blocks_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match='image tower of "RN50"'):
        clip.check_towers("RN50", open_clip.create_model("RN50", load_weights=False))


@pytest.mark.parametrize(
    ("name", "tower"),
    [("RN50", "image"), ("ViT-B-16-SigLIP", "image"), ("roberta-ViT-B-32", "text")],
)
def test_a_model_that_cannot_do_is_refused_before_its_weights_are_fetched(
    name: str, tower: str
) -> None:
    with pytest.raises(ConfigError, match=f'{tower} tower of "{name}"') as caught:
        clip.load(name, "no such weights")

    assert "ViT-B-16" in caught.value.hint


def test_openais_weights_in_a_file_are_known_by_their_format(tmp_path: Path) -> None:
    for name, member in (("openai.pt", "ViT-B-16/code/__torch__.py"), ("other.pt", "a/data.pkl")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, "")

    assert clip.needs_quick_gelu("ViT-B-16", str(tmp_path / "openai.pt"))
    assert not clip.needs_quick_gelu("ViT-B-16", str(tmp_path / "other.pt"))


def test_openais_weights_get_the_activation_they_know() -> None:
    assert clip.needs_quick_gelu("ViT-B-16", "openai")
    assert not clip.needs_quick_gelu("ViT-B-16", "laion2b_s34b_b88k")
    assert not clip.needs_quick_gelu("local-dir:somewhere", "")


@pytest.mark.parametrize("damage", ["missing", "truncated", "other architecture"])
def test_a_folder_without_good_weights_is_refused(tmp_path: Path, damage: str) -> None:
    folder = write_tiny_clip(tmp_path / "tiny")
    weights, config = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        config.write_text(config.read_text().replace('"width": 32', '"width": 48'))

    with pytest.raises(ConfigError, match="could not be loaded"):
        clip.load(f"local-dir:{folder}")

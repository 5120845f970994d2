"""What a run has trained as files: read again by timm, open_clip, peft and onnxruntime alone, it
gives what the trained model gives."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import yaml
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from deft_core import clip, model_files, onnx_file
from deft_core.errors import ConfigError, ExportError, RunError
from tests.trained_runs import (
    CLASS_NAMES,
    PICTURE,
    RAN,
    make_run,
    shaken_detector,
    shaken_run,
    trained_run,
    write_world,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A secret place with pictures and a tiny CLIP."""
    return write_world(tmp_path_factory.mktemp("secret"))


def pixels(n: int = 4) -> Tensor:
    return torch.randint(256, (n, 3, 32, 32), generator=torch.Generator().manual_seed(1))


def logits(path: Path) -> Tensor:
    """What our own reader makes of the pixels."""
    return model_files.load(path).classifier(pixels()).detach()


def run_cards(
    folders: Sequence[Path], picture: Path, *, numbers: Sequence[int] = ()
) -> list[dict[str, float]]:
    """What the cards' own code prints, run where each card lies, in one new process; the first code
    of each card, unless `numbers` tell which."""
    program = "import os, sys\n"
    for folder, number in zip(folders, numbers or [0] * len(folders), strict=True):
        card = (folder / "README.md").read_text(encoding="utf-8")
        code = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)[number]
        shutil.copy(picture, folder / "photo.jpg")
        program += f"os.chdir({str(folder)!r}); exec({code!r}, {{}}); print('--')\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    texts = done.stdout.split("--\n")[:-1]
    lines = [[line.split(" ", maxsplit=1) for line in text.splitlines()] for text in texts]
    return [{name: float(chance) for chance, name in every} for every in lines]


def probabilities(path: Path, picture: Path) -> dict[str, float]:
    """Our own prediction for a picture, likeliest first."""
    image = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None]
    chances = model_files.load(path).classifier(image).softmax(dim=1)[0].tolist()
    named = zip(CLASS_NAMES, chances, strict=True)
    return dict(sorted(named, key=lambda one: -one[1]))


# --- what the training began with is gone


def test_a_clip_needs_nothing_that_it_began_with(world: Path, tmp_path: Path) -> None:
    weights = tmp_path / "openai.pt"
    torch.save(open_clip.create_model("ViT-S-32-alt").state_dict(), weights)
    with zipfile.ZipFile(weights, "a") as archive:
        archive.writestr("openai/code/__torch__.py", "")
    run = trained_run(
        tmp_path / "run", world, model="ViT-S-32-alt", pretrained=str(weights), image_side="none"
    )
    expected = logits(run.path)
    weights.unlink()

    model_files.export_model(run, to=tmp_path / "out")

    assert clip.has_quick_gelu(model_files.load(run.path).classifier.tower)
    assert torch.equal(logits(run.path), expected)
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-4)
    whole = clip.load(f"local-dir:{tmp_path / 'out'}").model
    assert not whole.text_projection.any()
    assert not whole.token_embedding.weight.any()
    assert "there is no text tower" in (tmp_path / "out" / "README.md").read_text()


def test_a_model_folder_that_is_gone_is_not_needed(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    run = trained_run(tmp_path / "run", world, model=f"local-dir:{tmp_path / 'model'}", head="text")
    expected = logits(run.path)
    shutil.rmtree(tmp_path / "model")

    model_files.export_model(run, to=tmp_path / "out")

    assert torch.equal(logits(run.path), expected)
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-4)


def test_a_timm_model_needs_nothing_that_it_began_with(world: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), weights)
    run = shaken_run(tmp_path / "run", world, model="timm:resnet18", pretrained=str(weights))
    expected = logits(run.path)
    weights.unlink()

    model_files.export_model(run, to=tmp_path / "out")

    assert torch.equal(logits(run.path), expected)
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-4)


# --- timm


def test_timm_models_go_through_phase_2_and_come_out_equal(world: Path, tmp_path: Path) -> None:
    folders, expected = [], []
    for name in ("resnet18", "vit_tiny_patch16_224"):
        to = tmp_path / f"{name} out"
        run = trained_run(tmp_path / name, world, model=f"timm:{name}")

        exported = model_files.export_model(run, to=to, has_onnx=True)

        assert set(exported.differences) == {"timm", "onnxruntime"}
        assert max(exported.differences.values()) <= 1e-4
        torch.testing.assert_close(logits(to), logits(run.path), rtol=0, atol=1e-4)
        folders.append(to)
        expected.append(probabilities(run.path, world / PICTURE))

    found = run_cards(folders, world / PICTURE)

    for with_timm, ours in zip(found, expected, strict=True):
        assert with_timm == pytest.approx(ours, abs=1e-4)
        assert list(with_timm) == list(ours)


def test_what_peft_trained_in_a_timm_model_is_in_its_weights(world: Path, tmp_path: Path) -> None:
    run = shaken_run(tmp_path / "run", world, model="timm:test_vit", image_side="lora")

    model_files.export_model(run, to=tmp_path / "out")

    names = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("lora" in name for name in names)
    torch.testing.assert_close(logits(tmp_path / "out"), logits(run.path), rtol=0, atol=1e-4)
    adapter = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert all("lora" in name for name in adapter)
    classifier = model_files.load(run.path).classifier
    before = timm.create_model("test_vit", img_size=32, num_classes=0)
    frozen = {
        name.replace("base_layer.", ""): value
        for name, value in classifier.tower.state_dict().items()
        if "lora_" not in name
    }
    before.load_state_dict(frozen)
    adapted = PeftModel.from_pretrained(before.eval(), tmp_path / "out" / "adapter")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adapted(images), classifier.tower(images), rtol=0, atol=1e-5)


# --- CLIP


KINDS = [
    ("all", "linear"),
    ("lora", "text"),
    ("vpt-deep", "linear"),
    ("vpt-shallow", "text"),
    ("adapters", "linear"),
]


def test_open_clip_alone_gives_equal_outputs_whatever_learned(world: Path, tmp_path: Path) -> None:
    folders, expected = [], []
    for image_side, head in KINDS:
        path = tmp_path / f"{image_side} {head}"
        run = shaken_run(path / "run", world, image_side=image_side, head=head)
        model_files.export_model(run, to=path / "out")
        folders.append(path / "out")
        expected.append(probabilities(run.path, world / PICTURE))

    with_lora = folders[1]
    shutil.copytree(world / "model", with_lora / "model")

    found = run_cards([*folders, with_lora], world / PICTURE, numbers=[0] * len(KINDS) + [1])

    for one, ours in zip(found, [*expected, expected[1]], strict=True):
        assert one == pytest.approx(ours, abs=2e-4)


def test_the_rest_of_the_clip_is_as_it_was(world: Path, tmp_path: Path) -> None:
    run = shaken_run(tmp_path / "run", world, image_size=16)

    model_files.export_model(run, to=tmp_path / "out")

    before = open_clip.create_model(f"local-dir:{world / 'model'}").state_dict()
    after = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("visual.") and name != "visual.proj" for name in changed)


@pytest.mark.parametrize("image_side", ["lora", "dora", "norms"])
def test_peft_alone_loads_the_adapter(world: Path, tmp_path: Path, image_side: str) -> None:
    run = shaken_run(tmp_path / "run", world, image_side=image_side, head="text", image_size=16)
    model_files.export_model(run, to=tmp_path / "out")
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    base = open_clip.create_model(f"local-dir:{world / 'model'}").visual

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
        adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")

    expected = model_files.load(run.path).classifier.tower(images)
    torch.testing.assert_close(adapted(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("image_side", "head"), [("vpt-deep", "linear"), ("lora", "text")])
def test_a_clip_as_onnx(world: Path, tmp_path: Path, image_side: str, head: str) -> None:
    run = shaken_run(tmp_path / "run", world, image_side=image_side, head=head)

    exported = model_files.export_model(run, to=tmp_path / "out", has_onnx=True)

    assert exported.differences["onnxruntime"] <= 1e-4
    expected = probabilities(run.path, world / PICTURE)
    (found,) = run_cards([tmp_path / "out"], world / PICTURE, numbers=[-1])
    assert found == pytest.approx(expected, abs=1e-4)


# --- the detector


@pytest.mark.parametrize(
    "settings",
    [
        {"image_side": "vpt-deep"},
        {"image_side": "none", "has_class_contexts": True},
        {"image_side": "adapters", "is_compiled": True},
        {"image_side": "biases"},
    ],
)
def test_a_detector_comes_out_equal(world: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    run, _ = shaken_detector(tmp_path / "run", world, **settings)

    exported = model_files.export_model(run, to=tmp_path / "out")

    assert exported.role == "detector"
    assert exported.differences["open_clip"] <= 1e-4
    learned = load_file(run.path / "detector.safetensors")
    contexts = load_file(tmp_path / "out" / "contexts.safetensors")
    assert torch.equal(contexts["negative"], learned["prompts.negative"])
    about = json.loads((tmp_path / "out" / "detector.json").read_text())
    assert about["class_names"] == CLASS_NAMES


def test_the_detectors_card_runs_with_open_clip_and_with_peft(world: Path, tmp_path: Path) -> None:
    folders, expected = [], []
    for image_side in ("vpt-deep", "lora", "dora"):
        run, p_clean = shaken_detector(tmp_path / image_side / "run", world, image_side=image_side)
        folders.append(tmp_path / image_side / "out")
        expected.append(p_clean)
        model_files.export_model(run, to=folders[-1])
    with_adapter = folders[1:]
    for folder in with_adapter:
        shutil.copytree(world / "model", folder / "model")

    found = run_cards([*folders, *with_adapter], world / PICTURE, numbers=[0, 0, 0, 1, 1])

    for one, ours in zip(found, [*expected, *expected[1:]], strict=True):
        assert one == pytest.approx(ours, abs=2e-4)
        assert list(one) == list(ours)


def test_the_detectors_card_claims_no_accuracy(world: Path, tmp_path: Path) -> None:
    run, _ = shaken_detector(tmp_path / "run", world)
    model_files.export_model(run, to=tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")

    assert "It flags 3 of the 9 training images (33.3%)." in card
    assert "accuracy" not in card
    assert "predict" not in card
    assert "secret" not in card


def test_a_detector_is_no_classifier(world: Path, tmp_path: Path) -> None:
    run, _ = shaken_detector(tmp_path / "run", world)
    model_files.export_model(run, to=tmp_path / "out")

    for folder in (run.path, tmp_path / "out"):
        with pytest.raises(ConfigError, match="holds a detector"):
            model_files.load(folder)
    with pytest.raises(ExportError, match="a phase 1, which has no ONNX form"):
        model_files.export_model(run, to=tmp_path / "onnx", has_onnx=True)


def test_a_detector_of_other_settings_is_damaged(world: Path, tmp_path: Path) -> None:
    run, _ = shaken_detector(tmp_path / "run", world)
    other, _ = shaken_detector(tmp_path / "other", world, image_side="none")
    shutil.copy(other.path / "detector.safetensors", run.path)

    with pytest.raises(ConfigError, match="of another model or other settings"):
        model_files.export_model(run, to=tmp_path / "out")


# --- whole or not at all


def test_a_model_that_comes_out_different_is_not_exported(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shaken_run(tmp_path / "run", world)
    monkeypatch.setattr(model_files, "LARGEST_DIFFERENCE", -1.0)

    with pytest.raises(ExportError, match="logits that differ by"):
        model_files.export_model(run, to=tmp_path / "out")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_export_replaces_nothing(world: Path, tmp_path: Path) -> None:
    run = shaken_run(tmp_path / "run", world)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")

    with pytest.raises(ExportError, match="is not an empty folder"):
        model_files.export_model(run, to=tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_only_a_run_that_is_done_has_a_model(world: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", world)

    with pytest.raises(RunError, match="run is not done"):
        model_files.export_model(run, to=tmp_path / "out")
    with pytest.raises(ConfigError, match="holds no classifier"):
        model_files.load(run.path)


def test_a_damaged_export_is_named(world: Path, tmp_path: Path) -> None:
    run = shaken_run(tmp_path / "run", world)
    model_files.export_model(run, to=tmp_path / "out")
    (tmp_path / "out" / "head.safetensors").write_bytes(b"torn")

    with pytest.raises(ConfigError, match="is damaged"):
        model_files.load(tmp_path / "out")


def test_onnx_without_its_packages(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shaken_run(tmp_path / "run", world)
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "not_installed"))

    with pytest.raises(ExportError, match="missing: not_installed") as caught:
        model_files.export_model(run, to=tmp_path / "out", has_onnx=True)

    assert caught.value.hint == "python -m pip install -r requirements-onnx.txt"
    assert not (tmp_path / "out").exists()


# --- the card


def test_the_card_says_how_the_model_was_made(world: Path, tmp_path: Path) -> None:
    run = shaken_run(tmp_path / "run", world, image_side="lora", head="text")
    model_files.export_model(run, to=tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")

    front = yaml.safe_load(card.split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == "my pets"
    assert result["metrics"][0] == {"type": "accuracy", "value": 0.75}
    assert "license" not in front
    assert "| red \\| \\<b\\> |" in card
    assert "| reviewed, given another label | 2 |" in card
    assert "| reviewers | 2 |" in card
    assert "| curated set: this model | 7 | 75.0% | 0.700 | 0.125 |" in card
    assert "| given labels | 9 | 50.0% |" in card
    assert "The labels of 1 of them were reviewed" in card


def test_a_card_without_test_images_says_so(world: Path, tmp_path: Path) -> None:
    run = shaken_run(tmp_path / "run", world)
    run.write_json(
        "report.json",
        {"evaluation": [{"trained_on": "curated", "n_train": 7, "test": None}], **RAN},
    )

    model_files.export_model(run, to=tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "There were no test images" in card
    assert "model-index" not in card


@pytest.mark.parametrize("model", ["tiny", "timm:test_resnet"])
def test_no_private_path_comes_out(world: Path, tmp_path: Path, model: str) -> None:
    settings = {} if model == "tiny" else {"model": model}
    run = shaken_run(tmp_path / "run", world, image_side="lora", **settings)

    model_files.export_model(run, to=tmp_path / "out")

    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"secret" not in path.read_bytes(), path
            assert str(tmp_path).encode() not in path.read_bytes(), path
    about = json.loads((tmp_path / "out" / "classifier.json").read_text())
    assert about["settings"]["model"] == ("local-dir:model" if model == "tiny" else model)

"""A phase 2's classifier as files: read again by timm, open_clip, peft and onnxruntime alone, it
gives what the trained one gives."""

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
import pyarrow as pa
import pytest
import torch
import yaml
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from deft_core import clip, model_files, onnx_file, phase2
from deft_core.classifier import build_classifier
from deft_core.config import Phase2Config
from deft_core.errors import ConfigError, ExportError, RunError
from deft_core.run_folder import RunFolder
from tests.tiny_clip import write_tiny_clip

CLASS_NAMES = ["red | <b>", "green", "blue"]
N = 12
PICTURE = "my pets/00.png"
LABELS = {
    "n_train": 9,
    "by_verdict": {"keep": 1, "relabel": 2, "exclude": 1},
    "n_changed": 2,
    "n_undecided_clean": 4,
    "n_undecided_flagged": 1,
    "n_reviewers": 2,
    "n_rounds": 1,
}
TEST = {"n": 4, "n_reviewed": 1, "accuracy": 0.75, "macro_f1": 0.7, "ece": 0.125}
REPORT = {
    "evaluation": [
        {"trained_on": "given", "n_train": 9, "test": {**TEST, "accuracy": 0.5}},
        {"trained_on": "curated", "n_train": 7, "test": TEST},
    ],
    "device": "cpu",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A secret place with pictures of 32 by 32 pixels in "my pets" and a tiny CLIP in "model"."""
    secret = tmp_path_factory.mktemp("secret")
    random = np.random.default_rng(0)
    (secret / "my pets").mkdir()
    for i in range(N):
        pixels = random.integers(0, 90, (32, 32, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 150
        Image.fromarray(pixels).save(secret / "my pets" / f"{i:02d}.png")
    write_tiny_clip(secret / "model")
    return secret


def make_run(path: Path, world: Path, **settings: Any) -> RunFolder:
    """A phase 2 that is to be worked through, on the tiny CLIP unless the settings name a model."""
    small = {"epochs": 1, "batch_size": 6, "device": "cpu", "image_size": 32, "vpt_tokens": 2}
    model = {"model": f"local-dir:{world / 'model'}", "pretrained": "", "learning_rate": 0.05}
    chosen = Phase2Config(**{**small, **model, "compares_with": "none", **settings})
    labels = pa.array([i % 3 for i in range(N)], pa.int32())
    samples = pa.table(
        {
            "sample_id": pa.array(range(N), pa.int32()),
            "file_name": [f"{i:02d}.png" for i in range(N)],
            "sha256": [f"{i:064x}" for i in range(N)],
            "split": ["train"] * 9 + ["test"] * 3,
            "given_label": labels,
            "final_label": labels,
            "curated_label": labels,
            "is_selected": [True] * N,
            "is_reviewed": [False] * N,
        }
    )
    config = {
        "kind": "phase2",
        "round": 1,
        "created_at": "2026-01-02T03:04:05+00:00",
        "root": str(world / "my pets"),
        "cache": str(path.parent / "cache"),
        "class_names": CLASS_NAMES,
        "prompts": ["red", "green", "blue"],
        "settings": chosen.to_json(),
        "labels": LABELS,
    }
    return RunFolder.create(path, config=config, samples=samples)


def trained_run(path: Path, world: Path, **settings: Any) -> RunFolder:
    """A phase 2 that is done."""
    folder = make_run(path, world, **settings)
    list(phase2.run(folder))
    folder.set_status("done")
    return folder


def shaken_run(path: Path, world: Path, **settings: Any) -> RunFolder:
    """A phase 2 whose training was a random step of all that learns, which is quick."""
    folder = make_run(path, world, **settings)
    torch.manual_seed(0)
    config = Phase2Config.from_json(folder.config()["settings"])
    classifier = build_classifier(config, ["red", "green", "blue"])
    with torch.no_grad():
        for one in classifier.parameters():
            one.add_(0.1 * torch.randn_like(one) * one.requires_grad)
    save_file(classifier.state_dict(), folder.path / "model.safetensors")
    folder.write_json("report.json", REPORT)
    folder.set_status("done")
    return folder


def pixels(n: int = 4) -> Tensor:
    return torch.randint(256, (n, 3, 32, 32), generator=torch.Generator().manual_seed(1))


def logits(path: Path) -> Tensor:
    """What our own reader makes of the pixels."""
    return model_files.load(path).classifier(pixels()).detach()


def run_cards(folders: Sequence[Path], picture: Path, *, number: int = 0) -> list[dict[str, float]]:
    """What the cards' own code prints, run where each card lies, in one new process."""
    program = "import os, sys\n"
    for folder in folders:
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


def test_a_run_keeps_the_activation_of_weights_that_are_gone(world: Path, tmp_path: Path) -> None:
    weights = tmp_path / "openai.pt"
    torch.save(open_clip.create_model("ViT-S-32-alt").state_dict(), weights)
    with zipfile.ZipFile(weights, "a") as archive:
        archive.writestr("openai/code/__torch__.py", "")
    run = trained_run(
        tmp_path / "run", world, model="ViT-S-32-alt", pretrained=str(weights), image_side="none"
    )
    weights.unlink()

    tower = model_files.load(run.path).classifier.tower

    assert clip.has_quick_gelu(tower)


# --- timm


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_timm_models_go_through_phase_2_and_come_out_equal(
    world: Path, tmp_path: Path, name: str
) -> None:
    run = trained_run(tmp_path / "run", world, model=f"timm:{name}")
    to = tmp_path / "out"

    exported = model_files.export_model(run, to=to, has_onnx=True)

    assert set(exported.differences) == {"timm", "onnxruntime"}
    assert max(exported.differences.values()) <= 1e-4
    torch.testing.assert_close(logits(to), logits(run.path), rtol=0, atol=1e-4)
    expected = probabilities(run.path, world / PICTURE)
    (with_timm,) = run_cards([to], world / PICTURE)
    assert with_timm == pytest.approx(expected, abs=1e-4)
    assert list(with_timm) == list(expected)


def test_what_peft_trained_in_a_timm_model_is_in_its_weights(world: Path, tmp_path: Path) -> None:
    run = shaken_run(tmp_path / "run", world, model="timm:vit_tiny_patch16_224", image_side="lora")

    model_files.export_model(run, to=tmp_path / "out")

    names = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("lora" in name for name in names)
    torch.testing.assert_close(logits(tmp_path / "out"), logits(run.path), rtol=0, atol=1e-4)
    adapter = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert all("lora" in name for name in adapter)


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

    found = run_cards(folders, world / PICTURE)

    for one, ours in zip(found, expected, strict=True):
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
    (found,) = run_cards([tmp_path / "out"], world / PICTURE, number=1)
    assert found == pytest.approx(expected, abs=1e-4)


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


def test_only_a_phase_2_that_is_done_has_a_model(world: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", world)

    with pytest.raises(RunError, match="no phase 2 that is done"):
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
        {"evaluation": [{"trained_on": "curated", "n_train": 7, "test": None}], "device": "cpu"},
    )

    model_files.export_model(run, to=tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "There were no test images" in card
    assert "model-index" not in card


@pytest.mark.parametrize("model", ["tiny", "timm:resnet18"])
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

"""What a run has trained as files that other programs read, and back.

A phase 2 leaves a classifier, a phase 1 a detector. Seen from outside a detector is a classifier,
too, with two logits for each class: those of the positive prompts, then those of the negative ones.

    classifier.json, detector.json   classes, prompts, image size, how a picture is cut, settings
    config.json, model.safetensors   a timm model, whole, as timm itself writes and reads it; or
    open_clip_config.json, open_clip_model.safetensors    the CLIP with its fine-tuned image tower
    head.safetensors                 what tells the classes apart behind that tower
    contexts.safetensors             a detector's two learned contexts
    added.safetensors                its visual prompts or bottleneck adapters, if it has such
    adapter/                         LoRA, DoRA or layer norms alone, in peft's own format
    model.onnx                       the classifier from pixels to probabilities, if asked for
    README.md                        the model card

What peft has learned is added to the weights of the tower as well, so that it needs no peft to run.
All that is written is read again from the files and must give what the trained model gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deft_core import backbones, clip, onnx_file
from deft_core.adapters import adapt_image_side, merge_adapter
from deft_core.classifier import Classifier, TextHead, build_classifier
from deft_core.config import TIMM_PREFIX, Phase1Config, Phase2Config, TrainingConfig
from deft_core.detector import Detector
from deft_core.errors import ConfigError, ExportError, RunError
from deft_core.model_card import model_card
from deft_core.run_folder import RunFolder
from deft_core.terminal import EXPORT_STAGES
from deft_core.whole_files import writing_whole_folder

ROLES = {"phase1": "detector", "phase2": "classifier"}
SETTINGS: Mapping[str, type[TrainingConfig]] = {
    "detector": Phase1Config,
    "classifier": Phase2Config,
}
ONNX = "model.onnx"
KEPT_APART = ("vpt-deep", "vpt-shallow", "adapters")
"""What learned beside the tower's own weights and cannot be added to them."""
PICTURE = (
    "They are turned as their EXIF orientation says, made RGB, transparency on white, and cut to "
    "the largest centred square, which is resized with bicubic interpolation."
)
N_CHECKED = 3
LARGEST_DIFFERENCE = 1e-4
"""Of a logit, or of the largest one where that is above 1."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A classifier that is ready to predict, and the names of its classes."""

    classifier: Classifier
    class_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """Where a model lies, its files, and by how much its logits differed when each was read again:
    by timm or open_clip, and by onnxruntime if there is an ONNX file."""

    path: Path
    run_id: str
    role: str
    files: tuple[str, ...]
    differences: Mapping[str, float]


def load(path: Path) -> Loaded:
    """The classifier in an exported folder, or in the folder of a phase 2 that is done.

    Raises ConfigError when there is none or its files do not fit together.
    """
    if (path / "classifier.json").is_file():
        return _reading(path, _of_export)
    if (path / "model.safetensors").is_file():
        return _reading(path, _of_phase2)
    is_detector = any((path / f"detector.{ending}").is_file() for ending in ("json", "safetensors"))
    raise ConfigError(
        f"{path} holds {'a detector' if is_detector else 'no classifier'}.",
        "Give a folder that export-model has written of a phase 2, or a phase 2 that is done.",
    )


def export_model(
    run: RunFolder,
    *,
    to: Path,
    has_onnx: bool = False,
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> ExportedModel:
    """The classifier of a phase 2 or the detector of a phase 1, written into the new folder `to`,
    which is there whole or not at all.

    Raises ExportError when `to` is in use, or when what was written gives other logits than the
    trained model.
    """
    task = run.config()
    role = ROLES[task["kind"]]
    if run.status().state != "done":
        raise RunError(f"{run.run_id} is not done.", "Choose another run, or let it go on.")
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise ExportError(f"{to} is not an empty folder.", "Choose a new or an empty folder.")
    if to.resolve().is_relative_to(task["root"]):
        raise ExportError(
            f"{to} lies in the data set {task['root']}, which is never written to.",
            "Choose a place outside of it.",
        )
    if has_onnx and role == "detector":
        raise ExportError(
            f"{run.run_id} is a phase 1, which has no ONNX form.",
            "Export it without ONNX, or the classifier of a phase 2.",
        )
    if has_onnx:
        onnx_file.refuse_without_onnx()
    loading, writing, reading, translating = EXPORT_STAGES
    on_stage(loading)
    loaded = _reading(run.path, _of_phase1) if role == "detector" else load(run.path)
    trained = loaded.classifier
    pixels = _noise(trained.image_size)
    expected = _logits(trained, pixels)
    try:
        with writing_whole_folder(to) as folder:
            on_stage(writing)
            about = _write(trained, folder, run=run)
            on_stage(reading)
            written = _of_export(folder).classifier
            differences = {about["library"]: _difference(_logits(written, pixels), expected)}
            if has_onnx:
                on_stage(translating)
                onnx_file.write_onnx(written, folder / ONNX)
                found = onnx_file.run_onnx(folder / ONNX, pixels)
                differences["onnxruntime"] = _difference(found, expected)
            files = tuple(sorted(path.name for path in folder.iterdir()))
            card = model_card(
                about,
                task=task,
                report=run.report(),
                file_names=files,
                differences=differences,
            )
            (folder / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{error.filename or to} cannot be written: {error.strerror}.") from error
    return ExportedModel(
        path=to,
        run_id=run.run_id,
        role=role,
        files=("README.md", *files),
        differences=differences,
    )


# --- reading


def _reading(path: Path, read: Callable[[Path], Loaded]) -> Loaded:
    """What `read` makes of a folder; ConfigError when its files do not fit together."""
    try:
        return read(path)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ConfigError(f"The model in {path} is damaged: {error}") from error


def _of_phase2(path: Path) -> Loaded:
    """From the run's own files: what it began with may be gone."""
    task = RunFolder(path).config()
    settings = Phase2Config.from_json(task["settings"])
    if (path / clip.CONFIG).is_file():
        settings = replace(settings, model=f"{clip.LOCAL_PREFIX}{path}", pretrained="")
    classifier = build_classifier(settings, task["prompts"], has_weights=False)
    classifier.load_state_dict(load_file(path / "model.safetensors"))
    return Loaded(classifier=classifier.eval(), class_names=tuple(task["class_names"]))


def _of_phase1(path: Path) -> Loaded:
    """The run keeps what has learned; the rest comes from where it came from then."""
    task = RunFolder(path).config()
    settings = Phase1Config.from_json(task["settings"])
    model = clip.load(settings.model, settings.pretrained)
    detector = Detector(model, task["prompts"], settings).eval()
    learned = load_file(path / "detector.safetensors")
    if set(learned) != {name for name, one in detector.named_parameters() if one.requires_grad}:
        raise ValueError("detector.safetensors is of another model or other settings")
    detector.load_state_dict(learned, strict=False)
    with torch.no_grad():
        text = detector.text_features()
        head = TextHead(model.logit_scale * torch.cat([text.pos, text.neg]))
    classifier = Classifier(
        model.visual,
        head,
        image_size=model.image_size,
        normalise=model.normalise,
        added=detector.added,
    )
    return Loaded(classifier=classifier.eval(), class_names=tuple(task["class_names"]))


def _of_export(folder: Path) -> Loaded:
    role = next(one for one in SETTINGS if (folder / f"{one}.json").is_file())
    about = json.loads((folder / f"{role}.json").read_text(encoding="utf-8"))
    read = _read_timm if about["library"] == "timm" else _read_clip
    return Loaded(classifier=read(folder, about).eval(), class_names=tuple(about["class_names"]))


def _read_timm(folder: Path, about: Mapping[str, Any]) -> Classifier:
    return Classifier(
        backbones.load_whole(folder),
        nn.Identity(),
        image_size=about["image_size"],
        normalise=clip.Normalise(about["mean"], about["std"]),
        added=nn.Module(),
    )


def _read_clip(folder: Path, about: Mapping[str, Any]) -> Classifier:
    settings = SETTINGS[about["role"]].from_json(about["settings"])
    model = clip.load(f"{clip.LOCAL_PREFIX}{folder}")
    added = nn.Module()
    if settings.image_side in KEPT_APART:
        added = adapt_image_side(model, settings)
        added.load_state_dict(load_file(folder / "added.safetensors"))
    return Classifier(
        model.visual,
        _read_head(model, load_file(folder / "head.safetensors")),
        image_size=model.image_size,
        normalise=model.normalise,
        added=added,
    )


def _read_head(model: clip.Clip, weights: Mapping[str, Tensor]) -> nn.Module:
    if "bias" not in weights:
        return TextHead(weights["weight"])
    model.visual.proj = None  # A linear head reads the features before CLIP's projection.
    n_classes, dim = weights["weight"].shape
    head = nn.Linear(dim, n_classes)
    head.load_state_dict(weights)
    return head


# --- writing


def _write(trained: Classifier, folder: Path, *, run: RunFolder) -> dict[str, Any]:
    """What classifier.json or detector.json says of the model, after all of it was written."""
    task = run.config()
    role = ROLES[task["kind"]]
    settings = SETTINGS[role].from_json(task["settings"])
    is_timm = settings.model.startswith(TIMM_PREFIX)
    mean, deviation = trained.normalise.statistics()
    about = {
        "role": role,
        "library": "timm" if is_timm else "open_clip",
        "backbone": _public(settings.model).removeprefix(clip.LOCAL_PREFIX),
        "weights": _public(settings.pretrained) or "its own",
        "class_names": task["class_names"],
        "prompts": task["prompts"],
        "image_size": trained.image_size,
        "mean": mean,
        "std": deviation,
        "picture": PICTURE,
        "data_set": Path(task["root"]).name,
        "run": run.run_id,
        "created_at": task["created_at"],
        "settings": {
            **settings.to_json(),
            "model": _public(settings.model),
            "pretrained": _public(settings.pretrained),
        },
        "versions": {name: version(name) for name in ("torch", "timm", "open_clip_torch", "peft")},
    }
    if isinstance(settings, Phase2Config) and is_timm:
        _write_timm(trained, folder, settings=settings, class_names=task["class_names"])
    else:
        about["is_quick"] = clip.has_quick_gelu(trained.tower)
        about["has_text_tower"] = _write_clip(trained, folder, settings=settings, run=run)
    if role == "detector":
        learned = load_file(run.path / "detector.safetensors")
        contexts = {name: learned[f"prompts.{name}"] for name in ("positive", "negative")}
        save_file(contexts, folder / "contexts.safetensors")
    text = json.dumps(about, indent=1, ensure_ascii=False)
    (folder / f"{role}.json").write_text(text, encoding="utf-8")
    return about


def _write_timm(
    trained: Classifier, folder: Path, *, settings: Phase2Config, class_names: Sequence[str]
) -> None:
    backbone = backbones.load(
        settings.model,
        settings.pretrained,
        n_classes=len(class_names),
        image_size=settings.image_size,
        has_weights=False,
    )
    _take_over(trained.tower, backbone.tower, folder, name=_public(settings.model))
    backbone.head.load_state_dict(trained.head.state_dict())
    backbones.save(backbone, folder, class_names=class_names)


def _write_clip(
    trained: Classifier, folder: Path, *, settings: TrainingConfig, run: RunFolder
) -> bool:
    """Whether the text tower is in it; it, and the projection, which a linear head does not read,
    are as they were."""
    model, name = _first_clip(trained, settings, run=run)
    projection = model.visual.proj
    if isinstance(trained.head, nn.Linear):
        model.visual.proj = None
    _take_over(trained.tower, model.visual, folder, name=_public(settings.model))
    model.visual.proj = projection
    clip.save(model, folder, model=name)
    save_file(_state(trained.head), folder / "head.safetensors")
    if settings.image_side in KEPT_APART:
        save_file(_state(trained.added), folder / "added.safetensors")
    return name == settings.model


def _first_clip(
    trained: Classifier, settings: TrainingConfig, *, run: RunFolder
) -> tuple[clip.Clip, str]:
    """The CLIP that a run began with and its name; when that is gone, one like it without a text
    tower, by the name of what the run has kept of it."""
    try:
        model = clip.load(settings.model, settings.pretrained, image_size=trained.image_size)
        return model, settings.model
    except ConfigError:
        if not (run.path / clip.CONFIG).is_file():
            raise
    kept = f"{clip.LOCAL_PREFIX}{run.path}"
    model = clip.load(kept, has_weights=False)
    clip.empty_text_tower(model)
    return model, kept


def _take_over(trained: nn.Module, tower: nn.Module, folder: Path, *, name: str) -> None:
    """Give an untouched tower what the trained one has learned; what peft did is also written."""
    if hasattr(trained, "peft_config"):
        merge_adapter(trained, tower, folder=folder / "adapter", name=name)
    else:
        tower.load_state_dict(trained.state_dict())


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in module.state_dict().items()}


def _public(name: str) -> str:
    """The name of a model or of weights without the folders of this machine."""
    if name.startswith(clip.HUB_PREFIX):
        return name
    prefix = clip.LOCAL_PREFIX if name.startswith(clip.LOCAL_PREFIX) else ""
    return prefix + Path(name.removeprefix(prefix)).name


# --- checking


def _noise(size: int) -> UInt8[Tensor, "n size size 3"]:
    """A few pictures that are the same every time."""
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (N_CHECKED, size, size, 3), dtype=torch.uint8, generator=draws)


@torch.no_grad()
def _logits(
    classifier: Classifier, pixels: UInt8[Tensor, "n size size 3"]
) -> Float[Tensor, "n n_cls"]:
    logits: Tensor = classifier(pixels.permute(0, 3, 1, 2))
    return logits


def _difference(found: Float[Tensor, "n n_cls"], expected: Float[Tensor, "n n_cls"]) -> float:
    """The largest difference; ExportError when it is too large."""
    difference = float((found - expected).abs().max())
    if not difference <= LARGEST_DIFFERENCE * max(1.0, float(expected.abs().max())):
        raise ExportError(
            f"The model that was written gives logits that differ by {difference:.2g}.",
            "Nothing was exported; please report it.",
        )
    return difference

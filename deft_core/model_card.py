"""The README.md of an exported model, as Hugging Face reads it: what it is, how to use it, how it
was made and how far it can be trusted.

Pure text. Names that come from the user or the data set are shown as they are and never become
markup; no path of the machine stands in it. The licence is the user's to choose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deft_core.terminal import TRAINED_ON

MOST_CLASSES = 200

FILES: Mapping[str, str] = {
    "classifier.json": "the names of the classes, the image size and all settings",
    "model.safetensors": "the weights, under timm's names",
    "config.json": "the architecture, as timm reads it",
    "open_clip_model.safetensors": "the CLIP with the fine-tuned image tower",
    "open_clip_config.json": "its architecture, as open_clip reads it",
    "head.safetensors": "what tells the classes apart behind the image tower",
    "added.safetensors": "what was put into the image tower, see above",
    "adapter": "what peft has trained, alone, in peft's own format; the weights have it already",
    "model.onnx": "the classifier from pixels to probabilities",
}


def model_card(
    about: Mapping[str, Any],
    *,
    task: Mapping[str, Any],
    report: Mapping[str, Any],
    file_names: Iterable[str],
    differences: Mapping[str, float],
) -> str:
    """The card of the model that `about`, the content of its classifier.json, describes.

    `task` is the config of its run, `report` what the run has reported, `file_names` are the files
    beside the card, `differences` tells how much the logits differed when each library had read
    them.
    """
    names = [name for name in FILES if name in set(file_names)]
    sections = {
        "Use": _use(about, has_onnx="model.onnx" in names),
        "Figures": _figures(report),
        "Training": _training(about, report=report),
        "Labels": _labels(task.get("labels")),
        "Classes": _classes(about),
        "Limits": _LIMITS,
        "Files": _files(names, differences=differences),
    }
    parts = [_front_matter(about, report=report), f"# {_title(about)}", _summary(about)]
    parts += [f"## {heading}\n\n{text}" for heading, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


def literal(text: str) -> str:
    """Markdown that shows exactly this text, on one line.

    >>> print(literal("<b>a|b"))
    \\<b\\>a\\|b
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", _printable(text))


def _printable(text: str) -> str:
    """The text with a question mark for what is not printed, such as a line break."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _title(about: Mapping[str, Any]) -> str:
    return f"{literal(about['backbone'])} on {literal(about['data_set'])}"


def _front_matter(about: Mapping[str, Any], *, report: Mapping[str, Any]) -> str:
    """YAML between rules. The values are written as JSON, which YAML includes."""
    library = about["library"]
    values: dict[str, Any] = {
        "library_name": library,
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", library, "denoising-fine-tuning"],
        "metrics": ["accuracy", "f1"],
    }
    test = _test(report)
    if test:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"type": "imagefolder", "name": about["data_set"], "split": "test"},
            "metrics": [
                {"type": "accuracy", "value": test["accuracy"]},
                {"type": "f1", "name": "macro F1", "value": test["macro_f1"]},
            ],
        }
        model = f"{about['backbone']} on {about['data_set']}"
        values["model-index"] = [{"name": model, "results": [result]}]
    lines = [
        f"{name}: {_printable(json.dumps(value, ensure_ascii=False))}"
        for name, value in values.items()
    ]
    return "\n".join(["---", *lines, "---"])


def _summary(about: Mapping[str, Any]) -> str:
    settings = about["settings"]
    return (
        f"An image classifier for {len(about['class_names']):,} classes: "
        f"{literal(about['backbone'])} with {literal(about['weights'])} weights, fine-tuned on "
        f"{literal(about['data_set'])} after its labels had been reviewed (Denoising "
        "Fine-Tuning, Wei et al., NeurIPS 2024). In the image encoder learned: "
        f"{settings['image_side']}; the head: {settings['head']}.\n\n"
        "No licence is given here. Before you pass the model on, choose one that the images and "
        "the weights it began with allow, and write it between the rules at the top as `license:`."
    )


# --- how to use it


def _use(about: Mapping[str, Any], *, has_onnx: bool) -> str:
    size = about["image_size"]
    texts = [
        f"Pictures are {size} by {size} pixels. {about['picture']}",
        "A whole folder, with the program that made it, deft-review:",
        "```sh\npython -m deft_core predict photos --model . --to predictions.csv\n```",
    ]
    name, code = ("timm", _TIMM) if about["library"] == "timm" else ("open_clip", _clip_code(about))
    texts += [f"With {name} alone, in this folder:", f"```python\n{code}```"]
    if has_onnx:
        texts += [
            "With onnxruntime, without torch. The input are the pixels themselves, `uint8` from 0 "
            "to 255, as (batch, height, width, 3); the model scales them.",
            f"```python\n{_ONNX}```",
        ]
    return "\n\n".join(texts)


_SHOWN = """\
for i in probabilities.argsort(descending=True)[:5].tolist():
    print(f"{probabilities[i]:.4f} {names[i]}")
"""

_TIMM = f"""\
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

model = timm.create_model("local-dir:.", pretrained=True).eval()
transform = create_transform(**resolve_model_data_config(model))
names = model.pretrained_cfg["label_names"]

image = transform(Image.open("photo.jpg").convert("RGB"))[None]
with torch.no_grad():
    probabilities = model(image).softmax(dim=1)[0]
{_SHOWN}"""


def _clip_code(about: Mapping[str, Any]) -> str:
    settings = about["settings"]
    head = _TEXT_HEAD if settings["head"] == "text" else _LINEAR_HEAD
    return _OPEN_CLIP + _ADDED.get(settings["image_side"], "") + _IMAGE + head + _SHOWN


_OPEN_CLIP = """\
import json

import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file

clip, transform = open_clip.create_model_from_pretrained("local-dir:.")
head = load_file("head.safetensors")
names = json.load(open("classifier.json", encoding="utf-8"))["class_names"]
blocks = list(clip.eval().visual.transformer.resblocks)
"""

_PUT_PROMPTS_IN = """

def put_in(tokens):
    def append(block, args, kwargs):
        kept = args[0][:, : len(clip.visual.positional_embedding)]
        return (torch.cat([kept, tokens.expand(len(kept), -1, -1)], dim=1), *args[1:]), kwargs

    return append


# Visual prompts stand behind the patch tokens; each of these blocks gets its own in their place.
prompts = load_file("added.safetensors")["tokens"]
for block, tokens in zip(BLOCKS, prompts):
    block.register_forward_pre_hook(put_in(tokens), with_kwargs=True)
"""

_PUT_ADAPTERS_IN = """
added = load_file("added.safetensors")


def adapter(i):
    one = {name.removeprefix(f"{i}."): w for name, w in added.items() if name.startswith(f"{i}.")}

    def add(mlp, args, output):
        width = output.shape[-1:]
        x = F.layer_norm(output, width, one["norm.weight"], one["norm.bias"])
        x = F.linear(x, one["down.weight"], one["down.bias"]).relu()
        return output + F.linear(x, one["up.weight"], one["up.bias"])

    return add


for i, block in enumerate(blocks):
    block.mlp.register_forward_hook(adapter(i))
"""

_ADDED = {
    "vpt-deep": _PUT_PROMPTS_IN.replace("BLOCKS", "blocks[-len(prompts) :]"),
    "vpt-shallow": _PUT_PROMPTS_IN.replace("BLOCKS", "blocks[:1]"),
    "adapters": _PUT_ADAPTERS_IN.replace("F.", "torch.nn.functional."),
}

_IMAGE = """
image = transform(Image.open("photo.jpg"))[None]
with torch.no_grad():
"""

_LINEAR_HEAD = """\
    clip.visual.proj = None  # The head reads the features before CLIP's projection.
    logits = clip.visual(image) @ head["weight"].T + head["bias"]
probabilities = logits.softmax(dim=1)[0]
"""

_TEXT_HEAD = """\
    logits = clip.encode_image(image, normalize=True) @ head["weight"].T
probabilities = logits.softmax(dim=1)[0]
"""

_ONNX = """\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

about = json.load(open("classifier.json", encoding="utf-8"))
session = onnxruntime.InferenceSession("model.onnx")

picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
picture = ImageOps.fit(picture, (about["image_size"],) * 2, Image.Resampling.BICUBIC)
logits, probabilities = session.run(None, {"images": np.asarray(picture)[None]})
for i in np.argsort(-probabilities[0])[:5]:
    print(f"{probabilities[0, i]:.4f} {about['class_names'][i]}")
"""


# --- how it was made


def _figures(report: Mapping[str, Any]) -> str:
    """The table of test figures, this model's first; without test images, that there are none."""
    test = _test(report)
    if not test:
        return "There were no test images, so nothing is known of how good it is."
    this = report["evaluation"][-1]
    rows = [
        (
            f"{TRAINED_ON[one['trained_on']]}{': this model' if one is this else ''}",
            f"{one['n_train']:,}",
            f"{one['test']['accuracy']:.1%}",
            f"{one['test']['macro_f1']:.3f}",
            f"{one['test']['ece']:.3f}",
        )
        for one in reversed(report["evaluation"])
    ]
    columns = ("trained on the", "images", "test accuracy", "macro F1", "calibration error")
    return (
        f"{_table(columns, rows)}\n\nOn {test['n']:,} test images, not trained on. The labels "
        f"of {test['n_reviewed']:,} of them were reviewed; the others are taken to be right."
    )


def _test(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the test images said of this model; None without any."""
    test: Mapping[str, Any] | None = report["evaluation"][-1]["test"]
    return test


def _training(about: Mapping[str, Any], *, report: Mapping[str, Any]) -> str:
    facts = [
        ("data set", literal(about["data_set"])),
        ("images trained on", f"{report['evaluation'][-1]['n_train']:,}"),
        ("run", f"{literal(about['run'])}, {literal(about['created_at'])}"),
        ("on", literal(report["device"])),
        *((name, literal(str(value))) for name, value in about["settings"].items()),
        *((f"version of {name}", literal(value)) for name, value in about["versions"].items()),
    ]
    return _table(("", ""), facts)


def _labels(labels: Mapping[str, Any] | None) -> str:
    if labels is None:
        return "Where the labels come from was not kept with this run."
    verdicts = labels["by_verdict"]
    n_left_out = sum(verdicts.get(name, 0) for name in ("both", "exclude", "unsure"))
    rows = [
        ("training images with a given label", labels["n_train"]),
        ("reviewed, given label kept", sum(verdicts.values()) - n_left_out - labels["n_changed"]),
        ("reviewed, given another label", labels["n_changed"]),
        ("reviewed, left out: no single right label, or not clear", n_left_out),
        ("not reviewed, given label believed by phase 1", labels["n_undecided_clean"]),
        ("not reviewed, left out as suspect", labels["n_undecided_flagged"]),
        ("reviewers", labels["n_reviewers"]),
        ("rounds of review", labels["n_rounds"]),
    ]
    return _table(("labels", "number"), ((name, f"{n:,}") for name, n in rows))


def _classes(about: Mapping[str, Any]) -> str:
    names, prompts = about["class_names"], about["prompts"]
    rows = [
        (str(number), literal(name), literal(prompt))
        for number, (name, prompt) in enumerate(zip(names, prompts, strict=True))
    ]
    rest = len(rows) - MOST_CLASSES
    more = f"\n\n{rest:,} more stand in `classifier.json`." if rest > 0 else ""
    return _table(("number", "class", "in prompts"), rows[:MOST_CLASSES]) + more


_LIMITS = """\
- It gives one of its classes to every picture, also to one that shows none of them.
- It knows pictures like those that it was trained on; on others the figures above do not hold.
- Only the largest centred square of a picture is seen.
- Labels that nobody has reviewed may be wrong, and a class with few images is known less well.
- A probability is the model's own; how far it is from how often the model is right is the
  calibration error above."""


def _files(names: Sequence[str], *, differences: Mapping[str, float]) -> str:
    table = _table(("file", "what it holds"), ((f"`{name}`", FILES[name]) for name in names))
    checks = ", ".join(f"{one:.0e} with {library}" for library, one in differences.items())
    return (
        f"{table}\n\nThey were read again when they had been written and gave the logits of the "
        f"trained model; the largest difference was {checks}."
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

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

from deft_core import card_code
from deft_core.terminal import TRAINED_ON

MOST_CLASSES = 200

FILES: Mapping[str, str] = {
    "classifier.json": "the names of the classes, the image size and all settings",
    "model.safetensors": "the weights, under timm's names",
    "config.json": "the architecture, as timm reads it",
    "open_clip_model.safetensors": "the CLIP with the fine-tuned image tower",
    "open_clip_config.json": "its architecture, as open_clip reads it",
    "head.safetensors": "what tells the classes apart behind the image tower",
    "detector.json": "the names of the classes, the image size and all settings",
    "contexts.safetensors": "the learned vectors of the positive and the negative prompts",
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
    """The card of the model that `about`, the content of its classifier.json or detector.json,
    describes.

    `task` is the config of its run, `report` what the run has reported, `file_names` are the files
    beside the card, `differences` tells how much the logits differed when each library had read
    them.
    """
    names = [name for name in FILES if name in set(file_names)]
    is_detector = about["role"] == "detector"
    sections = {
        "Use": _use(about, file_names=names),
        "Figures": _flagged(report) if is_detector else _figures(report),
        "Training": _training(about, report=report),
        "Labels": "" if is_detector else _labels(task.get("labels")),
        "Classes": _classes(about),
        "Limits": (_LIMITS_OF_DETECTOR if is_detector else _LIMITS) + _missing_tower(about),
        "Files": _files(names, differences=differences),
    }
    parts = [_front_matter(about, report=report), f"# {_title(about)}", _summary(about)]
    parts += [f"## {heading}\n\n{text}" for heading, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


def literal(text: str) -> str:
    """Markdown that shows exactly this text, on one line.

    >>> print(literal("<b>a-b|c"))
    \\<b\\>a-b\\|c
    """
    return re.sub(r"([!-,./:-@\[-`{-~])", r"\\\1", _printable(text))


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
        "tags": ["image-classification", about["role"], library, "denoising-fine-tuning"],
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
        values["metrics"] = ["accuracy", "f1"]
        values["model-index"] = [{"name": model, "results": [result]}]
    lines = [
        f"{name}: {_printable(json.dumps(value, ensure_ascii=False))}"
        for name, value in values.items()
    ]
    return "\n".join(["---", *lines, "---"])


def _summary(about: Mapping[str, Any]) -> str:
    settings = about["settings"]
    n_classes, data_set = f"{len(about['class_names']):,} classes", literal(about["data_set"])
    began = f"{literal(about['backbone'])} with {literal(about['weights'])} weights"
    if about["role"] == "detector":
        what = (
            f"A detector of wrong labels among {n_classes}: {began}, which learned a positive and "
            f"a negative prompt for each class from the labels of {data_set} (Denoising "
            "Fine-Tuning, Wei et al., NeurIPS 2024). A label is believed while the picture is "
            "nearer to its positive than to its negative prompt. What learned in the image "
            f"encoder: {settings['image_side']}."
        )
    else:
        what = (
            f"An image classifier for {n_classes}: {began}, fine-tuned on the curated labels of "
            f"{data_set} (Denoising Fine-Tuning, Wei et al., NeurIPS 2024). What learned in the "
            f"image encoder: {settings['image_side']}. The head: {settings['head']}."
        )
    return (
        f"{what}\n\nNo licence is given here. Before you pass the model on, choose one that the "
        "images and the weights it began with allow, and write it between the rules at the top as "
        "`license:`."
    )


# --- how to use it


def _use(about: Mapping[str, Any], *, file_names: Sequence[str]) -> str:
    size = about["image_size"]
    texts = [f"Pictures are {size} by {size} pixels. {about['picture']}"]
    if about["role"] == "classifier":
        texts += [
            "A whole folder, with the program that made it, deft-review:",
            "```sh\npython -m deft_core predict photos --model . --to predictions.csv\n```",
        ]
    texts += [f"With {about['library']} alone, in this folder:", _python(card_code.alone(about))]
    if "adapter" in file_names and about["library"] == "open_clip":
        texts += [
            "The same with the adapter on the weights that the training began with, by peft:",
            _python(card_code.with_peft(about)),
        ]
    if "model.onnx" in file_names:
        texts += [
            "With onnxruntime, without torch. The input are the pixels themselves, `uint8` from 0 "
            "to 255, as (batch, height, width, 3); the model scales them.",
            _python(card_code.ONNX),
        ]
    return "\n\n".join(texts)


def _python(code: str) -> str:
    return f"```python\n{code}```"


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


def _flagged(report: Mapping[str, Any]) -> str:
    n_flagged, n = report["n_flagged"], report["n_scored"]
    return (
        f"It flags {n_flagged:,} of the {n:,} training images ({n_flagged / max(n, 1):.1%}). How "
        "many of them are wrong is not known from that: on published data, half and more of what "
        "good detectors flag is right."
    )


def _test(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the test images said of this model; None without any, as of a detector."""
    evaluation = report.get("evaluation")
    test: Mapping[str, Any] | None = evaluation[-1]["test"] if evaluation else None
    return test


def _training(about: Mapping[str, Any], *, report: Mapping[str, Any]) -> str:
    is_detector = about["role"] == "detector"
    n_images = report["n_scored"] if is_detector else report["evaluation"][-1]["n_train"]
    facts = [
        ("data set", literal(about["data_set"])),
        ("images scored" if is_detector else "images trained on", f"{n_images:,}"),
        ("run", f"{about['run']}, {about['created_at'][:10]}"),
        ("on", report["device"]),
        *((name.replace("_", " "), _shown(value)) for name, value in about["settings"].items()),
        *((f"version of {name}", value) for name, value in about["versions"].items()),
    ]
    return _table(("", ""), facts)


def _shown(value: Any) -> str:
    return literal(value) if isinstance(value, str) else str(value)


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


_LIMITS_OF_DETECTOR = """\
- It learned from labels of which some are wrong, and judges those labels: on other pictures it
  knows only what these taught it.
- The probability that a label is right is the model's own; it orders labels, and is no measure of
  how many are wrong.
- A class with few images, or one whose name says little about its pictures, is judged less well.
- Only the largest centred square of a picture is seen."""


def _missing_tower(about: Mapping[str, Any]) -> str:
    if about.get("has_text_tower", True):
        return ""
    return (
        "\n- The weights that the training began with were gone when this was written, so there is "
        "no text tower: `encode_text` gives zeros. What is told of pictures needs none."
    )


def _files(names: Sequence[str], *, differences: Mapping[str, float]) -> str:
    table = _table(("file", "what it holds"), ((f"`{name}`", FILES[name]) for name in names))
    checks = ", ".join(f"{one:.1g} with {library}" for library, one in differences.items())
    return (
        f"{table}\n\nThey were read again when they had been written and gave the logits of the "
        f"trained model; the largest difference was {checks}."
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

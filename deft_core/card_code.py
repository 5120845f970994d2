"""The Python code by which a model card says how to use its files, without this program.

Pure text; the tests run it as it stands in a card.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def alone(about: Mapping[str, Any]) -> str:
    """What shows the likeliest classes of photo.jpg with timm or open_clip alone; of a detector,
    the nearest classes and how likely each were right as its label."""
    return _TIMM if about["library"] == "timm" else _with_clip(about)


def with_peft(about: Mapping[str, Any]) -> str:
    """The same with open_clip and peft, from the weights that the training began with."""
    settings = about["settings"]
    chosen = {
        "pretrained": settings["pretrained"] or None,
        "force_quick_gelu": about["is_quick"],
        "force_image_size": about["image_size"],
    }
    lines = [repr(settings["model"]), *(f"{name}={value!r}" for name, value in chosen.items())]
    tower = _PEFT.replace("CHOSEN", "".join(f"    {line},\n" for line in lines))
    code = _with_clip(about, tower=tower)
    return code.replace("from PIL import", "from peft import PeftModel\nfrom PIL import", 1)


def _with_clip(about: Mapping[str, Any], *, tower: str = "") -> str:
    settings = about["settings"]
    names = f'names = json.load(open("{about["role"]}.json", encoding="utf-8"))["class_names"]\n'
    if about["role"] == "detector":
        told = _DUAL_HEAD
    else:
        told = (_TEXT_HEAD if settings["head"] == "text" else _LINEAR_HEAD) + _SHOWN
    return _OPEN_CLIP + names + tower + _ADDED.get(settings["image_side"], "") + _IMAGE + told


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


_OPEN_CLIP = """\
import json

import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file

clip, transform = open_clip.create_model_from_pretrained("local-dir:.")
clip.eval()
head = load_file("head.safetensors")
"""

_PEFT = """
before = open_clip.create_model(
CHOSEN)
clip.visual = PeftModel.from_pretrained(before.visual, "adapter").merge_and_unload().eval()
"""

_PUT_PROMPTS_IN = """

def put_in(tokens):
    def append(block, args, kwargs):
        kept = args[0][:, : len(clip.visual.positional_embedding)]
        return (torch.cat([kept, tokens.expand(len(kept), -1, -1)], dim=1), *args[1:]), kwargs

    return append


# Visual prompts stand behind the patch tokens; each of these blocks gets its own in their place.
prompts = load_file("added.safetensors")["tokens"]
blocks = list(clip.visual.transformer.resblocks)
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


for i, block in enumerate(clip.visual.transformer.resblocks):
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

_DUAL_HEAD = """\
    logits = clip.encode_image(image, normalize=True) @ head["weight"].T
positive, negative = logits[0].chunk(2)
p_clean = (positive - negative).sigmoid()
for i in positive.argsort(descending=True)[:5].tolist():
    print(f"{p_clean[i]:.4f} {names[i]}")
"""

ONNX = """\
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

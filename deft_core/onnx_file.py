"""A classifier as one ONNX file, checked against torch. Needs requirements-onnx.txt.

The input is the pixels as an image library gives them, `uint8` from 0 to 255, height before width
before channel. A picture that was scaled or transposed beforehand has another type or shape and is
refused; an input of floats in the wrong range would only give wrong answers.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from deft_core.classifier import Classifier
from deft_core.errors import ExportError

INPUT = "images"
OUTPUTS = ["logits", "probabilities"]
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def refuse_without_onnx() -> None:
    """ExportError when a package that ONNX needs is missing."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"ONNX needs packages that are missing: {', '.join(missing)}.",
            "python -m pip install -r requirements-onnx.txt",
        )


def write_onnx(classifier: Classifier, path: Path) -> None:
    """Write the classifier for batches of any size; ExportError when it cannot be translated."""
    try:
        torch.onnx.export(
            FromPixels(classifier).eval(),
            (torch.zeros(2, classifier.image_size, classifier.image_size, 3, dtype=torch.uint8),),
            path,
            input_names=[INPUT],
            output_names=OUTPUTS,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"The model cannot be translated to ONNX: {error}", "Export it without ONNX."
        ) from error


def run_onnx(
    path: Path, pixels: UInt8[Tensor, "batch size size 3"]
) -> Float[Tensor, "batch n_cls"]:
    """The logits that onnxruntime gives for some pictures."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, _ = session.run(OUTPUTS, {INPUT: pixels.numpy()})
    return torch.from_numpy(logits)


class FromPixels(nn.Module):
    """A classifier of pixels as an image library gives them: logits and probabilities."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(
        self, images: UInt8[Tensor, "batch size size 3"]
    ) -> tuple[Float[Tensor, "batch n_cls"], Float[Tensor, "batch n_cls"]]:
        logits = self.classifier(images.permute(0, 3, 1, 2))
        return logits, logits.softmax(dim=1)

"""What a classifier says of every image below a folder. The images are only read."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from jaxtyping import Float, Int

from deft_core.engine import find_device
from deft_core.errors import DataError, ExportError
from deft_core.listing import image_files
from deft_core.loading import IMAGES_AT_ONCE, ImageLoader
from deft_core.model_files import Loaded
from deft_core.run_folder import Progress
from deft_core.training import Meter, Parts
from deft_core.whole_files import writing_whole


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The likeliest labels of an image with their probabilities, likeliest first; or, when it
    cannot be read, no labels and the `problem`."""

    file_name: str
    top: tuple[tuple[str, float], ...] = ()
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the problem when there is none."""
        top = [{"label": label, "probability": round(p, 6)} for label, p in self.top]
        problem = {"problem": self.problem} if self.problem else {}
        return {"file_name": self.file_name, "top": top, **problem}


def predict(
    folder: Path,
    loaded: Loaded,
    *,
    top: int = 5,
    batch_size: int = IMAGES_AT_ONCE,
    device: str = "auto",
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> list[Prediction]:
    """A prediction for every image at any depth below a folder, in the order of their names, with
    the `top` likeliest labels. DataError when there are no images."""
    names = image_files(folder)
    if not names:
        raise DataError(f"{folder} holds no images.", "Give a folder with images at any depth.")
    place = find_device(device)
    classifier = loaded.classifier.to(place)
    loader = ImageLoader(
        folder,
        names,
        image_size=classifier.image_size,
        batch_size=batch_size,
        seed=0,
        device=place,
    )
    n_top = min(top, len(loaded.class_names))
    labels = np.zeros((len(names), n_top), np.int64)
    probabilities = np.zeros((len(names), n_top), np.float32)
    meter = Meter(len(names))
    parts = Parts(batch_size, device=place, meter=meter, use="predicting")
    for batch in loader.in_order():
        with torch.inference_mode():
            likeliest = parts.encode(batch.images, classifier).softmax(dim=1).topk(n_top)
        rows = batch.rows.cpu().numpy()
        labels[rows] = likeliest.indices.cpu().numpy()
        probabilities[rows] = likeliest.values.cpu().numpy()
        if meter.add(batch.n_in_all):
            on_progress(meter.progress("predicting"))
    return [
        Prediction(file_name=_printable(name), problem=loader.unreadable[name])
        if name in loader.unreadable
        else Prediction(
            file_name=_printable(name),
            top=_named(labels[row], probabilities[row], class_names=loaded.class_names),
        )
        for row, name in enumerate(names)
    ]


def write_csv(predictions: list[Prediction], file: TextIO) -> None:
    """A row for each image: its likeliest label, its probability, the next ones, the problem."""
    n_top = max(len(one.top) for one in predictions)
    further = [f"{name}_{n}" for n in range(2, n_top + 1) for name in ("label", "probability")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["file_name", "predicted_label", "probability", *further, "problem"])
    for one in predictions:
        cells = list(chain.from_iterable((label, f"{p:.6f}") for label, p in one.top))
        empty = [""] * (2 * max(n_top, 1) - len(cells))
        writer.writerow([one.file_name, *cells, *empty, one.problem])


def save_csv(predictions: list[Prediction], to: Path) -> None:
    """Write the same into a file, whole or not at all; ExportError when it cannot be written."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with (
            writing_whole(to) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            write_csv(predictions, file)
    except OSError as error:
        raise ExportError(f"{to} cannot be written: {error.strerror}.") from error


def _named(
    labels: Int[np.ndarray, " top"],
    probabilities: Float[np.ndarray, " top"],
    *,
    class_names: tuple[str, ...],
) -> tuple[tuple[str, float], ...]:
    return tuple(
        (class_names[label], float(p)) for label, p in zip(labels, probabilities, strict=True)
    )


def _printable(name: str) -> str:
    """The name with a question mark for each byte that is not Unicode."""
    return name.encode(errors="replace").decode()

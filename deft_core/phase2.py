"""Phase 2, adaptation: fully fine-tune the pre-trained image tower with a linear head.

The visual prompts of phase 1 are not used; training is plain cross-entropy on the curated set. The
other ways to fine-tune that the paper's first figure compares are choices of `image_side` and
`head`.
(DeFT, Wei et al., NeurIPS 2024, section 3.3.)
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from deft_core.classifier import Classifier, build_classifier
from deft_core.config import Phase2Config
from deft_core.errors import RunError
from deft_core.loading import Batch, ImageLoader
from deft_core.run_folder import Progress, RunFolder
from deft_core.training import Engine, Meter, Training, open_images


def run(folder: RunFolder) -> Iterator[Progress]:
    """Fine-tunes on the curated set of a run folder, tests, and writes the results into it."""
    started = time.monotonic()
    task = folder.config()
    settings = Phase2Config.from_json(task["settings"])
    samples = folder.samples()
    train, test, curated = _parts(samples)

    yield Progress(stage="loading the model")
    n_passes = settings.epochs * (len(curated) + len(train) * settings.has_baseline)
    meter = Meter(n_passes + len(test) * (1 + settings.has_baseline) + len(samples))
    adapt = Adaptation(folder, settings, prompts=task["prompts"], meter=meter)

    baseline = None
    if settings.has_baseline:
        on_given = yield from adapt.fine_tune(train, "given_label", stage="on the given labels")
        baseline = yield from adapt.test(on_given, test)
        del on_given
        adapt.engine.release()
    on_curated = yield from adapt.fine_tune(curated, "curated_label", stage="on the curated set")
    result = yield from adapt.test(on_curated, test)
    predictions = yield from adapt.predict(on_curated, samples)
    adapt.engine.close()
    if not adapt.engine.is_first:
        return

    with folder.writing("model.safetensors") as path:
        save_file(
            {name: value.cpu().contiguous() for name, value in on_curated.state_dict().items()},
            path,
        )
    folder.write_table("predictions.parquet", predictions)
    folder.write_json(
        "report.json",
        {
            "n_train": adapt.n_readable(curated),
            "n_given": adapt.n_readable(train),
            "test": result,
            "baseline": baseline,
            "unreadable": [
                {"file_name": name, "problem": problem}
                for name, problem in adapt.unreadable.items()
            ],
            "model": settings.model,
            "device": str(adapt.engine.device),
            "seconds": time.monotonic() - started,
        },
    )


def _parts(samples: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Training samples, test samples, and the curated part of the training samples."""
    train = samples.filter(pc.equal(samples["split"], "train"))
    test = samples.filter(pc.equal(samples["split"], "test"))
    curated = train.filter(pc.is_valid(train["curated_label"]))
    if len(curated) == 0:
        raise RunError(
            "The curated set is empty: no sample was kept, relabelled or scored as clean.",
            "Run phase 1 or decide some samples first.",
        )
    return train, test, curated


class CrossEntropyObjective:
    """The mean cross-entropy of a classifier's logits with some labels."""

    def __init__(self, module: nn.Module, labels: Int[Tensor, " n"], *, engine: Engine) -> None:
        self._module = module
        self._labels = labels
        self._engine = engine

    def begin_batch(self) -> None:
        self._sum = torch.zeros((), device=self._labels.device)

    def loss(self, part: Batch, _epoch: int) -> Float[Tensor, ""]:
        logits = self._module(part.images).float()
        loss = F.cross_entropy(logits, self._labels[part.rows], reduction="sum")
        self._sum += loss.detach()
        return loss

    def end_batch(self, n_in_all: int) -> Float[Tensor, ""]:
        return self._engine.total(self._sum) / n_in_all


class Adaptation:
    """What the trainings and tests of one run share."""

    def __init__(
        self, folder: RunFolder, settings: Phase2Config, *, prompts: Sequence[str], meter: Meter
    ) -> None:
        self.engine = Engine(settings)
        self.unreadable: dict[str, str] = {}
        self._folder = folder
        self._settings = settings
        self._prompts = prompts
        self._meter = meter

    def fine_tune(
        self, samples: pa.Table, label_column: str, *, stage: str
    ) -> Generator[Progress, None, Classifier]:
        """A classifier trained on every readable sample with the labels of `label_column`."""
        settings, engine = self._settings, self.engine
        torch.manual_seed(settings.seed)
        classifier = build_classifier(settings, self._prompts).to(engine.device).train()
        loader = self._loader(samples, classifier.image_size)
        labels = torch.from_numpy(samples[label_column].to_numpy().astype(np.int64))
        module = engine.prepare(classifier)
        training = Training(
            module,
            CrossEntropyObjective(module, labels.to(engine.device), engine=engine),
            engine=engine,
            settings=settings,
            stage_of=lambda _epoch: f"training {stage}",
            meter=self._meter,
        )
        for epoch in range(1, settings.epochs + 1):
            yield from training.epoch(epoch, loader)
        self._note_unreadable(loader)
        return classifier.eval()

    def test(
        self, classifier: Classifier, samples: pa.Table
    ) -> Generator[Progress, None, dict[str, Any] | None]:
        """Accuracy and macro F1 on the trusted labels of the test split; None without images."""
        rows, probabilities = yield from self._probabilities(classifier, samples, "testing")
        if len(rows) == 0:
            return None
        true = samples["given_label"].to_numpy()[rows]
        predicted = probabilities.argmax(1)
        return {
            "n": len(rows),
            "accuracy": float((predicted == true).mean()),
            "macro_f1": macro_f1(predicted, true),
        }

    def predict(
        self, classifier: Classifier, samples: pa.Table
    ) -> Generator[Progress, None, pa.Table]:
        """Per sample: its predicted label, the probabilities of that and of the label with which it
        stands, and the latter less that of the likeliest other class."""
        rows, probabilities = yield from self._probabilities(classifier, samples, "predicting")
        labels = pc.coalesce(samples["final_label"], samples["given_label"]).to_numpy()[rows]
        p_given = probabilities[np.arange(len(rows)), labels]
        others = probabilities.copy()
        others[np.arange(len(rows)), labels] = -np.inf
        return pa.table(
            {
                "sample_id": samples["sample_id"].take(pa.array(rows)),
                "predicted_label": probabilities.argmax(1).astype(np.int32),
                "p_predicted": probabilities.max(1),
                "p_given": p_given,
                "margin": p_given - others.max(1),
            }
        )

    def _probabilities(
        self, classifier: Classifier, samples: pa.Table, stage: str
    ) -> Generator[Progress, None, tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n n_cls"]]]:
        rows = [np.empty(0, np.int64)]
        probabilities = [np.empty((0, len(self._prompts)), np.float32)]
        if len(samples) == 0:
            return rows[0], probabilities[0]
        loader = self._loader(samples, classifier.image_size)
        for batch in loader.in_order():
            if len(batch.rows):
                with torch.no_grad(), self.engine.autocast():
                    logits = classifier(batch.images).float()
                rows.append(batch.rows.cpu().numpy())
                probabilities.append(logits.softmax(dim=1).cpu().numpy())
            if self._meter.add(batch.n_in_all):
                yield self._meter.progress(stage)
        self._note_unreadable(loader)
        mine = (np.concatenate(rows), np.concatenate(probabilities))
        parts = self.engine.gather([mine])
        every_row = np.concatenate([rows for rows, _ in parts])
        order = np.argsort(every_row)
        return every_row[order], np.concatenate([chances for _, chances in parts])[order]

    def _note_unreadable(self, loader: ImageLoader) -> None:
        self.unreadable |= dict(self.engine.gather(list(loader.unreadable.items())))

    def n_readable(self, samples: pa.Table) -> int:
        """How many of the samples could be read, once they have been loaded."""
        return sum(name not in self.unreadable for name in samples["file_name"].to_pylist())

    def _loader(self, samples: pa.Table, image_size: int) -> ImageLoader:
        return open_images(
            self._folder,
            samples,
            image_size=image_size,
            engine=self.engine,
            settings=self._settings,
        )


def macro_f1(predicted: Int[np.ndarray, " n"], true: Int[np.ndarray, " n"]) -> float:
    """Mean over the classes that occur of 2 TP / (2 TP + FP + FN).

    >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]))
    0.6666666666666666
    """
    scores = []
    for label in np.union1d(predicted, true):
        hits = np.sum((predicted == label) & (true == label))
        scores.append(2 * hits / (np.sum(predicted == label) + np.sum(true == label)))
    return float(np.mean(scores))

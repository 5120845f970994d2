"""Phase 2, adaptation: fully fine-tune a pre-trained image model with a linear head.

What phase 1 learned is not used, only what it selected and what was decided: training is plain
cross-entropy on the curated set. The same training on the given labels, or on what phase 1 selected
alone, stands beside it in the report. The other ways to fine-tune that the paper's first figure
compares are choices of `image_side` and `head`.
(DeFT, Wei et al., NeurIPS 2024, section 3.3.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from deft_core import checkpoint, clip
from deft_core.classifier import Classifier, build_classifier
from deft_core.config import TIMM_PREFIX, Phase2Config
from deft_core.engine import Engine
from deft_core.errors import RunError
from deft_core.evaluation import evaluate
from deft_core.loading import Batch, ImageLoader
from deft_core.predictions import Predictions
from deft_core.run_files import PREDICTIONS
from deft_core.run_folder import Progress, RunFolder
from deft_core.terminal import TRAINED_ON
from deft_core.training import (
    WHERE_IS_IT,
    Loader,
    Meter,
    Parts,
    Training,
    encode_once,
    open_images,
)
from deft_core.training_sets import Plan, TrainingSet

SMALLEST_CHANCE = 1e-12
HEAD_COST = 0.01
"""What a pass of an image's features through the head takes, of encoding the image, at most."""


def run(folder: RunFolder) -> Iterator[Progress]:
    """Fine-tunes on the curated set of a run folder, tests, and writes the results into it.

    A folder with a checkpoint goes on from there, to the same results.
    """
    started = time.monotonic() - folder.seconds_worked()
    task = folder.config()
    settings = Phase2Config.from_json(task["settings"])
    samples = folder.samples()
    plan = Plan.of(samples, settings)

    yield Progress(stage="loading the model")
    adaptation = Adaptation(folder, plan, settings, prompts=task["prompts"])
    classifier, predictions = yield from adaptation.run()
    unreadable = adaptation.unreadable()
    adaptation.engine.close()
    if not adaptation.engine.is_first:
        return
    with folder.writing("model.safetensors") as path:
        save_file(
            {name: value.cpu().contiguous() for name, value in classifier.state_dict().items()},
            path,
        )
    folder.write_table(PREDICTIONS, predictions.table(samples))
    folder.write_json(
        "report.json",
        {
            "evaluation": adaptation.evaluation(),
            "unreadable": [
                {"file_name": name, "problem": problem} for name, problem in unreadable.items()
            ],
            "model": settings.model,
            "device": str(adaptation.engine.device),
            "precision": adaptation.engine.precision,
            "seconds": time.monotonic() - started,
        },
    )
    checkpoint.drop(folder)


class CrossEntropyObjective:
    """The mean cross-entropy of a classifier's logits with some labels, weighted by class."""

    def __init__(
        self,
        module: nn.Module,
        labels: Int[Tensor, " n"],
        weights: Float[Tensor, " n_cls"],
        *,
        engine: Engine,
    ) -> None:
        self._module = module
        self._labels = labels
        self._weights = weights
        self._engine = engine

    def begin_batch(self) -> None:
        self._sum = torch.zeros((), device=self._labels.device)

    def loss(self, part: Batch, _epoch: int) -> Float[Tensor, ""]:
        logits = self._module(part.images).float()
        labels = self._labels[part.rows]
        loss = F.cross_entropy(logits, labels, weight=self._weights, reduction="sum")
        self._sum += loss.detach()
        return loss

    def end_batch(self, n_in_all: int) -> Float[Tensor, ""]:
        return self._engine.total(self._sum) / n_in_all


@dataclass(frozen=True)
class Best:
    """The weights after the epoch with the best accuracy on the validation images; where two are
    as accurate, that with the smaller cross-entropy."""

    epoch: int
    accuracy: float
    loss: float
    weights: list[Tensor]


class Adaptation:
    """The trainings and tests of one run, from its last checkpoint on.

    With nothing to learn in the tower, images are encoded once and the head is trained on their
    features.
    """

    images: ImageLoader

    def __init__(
        self, folder: RunFolder, plan: Plan, settings: Phase2Config, *, prompts: list[str]
    ) -> None:
        self.engine = Engine(settings)
        self._folder = folder
        self._plan = plan
        self._settings = settings
        self._prompts = prompts
        self._encodes_once = settings.image_side == "none"
        self._loader: Loader | None = None
        self._saved = checkpoint.load(folder, device=self.engine.device) or {
            "evaluations": {},
            "unreadable": {},
        }
        self._evaluations: dict[str, dict[str, Any]] = self._saved["evaluations"]
        n_images, n_compared = len(plan.labels), len(plan.trained) - 1
        self._meter = Meter(
            sum(settings.epochs * _epoch_size(one) for one in plan.trained)
            + len(plan.test_rows) * n_compared
            + n_images,
            n_encoded=n_images if self._encodes_once else 0,
            pass_cost=HEAD_COST if self._encodes_once else 1.0,
        )

    def run(self) -> Generator[Progress, None, tuple[Classifier, Predictions]]:
        """The classifier trained on the curated set, and what it says of every readable sample."""
        plan = self._plan
        *compared, last = plan.trained
        for one in compared:
            if one.name in self._evaluations:
                self._meter.skip(self._settings.epochs * _epoch_size(one) + len(plan.test_rows))
                continue
            classifier, n_epochs = yield from self._fine_tune(one)
            predictions = yield from self._judge(
                classifier, plan.test_rows, plan.labels, stage="testing"
            )
            self._note(one, predictions, n_epochs=n_epochs)
            self._save({})
            del classifier
            self.engine.release()
        classifier, n_epochs = yield from self._fine_tune(last)
        every_row = np.arange(len(plan.labels))
        predictions = yield from self._judge(classifier, every_row, plan.labels, stage="predicting")
        self._note(last, predictions.of(plan.test_rows), n_epochs=n_epochs)
        return classifier, predictions

    def evaluation(self) -> list[dict[str, Any]]:
        """For each set of the plan how a classifier trained on it does on the test images."""
        return [
            {"trained_on": one.name, **self._evaluations[self._plan.twin(one).name]}
            for one in self._plan.sets
        ]

    def unreadable(self) -> dict[str, str]:
        """The images that no process could read so far, and why."""
        return dict(self.engine.gather(list(self.images.unreadable.items())))

    def _fine_tune(self, one: TrainingSet) -> Generator[Progress, None, tuple[Classifier, int]]:
        """A classifier trained on every readable sample of a set, and for how many epochs."""
        settings, engine, meter = self._settings, self.engine, self._meter
        torch.manual_seed(settings.seed)
        classifier = build_classifier(settings, self._prompts).to(engine.device)
        if engine.is_first and not settings.model.startswith(TIMM_PREFIX):
            with self._folder.writing(clip.CONFIG) as path:
                clip.save_config(path, classifier.tower, classifier.normalise, model=settings.model)
        if self._loader is None:
            self._loader = yield from self._open(classifier.eval())
        module = engine.prepare(self._judged_part(classifier))
        labels = torch.from_numpy(one.labels).to(engine.device)
        weights = torch.from_numpy(one.class_weights(len(self._prompts), settings))
        training = Training(
            module,
            CrossEntropyObjective(module, labels, weights.to(engine.device), engine=engine),
            engine=engine,
            settings=settings,
            stage_of=lambda _epoch: f"training on the {TRAINED_ON[one.name]}",
            meter=meter,
        )
        n_done, best = 0, None
        if self._saved.get("name") == one.name:
            n_done = self._saved["epoch"]
            training.restore(self._saved["training"])
            best = Best(**self._saved["best"]) if self._saved["best"] else None
            meter.skip(n_done * _epoch_size(one))
        for epoch in range(n_done + 1, settings.epochs + 1):
            if best and epoch - best.epoch > settings.patience:
                meter.skip((settings.epochs - epoch + 1) * _epoch_size(one))
                break
            torch.manual_seed(settings.seed + epoch)  # For models that drop out.
            classifier.train()
            batches = self._loader.shuffled(epoch, one.drawn(epoch, settings))
            yield from training.epoch(epoch, batches)
            if settings.patience:
                best = yield from self._better(best, one, classifier, training, epoch=epoch)
            self._save(
                {
                    "name": one.name,
                    "epoch": epoch,
                    "training": training.state(),
                    "best": vars(best) if best else None,
                }
            )
        if best:
            training.weights = best.weights
        return classifier.eval(), best.epoch if best else settings.epochs

    def _better(
        self,
        best: Best | None,
        one: TrainingSet,
        classifier: Classifier,
        training: Training,
        *,
        epoch: int,
    ) -> Generator[Progress, None, Best]:
        """This epoch, if its classifier is the best one so far on the validation images."""
        found = yield from self._judge(
            classifier.eval(), one.validation_rows, one.labels, stage="validating"
        )
        if len(found.rows) == 0:
            raise RunError("None of the validation images can be read.", WHERE_IS_IT)
        accuracy = float((found.predicted == one.labels[found.rows]).mean())
        loss = -float(np.log(np.maximum(found.p_given, SMALLEST_CHANCE)).mean())
        if best and (best.accuracy, -best.loss) >= (accuracy, -loss):
            return best
        weights = [weight.clone() for weight in training.weights]
        return Best(epoch, accuracy, loss, weights)

    def _open(self, classifier: Classifier) -> Generator[Progress, None, Loader]:
        """Where every sample of the run comes from, as an image or, encoded once, as features."""
        self.images = open_images(
            self._folder,
            self._folder.samples(),
            image_size=classifier.image_size,
            engine=self.engine,
            settings=self._settings,
        )
        self.images.unreadable.update(self._saved["unreadable"])
        if not self._encodes_once:
            return self.images
        return (
            yield from encode_once(
                self.images,
                lambda images: self._forward(classifier.features, images),
                engine=self.engine,
                settings=self._settings,
                meter=self._meter,
            )
        )

    def _judge(
        self,
        classifier: Classifier,
        rows: Int[np.ndarray, " n"],
        labels: Int[np.ndarray, " n_samples"],
        *,
        stage: str,
    ) -> Generator[Progress, None, Predictions]:
        """What the classifier says of the readable samples among `rows`, in their order."""
        assert self._loader is not None
        self.engine.share_buffers(classifier)
        module = self._judged_part(classifier)
        parts = Parts(
            self._settings.images_at_once, device=self.engine.device, meter=self._meter, use=stage
        )
        nothing = np.empty(0, np.int64)
        found = [
            Predictions.of_logits(torch.empty(0, len(self._prompts)), rows=nothing, labels=labels)
        ]
        for batch in self._loader.in_order(rows):
            if len(batch.rows):
                logits = (
                    self._forward(module, batch.images)
                    if self._encodes_once
                    else parts.encode(batch.images, lambda part: self._forward(module, part))
                )
                rows_read = batch.rows.cpu().numpy()
                found.append(Predictions.of_logits(logits.cpu(), rows=rows_read, labels=labels))
            if self._meter.add(batch.n_in_all):
                yield self._meter.progress(stage)
        return Predictions.joined(self.engine.gather(found))

    def _judged_part(self, classifier: Classifier) -> nn.Module:
        """What makes logits of that which the loader gives."""
        return classifier.head if self._encodes_once else classifier

    @torch.no_grad()
    def _forward(
        self, part: Callable[[Tensor], Tensor], inputs: Tensor
    ) -> Float[Tensor, "batch dim"]:
        with self.engine.autocast():
            return part(inputs).float()

    def _note(self, one: TrainingSet, predictions: Predictions, *, n_epochs: int) -> None:
        """Keep what a training came to, from the predictions for the test images."""
        unreadable = self.unreadable()
        names = self._folder.samples()["file_name"].take(pa.array(one.rows)).to_pylist()
        self._evaluations[one.name] = {
            "n_train": sum(name not in unreadable for name in names),
            "n_epochs": n_epochs,
            "test": evaluate(
                predictions.predicted,
                confidence=predictions.p_predicted,
                labels=self._plan.labels[predictions.rows],
                is_reviewed=self._plan.is_reviewed[predictions.rows],
                n_classes=len(self._prompts),
            ),
        }

    def _save(self, current: dict[str, Any]) -> None:
        kept = {"evaluations": self._evaluations, "unreadable": self.unreadable()}
        if self.engine.is_first:
            checkpoint.save(self._folder, {**kept, **current})


def _epoch_size(one: TrainingSet) -> int:
    """How many images an epoch works through."""
    return len(one.rows) + len(one.validation_rows)

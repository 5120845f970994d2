"""Phase 1, detection: train the dual prompts on the training samples, then score all samples.

Warm-up epochs believe every label. After them the positive side learns only from the samples that
the dual prompts select as clean in that step, and the negative side takes the predicted label where
the sample's own is not believed. (DeFT, Wei et al., NeurIPS 2024, section 3.)

From the second round on a reviewed label stands in the place of the given one, and is always
selected. A sample that was decided but has no label is scored, not trained on; so are other splits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Bool, Float, Int, Real
from safetensors.torch import save_file
from torch import Tensor, nn

from deft_core import checkpoint, clip, evidence, losses, selection
from deft_core.agreement import cohens_kappa
from deft_core.config import Phase1Config
from deft_core.detector import Detector, DualLogits, PromptsAlone
from deft_core.engine import Engine
from deft_core.errors import RunError
from deft_core.loading import Batch, ImageLoader
from deft_core.run_files import NEIGHBOURS, SCORES, TRACES
from deft_core.run_folder import Progress, RunFolder
from deft_core.scores import Columns, ScoreWriter, score_columns, trace_table
from deft_core.training import (
    NO_IMAGES,
    WHERE_IS_IT,
    Loader,
    Meter,
    Parts,
    Training,
    encode_once,
    open_images,
)

DRAWS = 2
"""Keeps the draws of wrong classes apart from what the loader draws for the same epoch."""


def run(folder: RunFolder) -> Iterator[Progress]:
    """Detects in the samples of a run folder and writes the results into it.

    A folder with a checkpoint goes on from there, to the same scores.
    """
    started = time.monotonic() - folder.seconds_worked()
    task = folder.config()
    settings = Phase1Config.from_json(task["settings"])
    samples = _training_first(folder.samples())

    yield Progress(stage="loading the model")
    engine = Engine(settings)
    torch.manual_seed(settings.seed)
    detector = build_detector(settings, task["prompts"]).to(engine.device)
    standing = Standing.of(samples, device=engine.device)
    images = open_images(
        folder, samples, image_size=detector.clip.image_size, engine=engine, settings=settings
    )
    detection = Detection(detector, standing, engine=engine, settings=settings)
    scores = yield from detection.run(images, folder)
    unreadable = engine.gather(list(images.unreadable.items()))
    engine.close()
    if not engine.is_first:
        return
    table = scores.table(samples, traces=detection.traces)
    if len(table) == 0:
        raise RunError(NO_IMAGES, WHERE_IS_IT)
    folder.write_table(SCORES, table)
    trained = standing.trained_rows
    traces = trace_table(samples.take(pa.array(trained)), detection.traces[:, :, trained])
    folder.write_table(TRACES, traces)
    yield Progress(stage="finding neighbours", done=1, total=1, fraction=1.0)
    folder.write_table(NEIGHBOURS, _neighbours(folder, samples, table, standing))
    with folder.writing("detector.safetensors") as path:
        save_file(_learned(detector), path)
    rows = _rows(table, samples)
    is_train = samples["split"].to_numpy()[rows] == "train"
    is_flagged = ~selection.is_believed(
        table["is_clean"].to_numpy(),
        mean_margin=table["mean_margin"].to_numpy(),
        round=task["round"],
    )
    folder.write_json(
        "report.json",
        {
            "n_scored": int(is_train.sum()),
            "n_flagged": int((is_flagged & is_train).sum()),
            "kappa": _kappa(table, standing, rows),
            "unreadable": [
                {"file_name": name, "problem": problem} for name, problem in sorted(unreadable)
            ],
            "model": settings.model,
            "device": str(engine.device),
            "precision": engine.precision,
            "seconds": time.monotonic() - started,
        },
    )
    checkpoint.drop(folder)


def _training_first(samples: pa.Table) -> pa.Table:
    """The same samples in an order in which other splits change no row, and so no random draw, of
    the training split."""
    is_train = pc.equal(samples["split"], "train")
    return pa.concat_tables([samples.filter(is_train), samples.filter(pc.invert(is_train))])


def build_detector(settings: Phase1Config, prompts: Sequence[str]) -> Detector:
    """The detector that `settings` describe, untrained; `prompts` are the words for each class."""
    model = clip.load(settings.model, settings.pretrained)
    detector = Detector(model, prompts, settings)
    if settings.is_compiled:
        model.compile_image_tower()
    return detector


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the samples stand: the label of each, which labels a reviewer has confirmed or given, and
    the rows to train on."""

    labels: Int[Tensor, " n"]
    is_confirmed: Bool[Tensor, " n"]
    trained_rows: Int[np.ndarray, " n_trained"]

    @classmethod
    def of(cls, samples: pa.Table, *, device: torch.device) -> Standing:
        """What the decisions that a run is told of make of its samples. RunError when none is left
        to train on."""
        final, is_train = samples["final_label"], pc.equal(samples["split"], "train")
        has_label = pc.is_valid(final)
        labels = pc.coalesce(final, samples["given_label"]).to_numpy().astype(np.int64)
        is_confirmed = pc.and_(samples["is_reviewed"], has_label).to_numpy()
        trained_rows = np.flatnonzero(pc.and_(is_train, has_label).to_numpy())
        if len(trained_rows) == 0:
            raise RunError(
                "No training image has a label: every one was decided without one.",
                "Undo some of these decisions first.",
            )
        return cls(
            labels=torch.from_numpy(labels).to(device),
            is_confirmed=torch.from_numpy(is_confirmed.copy()).to(device),
            trained_rows=trained_rows,
        )


class DualPromptObjective:
    """L = L_dp + L_sim over the batches of a training, and what it thought of each sample.

    L_dp is a mean over the batch, L_sim over the samples selected in it. Their gradients go to
    different parameters, so that L_sim's can be scaled when the number of selected samples of the
    whole batch is known: how a batch is cut up, or shared by processes, changes nothing.
    """

    def __init__(
        self,
        detector: Detector,
        module: nn.Module,
        standing: Standing,
        *,
        engine: Engine,
        settings: Phase1Config,
    ) -> None:
        self._module = module
        self._aligned = detector.aligned_parameters()
        self._n_classes = len(detector.prompts.ends)
        self._labels = standing.labels
        self._is_confirmed = standing.is_confirmed
        self._engine = engine
        self._settings = settings
        self._draws = torch.empty(0)
        self._gaps, self._margins = torch.zeros((2, len(self._labels)), device=self._labels.device)

    def begin_epoch(self, epoch: int) -> None:
        """Draws the wrong classes of the epoch and forgets the last one's trace."""
        random = np.random.default_rng([self._settings.seed, epoch, DRAWS])
        labels = self._labels
        steps = random.integers(1, self._n_classes, (len(labels), self._settings.n_complementary))
        self._draws = (torch.from_numpy(steps).to(labels.device) + labels[:, None]) % (
            self._n_classes
        )
        self._gaps.zero_()
        self._margins.zero_()

    def trace(self) -> Float[np.ndarray, "two n"]:
        """pos_y - neg_y and the margin of every sample as it came up in this epoch."""
        return self._engine.total(torch.stack([self._gaps, self._margins])).cpu().numpy()

    def begin_batch(self) -> None:
        zero = torch.zeros((), device=self._labels.device)
        self._dual, self._alignment, self._n_selected = zero, zero.clone(), zero.clone()

    def loss(self, part: Batch, epoch: int) -> Float[Tensor, ""]:
        labels, settings = self._labels[part.rows], self._settings
        logits = self._module(part.images)
        pos, neg = logits.pos.float(), logits.neg.float()
        is_warmup = epoch <= settings.warmup_epochs
        is_real_noise = settings.recipe == "real-noise"

        selected = losses.is_selected(pos, neg, labels, must_be_likeliest=is_real_noise)
        selected = selected | self._is_confirmed[part.rows]
        aligned_on = torch.ones_like(selected) if is_warmup else selected
        terms = losses.symmetric_losses if is_warmup and is_real_noise else losses.alignment_losses
        believes_all = epoch <= 1 if is_real_noise else is_warmup
        believed = labels if believes_all else losses.believed_labels(pos, labels, selected)

        alignment = (terms(pos, labels) * aligned_on).sum()
        dual = losses.dual_prompt_losses(pos, neg, believed, self._draws[part.rows]).sum()
        self._n_selected += aligned_on.sum()
        self._dual += dual.detach()
        self._alignment += alignment.detach()
        self._gaps[part.rows] = (pos - neg).gather(1, labels[:, None]).squeeze(1).detach()
        self._margins[part.rows] = losses.label_margins(pos, labels).detach()
        return dual + alignment

    def end_batch(self, n_in_all: int) -> Float[Tensor, ""]:
        sums = torch.stack([self._dual, self._alignment, self._n_selected])
        dual, alignment, n_selected = self._engine.total(sums)
        # Differs from DeFT: an empty selection trains nothing instead of giving NaN.
        n_selected = n_selected.clamp(min=1)
        for parameter in self._aligned:
            if parameter.grad is not None:
                parameter.grad.mul_(n_in_all / n_selected)
        return dual / n_in_all + alignment / n_selected


class Detection:
    """The training of a detector and the scores it comes to.

    With nothing to learn on the image side, images are encoded once and the prompts are trained on
    their features.
    """

    def __init__(
        self,
        detector: Detector,
        standing: Standing,
        *,
        engine: Engine,
        settings: Phase1Config,
    ) -> None:
        self._detector = detector
        self._standing = standing
        self._engine = engine
        self._settings = settings
        self._encodes_once = settings.image_side == "none"
        self._traces: list[Float[np.ndarray, "two n"]] = []

    def run(self, images: ImageLoader, folder: RunFolder) -> Generator[Progress, None, ScoreWriter]:
        """The scores of all readable images, after training from the last checkpoint on."""
        n_trained = self._settings.epochs * len(self._standing.trained_rows)
        n_encoded = images.n_images if self._encodes_once else 0
        meter = Meter(n_trained + images.n_images, n_encoded=n_encoded)
        loader: Loader = images
        if self._encodes_once:
            loader = yield from encode_once(
                images, self._features, engine=self._engine, settings=self._settings, meter=meter
            )
        yield from self._train(loader, folder, meter=meter)
        return (yield from self.score(loader, folder, meter=meter))

    @property
    def traces(self) -> Float[np.ndarray, "two n_epochs n"]:
        """What each epoch's training pass thought of each label: pos_y - neg_y and the margin; NaN
        for samples that were not trained on."""
        traces = np.full((2, len(self._traces), len(self._standing.labels)), np.nan, np.float32)
        trained = self._standing.trained_rows
        traces[:, :, trained] = np.stack(self._traces, axis=1)[:, :, trained]
        return traces

    def _train(self, loader: Loader, folder: RunFolder, *, meter: Meter) -> Iterator[Progress]:
        settings, engine, detector = self._settings, self._engine, self._detector
        module = engine.prepare(PromptsAlone(detector) if self._encodes_once else detector)
        objective = DualPromptObjective(
            detector, module, self._standing, engine=engine, settings=settings
        )
        training = Training(
            module,
            objective,
            engine=engine,
            settings=settings,
            stage_of=lambda epoch: "warm-up" if epoch <= settings.warmup_epochs else "training",
            meter=meter,
        )
        saved = checkpoint.load(folder, device=engine.device)
        if saved:
            training.restore(saved["training"])
            self._traces = list(saved["traces"].cpu().numpy())
            meter.skip(len(self._standing.trained_rows) * len(self._traces))
        for epoch in range(len(self._traces) + 1, settings.epochs + 1):
            objective.begin_epoch(epoch)
            batches = loader.shuffled(epoch, self._standing.trained_rows)
            yield from training.epoch(epoch, batches)
            self._traces.append(objective.trace())
            if engine.is_first:
                traces = torch.from_numpy(np.stack(self._traces))
                checkpoint.save(folder, {"training": training.state(), "traces": traces})

    def score(
        self, loader: Loader, folder: RunFolder, *, meter: Meter
    ) -> Generator[Progress, None, ScoreWriter]:
        """Scores every readable image once, without augmentation.

        # Differs from DeFT: the reference keeps the selection made under augmentation during the
        # last training epoch; a separate pass gives the same image the same score every time.
        """
        with torch.no_grad():
            text = self._detector.text_features()
        writer = ScoreWriter(folder, n=loader.n_images, dim=text.pos.shape[1])
        parts = Parts(
            self._settings.images_at_once, device=self._engine.device, meter=meter, use="scoring"
        )
        with writer.open() if self._engine.is_first else nullcontext():
            for batch in loader.in_order():
                features = batch.images
                if not self._encodes_once:
                    features = parts.encode(features, self._features)
                with torch.no_grad():
                    columns = self._columns(batch.rows, self._detector.compare(features, text))
                shares = self._engine.gather([(columns, features.cpu().numpy())])
                if self._engine.is_first:
                    writer.add(shares)
                if meter.add(batch.n_in_all):
                    yield meter.progress("scoring")
        return writer

    @torch.no_grad()
    def _features(self, images: Real[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        with self._engine.autocast():
            return self._detector.clip.encode_image(images)

    def _columns(self, rows: Int[Tensor, " batch"], logits: DualLogits) -> Columns:
        labels, scale = self._standing.labels[rows], self._detector.clip.logit_scale
        selected = losses.is_selected(
            logits.pos,
            logits.neg,
            labels,
            must_be_likeliest=self._settings.recipe == "real-noise",
        )
        return score_columns(
            rows.cpu().numpy(),
            labels.cpu().numpy(),
            p_clean=losses.p_clean(logits.pos, logits.neg, labels).cpu().numpy(),
            is_clean=selected.cpu().numpy(),
            pos_sims=(logits.pos / scale).cpu().numpy(),
            neg_sims=(logits.neg / scale).cpu().numpy(),
        )


def _learned(detector: Detector) -> dict[str, Tensor]:
    return {
        name: value.detach().cpu().contiguous()
        for name, value in detector.named_parameters()
        if value.requires_grad
    }


def _neighbours(
    folder: RunFolder, samples: pa.Table, scores: pa.Table, standing: Standing
) -> pa.Table:
    """Neighbours among the training samples whose label is confirmed or found clean."""
    rows = _rows(scores, samples)
    is_trained = np.isin(rows, standing.trained_rows)
    is_confirmed = standing.is_confirmed.cpu().numpy()[rows]
    return evidence.neighbour_table(
        scores["sample_id"].to_numpy(),
        folder.path / "features.npy",
        rows=rows,
        is_trusted=is_trained & (is_confirmed | scores["is_clean"].to_numpy()),
        labels=standing.labels.cpu().numpy()[rows],
        predicted=scores["predicted_label"].to_numpy(),
    )


def _kappa(
    scores: pa.Table, standing: Standing, rows: Int[np.ndarray, " n_scored"]
) -> float | None:
    """How far the predicted labels of what was trained on agree with those it was trained with."""
    labels = standing.labels.cpu().numpy()[rows]
    is_trained = np.isin(rows, standing.trained_rows)
    predicted = scores["predicted_label"].to_numpy()
    pairs = zip(labels[is_trained].tolist(), predicted[is_trained].tolist(), strict=True)
    return cohens_kappa(Counter(pairs))


def _rows(scores: pa.Table, samples: pa.Table) -> Int[np.ndarray, " n_scored"]:
    return pc.index_in(scores["sample_id"], samples["sample_id"]).to_numpy()

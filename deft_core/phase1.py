"""Phase 1, detection: train the dual prompts, then score every training sample.

Warm-up epochs believe every given label. After them the positive side learns only from the samples
that the dual prompts select as clean in that step, and the negative side takes the predicted label
where the given one is not believed. (DeFT, Wei et al., NeurIPS 2024, section 3.)
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from deft_core import clip, losses
from deft_core.config import Phase1Config
from deft_core.detector import Detector, DualLogits
from deft_core.run_folder import Progress, RunFolder
from deft_core.training import Batch, ImageLoader, Meter, Schedule, find_device, fit

N_TOP = 5


@dataclass(frozen=True)
class Scores:
    """What the scoring pass knows of each readable sample; `rows` index the samples' table."""

    rows: Int[np.ndarray, " n"]
    p_clean: Float[np.ndarray, " n"]
    pos_sims: Float[np.ndarray, "n n_cls"]
    neg_sims: Float[np.ndarray, "n n_cls"]
    features: Float[np.ndarray, "n dim"]


def run(folder: RunFolder) -> Iterator[Progress]:
    """Detects in the samples of a run folder and writes the results into it."""
    started = time.monotonic()
    task = folder.config()
    settings = Phase1Config.from_json(task["settings"])
    samples = folder.samples()
    samples = samples.filter(pc.equal(samples["split"], "train"))

    yield Progress(stage="loading the model")
    torch.manual_seed(settings.seed)
    device = find_device(settings.device)
    detector = build_detector(settings, task["class_names"]).to(device)
    loader = ImageLoader(
        Path(task["root"]),
        samples["file_name"].to_pylist(),
        image_size=detector.clip.image_size,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=device,
    )
    given = torch.from_numpy(samples["given_label"].to_numpy().astype(np.int64)).to(device)
    meter = Meter(loader.n_images * (settings.epochs + 1))
    yield from train(detector, loader, given, settings=settings, meter=meter)
    scores = yield from score(detector, loader, given, meter=meter)
    _write_results(folder, detector, samples, scores)
    folder.write_json(
        "report.json",
        {
            "n_scored": len(scores.rows),
            "n_flagged": int((scores.p_clean <= 0.5).sum()),
            "unreadable": [
                {"file_name": name, "problem": problem}
                for name, problem in loader.unreadable.items()
            ],
            "model": settings.model,
            "device": str(device),
            "seconds": time.monotonic() - started,
        },
    )


def build_detector(settings: Phase1Config, class_names: Sequence[str]) -> Detector:
    """The detector that `settings` describe, untrained."""
    return Detector(
        clip.load(settings.model, settings.pretrained),
        [name.replace("_", " ") for name in class_names],
        n_context=settings.n_context,
        has_class_contexts=settings.has_class_contexts,
        vpt_tokens=settings.vpt_tokens,
    )


def train(
    detector: Detector,
    loader: ImageLoader,
    given: Int[Tensor, " n_samples"],
    *,
    settings: Phase1Config,
    meter: Meter,
) -> Iterator[Progress]:
    """Trains the detector in place on the given labels of the loader's images."""
    random = torch.Generator().manual_seed(settings.seed)

    def is_warmup(epoch: int) -> bool:
        return epoch <= settings.warmup_epochs

    def loss_of(batch: Batch, epoch: int) -> Tensor:
        labels = given[batch.rows]
        logits = detector(batch.images)
        complementary = losses.complementary_labels(
            labels, n_classes=logits.pos.shape[1], generator=random
        )
        return step_loss(logits, labels, complementary, is_warmup=is_warmup(epoch))

    yield from fit(
        [one for one in detector.parameters() if one.requires_grad],
        loss_of,
        loader,
        schedule=Schedule(
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        ),
        stage_of=lambda epoch: "warm-up" if is_warmup(epoch) else "training",
        meter=meter,
    )


def step_loss(
    logits: DualLogits,
    given: Int[Tensor, " batch"],
    complementary: Int[Tensor, " batch"],
    *,
    is_warmup: bool,
) -> Float[Tensor, ""]:
    """L = L_dp + L_sim of one batch; in the warm-up every given label counts as clean."""
    is_clean = losses.p_clean(logits.pos, logits.neg, given).detach() > 0.5
    if is_warmup:
        is_clean = torch.ones_like(is_clean)
    believed = losses.believed_labels(logits.pos, given, is_clean)
    return losses.dual_prompt_loss(
        logits.pos, logits.neg, believed, complementary
    ) + losses.alignment_loss(logits.pos, given, is_clean)


def score(
    detector: Detector,
    loader: ImageLoader,
    given: Int[Tensor, " n_samples"],
    *,
    meter: Meter,
) -> Generator[Progress, None, Scores]:
    """Scores every readable image once, without augmentation.

    # Differs from DeFT: the reference keeps the selection made under augmentation during the last
    # training epoch; a separate pass gives the same image the same score every time.
    """
    scale = detector.clip.logit_scale
    parts: list[tuple[np.ndarray, ...]] = []
    with torch.no_grad():
        text = detector.text_features()
    for batch in loader.in_order():
        with torch.no_grad():
            features = detector.clip.encode_image(batch.images)
            logits = detector.compare(features, text)
        p_clean = losses.p_clean(logits.pos, logits.neg, given[batch.rows])
        columns = (batch.rows, p_clean, logits.pos / scale, logits.neg / scale, features)
        parts.append(tuple(column.cpu().numpy() for column in columns))
        if meter.add(len(batch.rows)):
            yield meter.progress("scoring")
    return Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def score_table(scores: Scores, samples: pa.Table) -> pa.Table:
    """One row a scored sample, as the store imports it; similarities are cosines."""
    n = np.arange(len(scores.rows))
    table = samples.take(pa.array(scores.rows))
    given = table["given_label"].to_numpy()
    top = np.argsort(-scores.pos_sims, axis=1, kind="stable")[:, :N_TOP]
    predicted = top[:, 0]
    return pa.table(
        {
            "sample_id": table["sample_id"],
            "p_clean": scores.p_clean.astype(np.float32),
            "pos_sim": scores.pos_sims[n, given].astype(np.float32),
            "neg_sim": scores.neg_sims[n, given].astype(np.float32),
            "predicted_label": predicted.astype(np.int32),
            "predicted_pos_sim": scores.pos_sims[n, predicted].astype(np.float32),
            "predicted_neg_sim": scores.neg_sims[n, predicted].astype(np.float32),
            "top_labels": list(top.astype(np.int32)),
            "top_pos_sims": list(np.take_along_axis(scores.pos_sims, top, 1).astype(np.float32)),
            "top_neg_sims": list(np.take_along_axis(scores.neg_sims, top, 1).astype(np.float32)),
        }
    )


def _write_results(
    folder: RunFolder, detector: Detector, samples: pa.Table, scores: Scores
) -> None:
    learned = {
        name: value.detach().cpu().contiguous()
        for name, value in detector.named_parameters()
        if value.requires_grad
    }
    with folder.writing("detector.safetensors") as path:
        save_file(learned, path)
    with folder.writing("features.npy") as path, path.open("wb") as file:
        np.save(file, scores.features.astype(np.float16))
    folder.write_table("scores.parquet", score_table(scores, samples))

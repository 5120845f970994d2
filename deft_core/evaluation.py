"""How good a classifier is on labelled images: pure functions of what it said of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn import metrics

N_BINS = 15
"""Into which the calibration sorts confidences, as usual since Guo et al., ICML 2017."""


def evaluate(
    predicted: Int[np.ndarray, " n"],
    *,
    confidence: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    is_reviewed: Bool[np.ndarray, " n"],
    n_classes: int,
) -> dict[str, Any] | None:
    """Plain values for a report; None without images.

    `accuracy`, `macro_f1` (over the classes that occur), `ece`, `mean_confidence`, `per_class` (one
    a class) and `confusion` (triples of label, predicted label and count, where there are any) are
    about all `n` images. Of these, `n_reviewed` have a label that somebody confirmed or gave; the
    accuracies `on_reviewed` and `on_given` are about these and about the others, None without any.
    """
    if len(labels) == 0:
        return None
    is_right = predicted == labels
    return {
        "n": len(labels),
        "n_reviewed": int(is_reviewed.sum()),
        "accuracy": float(is_right.mean()),
        "on_reviewed": _mean(is_right[is_reviewed]),
        "on_given": _mean(is_right[~is_reviewed]),
        "macro_f1": float(metrics.f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "ece": calibration_error(confidence, is_right),
        "mean_confidence": float(confidence.mean()),
        "per_class": _per_class(predicted, labels, n_classes=n_classes),
        "confusion": _confusion(predicted, labels, n_classes=n_classes),
    }


def calibration_error(
    confidence: Float[np.ndarray, " n"], is_right: Bool[np.ndarray, " n"]
) -> float:
    """The expected calibration error: how far, in the mean, confidence is from being right.

    In each of 15 equal bins of confidence, the distance between its mean and the share that is
    right; the mean of these by the number of images in a bin.
    """
    bins = np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)
    gaps = np.bincount(bins, confidence.astype(np.float64) - is_right, N_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _mean(is_right: Bool[np.ndarray, " n"]) -> float | None:
    return float(is_right.mean()) if len(is_right) else None


def _per_class(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], *, n_classes: int
) -> list[dict[str, Any]]:
    columns = metrics.precision_recall_fscore_support(
        labels, predicted, labels=np.arange(n_classes), zero_division=0.0
    )
    return [
        {"label": label, "n": int(n), "precision": precision, "recall": recall, "f1": f1}
        for label, (precision, recall, f1, n) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]


def _confusion(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], *, n_classes: int
) -> list[list[int]]:
    counts = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    pairs = np.flatnonzero(counts)
    columns = (pairs // n_classes, pairs % n_classes, counts[pairs])
    return [[int(one) for one in triple] for triple in zip(*columns, strict=True)]

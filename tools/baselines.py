"""Other detectors of wrong labels, for comparison with Denoising Fine-Tuning.

Each gives a score per sample, high where the label looks right, and which samples it selects as
clean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_predict


@dataclass(frozen=True)
class Detected:
    """What a detector says of each sample; `suggested` is the class that it would give instead."""

    score: Float[np.ndarray, " n"]
    is_clean: Bool[np.ndarray, " n"]
    suggested: Int[np.ndarray, " n"]


def label_match(logits: Float[np.ndarray, "n n_cls"], given: Int[np.ndarray, " n"]) -> Detected:
    """Clean where the given label is the zero-shot prediction; there are only two scores."""
    predicted = logits.argmax(axis=1)
    is_clean = predicted == given
    return Detected(is_clean.astype(float), is_clean, predicted)


def margin(logits: Float[np.ndarray, "n n_cls"], given: Int[np.ndarray, " n"]) -> Detected:
    """By the logit of the given label less that of the best other class."""
    rows = np.arange(len(given))
    others = logits.copy()
    others[rows, given] = -np.inf
    score = logits[rows, given] - others.max(axis=1)
    return Detected(score, score > 0, logits.argmax(axis=1))


def small_loss(logits: Float[np.ndarray, "n n_cls"], given: Int[np.ndarray, " n"]) -> Detected:
    """By the cross-entropy of the given label after a warm-up on all labels: clean where a mixture
    of two normal distributions, fitted to the losses, thinks that of the smaller ones likelier
    (DivideMix, Li et al., ICLR 2020; with the settings of the reference of DeFT)."""
    highest = logits.max(axis=1, keepdims=True)
    log_total = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    losses = log_total - logits[np.arange(len(given)), given]
    scaled = ((losses - losses.min()) / np.ptp(losses))[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    p_clean = mixture.fit(scaled).predict_proba(scaled)[:, mixture.means_[:, 0].argmin()]
    return Detected(-losses, p_clean > 0.5, logits.argmax(axis=1))


def confident_learning(
    features: Float[np.ndarray, "n dim"], given: Int[np.ndarray, " n"]
) -> Detected:
    """By the out-of-fold probability of the given label under a linear probe of the features:
    wrong where another class has a probability above its mean over that class's own samples
    (Northcutt et al., JAIR 2021) and above that of the given label."""
    probe = LogisticRegression(max_iter=1000)
    p = cross_val_predict(probe, features, given, cv=5, method="predict_proba")
    rows, classes = np.arange(len(given)), np.unique(given)
    means = np.array([p[given == one, place].mean() for place, one in enumerate(classes)])
    is_confident = p >= means
    place_of_given = np.searchsorted(classes, given)
    likeliest = np.where(is_confident, p, -1.0).argmax(axis=1)
    is_wrong = is_confident.any(axis=1) & (likeliest != place_of_given)
    return Detected(p[rows, place_of_given], ~is_wrong, classes[p.argmax(axis=1)])

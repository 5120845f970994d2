"""Synthetic label noise: symmetric, pair and instance-dependent.

Every function returns `(noisy_labels, is_noisy)`, two arrays of shape (n,): the given labels after
the noise, int64, and whether they differ from the labels that came in. Symmetric and pair noise
strike an exact number of samples, so that a data set has the ratio it says it has.
"""

import numpy as np

Labels = np.ndarray

MODES = ("sym", "sym-all", "pair", "idn", "idn-raw")


def add_noise(
    labels: Labels,
    n_classes: int,
    *,
    mode: str,
    ratio: float,
    pixels: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Labels, np.ndarray]:
    """Labels with the noise of that name, one of MODES.

    `sym` draws from the other classes and `sym-all` from all, as the DeFT reference does; `pair`
    takes the next class; `idn` goes by what the `pixels` of shape (n, d) show, without their
    brightness and contrast, `idn-raw` by the pixels as they are, as the reference does: then
    brightness counts most.
    """
    match mode:
        case "sym" | "sym-all":
            return symmetric(labels, n_classes, ratio, rng, include_true=mode == "sym-all")
        case "pair":
            return pair(labels, n_classes, ratio, rng)
        case "idn":
            return instance_dependent(normalised(pixels), labels, n_classes, ratio, rng)
        case "idn-raw":
            return instance_dependent(pixels, labels, n_classes, ratio, rng)
    raise ValueError(f'noise mode "{mode}" is not one of {", ".join(MODES)}')


def normalised(pixels: np.ndarray) -> np.ndarray:
    """Each row of (n, d) with mean 0 and standard deviation 1."""
    pixels = np.asarray(pixels, dtype=np.float64)
    mean, deviation = pixels.mean(axis=1, keepdims=True), pixels.std(axis=1, keepdims=True)
    scaled: np.ndarray = (pixels - mean) / (deviation + 1e-6)
    return scaled


def symmetric(
    labels: Labels,
    n_classes: int,
    ratio: float,
    rng: np.random.Generator,
    *,
    include_true: bool = False,
) -> tuple[Labels, np.ndarray]:
    """Labels of which round(ratio * n) are drawn anew, uniformly over the other classes.

    With `include_true` the draw is over all classes, as in the DeFT reference: then a struck
    sample may keep its label, and the expected share of wrong labels is ratio * (1 - 1/K).
    """
    labels = _checked(labels, n_classes, ratio)
    struck = _struck(labels, ratio, rng)
    noisy = labels.copy()
    if include_true:
        noisy[struck] = rng.integers(0, n_classes, len(struck))
    else:
        step = rng.integers(1, n_classes, len(struck))
        noisy[struck] = (labels[struck] + step) % n_classes
    return noisy, noisy != labels


def pair(
    labels: Labels, n_classes: int, ratio: float, rng: np.random.Generator
) -> tuple[Labels, np.ndarray]:
    """Labels of which round(ratio * n) become the next class, the last becoming the first."""
    labels = _checked(labels, n_classes, ratio)
    struck = _struck(labels, ratio, rng)
    noisy = labels.copy()
    noisy[struck] = (labels[struck] + 1) % n_classes
    return noisy, noisy != labels


def instance_dependent(
    features: np.ndarray, labels: Labels, n_classes: int, ratio: float, rng: np.random.Generator
) -> tuple[Labels, np.ndarray]:
    """Labels flipped by what the samples look like; `features` has shape (n, d).

    The recipe of Xia et al. (2020, part-dependent label noise), as DeFT uses it: a flip rate q_i
    from a normal distribution (mean `ratio`, sd 0.1) truncated to [0, 1]; class scores x_i @ W_y
    with one standard normal W of shape (d, K) for each label y; the own class excluded, the
    softmax of the rest shares out q_i, and the own class keeps 1 - q_i. A ratio of 0 leaves all
    labels as they are, where the recipe would still flip about 8 %.
    """
    labels = _checked(labels, n_classes, ratio)
    if features.ndim != 2 or len(features) != len(labels):
        raise ValueError(f"features of shape {features.shape} for {len(labels)} labels")
    if ratio == 0:
        return labels.copy(), np.zeros(len(labels), dtype=bool)
    flip = _truncated_normal(len(labels), mean=ratio, rng=rng)
    chances = np.empty((len(labels), n_classes))
    for own in range(n_classes):
        projection = rng.standard_normal((features.shape[1], n_classes))
        rows = np.flatnonzero(labels == own)
        scores = features[rows].astype(np.float64) @ projection
        scores[:, own] = -np.inf
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances[rows] = flip[rows, None] * scores / scores.sum(axis=1, keepdims=True)
        chances[rows, own] = 1 - flip[rows]
    draws = rng.random((len(labels), 1)) * chances.sum(axis=1, keepdims=True)
    noisy = (chances.cumsum(axis=1) <= draws).sum(axis=1).clip(max=n_classes - 1)
    return noisy, noisy != labels


def _checked(labels: Labels, n_classes: int, ratio: float) -> Labels:
    labels = np.asarray(labels, dtype=np.int64)
    if n_classes < 2:
        raise ValueError(f"label noise needs at least 2 classes, got {n_classes}")
    if not 0 <= ratio <= 1:
        raise ValueError(f"noise ratio must lie in [0, 1], got {ratio}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
        raise ValueError(f"labels must lie in 0..{n_classes - 1}")
    return labels


def _struck(labels: Labels, ratio: float, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(len(labels))[: round(ratio * len(labels))]


def _truncated_normal(n: int, *, mean: float, rng: np.random.Generator) -> np.ndarray:
    rates = rng.normal(mean, 0.1, n)
    while (outside := (rates < 0) | (rates > 1)).any():
        rates[outside] = rng.normal(mean, 0.1, int(outside.sum()))
    return rates

"""Label noise: exact counts, possible targets, and the recipe's shape, without any pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft_core import noise

sizes = st.integers(0, 300)
ratios = st.floats(0, 1)
class_counts = st.integers(2, 12)
seeds = st.integers(0, 2**32 - 1)


def some_labels(n: int, n_classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n_classes, n)


@given(n=sizes, n_classes=class_counts, ratio=ratios, seed=seeds)
def test_symmetric_noise_strikes_the_exact_number(n, n_classes, ratio, seed):
    labels = some_labels(n, n_classes, seed)
    noisy, is_noisy = noise.symmetric(labels, n_classes, ratio, np.random.default_rng(seed))
    assert is_noisy.sum() == round(ratio * n)
    np.testing.assert_array_equal(is_noisy, noisy != labels)
    assert ((noisy >= 0) & (noisy < n_classes)).all()


@given(n=sizes, n_classes=class_counts, ratio=ratios, seed=seeds)
def test_pair_noise_moves_to_the_next_class(n, n_classes, ratio, seed):
    labels = some_labels(n, n_classes, seed)
    noisy, is_noisy = noise.pair(labels, n_classes, ratio, np.random.default_rng(seed))
    assert is_noisy.sum() == round(ratio * n)
    np.testing.assert_array_equal(noisy, (labels + is_noisy) % n_classes)


def test_pair_noise_of_everything_by_hand():
    noisy, is_noisy = noise.pair(np.array([0, 1, 2, 2]), 3, 1.0, np.random.default_rng(0))
    assert noisy.tolist() == [1, 2, 0, 0]
    assert is_noisy.all()


def test_symmetric_noise_of_two_classes_swaps_them():
    noisy, _ = noise.symmetric(np.array([0, 1, 1]), 2, 1.0, np.random.default_rng(0))
    assert noisy.tolist() == [1, 0, 0]


def test_symmetric_noise_reaches_the_other_classes_evenly():
    noisy, _ = noise.symmetric(np.zeros(9000, int), 4, 1.0, np.random.default_rng(1))
    counts = np.bincount(noisy, minlength=4)
    assert counts[0] == 0
    assert (abs(counts[1:] - 3000) < 250).all()


def test_include_true_lowers_the_true_noise_rate():
    labels = some_labels(20_000, 4, 0)
    noisy, is_noisy = noise.symmetric(labels, 4, 0.4, np.random.default_rng(2), include_true=True)
    assert is_noisy.mean() == pytest.approx(0.4 * (1 - 1 / 4), abs=0.01)
    np.testing.assert_array_equal(is_noisy, noisy != labels)


@given(n=sizes, n_classes=class_counts, ratio=ratios, seed=seeds)
def test_instance_noise_is_well_formed_and_repeatable(n, n_classes, ratio, seed):
    labels = some_labels(n, n_classes, seed)
    features = np.random.default_rng(seed).normal(size=(n, 5))
    first, second = (
        noise.instance_dependent(features, labels, n_classes, ratio, np.random.default_rng(seed))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], first[0] != labels)
    assert ((first[0] >= 0) & (first[0] < n_classes)).all()


def test_instance_noise_hits_its_ratio_on_average():
    labels = some_labels(20_000, 6, 3)
    features = np.random.default_rng(4).normal(size=(20_000, 8))
    _, is_noisy = noise.instance_dependent(features, labels, 6, 0.4, np.random.default_rng(5))
    assert is_noisy.mean() == pytest.approx(0.4, abs=0.015)


def test_instance_noise_sends_alike_samples_the_same_way():
    features = np.repeat(np.random.default_rng(6).normal(size=(1, 40)), 4000, axis=0)
    noisy, is_noisy = noise.instance_dependent(
        features, np.zeros(4000, int), 8, 0.5, np.random.default_rng(7)
    )
    favourite = np.bincount(noisy[is_noisy], minlength=8).max()
    assert favourite > 0.6 * is_noisy.sum()


def add(mode: str, labels: np.ndarray, pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return noise.add_noise(labels, 4, mode=mode, ratio=0.4, pixels=pixels, rng=rng)[0]


def test_every_kind_of_noise_has_a_name():
    labels, pixels = some_labels(400, 4, 0), np.random.default_rng(1).uniform(0, 255, (400, 6))
    by_name = {mode: add(mode, labels, pixels) for mode in noise.MODES}
    fresh = [np.random.default_rng(0) for _ in range(5)]
    expected = {
        "sym": noise.symmetric(labels, 4, 0.4, fresh[0]),
        "sym-all": noise.symmetric(labels, 4, 0.4, fresh[1], include_true=True),
        "pair": noise.pair(labels, 4, 0.4, fresh[2]),
        "idn": noise.instance_dependent(noise.normalised(pixels), labels, 4, 0.4, fresh[3]),
        "idn-raw": noise.instance_dependent(pixels, labels, 4, 0.4, fresh[4]),
    }
    assert by_name.keys() == expected.keys()
    for mode, (labels_expected, _) in expected.items():
        np.testing.assert_array_equal(by_name[mode], labels_expected)


def test_brightness_and_contrast_count_for_raw_pixels_alone():
    labels, pixels = some_labels(400, 4, 0), np.random.default_rng(1).uniform(0, 90, (400, 6))
    brighter = 1.5 * pixels + np.linspace(0, 100, 400)[:, None]
    assert (add("idn", labels, brighter) == add("idn", labels, pixels)).all()
    assert (add("idn-raw", labels, brighter) != add("idn-raw", labels, pixels)).any()


def test_an_unknown_kind_of_noise_is_refused():
    with pytest.raises(ValueError, match='"asym" is not one of sym, '):
        add("asym", some_labels(4, 4, 0), np.ones((4, 2)))


def test_a_ratio_of_zero_changes_nothing():
    labels, features = some_labels(200, 5, 0), np.ones((200, 3))
    for noisy, is_noisy in (
        noise.symmetric(labels, 5, 0.0, np.random.default_rng(0)),
        noise.pair(labels, 5, 0.0, np.random.default_rng(0)),
        noise.instance_dependent(features, labels, 5, 0.0, np.random.default_rng(0)),
    ):
        np.testing.assert_array_equal(noisy, labels)
        assert not is_noisy.any()


def test_the_labels_that_came_in_are_left_alone():
    labels = some_labels(50, 3, 0)
    kept = labels.copy()
    noise.symmetric(labels, 3, 0.5, np.random.default_rng(0))
    noise.pair(labels, 3, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, kept)


@pytest.mark.parametrize(
    ("labels", "n_classes", "ratio"),
    [([0, 1], 2, 1.5), ([0, 1], 2, -0.1), ([0, 2], 2, 0.5), ([0, 0], 1, 0.5)],
)
def test_impossible_requests_are_refused(labels, n_classes, ratio):
    with pytest.raises(ValueError, match=r"noise|labels"):
        noise.symmetric(np.array(labels), n_classes, ratio, np.random.default_rng(0))

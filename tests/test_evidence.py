"""Nearest trusted neighbours on points whose order can be seen."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from deft_core import evidence


def on_a_circle(*degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def table(**changes: np.ndarray) -> pa.Table:
    """Five samples with ids 10 to 14 at 0, 10, 30, 65 and 100 degrees; the last is flagged."""
    values = {
        "sample_id": np.arange(10, 15),
        "features": on_a_circle(0, 10, 30, 65, 100),
        "is_trusted": np.array([True, True, True, True, False]),
        "labels": np.array([0, 0, 1, 1, 0]),
        "predicted": np.array([0, 1, 1, 1, 1]),
        **changes,
    }
    return evidence.neighbour_table(values.pop("sample_id"), values.pop("features"), **values)


def test_neighbours_are_trusted_others_the_nearest_first() -> None:
    nearest = table()["nearest"].to_pylist()

    assert nearest == [[11, 12, 13], [10, 12, 13], [11, 10, 13], [12, 11, 10], [13, 12, 11, 10]]


def test_neighbours_of_a_class_carry_that_given_label() -> None:
    found = table()

    assert found["nearest_given"].to_pylist() == [[11], [10], [13], [12], [11, 10]]
    assert found["nearest_predicted"].to_pylist() == [[11], [12, 13], [13], [12], [13, 12]]


def test_a_class_without_trusted_samples_has_no_neighbours() -> None:
    found = table(is_trusted=np.zeros(5, dtype=bool))

    assert found["nearest"].to_pylist() == [[]] * 5
    assert found["nearest_given"].type == pa.list_(pa.int32())


def test_a_large_set_is_searched_in_part_and_nearly_as_well() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(3000, 8))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    zeros = np.zeros(3000, dtype=np.int64)
    options = {"is_trusted": np.ones(3000, dtype=bool), "labels": zeros, "predicted": zeros}

    exact = evidence.neighbour_table(np.arange(3000), features, **options)["nearest"].to_pylist()
    quick = evidence.neighbour_table(np.arange(3000), features, **options, most_exact=100)
    quick = quick["nearest"].to_pylist()

    shared = [len(set(a) & set(b)) for a, b in zip(exact, quick, strict=True)]
    assert np.mean(shared) > 7

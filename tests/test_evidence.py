"""Nearest trusted neighbours on points whose order can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deft_core import evidence


def on_a_circle(*degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def neighbours(folder: Path, sample_id: np.ndarray, features: np.ndarray, **given: Any) -> pa.Table:
    np.save(folder / "features.npy", features)
    return evidence.neighbour_table(
        sample_id, folder / "features.npy", rows=np.arange(len(sample_id)), **given
    )


def table(folder: Path, **changes: np.ndarray) -> pa.Table:
    """Five samples with ids 10 to 14 at 0, 10, 30, 65 and 100 degrees; the last is flagged."""
    values = {
        "is_trusted": np.array([True, True, True, True, False]),
        "labels": np.array([0, 0, 1, 1, 0]),
        "predicted": np.array([0, 1, 1, 1, 1]),
        **changes,
    }
    return neighbours(folder, np.arange(10, 15), on_a_circle(0, 10, 30, 65, 100), **values)


def test_neighbours_are_trusted_others_the_nearest_first(tmp_path: Path) -> None:
    nearest = table(tmp_path)["nearest"].to_pylist()

    assert nearest == [[11, 12, 13], [10, 12, 13], [11, 10, 13], [12, 11, 10], [13, 12, 11, 10]]


def test_neighbours_of_a_class_carry_that_given_label(tmp_path: Path) -> None:
    found = table(tmp_path)

    assert found["nearest_given"].to_pylist() == [[11], [10], [13], [12], [11, 10]]
    assert found["nearest_predicted"].to_pylist() == [[11], [12, 13], [13], [12], [13, 12]]


def test_a_class_without_trusted_samples_has_no_neighbours(tmp_path: Path) -> None:
    found = table(tmp_path, is_trusted=np.zeros(5, dtype=bool))

    assert found["nearest"].to_pylist() == [[]] * 5
    assert found["nearest_given"].type == pa.list_(pa.int32())


def random_features(n: int) -> np.ndarray:
    features = np.random.default_rng(0).normal(size=(n, 8))
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def one_class(n: int) -> dict[str, np.ndarray]:
    zeros = np.zeros(n, dtype=np.int64)
    return {"is_trusted": np.ones(n, dtype=bool), "labels": zeros, "predicted": zeros}


def test_a_large_set_is_searched_in_part_and_nearly_as_well(tmp_path: Path) -> None:
    features, ids = random_features(3000), np.arange(3000)

    exact = neighbours(tmp_path, ids, features, **one_class(3000))["nearest"].to_pylist()
    quick = neighbours(tmp_path, ids, features, **one_class(3000), most_exact=100)
    quick = quick["nearest"].to_pylist()

    shared = [len(set(a) & set(b)) for a, b in zip(exact, quick, strict=True)]
    assert np.mean(shared) > 7


def test_blocks_change_no_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, classes = random_features(300), np.arange(300) % 3
    values = {"is_trusted": classes < 2, "labels": classes, "predicted": (classes + 1) % 3}
    whole = neighbours(tmp_path, np.arange(300), features, **values)
    monkeypatch.setattr(evidence, "BLOCK", 64)

    assert neighbours(tmp_path, np.arange(300), features, **values) == whole


def test_features_are_found_by_their_rows(tmp_path: Path) -> None:
    features = on_a_circle(0, 10, 30)
    shifted = np.vstack([np.full((1, 2), np.nan), features[::-1]])
    expected = neighbours(tmp_path, np.arange(3), features, **one_class(3))
    np.save(tmp_path / "shifted.npy", shifted)

    found = evidence.neighbour_table(
        np.arange(3), tmp_path / "shifted.npy", rows=np.array([3, 2, 1]), **one_class(3)
    )

    assert found == expected

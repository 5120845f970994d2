"""What is kept of each sample, with columns worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deft_core.run_folder import RunFolder
from deft_core.scores import Columns, ScoreWriter, score_columns, trace_table

SAMPLES = pa.table({"sample_id": pa.array([10, 11, 12, 13, 14], pa.int32())})


def columns(
    rows: list[int], labels: list[int], pos: list[list[float]], neg: list[list[float]]
) -> Columns:
    return score_columns(
        np.array(rows),
        np.array(labels),
        p_clean=np.array(rows, np.float32) / 10,
        is_clean=np.array(rows) > 5,
        pos_sims=np.array(pos, np.float32),
        neg_sims=np.array(neg, np.float32),
    )


def scored(rows: list[int]) -> tuple[Columns, np.ndarray]:
    """Columns and features of some rows; feature i is [i, -i]."""
    n = len(rows)
    features = np.array([[row, -row] for row in rows], np.float32).reshape(n, 2)
    sims = np.zeros((n, 3), np.float32)
    sims[:, 1] = rows
    part = score_columns(
        np.array(rows, np.int64),
        np.ones(n, np.int64),
        p_clean=np.array(rows, np.float32) / 10,
        is_clean=np.array(rows) > 5,
        pos_sims=sims,
        neg_sims=-sims,
    )
    return part, features


def test_columns_by_hand() -> None:
    made = columns(
        [4, 7],
        [0, 0],
        [[0.5, 0.25, 0.125], [0.25, 0.125, 0.75]],
        [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]],
    )

    assert made["row"].tolist() == [4, 7]
    # Over the nearest other class where the given one is nearest, else under the nearest.
    assert made["margin"].tolist() == [0.25, -0.5]
    assert made["pos_sim"].tolist() == [0.5, 0.25]
    assert made["neg_sim"].tolist() == pytest.approx([0.1, 0.4])
    assert made["predicted_label"].tolist() == [0, 2]
    assert made["predicted_pos_sim"].tolist() == [0.5, 0.75]
    assert made["predicted_neg_sim"].tolist() == pytest.approx([0.1, 0.6])
    assert made["top_labels"].tolist() == [[0, 1, 2], [2, 0, 1]]
    assert made["top_pos_sims"].tolist() == [[0.5, 0.25, 0.125], [0.75, 0.25, 0.125]]
    np.testing.assert_allclose(made["top_neg_sims"], [[0.1, 0.2, 0.3], [0.6, 0.4, 0.5]])


def test_of_equally_near_classes_the_first_is_predicted_and_the_margin_is_zero() -> None:
    made = columns([0, 1], [0, 1], [[0.5, 0.5], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]])

    assert made["predicted_label"].tolist() == [0, 0]
    assert made["margin"].tolist() == [0.0, 0.0]


def test_only_the_six_nearest_classes_are_kept() -> None:
    made = columns([0], [6], [[0.1, 0.7, 0.3, 0.6, 0.2, 0.5, 0.4]], [[0.0] * 7])

    assert made["top_labels"].tolist() == [[1, 3, 5, 6, 2, 4]]


# --- the writer


def write(folder: RunFolder, *calls: list[list[int]], n: int = 5) -> dict[str, Any]:
    """The scores of calls with the rows of some parts each, as plain lists."""
    writer = ScoreWriter(folder, n=n, dim=2)
    with writer.open():
        for parts in calls:
            writer.add([scored(rows) for rows in parts])
    traces = np.arange(2 * 2 * 5, dtype=np.float64).reshape(2, 2, 5)
    values: dict[str, Any] = writer.table(SAMPLES, traces=traces).to_pydict()
    return values


def features(folder: RunFolder) -> list[float]:
    """The first number of each sample's features."""
    kept = np.load(folder.path / "features.npy")
    assert (kept.dtype, kept.shape) == (np.float16, (5, 2))
    np.testing.assert_array_equal(kept[:, 0], -kept[:, 1])
    return kept[:, 0].tolist()


def test_every_sample_gets_its_scores_and_features(tmp_path: Path) -> None:
    table = write(RunFolder(tmp_path), [[0, 1, 2]], [[3, 4]])

    assert table["sample_id"] == [10, 11, 12, 13, 14]
    assert table["p_clean"] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert table["top_labels"][3] == [1, 0, 2]
    assert "row" not in table
    assert features(RunFolder(tmp_path)) == [0, 1, 2, 3, 4]


def test_parts_of_a_batch_may_come_in_any_order(tmp_path: Path) -> None:
    table = write(RunFolder(tmp_path), [[1], [2, 0]], [[4], [3]])

    assert table["sample_id"] == [10, 11, 12, 13, 14]
    assert table["pos_sim"] == [0, 1, 2, 3, 4]
    assert features(RunFolder(tmp_path)) == [0, 1, 2, 3, 4]


def test_samples_that_cannot_be_read_have_no_scores_and_nan_features(tmp_path: Path) -> None:
    table = write(RunFolder(tmp_path), [[1]], [[], []], [[3]])

    assert table["sample_id"] == [11, 13]
    assert table["p_clean"] == pytest.approx([0.1, 0.3])
    np.testing.assert_array_equal(features(RunFolder(tmp_path)), [np.nan, 1, np.nan, 3, np.nan])


def test_features_appear_only_when_all_are_there(tmp_path: Path) -> None:
    writer = ScoreWriter(RunFolder(tmp_path), n=5, dim=2)

    with writer.open():
        writer.add([scored([0, 1])])
        assert not (tmp_path / "features.npy").exists()

    assert (tmp_path / "features.npy").exists()


def test_gap_and_margin_are_means_over_the_epochs(tmp_path: Path) -> None:
    # Gaps are 0 to 4, then 5 to 9; margins are 10 to 14, then 15 to 19.
    table = write(RunFolder(tmp_path), [[0, 2, 4]])

    assert table["mean_gap"] == [2.5, 4.5, 6.5]
    assert table["mean_margin"] == [12.5, 14.5, 16.5]


def test_traces_have_a_row_a_sample_and_an_entry_an_epoch() -> None:
    traces = np.arange(2 * 3 * 5, dtype=np.float64).reshape(2, 3, 5)

    table = trace_table(SAMPLES, traces)

    assert table["sample_id"].to_pylist() == [10, 11, 12, 13, 14]
    assert table["gap"].to_pylist()[1] == [1, 6, 11]
    assert table["margin"].to_pylist()[4] == [19, 24, 29]
    assert table.schema.field("gap").type == pa.list_(pa.float32())

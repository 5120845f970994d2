"""What a run leaves for the store, checked: the child may be another version, or have died."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deft_core import selection
from deft_core.errors import RunError
from deft_core.run_folder import RunFolder
from deft_core.selection import NO_LABEL

SCORES_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int32()),
        ("p_clean", pa.float32()),
        ("is_clean", pa.bool_()),
        ("pos_sim", pa.float32()),
        ("neg_sim", pa.float32()),
        ("margin", pa.float32()),
        ("mean_gap", pa.float32()),
        ("mean_margin", pa.float32()),
        ("predicted_label", pa.int32()),
        ("predicted_pos_sim", pa.float32()),
        ("predicted_neg_sim", pa.float32()),
        ("top_labels", pa.list_(pa.int32())),
        ("top_pos_sims", pa.list_(pa.float32())),
        ("top_neg_sims", pa.list_(pa.float32())),
    ]
)
MAY_BE_EMPTY = ("mean_gap", "mean_margin")
"""In the scores of samples that were not trained on."""
PREDICTIONS = "predictions.parquet"
PREDICTIONS_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int32()),
        ("predicted_label", pa.int32()),
        ("p_predicted", pa.float32()),
        ("p_given", pa.float32()),
        ("margin", pa.float32()),
    ]
)
NEIGHBOURS = "neighbours.parquet"
NEIGHBOURS_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int32()),
        ("nearest", pa.list_(pa.int32())),
        ("nearest_given", pa.list_(pa.int32())),
        ("nearest_predicted", pa.list_(pa.int32())),
    ]
)
MOST_NEIGHBOURS = 10


def queue_scores(folder: RunFolder) -> pa.Table:
    """The checked scores of a phase 1, in queue order, with what the selection says of each."""
    scores = _checked(folder, "scores", schema=SCORES_SCHEMA, may_be_empty=MAY_BE_EMPTY)
    _check_ranges(folder, "scores", scores, labels=("predicted_label", "top_labels"))
    sample_id = scores["sample_id"].to_numpy()
    labels = _standing_labels(folder, sample_id)
    suggested = selection.suggested_labels(scores["predicted_label"].to_numpy(), labels=labels)
    is_clean = selection.is_believed(
        scores["is_clean"].to_numpy(),
        mean_margin=scores["mean_margin"].to_numpy(),
        round=folder.config()["round"],
    )
    order = selection.queue_order(scores["p_clean"].to_numpy(), sample_id=sample_id)
    return (
        scores.drop_columns("is_clean")
        .append_column("is_clean", pa.array(is_clean))
        .append_column("scored_label", pa.array(labels))
        .append_column(
            "suggested_label", pa.array(suggested, pa.int32(), mask=suggested == NO_LABEL)
        )
        .take(order)
        .append_column("position", pa.array(range(len(order)), pa.int32()))
    )


def predictions(folder: RunFolder) -> pa.Table:
    """The checked predictions of a phase 2, in order of sample id, each with the label that it was
    compared with and whether the classifier is sure."""
    table = _checked(folder, "predictions", schema=PREDICTIONS_SCHEMA).sort_by("sample_id")
    _check_ranges(folder, "predictions", table, labels=("predicted_label",))
    labels = _standing_labels(folder, table["sample_id"].to_numpy())
    is_sure = selection.is_sure(table["p_predicted"].to_numpy())
    return table.append_column("scored_label", pa.array(labels)).append_column(
        "is_sure", pa.array(is_sure)
    )


def neighbours(folder: RunFolder) -> pa.Table:
    """The checked neighbours that a phase 1 found, in order of sample id."""
    table = _checked(folder, "neighbours", schema=NEIGHBOURS_SCHEMA)
    known = folder.samples()["sample_id"].to_numpy()
    for name in NEIGHBOURS_SCHEMA.names[1:]:
        if (pc.max(pc.list_value_length(table[name])).as_py() or 0) > MOST_NEIGHBOURS:
            raise _unusable(folder, "neighbours", f"{name} has more than {MOST_NEIGHBOURS}")
        if not np.isin(pc.list_flatten(table[name]).to_numpy(), known).all():
            raise _unusable(folder, "neighbours", f"{name} names a sample that is not the run's")
    return table.sort_by("sample_id")


def _checked(
    folder: RunFolder, what: str, *, schema: pa.Schema, may_be_empty: Sequence[str] = ()
) -> pa.Table:
    """A table of results with at most one row for each of the run's samples; RunError when it has
    other columns or empty values."""
    table = folder.read_table(f"{what}.parquet")
    try:
        table = table.select(schema.names).cast(schema)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise _unusable(folder, what, str(error)) from error
    sample_id = table["sample_id"].to_numpy()
    for name in schema.names:
        if table[name].null_count and name not in may_be_empty:
            raise _unusable(folder, what, f"{name} has empty values")
    if len(np.unique(sample_id)) != len(sample_id):
        raise _unusable(folder, what, "a sample stands there twice")
    if not np.isin(sample_id, folder.samples()["sample_id"].to_numpy()).all():
        raise _unusable(folder, what, "a sample is not one of the run's samples")
    return table


def _check_ranges(folder: RunFolder, what: str, table: pa.Table, *, labels: Sequence[str]) -> None:
    """RunError when a probability is none, or a label is not of a class."""
    for name in table.column_names:
        values = table[name].to_numpy() if name.startswith("p_") else np.zeros(1)
        if not ((values >= 0) & (values <= 1)).all():
            raise _unusable(folder, what, f"a {name} is not between 0 and 1")
    n_classes = len(folder.config()["class_names"])
    for name in labels:
        column = table[name]
        if pa.types.is_list(column.type):
            column = pc.list_flatten(column)
        if not ((column.to_numpy() >= 0) & (column.to_numpy() < n_classes)).all():
            raise _unusable(folder, what, f"a label is not one of {n_classes} classes")


def _standing_labels(folder: RunFolder, sample_id: NDArray[np.int32]) -> NDArray[np.int32]:
    """The labels with which the run knew these samples: the final ones, else the given ones."""
    samples = folder.samples().sort_by("sample_id")
    labels = pc.coalesce(samples["final_label"], samples["given_label"]).cast(pa.int32())
    rows = np.searchsorted(samples["sample_id"].to_numpy(), sample_id)
    return np.asarray(labels.to_numpy()[rows])


def _unusable(folder: RunFolder, what: str, problem: str) -> RunError:
    return RunError(
        f"The {what} of {folder.run_id} cannot be used: {problem}.",
        f"Run phase {2 if what == 'predictions' else 1} again.",
    )

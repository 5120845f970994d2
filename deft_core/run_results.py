"""What a run leaves for the store, checked: the child may be another version, or have died."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deft_core import selection
from deft_core.errors import RunError
from deft_core.run_files import NEIGHBOURS, PREDICTIONS, SAMPLES, SCORES
from deft_core.run_folder import RunFolder
from deft_core.selection import NO_LABEL

DATA_SET = ("sample_id", "file_name", "sha256", "split", "given_label")
"""What of the samples never changes in a workspace."""
TOP_LISTS = ("top_labels", "top_pos_sims", "top_neg_sims")
MOST_NEIGHBOURS = 10


def check_data_set(folder: RunFolder, samples: pa.Table, *, class_names: Sequence[str]) -> None:
    """RunError unless the run was told of just these samples and classes: what it found goes by
    sample ids and labels, which mean something else in another data set."""
    told = folder.samples().select(DATA_SET).sort_by("sample_id")
    here = samples.select(DATA_SET).cast(told.schema).sort_by("sample_id")
    if told != here or folder.config()["class_names"] != list(class_names):
        raise RunError(
            f"{folder.run_id} is about other images or labels than those of this workspace.",
            "Move its folder to the workspace in which it was started.",
        )


def queue_scores(folder: RunFolder) -> pa.Table:
    """The checked scores of a phase 1, in queue order, with what the selection says of each."""
    scores = _checked(folder, SCORES)
    lengths = [pc.list_value_length(scores[name]) for name in TOP_LISTS]
    if any(one != lengths[0] for one in lengths):
        raise _unusable(folder, SCORES, "the lists of a sample differ in length")
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
    table = _checked(folder, PREDICTIONS).sort_by("sample_id")
    labels = _standing_labels(folder, table["sample_id"].to_numpy())
    is_sure = selection.is_sure(table["p_predicted"].to_numpy())
    return table.append_column("scored_label", pa.array(labels)).append_column(
        "is_sure", pa.array(is_sure)
    )


def neighbours(folder: RunFolder) -> pa.Table:
    """The checked neighbours that a phase 1 found, in order of sample id."""
    table = _checked(folder, NEIGHBOURS)
    known = folder.samples()["sample_id"].to_numpy()
    for name in table.column_names[1:]:
        if (pc.max(pc.list_value_length(table[name])).as_py() or 0) > MOST_NEIGHBOURS:
            raise _unusable(folder, NEIGHBOURS, f"{name} has more than {MOST_NEIGHBOURS}")
        if not np.isin(pc.list_flatten(table[name]).to_numpy(), known).all():
            raise _unusable(folder, NEIGHBOURS, f"{name} names a sample that is not the run's")
    return table.sort_by("sample_id")


def _checked(folder: RunFolder, name: str) -> pa.Table:
    """A table of results with at most one row for each of the run's samples, and with values that
    can be shown; RunError otherwise."""
    table = folder.read_table(name)
    sample_id = table["sample_id"].to_numpy()
    if len(np.unique(sample_id)) != len(sample_id):
        raise _unusable(folder, name, "a sample stands there twice")
    if not np.isin(sample_id, folder.samples()["sample_id"].to_numpy()).all():
        raise _unusable(folder, name, "a sample is not one of the run's samples")
    _check_values(folder, name, table)
    return table


def _check_values(folder: RunFolder, name: str, table: pa.Table) -> None:
    """RunError when a list has a gap, a number is none, a probability is no share or a label is not
    of a class."""
    n_classes = len(folder.config()["class_names"])
    for column, values in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_list(values.type):
            values = pc.list_flatten(values)
            if values.null_count:
                raise _unusable(folder, name, f"{column} has empty values")
        numbers = values.drop_null().to_numpy()
        if column.startswith("p_") and not ((numbers >= 0) & (numbers <= 1)).all():
            raise _unusable(folder, name, f"a {column} is not between 0 and 1")
        if not np.isfinite(numbers).all():
            raise _unusable(folder, name, f"a {column} is no number")
        is_label = column.endswith(("_label", "_labels"))
        if is_label and not ((numbers >= 0) & (numbers < n_classes)).all():
            raise _unusable(folder, name, f"a label is not one of {n_classes} classes")


def _standing_labels(folder: RunFolder, sample_id: NDArray[np.int32]) -> NDArray[np.int32]:
    """The labels with which the run knew these samples: the final ones, else the given ones."""
    samples = folder.samples().sort_by("sample_id")
    _check_values(folder, SAMPLES, samples.select(["given_label", "final_label"]))
    labels = pc.coalesce(samples["final_label"], samples["given_label"]).cast(pa.int32())
    rows = np.searchsorted(samples["sample_id"].to_numpy(), sample_id)
    return np.asarray(labels.to_numpy()[rows])


def _unusable(folder: RunFolder, name: str, problem: str) -> RunError:
    return RunError(
        f"The {name.removesuffix('.parquet')} of {folder.run_id} cannot be used: {problem}.",
        f"Run phase {2 if name == PREDICTIONS else 1} again.",
    )

"""What a run leaves for the store, checked: the child may be another version, or have died."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    scores = _checked_scores(folder)
    samples = folder.samples().sort_by("sample_id")
    sample_id, p_clean = scores["sample_id"].to_numpy(), scores["p_clean"].to_numpy()
    given = samples["given_label"].to_numpy()[
        np.searchsorted(samples["sample_id"].to_numpy(), sample_id)
    ]
    suggested = selection.suggested_labels(scores["predicted_label"].to_numpy(), given=given)
    scores = scores.append_column(
        "suggested_label", pa.array(suggested, pa.int32(), mask=suggested == NO_LABEL)
    )
    scores = scores.take(selection.queue_order(p_clean, sample_id=sample_id))
    return scores.append_column("position", pa.array(range(scores.num_rows), pa.int32()))


def _checked_scores(folder: RunFolder) -> pa.Table:
    scores = folder.read_table("scores.parquet")
    try:
        scores = scores.select(SCORES_SCHEMA.names).cast(SCORES_SCHEMA)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise _bad_scores(folder, str(error)) from error
    sample_id = scores["sample_id"].to_numpy()
    p_clean = scores["p_clean"].to_numpy()
    labels = pa.chunked_array(
        [*scores["predicted_label"].chunks, *pc.list_flatten(scores["top_labels"]).chunks],
        pa.int32(),
    ).to_numpy()
    n_classes = len(folder.config()["class_names"])
    if any(column.null_count for column in scores.columns):
        raise _bad_scores(folder, "there are empty values")
    if len(np.unique(sample_id)) != len(sample_id):
        raise _bad_scores(folder, "a sample is scored twice")
    if not np.isin(sample_id, folder.samples()["sample_id"].to_numpy()).all():
        raise _bad_scores(folder, "a sample is not one of the run's samples")
    if not ((p_clean >= 0) & (p_clean <= 1)).all():
        raise _bad_scores(folder, "a p_clean is not between 0 and 1")
    if not ((labels >= 0) & (labels < n_classes)).all():
        raise _bad_scores(folder, f"a label is not one of {n_classes} classes")
    return scores


def neighbours(folder: RunFolder) -> pa.Table:
    """The checked neighbours that a phase 1 found, in order of sample id."""
    table = folder.read_table(NEIGHBOURS)
    try:
        table = table.select(NEIGHBOURS_SCHEMA.names).cast(NEIGHBOURS_SCHEMA)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise _bad_neighbours(folder, str(error)) from error
    known = folder.samples()["sample_id"].to_numpy()
    for name in NEIGHBOURS_SCHEMA.names:
        column = table[name]
        if column.null_count:
            raise _bad_neighbours(folder, f"{name} has empty values")
        if pa.types.is_list(column.type):
            if (pc.max(pc.list_value_length(column)).as_py() or 0) > MOST_NEIGHBOURS:
                raise _bad_neighbours(folder, f"{name} has more than {MOST_NEIGHBOURS}")
            column = pc.list_flatten(column)
        if not np.isin(column.to_numpy(), known).all():
            raise _bad_neighbours(folder, f"{name} names a sample that is not the run's")
    if pc.count_distinct(table["sample_id"]).as_py() != table.num_rows:
        raise _bad_neighbours(folder, "a sample stands there twice")
    return table.sort_by("sample_id")


def _bad_neighbours(folder: RunFolder, problem: str) -> RunError:
    return RunError(
        f"The neighbours of {folder.run_id} cannot be used: {problem}.", "Run phase 1 again."
    )


def _bad_scores(folder: RunFolder, problem: str) -> RunError:
    return RunError(
        f"The scores of {folder.run_id} cannot be used: {problem}.", "Run phase 1 again."
    )

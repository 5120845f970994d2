"""What speaks for and against a label beside the detector: its nearest trusted neighbours.

A sample is trusted when it was trained on and its label is confirmed by a reviewer or selected as
clean. Neighbours are those with the largest cosine similarity of image features; the browser side
reads them and computes nothing.
"""

from __future__ import annotations

import math

import faiss
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

N_NEAREST = 10
N_OF_A_CLASS = 5
MOST_FOR_EXACT_SEARCH = 20_000
SEARCHED_SHARE = 1 / 8


def neighbour_table(
    sample_id: Int[np.ndarray, " n"],
    features: Float[np.ndarray, "n dim"],
    *,
    is_trusted: Bool[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    most_exact: int = MOST_FOR_EXACT_SEARCH,
) -> pa.Table:
    """One row a sample: the ids of its nearest trusted samples, nearest first.

    `nearest` are of any class, `nearest_given` of the class of its own label and
    `nearest_predicted` of its predicted class. No sample is its own neighbour. More than
    `most_exact` trusted samples are searched in part.
    """
    features = np.ascontiguousarray(features, dtype=np.float32)
    everyone = np.zeros(len(labels), dtype=labels.dtype)
    columns = {
        "nearest": (everyone, everyone, N_NEAREST),
        "nearest_given": (labels, labels, N_OF_A_CLASS),
        "nearest_predicted": (labels, predicted, N_OF_A_CLASS),
    }
    found = {
        name: _nearest(
            features, is_trusted=is_trusted, group=group, wanted=wanted, n=n, most_exact=most_exact
        )
        for name, (group, wanted, n) in columns.items()
    }
    return pa.table(
        {
            "sample_id": pa.array(sample_id, pa.int32()),
            **{name: _ids(sample_id, rows) for name, rows in found.items()},
        }
    )


def _nearest(
    features: Float[np.ndarray, "n dim"],
    *,
    is_trusted: Bool[np.ndarray, " n"],
    group: Int[np.ndarray, " n"],
    wanted: Int[np.ndarray, " n"],
    n: int,
    most_exact: int,
) -> Int[np.ndarray, "n most"]:
    """Rows of the `n` nearest trusted samples in the group that each sample wants; -1 for none."""
    nearest = np.full((len(features), n), -1, dtype=np.int64)
    for one in np.unique(wanted):
        trusted, asking = np.flatnonzero(is_trusted & (group == one)), np.flatnonzero(wanted == one)
        if len(trusted) == 0:
            continue
        # One more than wanted, because the nearest to a trusted sample is itself.
        _, places = _index(features[trusted], most_exact=most_exact).search(features[asking], n + 1)
        rows = np.where(places < 0, -1, trusted[places])
        rows[rows == asking[:, None]] = -1
        order = np.argsort(rows < 0, axis=1, kind="stable")[:, :n]
        nearest[asking] = np.take_along_axis(rows, order, axis=1)
    return nearest


def _index(features: Float[np.ndarray, "n dim"], *, most_exact: int) -> faiss.Index:
    """Searched exactly while that is quick, else in the most likely eighth of the samples."""
    n, dim = features.shape
    if n <= most_exact:
        exact = faiss.IndexFlatIP(dim)
        exact.add(features)
        return exact
    n_cells = round(math.sqrt(n))
    cells = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, n_cells, faiss.METRIC_INNER_PRODUCT)
    cells.train(features)
    cells.add(features)
    cells.nprobe = max(1, round(n_cells * SEARCHED_SHARE))
    return cells


def _ids(sample_id: Int[np.ndarray, " n"], rows: Int[np.ndarray, "n most"]) -> pa.Array:
    is_found = rows >= 0
    ends = np.concatenate([[0], np.cumsum(is_found.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(sample_id[rows[is_found]], pa.int32()))

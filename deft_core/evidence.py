"""What speaks for and against a label beside the detector: its nearest trusted neighbours.

A sample is trusted when it was trained on and its label is confirmed by a reviewer or selected as
clean. Neighbours are those with the largest cosine similarity of image features; the browser side
reads them and computes nothing. The features of the trusted samples are in memory while they are
searched, all others a block at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

N_NEAREST = 10
N_OF_A_CLASS = 5
MOST_FOR_EXACT_SEARCH = 20_000
SEARCHED_SHARE = 1 / 8
MOST_TO_TRAIN_A_CELL = 256
BLOCK = 8192

Read = Callable[[Int[np.ndarray, " some"]], Float[np.ndarray, "some dim"]]


def neighbour_table(
    sample_id: Int[np.ndarray, " n"],
    features: Path,
    *,
    rows: Int[np.ndarray, " n"],
    is_trusted: Bool[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    most_exact: int = MOST_FOR_EXACT_SEARCH,
) -> pa.Table:
    """One row a sample: the ids of its nearest trusted samples, nearest first.

    `features` is a file that holds an array, and `rows` are the samples' rows in it.

    `nearest` are of any class, `nearest_given` of the class of its own label and
    `nearest_predicted` of its predicted class. No sample is its own neighbour. More than
    `most_exact` trusted samples are searched in part.
    """

    def read(some: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some dim"]:
        # Opened anew each time: pages of a map that stays open would count as our memory.
        found: np.ndarray = np.load(features, mmap_mode="r")[rows[some]]
        return found.astype(np.float32)

    everyone = np.zeros(len(labels), dtype=labels.dtype)
    columns = {
        "nearest": (everyone, everyone, N_NEAREST),
        "nearest_given": (labels, labels, N_OF_A_CLASS),
        "nearest_predicted": (labels, predicted, N_OF_A_CLASS),
    }
    found = {
        name: _nearest(
            read, is_trusted=is_trusted, group=group, wanted=wanted, n=n, most_exact=most_exact
        )
        for name, (group, wanted, n) in columns.items()
    }
    return pa.table(
        {
            "sample_id": pa.array(sample_id, pa.int32()),
            **{name: _ids(sample_id, places) for name, places in found.items()},
        }
    )


def _nearest(
    read: Read,
    *,
    is_trusted: Bool[np.ndarray, " n"],
    group: Int[np.ndarray, " n"],
    wanted: Int[np.ndarray, " n"],
    n: int,
    most_exact: int,
) -> Int[np.ndarray, "n most"]:
    """Places of the `n` nearest trusted samples in the group that each wants; -1 for none."""
    nearest = np.full((len(wanted), n), -1, dtype=np.int64)
    for one in np.unique(wanted):
        trusted, asking = np.flatnonzero(is_trusted & (group == one)), np.flatnonzero(wanted == one)
        if len(trusted) == 0:
            continue
        index = _index(read, trusted, most_exact=most_exact)
        for block in _blocks(asking):
            # One more than wanted, because the nearest to a trusted sample is itself.
            _, found = index.search(read(block), n + 1)
            places = np.where(found < 0, -1, trusted[found])
            places[places == block[:, None]] = -1
            order = np.argsort(places < 0, axis=1, kind="stable")[:, :n]
            nearest[block] = np.take_along_axis(places, order, axis=1)
    return nearest


def _index(read: Read, trusted: Int[np.ndarray, " m"], *, most_exact: int) -> faiss.Index:
    """Searched exactly while that is quick, else in the most likely eighth of the samples."""
    n, dim = len(trusted), read(trusted[:1]).shape[1]
    index: faiss.Index = faiss.IndexFlatIP(dim)
    if n > most_exact:
        n_cells = round(math.sqrt(n))
        index = faiss.IndexIVFFlat(index, dim, n_cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(1, round(n_cells * SEARCHED_SHARE))
        step = math.ceil(n / (n_cells * MOST_TO_TRAIN_A_CELL))
        index.train(read(trusted[::step]))
    for block in _blocks(trusted):
        index.add(read(block))
    return index


def _blocks(places: Int[np.ndarray, " n"]) -> Iterator[Int[np.ndarray, " some"]]:
    for start in range(0, len(places), BLOCK):
        yield places[start : start + BLOCK]


def _ids(sample_id: Int[np.ndarray, " n"], places: Int[np.ndarray, "n most"]) -> pa.Array:
    is_found = places >= 0
    ends = np.concatenate([[0], np.cumsum(is_found.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(sample_id[places[is_found]], pa.int32()))

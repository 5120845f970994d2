"""What phase 1 keeps of each sample, written batch by batch so that the memory stays flat.

scores.parquet   one row a scored sample; similarities are cosines
traces.parquet   one row a sample trained on: what each epoch's pass thought of its label
features.npy     float16 (n, dim); training samples first, NaN if it cannot be read
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from deft_core.run_folder import RunFolder

N_TOP = 6
"""The reviewer is offered five classes beside the given one."""

Columns = dict[str, np.ndarray]


def score_columns(
    rows: Int[np.ndarray, " batch"],
    labels: Int[np.ndarray, " batch"],
    *,
    p_clean: Float[np.ndarray, " batch"],
    is_clean: Bool[np.ndarray, " batch"],
    pos_sims: Float[np.ndarray, "batch n_cls"],
    neg_sims: Float[np.ndarray, "batch n_cls"],
) -> Columns:
    """What is kept of a batch with these labels; `margin` is pos_sim less that of the nearest other
    class."""
    n = np.arange(len(rows))
    top = np.argsort(-pos_sims, axis=1, kind="stable")[:, :N_TOP]
    predicted = top[:, 0]
    rival = np.where(predicted == labels, top[:, 1], predicted)
    pos_sim = pos_sims[n, labels]
    return {
        "row": rows,
        "p_clean": p_clean,
        "is_clean": is_clean,
        "pos_sim": pos_sim,
        "neg_sim": neg_sims[n, labels],
        "margin": pos_sim - pos_sims[n, rival],
        "predicted_label": predicted.astype(np.int32),
        "predicted_pos_sim": pos_sims[n, predicted],
        "predicted_neg_sim": neg_sims[n, predicted],
        "top_labels": top.astype(np.int32),
        "top_pos_sims": np.take_along_axis(pos_sims, top, axis=1),
        "top_neg_sims": np.take_along_axis(neg_sims, top, axis=1),
    }


class ScoreWriter:
    """Collects the scores of a pass in order of the samples; the features go to the folder."""

    def __init__(self, folder: RunFolder, *, n: int, dim: int) -> None:
        self._folder = folder
        self._n = n
        self._dim = dim
        self._n_written = 0
        self._parts: list[Columns] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """The block in which scores come; the file of features is there when it ends well."""
        header = {"descr": "<f2", "fortran_order": False, "shape": (self._n, self._dim)}
        with self._folder.writing("features.npy") as path, path.open("wb") as self._file:
            np.lib.format.write_array_header_1_0(self._file, header)
            yield
            self._write_missing(up_to=self._n)

    def add(self, parts: Sequence[tuple[Columns, Float[np.ndarray, "_ dim"]]]) -> None:
        """Take in samples, in any order, that all come behind those taken in before."""
        columns = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
        features = np.concatenate([encoded for _, encoded in parts])
        order = np.argsort(columns["row"])
        for i in order:
            self._write_missing(up_to=int(columns["row"][i]))
            self._file.write(features[i].astype("<f2").tobytes())
            self._n_written += 1
        self._parts.append({name: column[order] for name, column in columns.items()})

    def _write_missing(self, *, up_to: int) -> None:
        nothing = np.full((up_to - self._n_written, self._dim), np.nan, "<f2")
        self._file.write(nothing.tobytes())
        self._n_written = up_to

    def table(
        self,
        samples: pa.Table,
        *,
        traces: Float[np.ndarray, "two n_epochs n"],
    ) -> pa.Table:
        """One row a scored sample, as the store imports it; no means where the traces are NaN."""
        whole = {
            name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]
        }
        rows = whole.pop("row")
        mean_gap, mean_margin = traces[:, :, rows].mean(axis=1)
        return pa.table(
            {
                "sample_id": samples["sample_id"].take(pa.array(rows)),
                **{name: _arrow(column) for name, column in whole.items()},
                "mean_gap": pa.array(mean_gap.astype(np.float32), from_pandas=True),
                "mean_margin": pa.array(mean_margin.astype(np.float32), from_pandas=True),
            }
        )


def trace_table(samples: pa.Table, traces: Float[np.ndarray, "two n_epochs n"]) -> pa.Table:
    """One row a sample: lists with one entry an epoch."""
    gaps, margins = traces.astype(np.float32)
    return pa.table(
        {
            "sample_id": samples["sample_id"],
            "gap": _arrow(np.ascontiguousarray(gaps.T)),
            "margin": _arrow(np.ascontiguousarray(margins.T)),
        }
    )


def _arrow(column: np.ndarray) -> pa.Array:
    """A column of numbers, or of lists of the same length; floats in single precision."""
    if column.dtype.kind == "f":
        column = column.astype(np.float32)
    if column.ndim == 1:
        return pa.array(column)
    return pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1]).cast(
        pa.list_(pa.from_numpy_dtype(column.dtype))
    )

"""What a classifier says of the samples of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Of the samples at `rows` the likeliest label and its probability, the probability of the
    label with which they stand, and that less the largest other."""

    rows: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    p_predicted: Float[np.ndarray, " n"]
    p_given: Float[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]

    @classmethod
    def of_logits(
        cls,
        logits: Float[Tensor, "n n_cls"],
        *,
        rows: Int[np.ndarray, " n"],
        labels: Int[np.ndarray, " n_samples"],
    ) -> Predictions:
        """From the logits for the samples at `rows`, of all samples that stand with `labels`."""
        chances = logits.softmax(dim=1)
        p_predicted, predicted = chances.max(dim=1)
        mine = torch.from_numpy(labels[rows])[:, None]
        p_given = chances.gather(1, mine).squeeze(1)
        largest_other = chances.scatter(1, mine, 0.0).amax(dim=1)
        return cls(
            rows=rows,
            predicted=predicted.numpy(),
            p_predicted=p_predicted.numpy(),
            p_given=p_given.numpy(),
            margin=(p_given - largest_other).numpy(),
        )

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """All of them in the order of their rows."""
        columns = {
            one.name: np.concatenate([getattr(part, one.name) for part in parts])
            for one in fields(cls)
        }
        order = np.argsort(columns["rows"])
        return cls(**{name: column[order] for name, column in columns.items()})

    def table(self, samples: pa.Table) -> pa.Table:
        """One line for each of the samples that could be read."""
        return pa.table(
            {
                "sample_id": samples["sample_id"].take(pa.array(self.rows)).cast(pa.int32()),
                "predicted_label": self.predicted.astype(np.int32),
                "p_predicted": self.p_predicted,
                "p_given": self.p_given,
                "margin": self.margin,
            }
        )

    def of(self, rows: Int[np.ndarray, " m"]) -> Predictions:
        """Those of the samples that are among `rows`."""
        chosen = np.isin(self.rows, rows)
        return Predictions(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})

"""The rules that turn scores and decisions into a review queue and a curated set.

Pure functions on parallel arrays, one entry a sample. `NO_LABEL` stands where there is no label,
NaN where there is no score, "" where there is no verdict.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

NO_LABEL = -1
CLEAN_THRESHOLD = 0.5
"""The clean probability up to which a sample is flagged."""

LEAST_MEAN_MARGIN = 0.0
SURE_PROBABILITY = 0.8

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Strings = NDArray[Any]


def is_believed(is_clean: Bools, *, mean_margin: Floats, round: int) -> Bools:
    """Whether a label is believed: in the first round what phase 1 selects as clean.

    From the second round on, when the plain errors are decided, another label must not have been
    nearer on average over the epochs (`mean_margin`, NaN for samples that were not trained on).
    `docs/log.md` has what this finds.
    """
    return is_clean if round == 1 else is_clean & ~(mean_margin < LEAST_MEAN_MARGIN)


def is_sure(p_predicted: Floats) -> Bools:
    """Whether a classifier is so sure of its class that it may question a decision."""
    return p_predicted >= SURE_PROBABILITY


def suggested_labels(predicted: Ints, *, labels: Ints) -> Ints:
    """The predicted label where it differs from the sample's own, else `NO_LABEL`."""
    return np.where(predicted == labels, NO_LABEL, predicted)


def queue_order(p_clean: Floats, *, sample_id: Ints) -> Ints:
    """Indices that put the most suspect sample first; ties go by sample id."""
    return np.lexsort((sample_id, p_clean))


def final_labels(given: Ints, *, reviewed: Ints, verdict: Strings) -> Ints:
    """The reviewed label, or the given label of an undecided sample.

    `NO_LABEL` for both, exclude and unsure: a human looked and no single label came out.
    """
    return np.where(verdict == "", given, reviewed)


def curated_labels(
    given: Ints, *, reviewed: Ints, verdict: Strings, is_clean: Bools, is_train: Bools
) -> Ints:
    """The label with which each sample enters the curated set, `NO_LABEL` where it stays out.

    Only training samples enter, for it is what phase 2 trains on. A decision always counts; an
    undecided sample enters with its given label iff it is clean.
    """
    is_trusted = (verdict != "") | is_clean
    final = final_labels(given, reviewed=reviewed, verdict=verdict)
    return np.where(is_train & is_trusted, final, NO_LABEL)


def undecided(samples: pa.Table) -> pa.Table:
    """Samples with the columns that tell a run of decisions, before there are any: every training
    sample is in the curated set with its given label."""
    given = samples["given_label"].to_numpy()
    is_train = samples["split"].to_numpy() == "train"
    return (
        samples.append_column("final_label", pa.array(given, pa.int32()))
        .append_column("is_reviewed", pa.array(np.zeros(len(given), np.bool_)))
        .append_column("is_selected", pa.array(is_train))
        .append_column("curated_label", pa.array(given, pa.int32(), mask=~is_train))
    )


@dataclass(frozen=True, kw_only=True)
class CuratedSet:
    """Parallel to the samples it was made from; `NO_LABEL` where there is no label."""

    final_label: Ints
    curated_label: Ints


def curated_set(samples: pa.Table) -> CuratedSet:
    """The final and the curated label of each row of `Store.samples()`."""
    given = samples["given_label"].to_numpy()
    reviewed = samples["reviewed_label"].fill_null(NO_LABEL).to_numpy()
    verdict = samples["verdict"].fill_null("").to_numpy()
    return CuratedSet(
        final_label=final_labels(given, reviewed=reviewed, verdict=verdict),
        curated_label=curated_labels(
            given,
            reviewed=reviewed,
            verdict=verdict,
            is_clean=samples["is_clean"].fill_null(False).to_numpy(),
            is_train=samples["split"].to_numpy() == "train",
        ),
    )


def label_provenance(samples: pa.Table) -> dict[str, Any]:
    """Where the labels of the training samples of `Store.samples()` come from, as counts.

    `by_verdict`, `n_undecided_clean` and `n_undecided_flagged` add up to `n_train`; `n_changed` are
    the reviewed labels that differ from the given ones.
    """
    train = samples.filter(pc.equal(samples["split"], "train"))
    verdict = train["verdict"].fill_null("").to_numpy()
    is_clean = train["is_clean"].fill_null(False).to_numpy()
    reviewed = train["reviewed_label"].fill_null(NO_LABEL).to_numpy()
    is_changed = (reviewed != NO_LABEL) & (reviewed != train["given_label"].to_numpy())
    return {
        "n_train": train.num_rows,
        "by_verdict": dict(Counter(verdict[verdict != ""].tolist())),
        "n_changed": int(is_changed.sum()),
        "n_undecided_clean": int(((verdict == "") & is_clean).sum()),
        "n_undecided_flagged": int(((verdict == "") & ~is_clean).sum()),
        "n_reviewers": pc.count_distinct(train["reviewer"]).as_py(),
        "n_rounds": pc.count_distinct(train["round"]).as_py(),
    }

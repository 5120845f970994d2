"""Why a sample is in the queue: trusted samples to compare it with, and one plain sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from deft_core.store import Store

NOT_SHOWN = "What the model says is not shown: it has learnt from the first decision."


@dataclass(frozen=True, kw_only=True)
class Example:
    """A trusted sample to compare with, with its reviewed label if it has one, else the given one;
    `version` changes with the bytes of its image."""

    sample_id: int
    file_name: str
    version: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The nearest trusted samples of the given class, of the suggested one, and of all; none that
    the reviewer is to decide blind, because a label stands with each. They are empty without
    `has_neighbours`, when the run wrote none."""

    sentence: str
    given: tuple[Example, ...]
    suggested: tuple[Example, ...]
    nearest: tuple[Example, ...]
    has_neighbours: bool


def evidence(store: Store, sample_id: int, *, reviewer: str) -> Evidence:
    """What speaks for and against the given label of a scored sample."""
    dataset = store.dataset()
    assert dataset is not None
    (row,) = store.queue.rows([sample_id], reviewer=reviewer).to_pylist()
    found = store.neighbours(sample_id)
    if row["p_clean"] is None:
        return Evidence(
            sentence=f"Labelled {dataset.class_names[row['given_label']]}. {NOT_SHOWN}",
            given=(),
            suggested=(),
            nearest=(),
            has_neighbours=found is not None,
        )
    near = found or {"nearest": [], "nearest_given": [], "nearest_predicted": []}
    blind = store.queue.blind(list(chain(*near.values())), reviewer=reviewer)
    given, predicted, every = (
        _examples(store, [one for one in near[name] if one not in blind])
        for name in ("nearest_given", "nearest_predicted", "nearest")
    )
    has_other = row["suggested_label"] is not None
    return Evidence(
        sentence=sentence(
            class_names=dataset.class_names,
            given=row["scored_label"],
            predicted=store.predicted_label(sample_id),
            pos_sim=row["pos_sim"],
            neg_sim=row["neg_sim"],
            nearest=[one.label for one in every],
        ),
        given=given,
        suggested=predicted if has_other else (),
        nearest=every,
        has_neighbours=found is not None,
    )


def sentence(
    *,
    class_names: Sequence[str],
    given: int,
    predicted: int,
    pos_sim: float,
    neg_sim: float,
    nearest: Sequence[int],
) -> str:
    """The reasons in words; `nearest` are the labels of the nearest trusted samples.

    >>> sentence(class_names=["fish", "arrow"], given=0, predicted=1, pos_sim=0.2, neg_sim=0.3,
    ...          nearest=[1, 1, 0])
    'Labelled fish; closer to the negative prompt; most like arrow; 2 of 3 nearest are arrow.'
    """
    side = "positive" if pos_sim > neg_sim else "negative"
    parts = [f"Labelled {class_names[given]}", f"closer to the {side} prompt"]
    if predicted != given:
        parts.append(f"most like {class_names[predicted]}")
    if nearest:
        label, n = Counter(nearest).most_common(1)[0]
        parts.append(f"{n} of {len(nearest)} nearest are {class_names[label]}")
    return "; ".join(parts) + "."


def _examples(store: Store, sample_ids: Sequence[int]) -> tuple[Example, ...]:
    reviewed = store.reviewed_labels(sample_ids)
    return tuple(
        Example(
            sample_id=sample.sample_id,
            file_name=sample.file_name,
            version=sample.sha256[:12],
            label=reviewed.get(sample.sample_id, sample.given_label),
        )
        for sample in map(store.sample, sample_ids)
    )

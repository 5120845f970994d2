"""Which samples phase 2 trains on and validates with, under which labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from deft_core.config import Phase2Config
from deft_core.errors import ConfigError, RunError
from deft_core.selection import NO_LABEL

BALANCE, HELD_OUT = 3, 4
"""Keep these draws apart from those of the loader and of phase 1 for the same seed."""


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Rows of the run's samples to train on and to validate with, and the label of each sample."""

    name: str
    rows: Int[np.ndarray, " n_trained"]
    validation_rows: Int[np.ndarray, " n_validation"]
    labels: Int[np.ndarray, " n"]

    def is_same(self, other: TrainingSet) -> bool:
        """Whether training on the other comes to the same."""
        pairs = (self.rows, other.rows), (self.validation_rows, other.validation_rows)
        return all(
            np.array_equal(mine, others) and np.array_equal(self.labels[mine], other.labels[others])
            for mine, others in pairs
        )

    def drawn(self, epoch: int, settings: Phase2Config) -> Int[np.ndarray, " n_trained"]:
        """The rows of one epoch: all of them, or as many with every class as often as any other."""
        if settings.balancing != "sampling":
            return self.rows
        labels = self.labels[self.rows]
        odds = 1 / np.bincount(labels)[labels]
        random = np.random.default_rng([settings.seed, epoch, BALANCE])
        return random.choice(self.rows, len(self.rows), p=odds / odds.sum())

    def class_weights(self, n_classes: int, settings: Phase2Config) -> Float[np.ndarray, " n_cls"]:
        """What the loss of an image of each class is multiplied with; 1 in the mean of images."""
        if settings.balancing != "weights":
            return np.ones(n_classes, np.float32)
        counts = np.bincount(self.labels[self.rows], minlength=n_classes)
        n_found = np.count_nonzero(counts)
        return (len(self.rows) / (np.maximum(counts, 1) * n_found)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run trains on, one set after the other, and how its samples stand.

    `labels` are the labels that stand now: the final one, or the given one of a sample that a
    decision left without. `test_rows` are those of the test split that have a final label.
    """

    sets: tuple[TrainingSet, ...]
    labels: Int[np.ndarray, " n"]
    is_reviewed: Bool[np.ndarray, " n"]
    test_rows: Int[np.ndarray, " n_test"]

    @classmethod
    def of(cls, samples: pa.Table, settings: Phase2Config) -> Plan:
        """The sets that the settings name, the curated one last.

        Raises RunError when a set is empty, and ConfigError when `patience` has no validation
        images.
        """
        split = samples["split"].to_numpy()
        given, final, curated = (
            samples[name].fill_null(NO_LABEL).to_numpy().astype(np.int64)
            for name in ("given_label", "final_label", "curated_label")
        )
        has_label, is_train = final != NO_LABEL, split == "train"
        standing = np.where(has_label, final, given)
        is_selected = samples["is_selected"].fill_null(False).to_numpy()
        candidates = {
            "given": (is_train, given),
            "selected": (is_train & is_selected, given),
            "curated": (is_train & (curated != NO_LABEL), curated),
        }
        wanted = {"none": (), "both": ("given", "selected")}.get(
            settings.compares_with, (settings.compares_with,)
        )
        in_validation = (split == "validation") & has_label
        held_out = _held_out(is_train, in_validation, settings)
        sets = []
        for name in (*wanted, "curated"):
            is_in, labels = candidates[name]
            validated = in_validation if in_validation.any() else is_in
            one = TrainingSet(
                name=name,
                rows=np.flatnonzero(is_in & ~held_out),
                validation_rows=np.flatnonzero(validated & held_out),
                labels=np.where(in_validation, final, labels),
            )
            # Differs from DeFT: the reference draws its batches from all samples and takes the mean
            # over those of each batch that are in the set.
            _check(one, settings)
            sets.append(one)
        return cls(
            sets=tuple(sets),
            labels=standing,
            is_reviewed=samples["is_reviewed"].to_numpy(),
            test_rows=np.flatnonzero((split == "test") & has_label),
        )

    def twin(self, one: TrainingSet) -> TrainingSet:
        """The last set with the same images and labels: it alone is trained on."""
        return next(other for other in reversed(self.sets) if one.is_same(other))

    @property
    def trained(self) -> list[TrainingSet]:
        """Every set that a training is made for."""
        return [one for one in self.sets if self.twin(one) is one]


def _held_out(
    is_train: Bool[np.ndarray, " n"], in_validation: Bool[np.ndarray, " n"], settings: Phase2Config
) -> Bool[np.ndarray, " n"]:
    """The samples that validate and are trained on by none: nobody without early stopping, else
    the validation split, or without one a share of the training samples drawn by the seed."""
    held_out = np.zeros(len(is_train), np.bool_)
    if settings.patience == 0:
        return held_out
    if in_validation.any():
        return in_validation
    rows = np.flatnonzero(is_train)
    random = np.random.default_rng([settings.seed, 0, HELD_OUT])
    held_out[random.permutation(rows)[: round(settings.validation_share * len(rows))]] = True
    return held_out


def _check(one: TrainingSet, settings: Phase2Config) -> None:
    if len(one.rows) == 0:
        raise RunError(
            f"The {one.name} set is empty: no sample was kept, relabelled or scored as clean."
            if one.name == "curated"
            else f"The {one.name} set, to compare with, is empty.",
            "Run phase 1 or decide some samples first.",
        )
    if settings.patience and len(one.validation_rows) == 0:
        raise ConfigError(
            f"Patience needs validation images; of the {one.name} set, "
            f"a validation_share of {settings.validation_share} leaves none.",
            "Choose a larger validation_share, or a patience of 0.",
        )

"""What must stand in the files of a run's folder, and of which type.

Another version may have written them, or somebody by hand. What is here is what is read of them;
other keys may stand beside it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

Kind = Literal["phase1", "phase2"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _is_label(value: int, told: ValidationInfo) -> int:
    n_classes = told.context["n_classes"] if told.context else 0
    if value >= n_classes:
        raise ValueError(f"{value} is not one of {n_classes} classes")
    return value


Label = Annotated[int, Field(ge=0), AfterValidator(_is_label)]


class Labels(BaseModel):
    """Where the labels of a run come from."""

    n_train: Count
    by_verdict: dict[str, Count]
    n_changed: Count
    n_undecided_clean: Count
    n_undecided_flagged: Count
    n_reviewers: Count
    n_rounds: Count


class ConfigFile(BaseModel):
    """config.json. The settings are checked by whoever is to work with them."""

    kind: Kind
    round: Positive
    created_at: Annotated[str, AfterValidator(datetime.fromisoformat)]
    root: str
    cache: str
    class_names: list[str]
    prompts: list[str]
    settings: dict[str, Any]
    is_probe: bool = False
    labels: Labels | None = None

    @model_validator(mode="after")
    def _has_a_prompt_for_each_class(self) -> Self:
        n, n_classes = len(self.prompts), len(self.class_names)
        if n != n_classes:
            raise ValueError(f"there are {n} prompts for {n_classes} classes")
        return self


class ProcessFile(BaseModel):
    """proc.json and cancel.json."""

    pid: Positive


class ErrorFile(BaseModel):
    """error.json."""

    error: str
    hint: str


class Unreadable(BaseModel):
    """An image that was left out."""

    file_name: str
    problem: str


class Report(BaseModel):
    """report.json of either phase."""

    unreadable: list[Unreadable]
    device: str
    seconds: Seconds


class Phase1Report(Report):
    """report.json of a phase 1."""

    n_scored: Count
    n_flagged: Count
    kappa: Finite | None = None


class OfClass(BaseModel):
    """How a classifier does on the test images of one class."""

    label: Label
    n: Count
    precision: Finite
    recall: Finite
    f1: Finite


class OnTest(BaseModel):
    """How a classifier does on the test images, of which there is one at least."""

    n: Positive
    n_reviewed: Count
    accuracy: Finite
    on_reviewed: Finite | None
    on_given: Finite | None
    macro_f1: Finite
    ece: Finite
    mean_confidence: Finite
    per_class: list[OfClass]
    confusion: list[tuple[Label, Label, Count]]

    @model_validator(mode="after")
    def _has_an_accuracy_on_each_part(self) -> Self:
        if (self.on_reviewed is None) != (self.n_reviewed == 0):
            raise ValueError("on_reviewed must be there where n_reviewed is not 0")
        if (self.on_given is None) != (self.n_reviewed == self.n):
            raise ValueError("on_given must be there where n_reviewed is not n")
        return self


class Evaluated(BaseModel):
    """One training of a phase 2."""

    trained_on: Literal["given", "selected", "curated"]
    n_train: Count
    test: OnTest | None


class Phase2Report(Report):
    """report.json of a phase 2."""

    evaluation: Annotated[list[Evaluated], Field(min_length=1)]

    @model_validator(mode="after")
    def _tests_all_or_none(self) -> Self:
        if len({one.test is None for one in self.evaluation}) > 1:
            raise ValueError("some were tested, others not")
        return self


class ProbeReport(BaseModel):
    """report.json of a run that was only tried."""

    seconds: Seconds
    measured_seconds: Seconds


REPORTS: Mapping[str, type[BaseModel]] = {"phase1": Phase1Report, "phase2": Phase2Report}

SAMPLES = "samples.parquet"
SCORES = "scores.parquet"
TRACES = "traces.parquet"
NEIGHBOURS = "neighbours.parquet"
PREDICTIONS = "predictions.parquet"


def _columns(types: Mapping[str, pa.DataType], *, may_be_empty: Container[str] = ()) -> pa.Schema:
    return pa.schema([pa.field(name, types[name], name in may_be_empty) for name in types])


TABLES: Mapping[str, pa.Schema] = {
    SAMPLES: _columns(
        {
            "sample_id": pa.int32(),
            "file_name": pa.string(),
            "sha256": pa.string(),
            "split": pa.string(),
            "given_label": pa.int32(),
            "final_label": pa.int32(),
            "is_reviewed": pa.bool_(),
            "is_selected": pa.bool_(),
            "curated_label": pa.int32(),
        },
        may_be_empty=("final_label", "is_selected", "curated_label"),
    ),
    SCORES: _columns(
        {
            "sample_id": pa.int32(),
            "p_clean": pa.float32(),
            "is_clean": pa.bool_(),
            "pos_sim": pa.float32(),
            "neg_sim": pa.float32(),
            "margin": pa.float32(),
            "mean_gap": pa.float32(),
            "mean_margin": pa.float32(),
            "predicted_label": pa.int32(),
            "predicted_pos_sim": pa.float32(),
            "predicted_neg_sim": pa.float32(),
            "top_labels": pa.list_(pa.int32()),
            "top_pos_sims": pa.list_(pa.float32()),
            "top_neg_sims": pa.list_(pa.float32()),
        },
        # Of samples that were not trained on.
        may_be_empty=("mean_gap", "mean_margin"),
    ),
    TRACES: _columns(
        {
            "sample_id": pa.int32(),
            "gap": pa.list_(pa.float32()),
            "margin": pa.list_(pa.float32()),
        }
    ),
    NEIGHBOURS: _columns(
        {
            "sample_id": pa.int32(),
            "nearest": pa.list_(pa.int32()),
            "nearest_given": pa.list_(pa.int32()),
            "nearest_predicted": pa.list_(pa.int32()),
        }
    ),
    PREDICTIONS: _columns(
        {
            "sample_id": pa.int32(),
            "predicted_label": pa.int32(),
            "p_predicted": pa.float32(),
            "p_given": pa.float32(),
            "margin": pa.float32(),
        }
    ),
}


def first_problem(error: ValidationError) -> str:
    """What is wrong, and where in the object."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    problem = first["msg"].removeprefix("Value error, ")
    return f"{where}: {problem}" if where else problem

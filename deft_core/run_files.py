"""What must stand in the files of a run's folder, and of which type.

Another version may have written them, or somebody by hand. What is here is what is read of them;
other keys may stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

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


def first_problem(error: ValidationError) -> str:
    """What is wrong, and where in the object."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    problem = first["msg"].removeprefix("Value error, ")
    return f"{where}: {problem}" if where else problem

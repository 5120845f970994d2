"""What the desk may send: every key, type and limit of it. Anything else is answered with 422."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deft_core.decisions import LONGEST_NAME, LONGEST_NOTE, LONGEST_UID_OF_MANY
from deft_core.review import LONGEST_PAGE, MOST_CELLS, MOST_LABELS, MOST_NAMES, MOST_SAMPLE_IDS
from deft_core.store import Filter, Sort

LONGEST_BATCH = 1000
MOST_IDS_OF_VIEW = 1000

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Place = Annotated[str, Field(min_length=1, max_length=100)]
Number = Annotated[int, Field(ge=0, lt=2**31)]
LogPlace = Annotated[int, Field(ge=0, lt=2**53)]
Labels = Annotated[list[Number], Field(max_length=MOST_LABELS)]
Names = Annotated[list[Name], Field(max_length=MOST_NAMES)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PageSize = Annotated[int, Field(ge=1, le=LONGEST_PAGE)]
SortName = Literal["p_clean", "margin", "random", "class"]


class Message(BaseModel):
    """A JSON object without unknown keys."""

    model_config = ConfigDict(extra="forbid")


class FilterMessage(Message):
    """Which samples; keys that are left out or null ask for nothing."""

    name: Literal["all", "suspects", "new", "second look", "disagreements"] = "suspects"
    split: Literal["train", "validation", "test"] | None = None
    is_flagged: bool | None = None
    is_decided: bool | None = None
    given: Labels | None = None
    suggested: Labels | None = None
    has_suggestion: bool | None = None
    p_min: Share | None = None
    p_max: Share | None = None
    verdicts: Names | None = None
    reviewers: Names | None = None
    text: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None
    sample_ids: Annotated[list[Number], Field(max_length=MOST_SAMPLE_IDS)] | None = None

    def wanted(self) -> Filter:
        """The same for the core."""
        values: dict[str, Any] = self.model_dump()
        return Filter(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in values.items()
                if value is not None
            }
        )


class QueueMessage(Message):
    """A page of a queue."""

    filter: FilterMessage = FilterMessage()
    sort: SortName = "p_clean"
    seed: Number = 0
    after: Place | None = None
    limit: PageSize = 50
    lease: bool = False

    def order(self) -> Sort:
        """The order for the core."""
        return Sort(name=self.sort, seed=self.seed)


class CountMessage(Message):
    """What is to be counted."""

    filter: FilterMessage = FilterMessage()


class ConfusionMessage(CountMessage):
    """What is to be counted by given and suggested label."""

    limit: Annotated[int, Field(ge=1, le=MOST_CELLS)] = 200


class ViewFilterMessage(FilterMessage):
    """A filter that is kept, with fewer sample ids."""

    sample_ids: Annotated[list[Number], Field(max_length=MOST_IDS_OF_VIEW)] | None = None


class ViewMessage(Message):
    """Where a reviewer is at the desk of the store with the id `store`; the place is one in the
    queue of `run`."""

    store: Name
    run: Name | None = None
    sort: SortName = "p_clean"
    seed: Number = 0
    filter: ViewFilterMessage = ViewFilterMessage()
    after: Place | None = None
    mode: Literal["card", "grid"] = "card"
    page_size: PageSize = 24
    sample_id: Number | None = None


class Item(Message):
    """One act; `reviewer` is who did it, if not the one who sends it."""

    uid: Name
    reviewer: Name | None = None


class Decide(Item):
    """One verdict as the desk sends it; `run` scored what it was about, `seen` is the decision
    that was shown."""

    type: Literal["decide"]
    group: Name
    sample_id: Number
    verdict: Name
    label: Number | None = None
    run: Name | None = None
    seen: LogPlace | None = None


class NoteMessage(Item):
    """A note on a sample; an empty one takes it away."""

    type: Literal["note"]
    group: Name
    sample_id: Number
    note: Annotated[str, Field(max_length=LONGEST_NOTE)]


class Undo(Item):
    """One step back: the events of `group`, or the reviewer's last ones without it."""

    type: Literal["undo"]
    group: Name | None = None


class Redo(Item):
    """One step forward: takes the event `undo` back, or the reviewer's last undo without it."""

    type: Literal["redo"]
    undo: Name | None = None


class Batch(Message):
    """Acts in the order in which they were done, for the store with the id `store`. Sample ids
    start at 0 in every store, so another one must never take them."""

    store: Name
    items: list[Annotated[Decide | NoteMessage | Undo | Redo, Field(discriminator="type")]] = Field(
        min_length=1, max_length=LONGEST_BATCH
    )


class Apply(Message):
    """One verdict for all that match a filter, which the reviewer was told are `n`, counted when
    the log ended at `counted_at`; `run` scored what he saw."""

    store: Name
    uid: Annotated[str, Field(min_length=1, max_length=LONGEST_UID_OF_MANY)]
    filter: FilterMessage
    verdict: Name
    label: Number | None = None
    n: Number
    counted_at: LogPlace
    run: Name | None = None


class Release(Message):
    """Which samples the reviewer gives back."""

    release: Literal["all"] | Annotated[list[Number], Field(max_length=LONGEST_BATCH)]


class Double(Message):
    """The share of samples for blind double review."""

    share: Share

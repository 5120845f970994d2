"""What a reviewer can send, and when it is refused: a verdict or a note on a sample."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from deft_core.errors import StoreError
from deft_core.store import SAMPLE_IDS, unknown_samples

VERDICTS = ("keep", "relabel", "both", "exclude", "unsure")
SUGGESTED = "suggested"
"""In place of a verdict on many samples: relabel each to its own suggested label."""
STANDING = "standing"
"""In place of a verdict on samples that ask for a second look: each decision stays as it is."""
LONGEST_NAME = 200
LONGEST_NOTE = 2000
LONGEST_UID_OF_MANY = 150

_EVENT_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("grp", pa.string()),
        ("sample_id", pa.int32()),
        ("verdict", pa.string()),
        ("label", pa.int32()),
        ("note", pa.string()),
        ("run_id", pa.string()),
        ("seen", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One verdict. `uid` is made by the client and unique; decisions of one `group` are undone
    together; `label` is the right class for relabel, and for both the one that is right beside the
    given one, if it is known. `run` is the run whose scores the reviewer saw, the current one if
    it is None; `seen` is the `QueuedSample.seen` that he knew."""

    uid: str
    group: str
    sample_id: int
    verdict: str
    label: int | None = None
    run: str | None = None
    seen: int | None = None


@dataclass(frozen=True, kw_only=True)
class Note:
    """A reviewer's words on a sample, an event as a decision is; "" takes earlier ones away."""

    uid: str
    group: str
    sample_id: int
    note: str


def events_table(events: Sequence[Decision | Note], *, n_classes: int) -> pa.Table:
    """The events as the log takes them, a column for each field. StoreError when one of them cannot
    be."""
    for event in events:
        _check(event, n_classes=n_classes)
    return pa.Table.from_pylist(list(map(_row, events)), schema=_EVENT_SCHEMA)


def check_verdict(verdict: str, *, label: int | None, n_classes: int) -> None:
    """StoreError when there is no such verdict, or its label is none of the classes."""
    if verdict not in VERDICTS:
        raise StoreError(f'"{verdict}" is not a verdict.', f"Verdicts: {', '.join(VERDICTS)}.")
    if verdict not in ("relabel", "both") and label is not None:
        raise StoreError(f"Verdict {verdict} takes no label, found {label}.")
    is_needed = verdict == "relabel" or label is not None
    if is_needed and label not in range(n_classes):
        name = verdict.capitalize()
        raise StoreError(f"{name} needs a label from 0 to {n_classes - 1}, found {label}.")


def check_name(what: str, name: str, *, longest: int = LONGEST_NAME) -> None:
    """StoreError, which says `what` it is, when a name is too long or holds a control character
    or half a character. Names in Persian, say, need characters that are not printed."""
    if not 1 <= len(name) <= longest:
        raise StoreError(
            f"The {what} has {len(name)} characters; it must have 1 to {longest}.",
            "Choose another one.",
        )
    for one in name:
        if unicodedata.category(one) in ("Cc", "Cs"):
            raise StoreError(
                f"The {what} holds {one!r}, which is no character to write.", "Type it again."
            )


def check_text(what: str, text: str, *, longest: int) -> None:
    """StoreError, which says `what` it is, when a text is too long or cannot be stored."""
    if len(text) > longest:
        raise StoreError(f"The {what} has {len(text)} characters; {longest} at most.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"The {what} holds half a character.", "Type it again.") from error
    if "\0" in text:
        raise StoreError(f"The {what} holds a zero character.", "Type it again.")


def _row(event: Decision | Note) -> dict[str, Any]:
    row = asdict(event)
    row["grp"] = row.pop("group")
    row["run_id"] = row.pop("run", None)
    return row


def _check(event: Decision | Note, *, n_classes: int) -> None:
    check_name("uid", event.uid)
    check_name("group", event.group)
    if event.sample_id not in SAMPLE_IDS:
        raise unknown_samples([event.sample_id])
    if isinstance(event, Decision):
        if event.run is not None:
            check_name("run", event.run)
        check_verdict(event.verdict, label=event.label, n_classes=n_classes)
    else:
        check_text("note", event.note, longest=LONGEST_NOTE)

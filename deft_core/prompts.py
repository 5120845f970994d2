"""The words that stand for each class in its prompts: "annual crop land" for AnnualCrop."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from deft_core.errors import DataError

COLUMNS = ("class", "prompt")
LONGEST_PROMPT = 200
PHOTO = "a photo of a {}."


def default_prompt(class_name: str) -> str:
    """The class name with spaces for underscores, as nothing better is known at first.

    >>> default_prompt("fire__truck ")
    'fire truck'
    """
    return " ".join(class_name.replace("_", " ").split())


def same_prompts(class_names: Sequence[str], prompts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of classes whose prompts differ in case and spaces only: no model tells them apart."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, prompt in zip(class_names, prompts, strict=True):
        groups[default_prompt(prompt).casefold()].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def changed_prompts(
    class_names: Sequence[str], prompts: Sequence[str], *, changes: Mapping[str, str]
) -> tuple[str, ...]:
    """The prompts with some of them changed, by class name.

    Raises DataError for a class that does not exist, and for prompts that are empty, too long,
    unprintable, or made equal to that of another class.
    """
    for name, prompt in changes.items():
        if name not in class_names:
            close = get_close_matches(name, class_names, n=1)
            hint = f'Did you mean "{close[0]}"?' if close else f"There are {len(class_names)}."
            raise DataError(f'There is no class "{name}".', hint)
        if not (prompt.strip() and len(prompt) <= LONGEST_PROMPT and prompt.isprintable()):
            raise DataError(
                f'The prompt "{prompt}" of class "{name}" cannot be used.',
                f"Use 1 to {LONGEST_PROMPT} printable characters.",
            )
    changed = tuple(
        " ".join(changes.get(name, prompt).split())
        for name, prompt in zip(class_names, prompts, strict=True)
    )
    for group in same_prompts(class_names, changed):
        if set(group) & set(changes):
            raise DataError(
                f"The classes {', '.join(group)} would have the same prompt.",
                "Say in each prompt what sets its class apart.",
            )
    return changed


def read_prompts(path: Path) -> dict[str, str]:
    """Prompts by class name from a CSV file with the columns `class` and `prompt`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read: {error}", "A CSV file in UTF-8 is expected."
        ) from error
    for number, row in enumerate(rows, start=2):
        if any(not isinstance(row.get(name), str) for name in COLUMNS):
            raise DataError(
                f"{path} row {number} lacks a class or a prompt.",
                f"The first line must be {','.join(COLUMNS)}.",
            )
    return {row["class"]: row["prompt"] for row in rows}

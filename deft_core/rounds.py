"""What changed for a sample since the last round, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deft_core.selection import CLEAN_THRESHOLD, LEAST_MEAN_MARGIN

VERDICTS_IN_WORDS = {
    "keep": "kept this",
    "relabel": "relabelled this",
    "both": "said that this shows both",
    "exclude": "excluded this",
    "unsure": "were unsure",
}


def changes(
    row: Mapping[str, Any], *, class_names: Sequence[str], reviewer: str
) -> tuple[str, ...]:
    """The sentences about a row of `Queue.rows`, the most important first; none where all is as it
    was, or there was no round before."""
    decided = _decided(row, class_names=class_names, reviewer=reviewer)
    found = [decided] if decided else _detected(row, class_names=class_names)
    return (*found, *_classified(row, class_names=class_names))


def _decided(row: Mapping[str, Any], *, class_names: Sequence[str], reviewer: str) -> str:
    """That it was decided in an earlier round, and whether the new models disagree."""
    if row["decided_round"] is None:
        return ""
    if row["is_disputed"]:
        names = sorted(
            (row["reviewer"], row["other_reviewer"]), key=lambda one: (one != reviewer, one)
        )
        who = " and ".join("You" if one == reviewer else one for one in names)
        return f"{who} disagreed in round {row['decided_round']}."
    is_mine = row["reviewer"] == reviewer
    who, verdict = "You" if is_mine else row["reviewer"], VERDICTS_IN_WORDS[row["verdict"]]
    if not is_mine:
        verdict = verdict.replace("were", "was")
    label = ""
    if row["verdict"] == "relabel":
        label = " from {} to {}".format(
            *(class_names[row[one]] for one in ("given_label", "reviewed_label"))
        )
    sentence = f"{who} {verdict}{label} in round {row['decided_round']}"
    if row["is_second_look"]:
        return f"{sentence}; both new models say {class_names[row['classifier_label']]}."
    return f"{sentence}."


def _detected(row: Mapping[str, Any], *, class_names: Sequence[str]) -> list[str]:
    """What phase 1 sees in another way than in the last round."""
    last = row["previous_round"]
    if row["verdict"] is None and row["scored_label"] != row["given_label"]:
        name = class_names[row["scored_label"]]
        return [f"Scored as {name}, by a decision that was taken back since."]
    if last is None:
        return []
    if row["was_clean"] is None:
        return [f"New: not scored in round {last}."]
    found = []
    if row["is_clean"] and not row["was_clean"]:
        found.append(f"No longer flagged, as it was in round {last}.")
    elif not row["is_clean"]:
        found.append(
            f"New: not flagged in round {last}."
            if row["was_clean"]
            else f"Flagged in round {last} too."
        )
        if row["p_clean"] > CLEAN_THRESHOLD and (row["mean_margin"] or 0) < LEAST_MEAN_MARGIN:
            found.append("Another class was nearer on average over the epochs.")
    old, new = row["previous_suggestion"], row["suggested_label"]
    if old != new:
        names = ["none" if label is None else class_names[label] for label in (old, new)]
        found.append("The suggestion changed from {} to {}.".format(*names))
    return found


def _classified(row: Mapping[str, Any], *, class_names: Sequence[str]) -> list[str]:
    """That the classifier of phase 2 disagrees with the label."""
    label, p = row["classifier_label"], row["classifier_p_given"]
    if p is None or label == row["scored_label"]:
        return []
    own, other = class_names[row["scored_label"]], class_names[label]
    return [f"The classifier disagrees: {own} {p:.0%}, {other} {row['classifier_p']:.0%}."]

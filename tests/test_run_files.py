"""Reports of runs that somebody has edited: what is not refused can be shown."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deft_core.errors import RunError
from deft_core.run_folder import RunFolder
from deft_core.terminal import summary
from review_ui.evaluation_report import report_view
from tests.test_evaluation_report import CLASS_NAMES, CURATED, GIVEN, TEST

RAN = {
    "unreadable": [{"file_name": "a.jpg", "problem": "It is empty."}],
    "device": "cpu",
    "seconds": 1.5,
}
SMALL = {**TEST, "per_class": TEST["per_class"][:1], "confusion": [[0, 1, 12]]}
REPORTS: dict[str, dict[str, Any]] = {
    "phase1": {"n_scored": 9, "n_flagged": 3, "kappa": 0.5, **RAN},
    "phase2": {"evaluation": [{**GIVEN, "test": SMALL}, {**CURATED, "test": SMALL}], **RAN},
}
GONE = object()
NONSENSE = (GONE, None, "three", -1, 1.5, 10**400, True, [], {}, [[0, 7, 1]], float("nan"))


def make_folder(path: Path, *, kind: str, report: dict[str, Any]) -> RunFolder:
    path.mkdir(exist_ok=True)
    folder = RunFolder(path)
    folder.write_json(
        "config.json",
        {
            "kind": kind,
            "round": 1,
            "created_at": "2026-01-02T03:04:05+00:00",
            "root": "/data",
            "cache": "/cache",
            "class_names": CLASS_NAMES,
            "prompts": CLASS_NAMES,
            "settings": {},
        },
    )
    (path / "report.json").write_text(json.dumps(report))
    return folder


def show(kind: str, report: dict[str, Any]) -> None:
    """Uses a report as the terminal and the tabs do."""
    assert summary(kind, report)
    assert all(one["file_name"] + one["problem"] for one in report["unreadable"])
    if kind == "phase2":
        assert report_view(report, CLASS_NAMES)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key and index in a report, with what holds it."""
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


@pytest.mark.parametrize("kind", list(REPORTS))
def test_what_is_not_refused_can_be_shown(tmp_path: Path, kind: str) -> None:
    folder = make_folder(tmp_path, kind=kind, report=REPORTS[kind])
    assert folder.report() == REPORTS[kind]
    show(kind, REPORTS[kind])
    n_places, n_refused, n_shown = len(list(places(REPORTS[kind]))), 0, 0
    for number in range(n_places):
        for nonsense in NONSENSE:
            edited = copy.deepcopy(REPORTS[kind])
            holder, key = list(places(edited))[number]
            holder[key] = nonsense
            if nonsense is GONE:
                del holder[key]
            try:
                (tmp_path / "report.json").write_text(json.dumps(edited))
                report = folder.report()
            except RunError:
                n_refused += 1
            else:
                show(kind, report)
                n_shown += 1
    assert n_refused > 5 * n_places
    assert n_shown > 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"evaluation": []}, "evaluation: List should have at least 1 item"),
        ({"evaluation": [{**GIVEN, "test": None}, CURATED]}, "some were tested, others not"),
        ({"evaluation": [{**CURATED, "test": {**TEST, "n": 0}}]}, "evaluation.0.test.n: "),
        ({"evaluation": [{**CURATED, "test": {**TEST, "n_reviewed": 7}}]}, "on_reviewed"),
        ({"evaluation": [{**CURATED, "trained_on": "sunday"}]}, "evaluation.0.trained_on: "),
    ],
)
def test_a_report_that_says_too_little_is_damaged(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder = make_folder(tmp_path, kind="phase2", report={**REPORTS["phase2"], **changes})

    with pytest.raises(RunError, match=r"report\.json is damaged: ") as caught:
        folder.report()

    assert problem in caught.value.message
    assert "\n" not in caught.value.message

"""The second round at the desk: what is new, what changed, which decisions are questioned."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from deft_core.decisions import Decision
from deft_core.workspace import Workspace
from tests.browser.conftest import (
    CLASS_NAMES,
    N_SAMPLES,
    StartApp,
    leave,
    open_desk,
    press,
    wait_until_saved,
)
from tests.small_world import add_predictions, add_scores


@pytest.fixture
def second_round(scored: Path) -> Path:
    """Samples 0 and 1 were kept in round 1; both models say "dog" of 0; 9 is a new suspect."""
    predicted = [5, 1, *[5] * 8, *[i % 5 for i in (10, 11)]]
    p_clean = [0.1, 0.9, *[0.2] * 6, 0.9, 0.15, 0.9, 0.9]
    with Workspace.open(scored) as workspace:
        workspace.review.decide(
            [Decision(uid=f"{i}", group=f"{i}", sample_id=i, verdict="keep") for i in (0, 1)]
        )
        add_predictions(workspace.store, predicted, [0.95] * N_SAMPLES)
        add_scores(workspace.store, p_clean, predicted=predicted, run_id="phase1-003", round=2)
    return scored


def test_a_second_look_says_why_and_ends_with_a_new_decision(
    second_round: Path, start_app: StartApp, page: Page
) -> None:
    app = start_app(second_round)
    open_desk(page, app)
    queues = page.get_by_role("combobox", name="Queue")
    changes = page.get_by_role("list", name="What changed")
    expect(changes).to_contain_text("New: not flagged in round 1.")
    expect(queues.locator("option")).to_contain_text(
        ["Suspects", "New this round (1)", "Second look (1)", "Disagreements", "All images"]
    )

    queues.select_option("second look")

    expect(page.locator(".desk-file")).to_contain_text("00 ")
    expect(changes).to_contain_text("You kept this in round 1; both new models say dog.")
    press(page, "Enter")
    wait_until_saved(page)
    expect(page.get_by_role("heading", name="This queue is done")).to_be_visible()
    page.keyboard.press("z")
    expect(changes).to_contain_text("You kept this in round 1; both new models say dog.")
    press(page, "Enter")
    wait_until_saved(page)
    leave(page)
    assert app.decisions()[0] == ("relabel", CLASS_NAMES.index("dog"))

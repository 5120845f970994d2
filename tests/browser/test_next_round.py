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
    App,
    StartApp,
    Watch,
    call_oneself,
    leave,
    open_desk,
    press,
    wait_until_saved,
)
from tests.small_world import add_predictions, add_scores

DOG = CLASS_NAMES.index("dog")


@pytest.fixture
def second_round(scored: Path) -> Path:
    """Decided in round 1: 0 kept, 1 kept, 2 relabelled from class 2 to caterpillar. Both new models
    say "dog" of 0, and of 2 that the given label was right; 9 is a new suspect."""
    predicted = [DOG, 1, 2, *[DOG] * 7, *[i % 5 for i in (10, 11)]]
    p_clean = [0.1, 0.9, 0.3, *[0.2] * 5, 0.9, 0.15, 0.9, 0.9]
    decided = [("keep", None), ("keep", None), ("relabel", 1)]
    with Workspace.open(scored) as workspace:
        workspace.review.decide(
            [
                Decision(uid=f"{i}", group=f"{i}", sample_id=i, verdict=verdict, label=label)
                for i, (verdict, label) in enumerate(decided)
            ]
        )
        add_predictions(workspace.store, predicted, [0.95] * N_SAMPLES)
        add_scores(workspace.store, p_clean, predicted=predicted, run_id="phase1-003", round=2)
    return scored


@pytest.fixture
def app(second_round: Path, start_app: StartApp, page: Page) -> App:
    """The desk with the queue "second look" open."""
    app = start_app(second_round)
    open_desk(page, app)
    page.get_by_role("combobox", name="Queue").select_option("second look")
    expect(page.locator(".desk-file")).to_contain_text("00 ")
    return app


def decided_anew(app: App) -> dict[int, tuple[str, int | None]]:
    """What was decided in round 2, read after the application ended."""
    app.stop()
    with Workspace.open(app.workspace) as workspace:
        rows = workspace.store.log.current().to_pylist()
    return {
        row["sample_id"]: (row["verdict"], row["reviewed_label"])
        for row in rows
        if row["round"] == 2
    }


def test_the_second_round_says_what_is_new(
    second_round: Path, start_app: StartApp, page: Page
) -> None:
    open_desk(page, start_app(second_round))
    expect(page.locator(".desk-counts")).to_contain_text("suspects of round 2 decided")
    expect(page.get_by_role("list", name="What changed")).to_contain_text(
        "New: not flagged in round 1."
    )
    expect(page.get_by_role("combobox", name="Queue").locator("option")).to_contain_text(
        ["Suspects", "New this round (1)", "Second look (2)", "Disagreements", "All images"]
    )
    page.get_by_role("tab", name="Overview").click()
    figures = page.locator("#overview-tab .figures")
    expect(figures).to_contain_text("flagged in round 2")
    expect(figures).to_contain_text("decided in all, suspects or not")


def test_a_page_that_stays_open_follows_a_new_run(
    scored: Path, start_app: StartApp, page: Page, watch: Watch
) -> None:
    """Its reasons, its order and its own beginning, not the place in the former queue."""
    watch.tolerated = "Failed to load resource"
    app = start_app(scored)
    open_desk(page, app)
    file, sentence = page.locator(".desk-file"), page.locator(".desk-sentence")
    for name in ("01 ", "02 "):
        with page.expect_response("**/api/v1/view"):
            page.keyboard.press("ArrowRight")
        expect(file).to_contain_text(name)
    expect(sentence).not_to_be_empty()
    told = sentence.text_content() or ""
    app.stop()
    with Workspace.open(scored) as workspace:
        p_clean = [0.9, 0.8, 0.1, 0.4, *[0.9] * 8]
        add_scores(workspace.store, p_clean, predicted=[4] * 12, run_id="phase1-002", round=2)
    app = start_app(scored, port=app.port)
    press(page, "x")
    expect(page.locator("[data-part=announcer]")).to_have_text(
        "other scores: the queue begins anew"
    )
    expect(file).to_have_text("03.png")
    expect(page.locator("[data-part=suggested]")).to_have_text(CLASS_NAMES[4])
    page.get_by_role("combobox", name="Queue").select_option("all")
    expect(file).to_contain_text("02 ")
    expect(sentence).not_to_have_text(told)
    expect(page.locator("[data-part=badge]")).to_have_text("excluded")
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {2: ("exclude", None)}


def test_a_questioned_decision_stays_with_the_cheapest_key(app: App, page: Page) -> None:
    """Undo and redo included; the button says what stays."""
    file = page.locator(".desk-file")
    changes = page.get_by_role("list", name="What changed")
    usual = page.locator(".desk-head[data-act=keep]")
    expect(changes).to_contain_text("You kept this in round 1; both new models say dog.")
    expect(usual).to_contain_text("Stay with cat")
    press(page, "Space")
    expect(page.locator("[data-part=announcer]")).to_have_text("stayed with cat")
    expect(file).to_contain_text("02 ")
    expect(changes).to_contain_text("to caterpillar in round 1; both new models say")
    expect(usual).to_contain_text("Stay with caterpillar")
    expect(page.locator(".desk-unseen")).to_contain_text("reviewed label caterpillar")
    press(page, "k")
    expect(page.get_by_role("heading", name="This queue is done")).to_be_visible()
    wait_until_saved(page)
    expect(page.get_by_role("option", name="Second look", exact=True)).to_have_count(1)
    page.keyboard.press("z")
    expect(file).to_contain_text("02 ")
    expect(usual).to_contain_text("Stay with caterpillar")
    wait_until_saved(page)
    page.keyboard.press("Shift+Z")
    expect(page.locator(".desk-badge:visible")).to_have_text("relabelled caterpillar")
    wait_until_saved(page)
    leave(page)
    assert decided_anew(app) == {0: ("keep", 0), 2: ("relabel", 1)}


def test_the_given_label_and_the_suggestion_are_a_key_away(app: App, page: Page) -> None:
    press(page, "Enter")
    given = page.locator(".desk-class", has_text="given")
    expect(given).to_contain_text(CLASS_NAMES[2])
    expect(given.locator("kbd")).to_have_text("1")
    press(page, "/")
    options = page.get_by_role("dialog").get_by_role("option")
    expect(options.first).to_have_text(CLASS_NAMES[2])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="This queue is done")).to_be_visible()
    wait_until_saved(page)
    leave(page)
    assert decided_anew(app) == {0: ("relabel", DOG), 2: ("keep", 2)}


def second_labels(app: App) -> list[int | None]:
    """What is right beside the given label of 0 and of 2, read after the application ended."""
    app.stop()
    with Workspace.open(app.workspace) as workspace:
        labels = workspace.store.samples()["other_label"].to_pylist()
    return [labels[0], labels[2]]


def test_both_asks_for_a_class_where_the_given_one_is_suggested(app: App, page: Page) -> None:
    press(page, "b")
    expect(page.locator(".desk-file")).to_contain_text("02 ")
    press(page, "b")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Which class does it show, too?")
    expect(dialog.get_by_role("option").first).to_have_text("caterpillar")  # As it was decided.
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="This queue is done")).to_be_visible()
    wait_until_saved(page)
    leave(page)
    assert second_labels(app) == [DOG, 1]


def test_both_in_the_grid_asks_for_a_class_where_the_given_one_is_suggested(
    app: App, page: Page
) -> None:
    page.keyboard.press("g")
    tiles = page.locator('.desk-tile[data-kind="open"][data-picture="there"]')
    expect(tiles).to_have_count(2)
    for tile in (tiles.first, tiles.last):
        tile.click()
    page.keyboard.press("b")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 image without a suggestion")
    dialog.get_by_role("combobox", name="Class name").fill("caterpillar")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="This queue is done")).to_be_visible()
    wait_until_saved(page)
    leave(page)
    assert second_labels(app) == [DOG, 1]


def test_a_page_of_questioned_decisions_stays_by_default(app: App, page: Page) -> None:
    page.keyboard.press("g")
    tiles = page.locator('.desk-tile[data-kind="open"][data-picture="there"]')
    expect(tiles).to_have_count(2)
    label = page.locator(".desk-tile strong").last
    expect(label).to_have_text("caterpillar")
    page.keyboard.press("c")
    page.keyboard.press("ArrowRight")
    press(page, "k")
    page.keyboard.press("g")
    expect(label).to_have_text(CLASS_NAMES[2])
    page.keyboard.press("z")
    expect(label).to_have_text("caterpillar")
    confirm = page.locator(".desk-confirm")
    expect(confirm).to_contain_text("Stay with all 2")
    tiles.first.click()
    page.keyboard.press("s")
    expect(confirm).to_contain_text("Stay with 1, change 1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="This queue is done")).to_be_visible()
    page.keyboard.press("z")
    expect(confirm).to_contain_text("Stay with 1, change 1")
    page.keyboard.press("Enter")
    wait_until_saved(page)
    leave(page)
    assert decided_anew(app) == {0: ("relabel", DOG), 2: ("relabel", 1)}


def test_all_questioned_decisions_stay_in_one_step(app: App, page: Page) -> None:
    page.get_by_role("button", name="Apply to all").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 images will stay as they were decided. You need")
    dialog.get_by_role("button", name="Apply to all 2").click()
    expect(page.get_by_role("heading", name="No image matches")).to_be_visible()
    leave(page)
    assert decided_anew(app) == {0: ("keep", 0), 2: ("relabel", 1)}


def test_a_second_reviewer_sees_nothing_of_a_run_that_learnt_the_first_decision(
    second_round: Path, start_app: StartApp, page: Page
) -> None:
    with Workspace.open(second_round) as workspace:
        workspace.review.set_double_share(1)
    app = start_app(second_round)
    open_desk(page, app)
    call_oneself(page, "bob")
    page.keyboard.press("f")
    page.get_by_label("Part of the path").fill("00 ")
    page.get_by_role("button", name="Show them").click()
    expect(page.locator(".desk-file")).to_contain_text("00 ")
    expect(page.locator("[data-part=clean]")).to_have_text("hidden")
    expect(page.locator("[data-part=suggestedNote]")).to_have_text("not shown")
    expect(page.locator(".desk-sentence")).to_contain_text("has learnt from the first decision")
    expect(page.get_by_role("list", name="What changed")).to_have_count(0)
    expect(page.locator(".desk-class")).to_have_count(1)
    page.keyboard.press("p")
    expect(page.locator(".desk-scatter")).to_have_attribute("data-state", "drawn")
    expect(page.locator(".desk-scatter .desk-ring")).to_be_hidden()
    page.keyboard.press("g")
    expect(page.locator(".desk-tile-clean")).to_have_text(["hidden"])
    page.keyboard.press("c")
    press(page, "x")
    wait_until_saved(page)
    page.get_by_role("combobox", name="Queue").select_option("disagreements")
    expect(page.locator("[data-part=clean]")).to_have_text("10 %")
    expect(page.locator(".desk-sentence")).to_contain_text("Labelled cat; closer to")
    leave(page)
    assert app.decisions()[0] == ("unsure", None)  # "me" had kept it.

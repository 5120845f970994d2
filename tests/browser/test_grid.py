"""Grid mode: keeping is the default, the wrong ones are marked, one key confirms the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from deft_core.workspace import Workspace
from tests.browser.conftest import (
    N_FLAGGED,
    App,
    StartApp,
    Watch,
    leave,
    open_desk,
    wait_until_saved,
)
from tests.small_world import add_scores, write_class_folders

N_MANY = 30


@pytest.fixture
def app(scored: Path, start_app: StartApp, page: Page) -> App:
    app = start_app(scored)
    open_grid(page, app)
    return app


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A workspace of more suspects than a page holds: 15 cats and 15 dogs."""
    data = write_class_folders(tmp_path / "pets", n=N_MANY // 2)
    with Workspace.open(tmp_path / "many") as workspace:
        workspace.ingest(data)
        labels = workspace.store.samples()["given_label"].to_pylist()
        p_clean = [0.01 * (i + 1) for i in range(N_MANY)]
        add_scores(workspace.store, p_clean, predicted=[1 - label for label in labels])
    return tmp_path / "many"


def open_grid(page: Page, app: App, n: int = N_FLAGGED) -> None:
    open_desk(page, app)
    page.keyboard.press("g")
    expect(page.locator(".desk-tile")).to_have_count(n)
    expect(page.locator('.desk-tile[data-picture="there"]')).to_have_count(n)


def kinds(page: Page) -> list[str]:
    found: list[str] = page.locator(".desk-tile").evaluate_all(
        "tiles => tiles.map((tile) => tile.dataset.kind)"
    )
    return found


def confirm(page: Page) -> None:
    """Confirms a page whose images have all been in sight."""
    expect(page.locator(".desk-confirm")).not_to_contain_text("Show the rest")
    page.keyboard.press("Enter")


def test_a_page_is_one_step_and_keeps_what_is_not_marked(app: App, page: Page) -> None:
    tiles = page.locator(".desk-tile")
    tiles.nth(1).click()
    page.keyboard.press("s")
    tiles.nth(2).click()
    tiles.nth(4).click()
    page.keyboard.press("/")
    page.keyboard.type("pillar")
    page.keyboard.press("Enter")
    tiles.nth(6).click()
    page.keyboard.press("x")
    expect(page.locator(".desk-confirm")).to_contain_text("Keep 4, change 4")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Every suspect is decided")).to_be_visible()
    page.keyboard.press("z")
    expect(page.locator(".desk-counts")).to_contain_text(f"0 of {N_FLAGGED}")
    assert kinds(page) == ["open", "planned", "planned", "open"] + ["planned", "open"] * 2
    page.keyboard.press("Shift+Z")
    expect(page.locator(".desk-counts")).to_contain_text(f"{N_FLAGGED} of {N_FLAGGED}")
    page.keyboard.press("a")
    assert kinds(page) == ["done"] * N_FLAGGED
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {
        **{i: ("keep", i % 5) for i in (0, 3, 5, 7)},
        1: ("relabel", 5),
        2: ("relabel", 1),
        4: ("relabel", 1),
        6: ("exclude", None),
    }


def test_a_mark_without_a_class_confirms_nothing(app: App, page: Page) -> None:
    page.locator(".desk-tile").nth(3).click()
    page.keyboard.press("Enter")
    expect(page.locator(".desk-grid-note")).to_contain_text("Say what the marked images are")
    expect(page.locator(".desk-counts")).to_contain_text(f"0 of {N_FLAGGED}")
    page.locator(".desk-tile").nth(3).click()
    assert kinds(page) == ["open"] * N_FLAGGED
    expect(page.locator(".desk-warning")).to_have_count(0)
    leave(page)
    assert app.decisions() == {}


def test_marks_by_drag_by_range_and_by_key(app: App, page: Page) -> None:
    tiles = page.locator(".desk-tile")
    tiles.nth(0).hover()
    page.mouse.down()
    tiles.nth(1).hover()
    tiles.nth(2).hover()
    page.mouse.up()
    assert kinds(page) == ["marked"] * 3 + ["open"] * 5
    page.keyboard.press("a")
    page.keyboard.press("a")
    assert kinds(page) == ["open"] * 8
    tiles.nth(1).click()
    tiles.nth(4).click(modifiers=["Shift"])
    assert kinds(page) == ["open", *["marked"] * 4, *["open"] * 3]
    page.keyboard.press("k")
    assert kinds(page) == ["open"] * 8
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    assert kinds(page)[5:7] == ["marked", "marked"]
    page.keyboard.press("b")
    assert kinds(page)[5:7] == ["planned", "planned"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("u")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("1")
    plans = page.locator(".desk-tile-plan").all_text_contents()
    assert plans[4:7] == ["dog", "unsure", "both"]
    tiles.nth(7).click()
    tiles.nth(7).click()
    before = kinds(page)
    page.locator(".desk-grid-note").hover()
    page.mouse.down()
    for number in (0, 4):
        tiles.nth(number).hover()
    page.mouse.up()
    assert kinds(page) == before, "A drag that began elsewhere marks nothing"


def test_the_cursor_goes_up_and_down_and_marks_on_the_way(app: App, page: Page) -> None:
    page.set_viewport_size({"width": 800, "height": 900})
    tops = page.locator(".desk-tile").evaluate_all("tiles => tiles.map((one) => one.offsetTop)")
    below = next(i for i, top in enumerate(tops) if top > tops[0])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("m")
    assert kinds(page).index("marked") == below
    page.keyboard.press("m")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowDown")
    assert kinds(page) == ["marked"] * (below + 1) + ["open"] * (N_FLAGGED - below - 1)


def test_the_same_images_in_another_order_are_shown_in_it(app: App, page: Page) -> None:
    page.get_by_label("Order").select_option("class")
    expect(page.locator(".desk-tile").nth(1)).to_have_attribute("data-id", "5")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".desk-cursor")).to_have_attribute("data-id", "5")


def test_a_page_is_decided_only_when_all_of_it_was_in_sight(
    many: Path, start_app: StartApp, page: Page
) -> None:
    page.set_viewport_size({"width": 390, "height": 700})
    app = start_app(many)
    open_grid(page, app, n=24)
    button = page.locator(".desk-confirm")
    expect(button).to_contain_text("Show the rest first")
    for _ in range(24):
        before = button.text_content() or ""
        if "Keep all" in before:
            break
        page.keyboard.press("Enter")
        expect(button).not_to_have_text(before)
    expect(page.locator(".desk-counts")).to_contain_text(f"0 of {N_MANY}")
    confirm(page)
    expect(page.locator(".desk-counts")).to_contain_text(f"24 of {N_MANY}")
    expect(page.locator(".desk-tile")).to_have_count(N_MANY - 24)
    wait_until_saved(page)
    leave(page)
    assert len(app.decisions()) == 24


def test_pages_are_turned_and_resized_without_deciding(
    many: Path, start_app: StartApp, page: Page
) -> None:
    app = start_app(many)
    open_grid(page, app, n=24)
    tile = page.locator(".desk-tile")
    tile.nth(2).click()
    page.keyboard.press("PageDown")
    expect(tile).to_have_count(N_MANY - 24)
    page.keyboard.press("PageUp")
    expect(tile).to_have_count(24)
    assert kinds(page)[2] == "marked", "A mark is not lost by looking elsewhere"
    page.get_by_label("Page of").select_option("12")
    expect(tile).to_have_count(12)
    open_desk(page, app)
    expect(tile).to_have_count(12)
    leave(page)
    assert app.decisions() == {}


def test_an_image_that_does_not_come_stays_undecided(app: App, page: Page, watch: Watch) -> None:
    watch.tolerated = "Failed to load resource"

    picture = "**/images/2?px=320*"
    held: list[Route] = []
    page.route(picture, lambda route: held.append(route))
    open_desk(page, app)
    expect(page.locator('.desk-tile[data-picture="there"]')).to_have_count(N_FLAGGED - 1)
    confirm(page)
    warning = page.locator(".desk-warning")
    expect(warning).to_have_text("Some images are still loading")
    page.route(picture, lambda route: route.abort())
    held[0].abort()
    expect(page.locator('.desk-tile[data-picture="broken"]')).to_have_count(1)
    expect(warning).to_have_count(0)
    confirm(page)
    expect(page.locator(".desk-counts")).to_contain_text(f"7 of {N_FLAGGED}")
    wait_until_saved(page)
    leave(page)
    assert set(app.decisions()) == {0, 1, 3, 4, 5, 6, 7}

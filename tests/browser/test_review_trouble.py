"""The review desk when something is in the way: no answer, another workspace, a second page."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import (
    FILE_NAMES,
    N_FLAGGED,
    App,
    StartApp,
    Watch,
    leave,
    make_scored,
    open_desk,
    press,
    stored_keys,
    wait_until_saved,
    write_data_set,
)

DECISIONS = "**/api/v1/decisions"
FIRST_IMAGE = "**/images/0?*"
IS_ASKED_AGAIN_AT_ONCE = """async () => {
    const { Pictures } = await import("/desk/pictures.js");
    const sample = { sample_id: 0, version: "" };
    return new Promise((resolve) => {
        const onSettled = () => resolve(pictures.of(sample) !== asked);
        const pictures = new Pictures({ px: 320, keep: 1, className: "", onSettled });
        const asked = pictures.of(sample);
    });
}"""


def never_answer(_: Route) -> None:
    """Leaves the request open."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_workspace_on_the_same_port_gets_no_decision(
    app: App, page: Page, tmp_path: Path, data_set: Path, watch: Watch, start_app: StartApp
) -> None:
    watch.tolerated = "Failed to load resource"
    open_desk(page, app)
    expect(page.locator(".desk-stage")).to_have_attribute("data-picture", "there")
    app.stop()
    other = start_app(make_scored(tmp_path / "other", data_set), port=app.port)
    press(page, "x")
    refusal = page.locator(".desk-refusal")
    expect(refusal).to_contain_text("Another workspace is open here now. 1 decision for the former")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    wait_until_saved(page)
    assert len(stored_keys(page, "review-outbox:")) == 1
    assert other.decisions() == {}
    again = start_app(app.workspace, port=app.port)
    open_desk(page, again)
    wait_until_saved(page)
    assert stored_keys(page, "review-outbox:") == []
    assert again.decisions() == {0: ("exclude", None)}


def test_a_page_that_stays_open_follows_the_server_to_another_workspace(
    app: App, page: Page, tmp_path: Path, watch: Watch, start_app: StartApp
) -> None:
    """To its pictures too, although its samples have the same ids and names."""
    watch.tolerated = "Failed to load resource"
    open_desk(page, app)
    press(page, "x")
    wait_until_saved(page)
    page.keyboard.press("p")
    scatter = page.locator(".desk-scatter")
    expect(scatter).to_have_attribute("data-state", "drawn")
    page.keyboard.press("c")
    app.stop()
    others = write_data_set(tmp_path / "others", first_seed=100)
    other = start_app(make_scored(tmp_path / "other", others), port=app.port)
    page.get_by_role("tab", name="Export").click()
    page.get_by_role("tab", name="Review").click()
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    with page.expect_response("**/api/v1/points"):
        page.keyboard.press("p")
    page.keyboard.press("c")
    picture = page.locator(".desk-picture")
    expect(picture).to_have_attribute("src", re.compile(digest(others / FILE_NAMES[0])[:12]))
    press(page, "u")
    wait_until_saved(page)
    assert other.decisions() == {0: ("unsure", None)}
    leave(page)
    assert app.decisions() == {0: ("exclude", None)}


@pytest.mark.parametrize(
    ("status", "body"), [(404, "<h1>Not found</h1>"), (403, '{"message": "No."}'), (409, "{}")]
)
def test_an_answer_that_is_not_the_desks_own_is_no_refusal(
    app: App, page: Page, watch: Watch, status: int, body: str
) -> None:
    watch.tolerated = "Failed to load resource"
    open_desk(page, app)
    page.route(DECISIONS, lambda route: route.fulfill(status=status, body=body))
    press(page, "x")
    expect(page.locator(".desk-saved")).to_have_attribute("data-state", "retrying")
    page.unroute(DECISIONS)
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {0: ("exclude", None)}


def test_a_refusal_names_the_image_leaves_nothing_behind_and_goes_away(
    app: App, page: Page, watch: Watch
) -> None:
    watch.tolerated = "Failed to load resource"
    open_desk(page, app)
    answer = {"message": "No such verdict.", "hint": "Reload the page."}
    page.route(DECISIONS, lambda route: route.fulfill(status=409, json=answer))
    press(page, "x")
    refusal = page.locator(".desk-refusal")
    expect(refusal).to_contain_text(f"{FILE_NAMES[0]}: No such verdict. Reload the page.")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    expect(page.locator(".desk-counts")).to_contain_text(f"0 of {N_FLAGGED}")
    assert stored_keys(page, "review-") == []
    page.unroute(DECISIONS)
    press(page, "u")
    expect(refusal).to_be_hidden()
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {1: ("unsure", None)}


def test_nothing_is_decided_while_the_image_is_loading(app: App, page: Page) -> None:
    page.route(FIRST_IMAGE, never_answer)
    open_desk(page, app)
    for key in ("Space", "Enter", "1", "/", "x"):
        page.keyboard.press(key)
    expect(page.get_by_text("The image is still loading")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    assert stored_keys(page, "review-") == []
    leave(page)
    assert app.decisions() == {}


def test_an_image_that_failed_is_asked_for_again(app: App, page: Page, watch: Watch) -> None:
    watch.tolerated = "Failed to load resource"
    page.route(FIRST_IMAGE, lambda route: route.abort())
    open_desk(page, app)
    expect(page.get_by_text("The image cannot be loaded, retrying")).to_be_visible()
    page.keyboard.press("x")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    page.unroute(FIRST_IMAGE)
    press(page, "u")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {0: ("unsure", None)}


def test_an_image_that_cannot_be_read_gets_no_label(
    app: App, page: Page, data_set: Path, watch: Watch
) -> None:
    """In card mode, and on a page of the grid that is confirmed by the cheapest key."""
    watch.tolerated = "Failed to load resource"
    for number in (0, 1):
        (data_set / FILE_NAMES[number]).write_bytes(b"no image")
    open_desk(page, app)
    stage = page.locator(".desk-stage")
    expect(stage).to_have_attribute("data-picture", "unreadable")
    expect(stage).to_contain_text("This image cannot be shown: ")
    for key in ("Space", "Enter", "1", "b"):
        page.keyboard.press(key)
        expect(stage).to_contain_text("Only X and U decide it")
    assert not page.evaluate(IS_ASKED_AGAIN_AT_ONCE)
    page.keyboard.press("x")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    page.keyboard.press("g")
    expect(page.locator('.desk-tile[data-picture="there"]')).to_have_count(N_FLAGGED - 2)
    expect(page.locator('.desk-tile[data-picture="unreadable"]')).to_have_count(2)
    page.keyboard.press("Enter")
    wait_until_saved(page)
    leave(page)
    decided = app.decisions()
    assert decided[0] == ("exclude", None)
    assert sorted(decided) == [0, *range(2, N_FLAGGED)]


def test_a_key_held_on_a_button_decides_once(app: App, page: Page) -> None:
    open_desk(page, app)
    stage = page.locator(".desk-stage")
    expect(stage).to_have_attribute("data-picture", "there")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Exclude").focus()
    for _ in range(4):
        page.keyboard.down("Enter")
        expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
        expect(stage).to_have_attribute("data-picture", "there")
    page.keyboard.up("Enter")
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {0: ("exclude", None)}


def test_undo_takes_back_this_pages_decision_only(
    app: App, page: Page, context: BrowserContext
) -> None:
    other = context.new_page()
    for one in (page, other):
        open_desk(one, app)
    for one, key in ((page, "x"), (other, "u"), (page, "z")):
        one.bring_to_front()
        press(one, key)
        wait_until_saved(one)
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    expect(page.locator(".desk-badge")).to_have_text("unsure")
    leave(page)
    assert app.decisions() == {0: ("unsure", None)}


def test_the_class_picker_is_about_the_image_it_was_opened_for(app: App, page: Page) -> None:
    open_desk(page, app)
    press(page, "x")
    wait_until_saved(page)
    open_desk(page, app)
    held: list[Route] = []
    page.route(DECISIONS, lambda route: held.append(route))
    with page.expect_request(DECISIONS):
        press(page, "z")
    press(page, "/")
    expect(page.get_by_role("dialog")).to_be_visible()
    with page.expect_response("**/api/v1/samples/0"):
        held[0].continue_()
    page.unroute(DECISIONS)
    expect(page.locator(".desk-counts")).to_contain_text(f"0 of {N_FLAGGED}")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    page.keyboard.press("Enter")
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {1: ("relabel", 5)}


def test_a_server_that_hangs_is_told_as_not_saved(app: App, page: Page) -> None:
    open_desk(page, app)
    page.route(DECISIONS, never_answer)
    press(page, "x")
    saved = page.locator(".desk-saved")
    expect(saved).to_contain_text("NOT SAVED: 1")
    press(page, "u")
    expect(saved).to_contain_text("NOT SAVED: 2")
    page.unroute(DECISIONS)
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {0: ("exclude", None), 1: ("unsure", None)}


def test_a_damaged_entry_of_the_outbox_stops_nothing(app: App, page: Page) -> None:
    open_desk(page, app)
    page.evaluate(
        """async () => {
            const { store } = await (await fetch("/api/v1/session")).json();
            localStorage.setItem(`review-outbox:${store}:1:damaged`, '{"type": "dec');
            localStorage.setItem(`review-outbox:${store}:2:empty`, "null");
        }"""
    )
    open_desk(page, app)
    press(page, "x")
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {0: ("exclude", None)}


def test_who_is_faster_than_the_next_page_goes_on_when_it_comes(app: App, page: Page) -> None:
    held: list[Route] = []

    def three_at_once(route: Route) -> None:
        asked = route.request.post_data_json
        if asked["after"] is None:
            route.continue_(post_data=json.dumps({**asked, "limit": 3}))
        else:
            held.append(route)

    page.route("**/api/v1/queue", three_at_once)
    with page.expect_request(lambda request: '"after":"' in (request.post_data or "")):
        open_desk(page, app)
    for key in ("ArrowRight", "ArrowRight", "x"):
        press(page, key)
    expect(page.get_by_role("heading", name="Loading the queue")).to_be_visible()
    held.pop().continue_()
    expect(page.locator(".desk-file")).to_have_text("03.png")
    press(page, "u")
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {2: ("exclude", None), 3: ("unsure", None)}


def test_a_reviewer_who_comes_while_the_queue_is_loading_gets_his(
    app: App, page: Page, watch: Watch
) -> None:
    watch.tolerated = "Failed to load resource"
    held: list[Route] = []
    page.route("**/api/v1/queue", lambda route: held.append(route), times=1)
    page.goto(app.address)
    with page.expect_request("**/api/v1/queue"):
        page.get_by_role("tab", name="Review").click()
    page.get_by_role("button", name="Reviewer:").click()
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Go on as this reviewer").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    held.pop().abort()
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])


def test_undo_brings_an_image_of_another_queue_and_keeps_the_place(app: App, page: Page) -> None:
    file = page.locator(".desk-file")
    open_desk(page, app)
    press(page, "x")
    wait_until_saved(page)
    page.keyboard.press("p")
    page.keyboard.press("f")
    page.get_by_role("dialog").get_by_label("Part of the path").fill("05")
    page.get_by_role("button", name="Show them").click()
    expect(file).to_have_text("05.png")
    press(page, "z")
    expect(file).to_have_text(FILE_NAMES[0])
    press(page, "ArrowRight")
    expect(file).to_have_text("05.png")

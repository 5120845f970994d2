"""The page while the application finds no room on its disk."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import StartApp, Watch, leave, open_desk, press, wait_until_saved
from tests.test_full_disk import no_room


def application(workspace: Path) -> int:
    """The process id of the application that has the workspace open."""
    return int(json.loads((workspace / "server.json").read_text())["pid"])


def test_decisions_wait_in_the_page_until_there_is_room_again(
    scored: Path, start_app: StartApp, page: Page, watch: Watch
) -> None:
    watch.tolerated = "Failed to load resource"
    app = start_app(scored)
    open_desk(page, app)
    saved = page.locator(".desk-saved")

    with no_room(application(scored)):
        press(page, "x")
        expect(saved).to_contain_text("NOT SAVED: 1 waiting, retrying. The disk that holds")
        expect(saved).to_contain_text("is full: File too large. Make room")
        press(page, "u")
        expect(saved).to_contain_text("NOT SAVED: 2 waiting")
    wait_until_saved(page)

    leave(page)
    assert app.decisions() == {0: ("exclude", None), 1: ("unsure", None)}


def test_a_data_set_is_refused_with_what_to_do(
    tmp_path: Path, data_set: Path, start_app: StartApp, page: Page
) -> None:
    workspace = tmp_path / "new"
    page.goto(start_app(workspace).address)
    page.get_by_label("Folder or CSV file on this machine").fill(str(data_set))

    with no_room(application(workspace)):
        page.get_by_role("button", name="Ingest").click()
        expect(page.locator(".block.notice-bad:visible")).to_contain_text("is full")
        expect(page.locator(".block.notice-bad:visible")).to_contain_text("Make room")
    page.get_by_role("button", name="Ingest").click()

    expect(page.locator(".figures").first).to_contain_text("12images")

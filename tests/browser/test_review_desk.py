"""The review desk with a real browser, a real server and a real store."""

from __future__ import annotations

import signal
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

from deft_core.workspace import Workspace
from tests.browser.conftest import (
    CLASS_NAMES,
    FILE_NAMES,
    N_FLAGGED,
    N_SAMPLES,
    App,
    StartApp,
    Watch,
    leave,
    open_desk,
    press,
    stored_keys,
    wait_until_saved,
)
from tests.small_world import add_scores, write_image

N_CLASSES = 3000


def test_each_key_is_a_decision(desk: App, page: Page) -> None:
    file = page.locator(".desk-file")
    expect(file).to_have_text(FILE_NAMES[0])
    for key in ("Space", "Enter", "k", "b", "x", "u"):
        before = file.text_content()
        press(page, key)
        expect(file).not_to_have_text(before or "")
    expect(page.locator(".desk-counts")).to_contain_text("a minute, about")
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {
        0: ("keep", 0),
        1: ("relabel", 5),
        2: ("keep", 2),
        3: ("both", None),
        4: ("exclude", None),
        5: ("unsure", None),
    }


def test_both_without_a_suggestion_asks_which_class_is_right_too(
    tmp_path: Path, data_set: Path, start_app: StartApp, page: Page
) -> None:
    with Workspace.open(tmp_path / "own") as workspace:
        workspace.ingest(data_set)
        predicted = [2, *workspace.store.samples()["given_label"].to_pylist()[1:]]
        add_scores(workspace.store, [0.1, 0.2, *[0.9] * (N_SAMPLES - 2)], predicted=predicted)
    app = start_app(tmp_path / "own")
    open_desk(page, app)
    press(page, "b")  # Sample 0 has a suggestion.
    press(page, "b")
    page.get_by_role("dialog").get_by_role("combobox", name="Class name").fill("dog")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Every suspect is decided")).to_be_visible()
    wait_until_saved(page)
    leave(page)
    app.stop()
    with Workspace.open(app.workspace) as workspace:
        rows = workspace.store.samples().to_pylist()[:2]
    assert [row["verdict"] for row in rows] == ["both", "both"]
    assert [row["other_label"] for row in rows] == [2, CLASS_NAMES.index("dog")]


def test_a_digit_takes_another_class_and_the_given_one_means_keep(desk: App, page: Page) -> None:
    file = page.locator(".desk-file")
    press(page, "2")  # Sample 0 resembles one class beside its own.
    press(page, "1")
    expect(file).to_have_text(FILE_NAMES[1])
    press(page, "2")
    expect(file).to_have_text(FILE_NAMES[2])
    press(page, "/")
    page.keyboard.type(CLASS_NAMES[2])
    page.keyboard.press("Enter")
    expect(file).not_to_have_text(FILE_NAMES[2])
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {0: ("relabel", 5), 1: ("relabel", 0), 2: ("keep", 2)}


def test_undo_by_key_and_after_a_reload(desk: App, page: Page) -> None:
    file = page.locator(".desk-file")
    press(page, "Space")
    press(page, "x")
    expect(file).to_have_text(FILE_NAMES[2])
    press(page, "z")
    expect(file).to_have_text(FILE_NAMES[1])
    wait_until_saved(page)
    open_desk(page, desk)
    expect(file).to_have_text(FILE_NAMES[1])
    press(page, "z")
    expect(file).to_have_text(FILE_NAMES[0])
    expect(page.locator(".desk-counts")).to_contain_text(f"0 of {N_FLAGGED}")
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {}


def test_type_ahead_finds_a_class_by_part_of_its_name(desk: App, page: Page) -> None:
    press(page, "/")
    page.keyboard.type("pillar")
    options = page.get_by_role("dialog").get_by_role("option")
    expect(options).to_have_text(["caterpillar"])
    press(page, "Enter")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    press(page, "/")
    page.keyboard.type("cat")
    expect(options).to_have_text(["cat", "caterpillar"])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {0: ("relabel", 1)}


def test_each_digit_takes_its_class_and_thousands_can_be_typed(
    tmp_path: Path, start_app: StartApp, page: Page
) -> None:
    names = [f"class {i:04}" for i in range(N_CLASSES)]
    root = tmp_path / "data"
    rows = ["file_name,label"]
    for i in range(6):
        write_image(root / f"{i}.png", seed=i)
        rows.append(f"{i}.png,{names[0]}")
    (root / "labels.csv").write_text("\n".join(rows))
    (root / "classes.txt").write_text("\n".join(names))
    top = (11, 12, 13, 14, 15)
    with Workspace.open(tmp_path / "workspace") as workspace:
        workspace.ingest(root)
        scores = [0.1 * (i + 1) / 2 for i in range(6)]
        add_scores(workspace.store, scores, predicted=[11] * 6, top_labels=top)
    app = start_app(tmp_path / "workspace")
    open_desk(page, app)
    for number in range(1, 6):
        expect(page.locator(".desk-file")).to_have_text(f"{number - 1}.png")
        press(page, f"{number}")
    expect(page.locator(".desk-file")).to_have_text("5.png")
    press(page, "/")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("option").first).to_have_text(names[top[0]])
    expect(dialog).to_contain_text("more: type on")
    page.keyboard.type("2999")
    expect(dialog.get_by_role("option")).to_have_text([names[2999]])
    page.keyboard.press("Enter")
    wait_until_saved(page)
    leave(page)
    assert [label for _, label in app.decisions().values()] == [*top, 2999]


def test_buttons_do_what_the_keys_do(desk: App, page: Page) -> None:
    file = page.locator(".desk-file")
    page.get_by_role("button", name="Given label").click()
    expect(file).to_have_text(FILE_NAMES[1])
    page.get_by_role("button", name="Suggested label").click()
    expect(file).to_have_text(FILE_NAMES[2])
    page.get_by_role("button", name="Exclude").click()
    page.get_by_role("button", name="Undo").click()
    expect(file).to_have_text(FILE_NAMES[2])
    # The last click left the focus alone, so Space is a key of the desk and presses no button.
    press(page, "Space")
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {0: ("keep", 0), 1: ("relabel", 5), 2: ("keep", 2)}


def test_arrows_look_without_deciding(desk: App, page: Page) -> None:
    file = page.locator(".desk-file")
    page.keyboard.press("ArrowRight")
    expect(file).to_have_text(FILE_NAMES[1])
    page.keyboard.press("ArrowLeft")
    expect(file).to_have_text(FILE_NAMES[0])
    assert stored_keys(page, "review-") == []
    leave(page)
    assert desk.decisions() == {}


def test_names_are_shown_as_text_and_never_run(desk: App, page: Page) -> None:
    for label in range(3):
        expect(page.locator(".desk-head strong").first).to_have_text(CLASS_NAMES[label])
        press(page, "Space")
    press(page, "/")
    expect(page.get_by_role("dialog").get_by_role("option")).to_have_count(len(CLASS_NAMES))
    page.keyboard.press("Escape")
    for tab in ("Overview", "Detect", "Adapt", "Export"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Overview").click()
    expect(page.get_by_role("gridcell", name=CLASS_NAMES[3], exact=True).first).to_be_visible()
    assert page.evaluate("() => window.hacked") is None


def test_all_decided_says_so_and_leads_on(desk: App, page: Page) -> None:
    for _ in range(N_FLAGGED):
        press(page, "Space")
    expect(page.get_by_role("heading", name="Every suspect is decided")).to_be_visible()
    expect(page.locator(".desk-counts")).to_contain_text(f"{N_FLAGGED} of {N_FLAGGED}")
    wait_until_saved(page)
    page.get_by_role("button", name="Export the labels").click()
    expect(page.get_by_role("tab", name="Export")).to_have_attribute("aria-selected", "true")
    leave(page)
    assert len(desk.decisions()) == N_FLAGGED


def test_a_dead_server_and_a_reload_lose_nothing(
    desk: App, page: Page, context: BrowserContext, watch: Watch, start_app: StartApp
) -> None:
    watch.tolerated = "net::ERR_"
    desk.stop(signal.SIGKILL)
    press(page, "Space")
    press(page, "x")
    saved = page.locator(".desk-saved")
    expect(saved).to_have_attribute("data-state", "retrying")
    expect(saved).to_contain_text("NOT SAVED: 2")
    page.close()
    again = start_app(desk.workspace, port=desk.port)
    page = context.new_page()
    open_desk(page, again)
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[2])
    wait_until_saved(page)
    assert again.decisions() == {0: ("keep", 0), 1: ("exclude", None)}


def test_keys_are_silent_while_another_tab_is_open(desk: App, page: Page) -> None:
    page.get_by_role("tab", name="Detect").click()
    expect(page.get_by_role("heading", name="Detect")).to_be_visible()
    for key in ("k", "x", "1"):
        page.keyboard.press(key)
    page.get_by_role("tab", name="Review").click()
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    assert stored_keys(page, "review-") == []
    leave(page)
    assert desk.decisions() == {}

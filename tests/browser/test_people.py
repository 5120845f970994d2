"""For whom the desk is: several reviewers, any browser profile, any screen, a screen reader."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from deft_core.decisions import Decision
from deft_core.workspace import Workspace
from tests.browser.conftest import (
    CLASS_NAMES,
    FILE_NAMES,
    N_FLAGGED,
    N_SAMPLES,
    App,
    StartApp,
    Watch,
    call_oneself,
    leave,
    open_desk,
    press,
    wait_until_saved,
    watched_context,
)
from tests.small_world import add_scores, write_image

BLOCKED_STORAGE = """
    Object.defineProperty(window, "localStorage", {
        get() { throw new DOMException("forbidden", "SecurityError"); },
    });
"""
SMALLEST_TEXT = """() => Math.min(...[...document.querySelectorAll(".desk *")]
    .filter((one) => one.checkVisibility() && one.textContent.trim() && !one.closest("svg"))
    .map((one) => parseFloat(getComputedStyle(one).fontSize)))"""
SERIOUS = ("serious", "critical")


def test_a_name_is_kept_and_stands_beside_the_decision(app: App, page: Page) -> None:
    open_desk(page, app)
    call_oneself(page, "Ann ✨ <b>")
    press(page, "x")
    wait_until_saved(page)
    open_desk(page, app)
    expect(page.get_by_role("button", name="Reviewer: Ann ✨ <b>")).to_be_visible()
    press(page, "z")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    page.keyboard.press("h")
    expect(page.locator(".desk-history li").last).to_contain_text("Ann ✨ <b>")
    page.keyboard.press("h")
    press(page, "b")
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {0: ("both", None)}


def test_a_name_counts_once_it_is_accepted_and_nothing_is_decided_before(
    app: App, page: Page, watch: Watch
) -> None:
    """Names of any script are; a refused one leaves everything as it was, after a reload too."""
    watch.tolerated = "Failed to load resource"
    open_desk(page, app)
    expect(page.locator(".desk-stage")).to_have_attribute("data-picture", "there")
    page.get_by_role("button", name="Reviewer:").click()
    go_on = page.get_by_role("button", name="Go on as this reviewer")
    field = page.get_by_label("Your name")
    field.fill("a\x85b")
    go_on.click()
    expect(page.locator("[data-part=reviewerProblem]")).to_contain_text("no character to write")
    held: list[Route] = []
    page.route("**/api/v1/leases", lambda route: held.append(route))
    name = "می\u200cتو"
    field.fill(name)
    with page.expect_request("**/api/v1/leases"):
        go_on.click()
    page.keyboard.press("x")
    expect(page.get_by_role("heading", name="Loading the queue")).to_be_visible()
    held[0].continue_()
    page.unroute("**/api/v1/leases")
    expect(page.locator("[data-part=who]")).to_have_text(name)
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    open_desk(page, app)
    expect(page.locator("[data-part=who]")).to_have_text(name)
    press(page, "u")
    wait_until_saved(page)
    leave(page)
    app.stop()
    with Workspace.open(app.workspace) as workspace:
        rows = workspace.store.log.current().to_pylist()
    assert [(row["verdict"], row["reviewer"]) for row in rows] == [("unsure", name)]


def test_two_reviewers_never_get_the_same_image(
    app: App, page: Page, chromium: Browser, watch: Watch
) -> None:
    open_desk(page, app)
    call_oneself(page, "ann")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    with watched_context(chromium, watch) as elsewhere:
        other = elsewhere.new_page()
        open_desk(other, app)
        call_oneself(other, "bob")
        expect(other.get_by_role("heading", name="The rest is with other")).to_be_visible()
        expect(other.locator(".desk-counts")).to_contain_text(f"{N_FLAGGED} with other reviewers")
        press(page, "x")
        expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
        wait_until_saved(page)


def test_what_was_decided_in_another_window_is_passed_on_coming_back(app: App, page: Page) -> None:
    open_desk(page, app)
    other = page.context.new_page()
    open_desk(other, app)
    for key in ("k", "u"):
        press(other, key)
    wait_until_saved(other)
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])

    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[2])
    expect(page.locator(".desk-counts")).to_contain_text(f"2 of {N_FLAGGED} suspects decided")
    press(page, "x")
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {0: ("keep", 0), 1: ("unsure", None), 2: ("exclude", None)}


def test_blind_double_review_shows_agreement_and_makes_disagreements(
    app: App, page: Page, context: BrowserContext
) -> None:
    open_desk(page, app)
    call_oneself(page, "ann")
    page.get_by_role("button", name="Reviewer:").click()
    page.get_by_label("Share for blind double review").fill("100")
    with page.expect_response("**/api/v1/double"):
        page.get_by_role("button", name="Set for everybody").click()
    for nonsense in ("", "150"):
        page.get_by_label("Share for blind double review").fill(nonsense)
        page.get_by_role("button", name="Set for everybody").click()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("[data-part=doubleBadge]")).to_be_visible()
    for key in "kx":
        press(page, key)
    wait_until_saved(page)
    call_oneself(page, "bob")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    expect(page.locator("[data-part=badge]")).to_be_hidden()
    for key in "kk":
        press(page, key)
    wait_until_saved(page)
    page.get_by_role("button", name="Reviewer:").click()
    expect(page.locator(".desk-table")).to_contain_text("ann, bob")
    expect(page.locator(".desk-table")).to_contain_text("50 %")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("combobox", name="Queue").select_option("disagreements")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    expect(page.locator("[data-part=disputedBadge]")).to_be_visible()
    expect(page.locator(".desk-history li")).to_have_count(2)
    counts = page.locator(".desk-counts")
    expect(counts).to_contain_text("1 in this queue")
    press(page, "x")
    expect(counts).to_contain_text("0 in this queue")
    wait_until_saved(page)
    expect(page.get_by_role("heading", name="This queue is done")).to_be_visible()
    page.get_by_role("button", name="All suspects").click()
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[2])
    expect(page.locator(".desk-history ul")).to_be_hidden()
    leave(page)
    assert app.decisions() == {0: ("keep", 0), 1: ("exclude", None)}


def test_one_verdict_for_all_overrules_nobody_who_decided_after_the_count(
    scored: Path, start_app: StartApp, page: Page, chromium: Browser, watch: Watch
) -> None:
    with Workspace.open(scored) as workspace:
        workspace.review.set_double_share(1)
        first = Decision(uid="first", group="first", sample_id=0, verdict="keep")
        workspace.review.decide([first], reviewer="ann")
    app = start_app(scored)
    with watched_context(chromium, watch) as elsewhere:
        other = elsewhere.new_page()
        for one, name in ((other, "bob"), (page, "ann")):
            open_desk(one, app)
            call_oneself(one, name)
            one.get_by_role("combobox", name="Queue").select_option("all")
        expect(other.locator(".desk-file")).to_have_text(FILE_NAMES[0])
        page.get_by_role("button", name="Apply to all").click()
        dialog = page.get_by_role("dialog")
        apply = dialog.get_by_role("button", name=f"Apply to all {N_SAMPLES}")
        expect(apply).to_be_enabled()
        press(other, "x")
        wait_until_saved(other)
    apply.click()
    expect(dialog).to_be_hidden()
    leave(page)
    decided = app.decisions()
    assert decided.pop(0) == ("unsure", None)
    assert {verdict for verdict, _ in decided.values()} == {"keep"}


def test_a_browser_that_blocks_its_storage_still_works_and_says_what_hangs_on_it(
    app: App, page: Page, context: BrowserContext, watch: Watch
) -> None:
    watch.tolerated = "Failed to load resource"
    context.add_init_script(BLOCKED_STORAGE)
    open_desk(page, app)
    call_oneself(page, "ann")
    page.route("**/api/v1/decisions", lambda route: route.abort())
    press(page, "x")
    expect(page.locator(".desk-saved")).to_contain_text("leave this page open")
    page.unroute("**/api/v1/decisions")
    press(page, "Enter")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[2])
    wait_until_saved(page)
    leave(page)
    assert app.decisions() == {0: ("exclude", None), 1: ("relabel", 5)}


def test_a_queue_that_cannot_be_loaded_says_so_and_comes_back(
    app: App, page: Page, watch: Watch
) -> None:
    watch.tolerated = "Failed to load resource"
    page.route("**/api/v1/queue", lambda route: route.abort())
    open_desk(page, app)
    expect(page.get_by_role("heading", name="The queue could not be loaded")).to_be_visible()
    page.unroute("**/api/v1/queue")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])


def test_a_loading_queue_is_announced(app: App, page: Page) -> None:
    page.route("**/api/v1/queue", lambda _: None)
    page.goto(app.address)
    page.get_by_role("tab", name="Review").click()
    expect(page.get_by_role("heading", name="Loading the queue")).to_be_visible()
    page.unroute("**/api/v1/queue")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_finding_of_axe(app: App, page: Page, theme: str) -> None:
    axe = Axe()
    page.goto(f"{app.address}/?__theme={theme}")
    page.get_by_role("tab", name="Review").click()
    found = []
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for key in ("c", "g", "p", "f", "?"):
            page.keyboard.press(key)
            view = {"c": ".desk-stage", "g": ".desk-tile", "p": ".desk-matrix"}.get(
                key, "dialog[open]"
            )
            expect(page.locator(view).first).to_be_visible()
            for one in axe.run(page, context=".desk").response["violations"]:
                if one["impact"] in SERIOUS:
                    targets = [(node["target"], node["any"][0]["message"]) for node in one["nodes"]]
                    found.append((width, key, one["id"], targets))
            page.keyboard.press("Escape")
        is_wide = page.evaluate("() => document.documentElement.scrollWidth > innerWidth")
        assert not is_wide, f"The page scrolls sideways at {width} pixels"
    assert found == []


def test_a_4k_screen_is_used_and_can_be_read(app: App, page: Page) -> None:
    page.set_viewport_size({"width": 3840, "height": 2160})
    page.goto(f"{app.address}/?__theme=dark")
    page.get_by_role("tab", name="Review").click()
    picture = page.locator(".desk-picture")
    expect(picture).to_be_visible()
    expect(picture).to_have_attribute("src", re.compile("px=2048"))
    box = picture.bounding_box()
    assert box is not None
    assert box["width"] * box["height"] > 0.5 * 3840 * 2160
    found = []
    for key, view in (("c", ".desk-stage"), ("g", ".desk-tile"), ("p", ".desk-matrix")):
        page.keyboard.press(key)
        expect(page.locator(view).first).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), key
        assert page.evaluate(SMALLEST_TEXT) >= 16, key
        violations = Axe().run(page, context=".desk").response["violations"]
        found += [(key, one["id"]) for one in violations if one["impact"] in SERIOUS]
    assert found == []


def test_everything_is_said_to_a_screen_reader(app: App, page: Page) -> None:
    open_desk(page, app)
    press(page, "x")
    expect(page.locator("[aria-live=polite]").first).to_have_text("excluded")
    expect(page.locator(".desk-unseen")).to_have_text(
        f"{FILE_NAMES[1]}, given label {CLASS_NAMES[1]}, suggested label {CLASS_NAMES[5]}"
    )
    expect(page.get_by_role("progressbar", name="Suspects decided")).to_have_attribute(
        "aria-valuenow", "1"
    )
    page.keyboard.press("g")
    tiles = page.get_by_role("listbox", name="Images of this page")
    expect(tiles.get_by_role("option").nth(1)).to_have_attribute(
        "aria-label", re.compile("keeps its label$")
    )
    expect(tiles).to_be_focused()
    before = tiles.get_attribute("aria-activedescendant")
    page.keyboard.press("ArrowRight")
    expect(tiles).not_to_have_attribute("aria-activedescendant", before or "")
    page.keyboard.press("c")
    expect(page.get_by_role("region", name="Review desk")).to_be_focused()


def test_names_of_any_kind_are_text_and_move_nothing(
    tmp_path: Path, start_app: StartApp, page: Page
) -> None:
    names = ["a" * 300, "قطة‮ cat", "🐈 \"quoted' & <i>", "${1+1} {{1+1}}"]
    root = tmp_path / "data"
    files = [f"{name[:60]}{i}.png".replace("/", "") for i, name in enumerate(names)]
    for seed, file in enumerate(files):
        write_image(root / file, seed=seed)
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as opened:
        rows = csv.writer(opened)
        rows.writerow(["file_name", "label"])
        rows.writerows(zip(files, names, strict=True))
    with Workspace.open(tmp_path / "workspace") as workspace:
        workspace.ingest(root)
        assert workspace.dataset is not None
        classes = workspace.dataset.class_names
        given = workspace.store.samples()["given_label"].to_pylist()
        predicted = [(label + 1) % len(names) for label in given]
        add_scores(workspace.store, [0.1, 0.2, 0.3, 0.4], predicted=predicted)
    page.set_viewport_size({"width": 390, "height": 844})
    open_desk(page, start_app(tmp_path / "workspace"))
    for label, suggested in zip(given, predicted, strict=True):
        expect(page.locator("[data-part=given]")).to_have_text(classes[label])
        expect(page.locator("[data-part=suggested]")).to_have_text(classes[suggested])
        page.keyboard.press("ArrowRight")
    for key, view in (("g", ".desk-tile"), ("p", ".desk-matrix"), ("c", ".desk-stage")):
        page.keyboard.press(key)
        expect(page.locator(view).first).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), key
    page.keyboard.press("f")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("group", name="Given label").get_by_role("button").click()
    page.get_by_role("combobox", name="Class name").fill("aaa")
    page.keyboard.press("Enter")
    chip = dialog.locator(".desk-chip")
    expect(chip).to_be_visible()
    assert dialog.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    assert chip.evaluate("(one) => one.scrollWidth <= one.clientWidth"), "Its cross is in sight"
    dialog.get_by_role("button", name="Show them").click()
    expect(page.locator(".desk-chips .desk-chip")).to_be_visible()
    for part in (".desk-chips .desk-chip", "[data-act=filter]", "[data-act=help]"):
        box = page.locator(part).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390, part

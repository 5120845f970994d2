"""Card mode beyond the verdicts: notes, history, redo, zoom, evidence, the list of keys."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from playwright.sync_api import Page, expect

from deft_core.workspace import Workspace
from tests.browser.conftest import (
    FILE_NAMES,
    N_FLAGGED,
    App,
    StartApp,
    leave,
    open_desk,
    press,
    wait_until_saved,
)
from tests.small_world import add_scores


def test_redo_on_this_page_and_after_a_reload(desk: App, page: Page) -> None:
    file = page.locator(".desk-file")
    press(page, "x")
    press(page, "u")
    press(page, "z")
    press(page, "z")
    expect(file).to_have_text(FILE_NAMES[0])
    press(page, "Shift+Z")
    expect(page.locator(".desk-badge:visible")).to_have_text("excluded")
    wait_until_saved(page)
    open_desk(page, desk)
    press(page, "Shift+Z")
    expect(file).to_have_text(FILE_NAMES[1])
    expect(page.locator(".desk-counts")).to_contain_text(f"2 of {N_FLAGGED}")
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {0: ("exclude", None), 1: ("unsure", None)}


def test_a_note_is_kept_shown_and_undone(desk: App, page: Page) -> None:
    press(page, "n")
    page.get_by_label("Note on the image").fill("two animals\n<b>")
    page.keyboard.press("Enter")
    note = page.locator(".desk-note")
    expect(note).to_have_text("two animals\n<b>")
    wait_until_saved(page)
    open_desk(page, desk)
    expect(note).to_have_text("two animals\n<b>")
    page.keyboard.press("h")
    expect(page.locator(".desk-history li").first).to_contain_text("note: two animals")
    press(page, "z")
    expect(note).to_be_empty()
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {}


def test_the_picture_is_zoomed_moved_and_whole_again(desk: App, page: Page) -> None:
    stage = page.locator(".desk-stage")
    press(page, "+")
    expect(stage).to_have_attribute("data-zoomed", "true")
    page.keyboard.press("0")
    expect(stage).to_have_attribute("data-zoomed", "false")
    stage.hover()
    page.mouse.wheel(0, -600)
    expect(stage).to_have_attribute("data-zoomed", "true")
    before = stage.get_attribute("style")
    page.mouse.down()
    page.mouse.move(500, 500)
    page.mouse.up()
    expect(stage).not_to_have_attribute("style", before or "")
    moved = stage.get_attribute("style") or ""
    page.keyboard.press("Shift+ArrowLeft")
    expect(stage).not_to_have_attribute("style", moved)
    page.keyboard.press("0")
    stage.hover()
    page.mouse.down()
    page.mouse.move(5, 5)
    page.mouse.up()
    page.keyboard.press("+")
    zoomed = stage.get_attribute("style") or ""
    page.mouse.move(500, 500)
    page.mouse.move(550, 550)
    expect(stage).to_have_attribute("style", zoomed)
    page.keyboard.press("ArrowRight")
    expect(stage).to_have_attribute("data-zoomed", "false")


def test_enter_opens_the_history_and_letters_are_keys_in_any_script(desk: App, page: Page) -> None:
    file = page.locator(".desk-file")
    expect(page.locator(".desk-stage")).to_have_attribute("data-picture", "there")
    page.keyboard.press("Tab")
    page.locator(".desk-history summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".desk-history li")).to_have_text("Nothing yet")
    expect(file).to_have_text(FILE_NAMES[0])
    page.get_by_role("region", name="Review desk").focus()
    page.evaluate(
        """() => document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", { key: "χ", code: "KeyX", bubbles: true })
        )"""
    )
    expect(file).to_have_text(FILE_NAMES[1])
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {0: ("exclude", None)}


def test_an_open_history_stays_open_and_leaves_the_image_in_sight(desk: App, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 700})
    events = page.locator(".desk-history li")
    page.keyboard.press("h")
    expect(events).to_be_in_viewport()
    page.evaluate("() => scrollTo(0, 0)")
    with page.expect_response("**/api/v1/samples/1/history"):
        page.keyboard.press("ArrowRight")
    expect(events).to_have_text("Nothing yet")
    assert page.evaluate("() => scrollY") == 0


def test_the_reasons_are_told(desk: App, page: Page) -> None:
    expect(page.locator(".desk-sentence")).to_contain_text("Labelled cat; closer to the positive")
    expect(page.locator("[data-part=clean]")).to_have_text("5 %")
    expect(page.locator("[data-part=threshold]")).to_have_text("flagged up to 50 %")
    expect(page.locator(".desk-class")).to_have_count(2)


def test_every_key_is_listed(desk: App, page: Page) -> None:
    page.keyboard.press("?")
    listed = page.get_by_role("dialog", name="Keys")
    for says in ("keep the given label", "confirm the page", "do it again", "any other class"):
        expect(listed).to_contain_text(says)
    page.keyboard.press("Escape")
    expect(listed).to_be_hidden()


def test_nothing_moves_from_image_to_image(desk: App, page: Page) -> None:
    def places() -> list[dict[str, float] | None]:
        parts = (".desk-stage", ".desk-classes", ".desk-acts", ".desk-why")
        return [page.locator(part).bounding_box() for part in parts]

    expect(page.locator(".desk-sentence")).not_to_be_empty()
    before = places()
    press(page, "x")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    assert places() == before
    expect(page.locator(".desk-sentence")).not_to_be_empty()
    assert places() == before


def test_trusted_examples_stand_beside_the_labels(
    scored: Path, start_app: StartApp, page: Page
) -> None:
    """A later run that found neighbours: 8 and 9 are trusted, 9 looks most like sample 0."""
    neighbours = pa.table(
        {
            "sample_id": pa.array([0], pa.int32()),
            "nearest": pa.array([[9, 8, 10]], pa.list_(pa.int32())),
            "nearest_given": pa.array([[10]], pa.list_(pa.int32())),
            "nearest_predicted": pa.array([[9, 8]], pa.list_(pa.int32())),
        }
    )
    with Workspace.open(scored) as workspace:
        add_scores(
            workspace.store,
            [0.1] + [0.9] * 11,
            predicted=[5] * 12,
            run_id="p2",
            neighbours=neighbours,
        )
    open_desk(page, start_app(scored))
    expect(page.locator("[data-part=givenExamples] img")).to_have_count(1)
    expect(page.locator("[data-part=suggestedExamples] img")).to_have_count(2)
    nearest = page.locator("[data-part=nearest] img")
    expect(nearest).to_have_count(3)
    expect(nearest.last).to_have_attribute("data-as", "given")
    expect(nearest.last).to_have_attribute("alt", "trusted as cat")
    expect(page.locator(".desk-sentence")).to_contain_text("of 3 nearest are")

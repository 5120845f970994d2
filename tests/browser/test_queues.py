"""Queues of one's own: filters, orders, the confusion table, one verdict for all, and the plots."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, FloatRect, Locator, Page, Route, expect

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
    wait_until_saved,
    watched_context,
)
from tests.small_world import add_scores

SIMS_OF_0 = "positive 0.300, negative 0.100."
KEEP_A_LONG_CHOICE = """async () => {
    const { Server } = await import("/desk/net.js");
    const { View } = await import("/desk/view.js");
    const server = new Server({ onOther() {} });
    const session = await server.get("/session");
    const view = new View({ server, session: () => session });
    const filter = { name: "all", sample_ids: [...Array(1001).keys()] };
    view.change({ filter, after: "1", sample_id: 3 });
    await view.keep();
    return (await server.get("/view")).view;
}"""


def counts(page: Page) -> Locator:
    return page.locator(".desk-counts")


def area_of(plot: Locator) -> FloatRect:
    """Where the points of a plot lie on the page."""
    area = plot.locator(".nsewdrag").first.bounding_box()
    assert area is not None
    return area


def test_filters_combine_and_survive_a_reload(desk: App, page: Page) -> None:
    page.keyboard.press("f")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("status")).to_contain_text(f"{N_FLAGGED} images")
    dialog.get_by_label("Part of the path").fill(".PNG")
    dialog.get_by_role("group", name="Given label").get_by_role("button").click()
    page.get_by_role("combobox", name="Class name").fill("cat")
    page.keyboard.press("Enter")
    dialog.get_by_label("to", exact=True).fill("20")
    expect(dialog.get_by_role("status")).to_contain_text("1 image,")
    dialog.get_by_role("button", name="Show them").click()
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    expect(counts(page)).to_contain_text("1 in this queue")
    chips = page.locator(".desk-chips .desk-chip")
    expect(chips).to_have_count(3)
    expect(chips.first).to_have_css("border-radius", "16px")
    with page.expect_response("**/api/v1/view"):
        page.keyboard.press("ArrowRight")
    open_desk(page, desk)
    expect(chips).to_have_count(3)
    page.get_by_role("button", name="Remove the filter: clean").click()
    expect(counts(page)).to_contain_text("2 in this queue")
    press(page, "x")
    press(page, "x")
    expect(page.get_by_role("heading", name="This queue is done")).to_be_visible()
    page.get_by_role("button", name="All suspects").click()
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    wait_until_saved(page)
    leave(page)
    idle = page.context.new_page()
    idle.goto(desk.address)
    view = idle.evaluate(KEEP_A_LONG_CHOICE)
    assert (view["filter"]["name"], view["filter"]["sample_ids"]) == ("suspects", None)
    assert (view["after"], view["sample_id"]) == (None, None)
    leave(idle)
    assert set(desk.decisions()) == {0, 5}


def test_decided_images_are_a_queue_too(desk: App, page: Page) -> None:
    press(page, "x")
    press(page, "u")
    wait_until_saved(page)
    page.get_by_role("combobox", name="Queue").select_option("all")
    expect(counts(page)).to_contain_text(f"{N_SAMPLES} in this queue")
    page.keyboard.press("f")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("unsure").check()
    dialog.get_by_role("button", name="Show them").click()
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    expect(page.locator("[data-part=badge]")).to_have_text("unsure")
    expect(counts(page)).to_contain_text("1 in this queue")
    press(page, "k")
    expect(counts(page)).to_contain_text("0 in this queue")
    wait_until_saved(page)
    leave(page)
    assert desk.decisions() == {0: ("exclude", None), 1: ("keep", 1)}


def test_orders(desk: App, page: Page) -> None:
    page.keyboard.press("ArrowRight")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    page.get_by_label("Order").select_option("class")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
    page.keyboard.press("ArrowRight")
    expect(page.locator(".desk-file")).to_have_text("05.png")
    with page.expect_request("**/api/v1/queue") as asked:
        page.get_by_label("Order").select_option("random")
    assert asked.value.post_data_json["sort"] == "random"
    expect(page.locator(".desk-stage")).to_have_attribute("data-picture", "there")


def test_nothing_is_decided_while_another_queue_loads(desk: App, page: Page) -> None:
    """And the queue that was asked for last stays, whichever answer comes last."""
    queue = "**/api/v1/queue"
    held: list[Route] = []
    expect(page.locator(".desk-stage")).to_have_attribute("data-picture", "there")
    page.route(queue, lambda route: held.append(route))
    order = page.get_by_label("Order")
    for name in ("class", "p_clean"):
        with page.expect_request(queue):
            order.select_option(name)
        for key in ("k", "x", "g", "Enter"):
            page.keyboard.press(key)
        expect(page.get_by_role("heading", name="Loading the queue")).to_be_visible()
    for route in reversed(held):
        with page.expect_response(queue):
            route.continue_()
        expect(page.locator(".desk-tile").nth(1)).to_have_attribute("data-id", "1")
    page.unroute(queue)
    leave(page)
    assert desk.decisions() == {}


def test_a_cell_of_the_confusion_table_opens_its_queue(desk: App, page: Page) -> None:
    page.keyboard.press("p")
    cell = page.get_by_role("button", name=f"{CLASS_NAMES[2]}, suggested dog: to decide 2")
    cell.click()
    expect(page.locator(".desk-chips .desk-chip")).to_have_count(2)
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[2])
    expect(counts(page)).to_contain_text("2 in this queue")
    page.keyboard.press("p")
    page.locator(".desk-class-count").first.click()
    expect(page.locator(".desk-chips .desk-chip")).to_have_count(1)
    assert page.evaluate("() => window.hacked") is None


def test_a_pair_of_classes_lies_across_the_diagonal_of_the_confusion_table(
    desk: App, page: Page
) -> None:
    flagged = [(0, 1, 9), (1, 0, 3), (2, 0, 6), (2, None, 1), (0, 3, 5), (1, 2, 1)]
    cells = [
        {"given": given, "suggested": suggested, "n": n, "n_flagged": n, "n_undecided": n}
        for given, suggested, n in flagged
    ]
    rows = page.evaluate(
        """async (cells) => {
            const { confusionTable } = await import("/desk/confusion.js");
            const table = confusionTable(cells, { name: (label) => `class ${label}` });
            return [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
        }""",
        cells,
    )
    assert rows == [
        ["given ↓ suggested →", "class 0", "class 2", "class 1", "class 3", "no suggestion"],
        ["class 0", "", "", "9", "5", ""],
        ["class 2", "6", "", "", "", "1"],
        ["class 1", "3", "1", "", "", ""],
    ]


def test_plots_that_failed_are_drawn_the_next_time(desk: App, page: Page, watch: Watch) -> None:
    watch.tolerated = "Failed to load resource"
    failed = "The plot could not be drawn."
    scatter = page.locator(".desk-scatter")
    asked: list[str] = []
    for address in ("**/vendor/plotly.min.js", "**/api/v1/points"):
        page.route(address, lambda route: route.abort(), times=1)
        page.keyboard.press("p")
        expect(scatter).to_contain_text(failed)
        page.keyboard.press("c")
    page.on("request", lambda request: asked.append(request.url))
    for key in "pcp":
        page.keyboard.press(key)
    expect(scatter).to_have_attribute("data-state", "drawn")
    expect(scatter).not_to_contain_text(failed)
    assert len([address for address in asked if address.endswith("/points")]) == 1


def test_points_are_clicked_and_drawn_round(desk: App, page: Page) -> None:
    page.keyboard.press("p")
    scatter = page.locator(".desk-scatter")
    expect(scatter).to_have_attribute("data-state", "drawn")
    area = area_of(scatter)
    page.mouse.move(area["x"] + 5, area["y"] + 5)
    page.mouse.down()
    for x, y in ((0.97, 0.02), (0.97, 0.97), (0.02, 0.97), (0.01, 0.02)):
        page.mouse.move(area["x"] + x * area["width"], area["y"] + y * area["height"], steps=4)
    page.mouse.up()
    expect(page.locator(".desk-chips .desk-chip")).to_contain_text(
        f"{N_SAMPLES} images chosen in the plot"
    )
    expect(counts(page)).to_contain_text(f"{N_SAMPLES} in this queue")
    page.keyboard.press("p")
    expect(scatter).to_have_attribute("data-state", "drawn")
    area = area_of(scatter)
    middle = (area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    page.mouse.move(*middle)
    expect(scatter.locator(".hoverlayer .hovertext")).to_be_visible()
    page.mouse.click(*middle)
    expect(page.locator(".desk-file")).to_be_visible()
    expect(page.locator(".desk-stage")).to_have_attribute("data-picture", "there")


def test_points_and_bars_are_walked_by_keyboard(
    scored: Path, start_app: StartApp, page: Page
) -> None:
    """The suspects lie on a line to the lower right, in order of their suspicion."""
    with Workspace.open(scored) as workspace:
        add_scores(
            workspace.store,
            [0.05 * (i + 1) if i < N_FLAGGED else 0.9 for i in range(N_SAMPLES)],
            run_id="phase1-002",
            sims=[(0.3 - 0.005 * i, 0.1 + 0.01 * i) for i in range(N_SAMPLES)],
        )
    open_desk(page, start_app(scored))
    page.keyboard.press("p")
    scatter = page.locator(".desk-scatter")
    said = page.locator("[data-part=scatterSaid]")
    expect(scatter).to_have_attribute("data-state", "drawn")
    expect(scatter).to_be_focused()
    page.keyboard.press("Home")
    expect(said).to_have_text("1 of 12 by suspicion: cat, flagged, clean 5 %, " + SIMS_OF_0)
    page.keyboard.press("PageDown")
    expect(said).to_contain_text("2 of 12 by suspicion: caterpillar, flagged, clean 10 %")
    page.keyboard.press("ArrowRight")
    expect(said).to_contain_text("3 of 12")
    page.keyboard.press("ArrowLeft")
    expect(said).to_contain_text("2 of 12")
    page.keyboard.press("End")
    expect(said).to_contain_text("12 of 12 by suspicion")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[1])
    page.keyboard.press("p")
    expect(said).to_contain_text("2 of 12")
    page.keyboard.press("Space")
    expect(said).to_contain_text("Space opens the region")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.locator(".desk-chips .desk-chip")).to_contain_text("3 images chosen in the plot")
    page.keyboard.press("p")
    expect(scatter).to_be_focused()
    histogram = page.get_by_role("application", name="Histogram")
    while not histogram.evaluate("(one) => one === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-part=histogramSaid]")).to_have_text(
        "Clean 5 to 7.5 %: 1 flagged, 0 believed."
    )
    page.keyboard.press("Enter")
    expect(page.locator(".desk-chips .desk-chip")).to_contain_text("clean 5 % to 8 %")
    expect(page.get_by_role("region", name="Review desk")).to_be_focused()


def test_a_finger_draws_round_points(app: App, chromium: Browser, watch: Watch) -> None:
    with watched_context(chromium, watch, has_touch=True) as context:
        page = context.new_page()
        open_desk(page, app)
        page.keyboard.press("p")
        scatter = page.locator(".desk-scatter")
        expect(scatter).to_have_attribute("data-state", "drawn")
        scatter.scroll_into_view_if_needed()
        area = area_of(scatter)
        fingers = context.new_cdp_session(page)

        def touch(kind: str, *places: tuple[float, float]) -> None:
            points = [
                {"x": area["x"] + x * area["width"], "y": area["y"] + y * area["height"]}
                for x, y in places
            ]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", (0.01, 0.01))
        for place in ((0.5, 0.01), (0.97, 0.02), (0.97, 0.5), (0.97, 0.97), (0.02, 0.97)):
            touch("touchMove", place)
        touch("touchEnd")
        expect(page.locator(".desk-chips .desk-chip")).to_contain_text(
            f"{N_SAMPLES} images chosen in the plot"
        )
        leave(page)


def test_one_verdict_for_all_names_their_number_and_is_one_step(
    desk: App, page: Page, watch: Watch
) -> None:
    watch.tolerated = "Failed to load resource"
    press(page, "x")
    page.get_by_role("button", name="Apply to all").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("7 images will keep the given label.")
    expect(dialog).to_contain_text("Queue: suspects")
    dialog.get_by_role("button", name="choose").click()
    page.get_by_role("combobox", name="Class name").fill("dog")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("7 images will get the label dog.")
    dialog.get_by_label("keep the given label").check()
    expect(dialog).to_contain_text("7 images will keep the given label.")
    dialog.get_by_role("button", name="dog").click()
    page.keyboard.press("Escape")
    expect(dialog).to_contain_text("7 images will get the label dog.")
    held: list[Route] = []
    page.route("**/api/v1/count", lambda route: held.append(route))
    with page.expect_request("**/api/v1/count"):
        dialog.get_by_label("exclude").check()
    page.route("**/api/v1/count", lambda route: route.continue_())
    dialog.get_by_label("take its own suggested label").check()
    expect(dialog).to_contain_text("7 images will take the suggested label.")
    with page.expect_event("requestfailed"):
        held[0].abort()
    expect(page.locator("[data-part=bulkProblem]")).to_be_empty()
    dialog.get_by_role("button", name="Apply to all 7").click()
    expect(page.get_by_role("heading", name="Every suspect is decided")).to_be_visible()
    expect(counts(page)).to_contain_text(f"{N_FLAGGED} of {N_FLAGGED}")
    page.keyboard.press("z")
    expect(counts(page)).to_contain_text(f"1 of {N_FLAGGED}")
    expect(page.locator(".desk[data-view=card] .desk-file")).to_have_text(FILE_NAMES[1])
    page.keyboard.press("ArrowRight")
    expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[2])
    page.keyboard.press("Shift+Z")
    expect(counts(page)).to_contain_text(f"{N_FLAGGED} of {N_FLAGGED}")
    wait_until_saved(page)
    leave(page)
    decided = desk.decisions()
    assert decided.pop(0) == ("exclude", None)
    assert decided == dict.fromkeys(range(1, N_FLAGGED), ("relabel", 5))


def test_nothing_is_applied_when_the_number_has_changed(
    desk: App, page: Page, watch: Watch
) -> None:
    watch.tolerated = "Failed to load resource"
    other = page.context.new_page()
    open_desk(other, desk)
    page.bring_to_front()
    page.get_by_role("button", name="Apply to all").click()
    dialog = page.get_by_role("dialog")
    button = dialog.get_by_role("button", name=f"Apply to all {N_FLAGGED}")
    expect(button).to_be_enabled()
    other.bring_to_front()
    press(other, "x")
    wait_until_saved(other)
    page.bring_to_front()
    button.click()
    expect(dialog.get_by_role("button", name="Apply to all 7")).to_be_enabled()
    page.keyboard.press("Escape")
    leave(page)
    assert desk.decisions() == {0: ("exclude", None)}

"""Real runs from the page: how they start, wait, end, die, go on, and what goes wrong."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from playwright.sync_api import Locator, Page, expect

from deft_core.config import Phase1Config
from deft_core.presets import DEMO_MODEL
from deft_core.run_folder import RunFolder
from deft_core.run_process import find_process
from tests.browser.conftest import (
    CLASS_NAMES,
    N_FLAGGED,
    App,
    Watch,
    leave,
    open_desk,
    press,
    wait_until_saved,
)
from tests.small_world import PATIENCE
from tests.tiny_clip import write_tiny_clip

StartApp = Callable[..., App]
ENDLESS = 1_000_000
SLOW_MS = 1000 * PATIENCE
"""For what a child process does: it imports torch first."""


@pytest.fixture
def model(tmp_path: Path) -> str:
    return f"local-dir:{write_tiny_clip(tmp_path / 'tiny')}"


@pytest.fixture
def workspace(scored: Path) -> Iterator[Path]:
    """A scored workspace; its runs are killed when the test ends."""
    yield scored
    for path in scored.glob("runs/*/proc.json"):
        process = find_process(RunFolder(path.parent))
        if process:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def open_tab(page: Page, app: App, name: str) -> Locator:
    """The Detect or the Adapt tab, when it has been filled."""
    page.goto(app.address)
    page.get_by_role("tab", name=name).click()
    tab = page.locator(f"#{name.lower()}-tab")
    expect(tab.get_by_role("button", name="How long will it take?")).to_be_enabled()
    return tab


def open_busy(page: Page, app: App) -> Locator:
    """The Detect tab while a run is at work."""
    page.goto(app.address)
    page.get_by_role("tab", name="Detect").click()
    tab = page.locator("#detect-tab")
    expect(tab.get_by_role("button", name="Cancel the run")).to_be_visible()
    return tab


def fill(tab: Locator, *, model: str, epochs: int) -> None:
    """Settings of a tiny run, of which only the number of epochs takes time."""
    tab.get_by_role("radio", name="demo", exact=True).check()
    tab.locator("button.label-wrap").first.click()
    named = tab.get_by_label("Model", exact=False).first
    expect(named).to_have_value(DEMO_MODEL)
    named.fill(model)
    tab.get_by_label("Passes over the images (epochs)").fill(str(epochs))
    contexts = tab.get_by_label("Context vectors in each prompt")
    if contexts.count():
        # The class names of the test data leave no room for more.
        contexts.fill("2")


def start(tab: Locator, *, model: str, epochs: int) -> None:
    fill(tab, model=model, epochs=epochs)
    tab.get_by_role("button", name=re.compile("Start phase")).click()
    expect(tab.get_by_role("button", name="Cancel the run")).to_be_visible()


def status(tab: Locator) -> Locator:
    return tab.locator(".block.run-status")


def epoch(tab: Locator) -> int:
    """The epoch that the page shows, once it shows one."""
    expect(status(tab)).to_contain_text("epoch", timeout=SLOW_MS)
    found = re.search(r"epoch (\d+) of", status(tab).inner_text())
    assert found
    return int(found[1])


def folder(workspace: Path, run_id: str) -> RunFolder:
    return RunFolder(workspace / "runs" / run_id)


def test_a_run_outlives_page_and_server_goes_on_after_a_crash_and_is_cancelled(
    workspace: Path, model: str, start_app: StartApp, page: Page, watch: Watch
) -> None:
    app = start_app(workspace)
    other = open_tab(page.context.new_page(), app, "Detect")
    tab = open_tab(page, app, "Detect")

    start(tab, model=model, epochs=ENDLESS)
    epoch(tab)
    expect(tab.locator(".figures").first).to_contain_text("images a second")
    expect(tab.locator(".figures").first).to_contain_text("of memory, CPU")
    expect(tab.get_by_role("button", name="Start phase 1")).to_be_disabled()
    assert epoch(other) > 0
    expect(other.get_by_role("button", name="Start phase 1")).to_be_disabled()

    watch.tolerated = "Failed to load resource"
    leave(page)
    app.stop(signal.SIGKILL)
    page = page.context.new_page()
    tab = open_busy(page, start_app(workspace))
    before = epoch(tab)

    process = find_process(folder(workspace, "phase1-002"))
    assert process is not None
    process.kill()
    expect(status(tab)).to_contain_text("Stopped unexpectedly")
    expect(tab.locator(".block.notice-bad:visible")).to_contain_text("the memory was full")
    tab.get_by_role("button", name="Go on with phase").click()
    assert epoch(tab) >= before

    tab.get_by_role("button", name="Cancel the run").click()
    expect(status(tab)).to_contain_text("Cancelled", timeout=SLOW_MS)
    expect(tab.get_by_role("button", name="Go on with phase")).to_be_visible()
    assert list((workspace / "runs" / "phase1-002" / "tensorboard").iterdir())


def test_a_second_run_waits_for_the_device_and_begins_by_itself(
    workspace: Path, model: str, start_app: StartApp, page: Page
) -> None:
    app = start_app(workspace)
    tab = open_tab(page, app, "Detect")
    start(tab, model=model, epochs=ENDLESS)
    epoch(tab)

    adapt = open_tab(page, app, "Adapt")
    start(adapt, model=model, epochs=1)
    expect(status(adapt)).to_contain_text("Waiting (phase2-003)", timeout=SLOW_MS)
    expect(status(adapt)).to_contain_text("phase1-002 works on cpu.")
    leave(page)
    app.stop()

    page, app = page.context.new_page(), start_app(workspace)
    tab = open_busy(page, app)
    tab.get_by_role("button", name="Cancel the run").click()
    expect(status(tab)).to_contain_text("Cancelled", timeout=SLOW_MS)
    page.get_by_role("tab", name="Adapt").click()
    adapt = page.locator("#adapt-tab")
    expect(status(adapt)).to_contain_text("Done", timeout=SLOW_MS)
    expect(adapt.get_by_text("start phase 1 again on the Detect tab")).to_be_visible()

    open_desk(page, app)
    press(page, "Space")
    wait_until_saved(page)
    page.get_by_role("tab", name="Adapt").click()
    expect(adapt.locator(".block.notice-plain:visible").first).to_contain_text(
        "1 image of the curated set changed since phase2-003"
    )


def test_how_long_a_run_takes_is_told_before_it_starts(
    workspace: Path, model: str, start_app: StartApp, page: Page
) -> None:
    tab = open_tab(page, start_app(workspace), "Detect")
    fill(tab, model=model, epochs=ENDLESS)
    ask = tab.get_by_role("button", name="How long will it take?")

    ask.click()
    tab.get_by_role("button", name="Stop trying").click()
    expect(tab.locator(".run-estimate:visible")).to_have_count(0)
    ask.click()

    expect(tab.locator(".block.run-estimate")).to_contain_text(
        re.compile(r"About .* on this machine for 1000000 epochs"), timeout=SLOW_MS
    )
    expect(tab.get_by_role("button", name="Start phase 1")).to_be_enabled()
    assert [path.name for path in (workspace / "runs").iterdir()] == ["probe-phase1"]


def test_a_run_with_nonsense_in_its_settings_is_refused_and_can_be_deleted_without_a_decision(
    workspace: Path, start_app: StartApp, page: Page
) -> None:
    path = workspace / "runs" / "phase1-002"
    run = RunFolder.create(
        path,
        config={
            "kind": "phase1",
            "round": 2,
            "created_at": "2026-01-02T03:04:05+00:00",
            "root": "/data",
            "cache": str(workspace / "cache"),
            "class_names": list(CLASS_NAMES),
            "prompts": list(CLASS_NAMES),
            "settings": Phase1Config().to_json() | {"epochs": "<b>many</b>"},
        },
        samples=pa.table({"sample_id": pa.array([], pa.int32())}),
    )
    run.set_status("failed", error="No.", hint="Never.")
    app = start_app(workspace)
    open_desk(page, app)
    press(page, "Space")
    wait_until_saved(page)
    tab = open_tab(page, app, "Detect")
    toasts = page.get_by_test_id("toast-body")

    tab.get_by_role("button", name="Go on with phase").click()
    expect(toasts.filter(has_text="epochs must be a whole number")).to_contain_text("<b>many</b>")
    assert run.status().state == "failed"
    tab.get_by_role("button", name="Finished runs").click()
    tab.get_by_role("button", name="Delete it ...").click()
    expect(toasts.filter(has_text="No run is chosen.")).to_be_visible()
    tab.get_by_role("radio", name=re.compile("phase1-002")).check()
    tab.get_by_role("button", name="Delete it ...").click()
    expect(tab.get_by_text("Delete phase1-002 with its model and log")).to_be_visible()
    tab.get_by_role("button", name="Keep it").click()
    expect(tab.get_by_text("Delete phase1-002 with its model and log")).not_to_be_visible()
    assert path.exists()
    tab.get_by_role("button", name="Delete it ...").click()
    tab.get_by_role("button", name="Delete", exact=True).click()

    expect(tab.get_by_role("button", name="Finished runs")).not_to_be_visible()
    assert not path.exists()
    expect(tab.get_by_role("button", name=f"Review {N_FLAGGED - 1} suspects")).to_be_visible()
    leave(page)
    assert len(app.decisions()) == 1


def test_what_goes_wrong_is_said_and_costs_no_decision(
    workspace: Path, model: str, start_app: StartApp, page: Page
) -> None:
    app = start_app(workspace)
    open_desk(page, app)
    press(page, "Space")
    wait_until_saved(page)

    tab = open_tab(page, app, "Detect")
    fill(tab, model=model, epochs=ENDLESS)
    tab.get_by_label("Device").click()
    page.get_by_role("option", name="cuda").click()
    tab.get_by_role("button", name="Start phase 1").click()
    expect(tab.locator(".block.notice-bad:visible")).to_contain_text(
        'The device "cuda" is not available on this machine.', timeout=SLOW_MS
    )
    tab.get_by_label("Device").click()
    page.get_by_role("option", name="cpu").click()
    tab.get_by_role("button", name="Start phase 1").click()
    epoch(tab)
    process = find_process(folder(workspace, "phase1-003"))
    assert process is not None
    (workspace / "runs" / "phase1-003").rename(workspace / "elsewhere")
    expect(status(tab)).to_contain_text("Failed")
    process.wait(timeout=PATIENCE)
    shutil.rmtree(workspace / "elsewhere")

    open_desk(page, app)
    press(page, "Space")
    wait_until_saved(page)
    leave(page)
    assert len(app.decisions()) == 2

"""What the other tabs show: nothing yet, at work, done, failed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from playwright.sync_api import Page, expect

from deft_core.config import Phase1Config
from deft_core.presets import DEMO_MODEL
from deft_core.run_folder import Progress, RunFolder
from tests.browser.conftest import (
    CLASS_NAMES,
    FILE_NAMES,
    N_FLAGGED,
    N_SAMPLES,
    StartApp,
    Watch,
    open_desk,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def run_at_work(scored: Path) -> Iterator[RunFolder]:
    """A phase 1 that is half done; its process does nothing but live."""
    folder = RunFolder.create(
        scored / "runs" / "phase1-002",
        config={
            "kind": "phase1",
            "round": 2,
            "created_at": "2026-01-02T03:04:05+00:00",
            "root": "/data",
            "cache": str(scored / "cache"),
            "class_names": list(CLASS_NAMES),
            "prompts": list(CLASS_NAMES),
            "settings": Phase1Config.from_preset("demo").to_json(),
        },
        samples=pa.table({"sample_id": pa.array([], pa.int32())}),
    )
    folder.set_status("running")
    folder.add_progress(
        Progress(
            stage="training",
            epoch=3,
            epochs=10,
            fraction=0.25,
            loss=1.5,
            seconds_left=90.0,
            note="Parts of <b>32</b>.",
        )
    )
    waiting = [sys.executable, "-c", "input()", str(folder.path)]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as process:
        folder.write_json("proc.json", {"pid": process.pid})
        yield folder
        process.kill()


def test_an_empty_workspace_takes_a_data_set_in(
    tmp_path: Path, data_set: Path, start_app: StartApp, page: Page
) -> None:
    (data_set / "11.png").write_bytes(b"no image")
    with (data_set / "classes.txt").open("a") as file:
        file.write("\nDOG")
    app = start_app(tmp_path / "new")
    open_desk(page, app)
    expect(page.get_by_role("heading", name="No images yet")).to_be_visible()
    page.get_by_role("button", name="Go to Overview").click()
    source = page.get_by_label("Folder or CSV file on this machine")
    source.fill(str(tmp_path / "nowhere"))
    page.get_by_role("button", name="Ingest").click()
    expect(page.locator(".block.notice-bad:visible")).to_contain_text("does not exist")
    source.fill(f'"{data_set}"')
    page.get_by_role("button", name="Ingest").click()
    expect(page.locator(".figures").first).to_contain_text(f"{N_SAMPLES - 1}images")
    expect(page.get_by_role("gridcell", name="11.png").first).to_be_visible()
    expect(page.locator(".block.notice-bad:visible")).to_contain_text(
        "The classes dog, DOG give the same prompt."
    )
    page.get_by_role("button", name="Go to Detect").click()
    expect(page.get_by_role("tab", name="Detect")).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Adapt").click()
    expect(page.locator(".block.notice:visible")).to_contain_text(
        "Phase 2 needs the scores of phase 1"
    )
    expect(page.get_by_role("button", name="Start phase 2")).to_be_disabled()
    open_desk(page, app)
    expect(page.get_by_role("heading", name="No suspects yet")).to_be_visible()
    go = page.get_by_role("button", name="Go to Detect")
    go.focus()
    for _ in range(2):
        page.wait_for_event("response", lambda answer: answer.url.endswith("/api/v1/session"))
    expect(go).to_be_focused()


def test_a_run_is_shown_before_and_after_a_reload_until_it_fails(
    scored: Path, run_at_work: RunFolder, start_app: StartApp, page: Page
) -> None:
    app = start_app(scored)
    for _ in range(2):
        page.goto(app.address)
        page.get_by_role("tab", name="Detect").click()
        expect(page.locator(".block.run-status:visible")).to_contain_text("epoch 3 of 10")
        expect(page.locator(".block.run-status:visible")).to_contain_text("Parts of <b>32</b>.")
        expect(page.get_by_role("progressbar", name="Progress of the run")).to_have_attribute(
            "aria-valuenow", "25"
        )
        expect(page.get_by_role("button", name="Start phase 1")).to_be_disabled()
    run_at_work.add_progress(Progress(stage="training", epoch=4, epochs=10, fraction=0.4, loss=1.2))
    expect(page.locator(".block.run-status:visible")).to_contain_text("epoch 4 of 10")
    run_at_work.set_status("failed", error="The GPU is <b>full</b>.", hint="Smaller batches.")
    expect(page.locator(".block.notice-bad:visible")).to_contain_text("The GPU is <b>full</b>.")
    expect(page.locator(".block.notice-bad:visible")).to_contain_text("Smaller batches.")
    expect(page.get_by_role("button", name="Start phase 1")).to_be_enabled()
    expect(page.get_by_role("button", name="Go on with phase")).to_be_visible()
    expect(page.get_by_text("Found by phase1-001 in round 1")).to_be_visible()
    tab = page.locator("#detect-tab")
    expect(tab.get_by_role("radio", name="demo", exact=True)).to_be_checked()


def test_a_setting_that_cannot_be_is_refused_in_words(
    scored: Path, start_app: StartApp, page: Page
) -> None:
    page.goto(start_app(scored).address)
    page.get_by_role("tab", name="Detect").click()
    page.get_by_role("button", name="Settings", exact=False).first.click()
    preset = page.locator("#detect-tab").get_by_role("radio", name="paper", exact=True)
    expect(preset).to_be_checked()
    page.get_by_label("Passes over the images (epochs)").fill("0")
    expect(preset).not_to_be_checked()
    page.get_by_role("button", name="Start phase 1").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("epochs is 0; the least is 1")


def test_a_pasted_setting_leaves_the_preset(scored: Path, start_app: StartApp, page: Page) -> None:
    page.goto(start_app(scored).address)
    page.get_by_role("tab", name="Detect").click()
    tab = page.locator("#detect-tab")
    tab.get_by_role("button", name="Settings", exact=False).first.click()
    demo = tab.get_by_role("radio", name="demo", exact=True)
    demo.check()
    model = tab.get_by_label("Model", exact=False).first
    expect(model).to_have_value(DEMO_MODEL)
    expect(demo).to_be_checked()
    model.press("Control+a")
    page.keyboard.insert_text("ViT-B-32")
    model.blur()
    expect(demo).not_to_be_checked()
    expect(tab.get_by_text("Settings of your own.")).to_be_visible()
    model.press("Control+a")
    page.keyboard.insert_text(DEMO_MODEL)
    model.blur()
    expect(demo).to_be_checked()


def test_labels_are_exported_and_downloaded(scored: Path, start_app: StartApp, page: Page) -> None:
    app = start_app(scored)
    page.goto(app.address)
    page.get_by_role("tab", name="Export").click()
    expect(page.locator(".figures:visible")).to_contain_text(f"{N_FLAGGED}suspects undecided")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the file").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 1 + N_SAMPLES
    (written,) = (scored / "exports").iterdir()
    assert written.read_text().splitlines() == lines


def test_a_model_that_is_not_there_is_said(scored: Path, start_app: StartApp, page: Page) -> None:
    page.goto(start_app(scored).address)
    page.get_by_role("tab", name="Export").click()
    page.get_by_label("The newest phase 2's classifier", exact=False).check()
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.locator(".block.notice-bad:visible")).to_contain_text("Run phase 2 first.")
    page.get_by_label("One CSV file with every image, its labels and verdict").check()
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.get_by_role("link", name="Download the file")).to_be_visible()
    expect(page.locator(".block.notice-bad:visible")).to_have_count(0)


def test_the_application_ends_without_a_word_while_its_page_is_open(
    scored: Path, page: Page, watch: Watch
) -> None:
    watch.tolerated = "Failed to load resource"
    command = [sys.executable, "app.py", "--no-browser", "--workspace", str(scored), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        page.goto(process.stdout.readline().split()[1])
        page.get_by_role("tab", name="Review").click()
        expect(page.locator(".desk-file")).to_have_text(FILE_NAMES[0])
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert said == ""

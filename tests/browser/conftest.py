"""The real application in a process of its own, a real workspace, and Chromium.

A page fails its test when it asks for anything that is not on this machine, or when the console
shows an error.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from deft_core.workspace import Workspace
from tests.browser.application import App
from tests.small_world import add_scores, write_image

CLASS_NAMES = (
    "cat",
    "caterpillar",
    '<img src=x onerror="window.hacked=1">',
    "${window.hacked=1}",
    '{{constructor.constructor("window.hacked=1")()}}',
    "dog",
)
FILE_NAMES = ("00 <b>bold.png", "01 ${window.hacked=1}.png", "02 {{x}}.png")
N_SAMPLES = 12
N_FLAGGED = 8
PATIENCE_MS = 120_000
"""For what the page does, however busy the machine is."""
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

StartApp = Callable[..., App]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser for all tests; without one CI fails and another machine skips."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
    with sync_playwright() as playwright:
        path = found or playwright.chromium.executable_path
        if not Path(path).exists():
            reason = "Chromium is missing: install it, or run `playwright install chromium`"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """A CSV data set whose class and file names would run, if anything ran them."""
    return write_data_set(tmp_path / "data")


def write_data_set(root: Path, *, first_seed: int = 0) -> Path:
    """A data set like `data_set` in a new folder; the seeds tell its pictures from others."""
    names = [*FILE_NAMES, *(f"{i:02}.png" for i in range(len(FILE_NAMES), N_SAMPLES))]
    for seed, name in enumerate(names, start=first_seed):
        write_image(root / name, seed=seed, size=(90, 60))
    (root / "classes.txt").write_text("\n".join(CLASS_NAMES))
    with (root / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "label"])
        rows.writerows((name, CLASS_NAMES[i % 5]) for i, name in enumerate(names))
    return root


@pytest.fixture
def scored(tmp_path: Path, data_set: Path) -> Path:
    """A workspace in which the first samples are flagged, sample 0 most of all."""
    return make_scored(tmp_path / "workspace", data_set)


def make_scored(path: Path, data_set: Path) -> Path:
    """A new workspace at `path` like `scored`."""
    p_clean = [0.05 * (i + 1) if i < N_FLAGGED else 0.9 for i in range(N_SAMPLES)]
    with Workspace.open(path) as workspace:
        workspace.ingest(data_set)
        add_scores(workspace.store, p_clean, predicted=[5] * N_SAMPLES)
    return path


@pytest.fixture(scope="session")
def origin() -> None:
    """The process that applications are forked from, begun outside of any test's own folder."""
    forkserver.ensure_running()


@pytest.fixture
def start_app(origin: None) -> Iterator[StartApp]:
    """Starts the application on a workspace; all are stopped when the test ends."""
    apps: list[App] = []

    def start(workspace: Path, *, port: int = 0) -> App:
        apps.append(App(workspace, port=port))
        return apps[-1]

    yield start
    for app in apps:
        app.stop()


@pytest.fixture
def app(scored: Path, start_app: StartApp) -> App:
    """The application on the workspace `scored`."""
    return start_app(scored)


@pytest.fixture
def desk(app: App, page: Page) -> App:
    """The application, its review desk open on the page."""
    open_desk(page, app)
    return app


def leave(page: Page) -> None:
    """Closes every page of the browser, which could still ask a stopped server for something."""
    for one in page.context.pages:
        one.close()


class Watch:
    """What went wrong on a page; messages that hold `tolerated` are expected and left out."""

    def __init__(self) -> None:
        self.tolerated = ""
        self._messages: list[str] = []

    def note(self, message: str) -> None:
        self._messages.append(message)

    def problems(self) -> list[str]:
        return [one for one in self._messages if not self.tolerated or self.tolerated not in one]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """The watch over the pages of this test."""
    watch = Watch()
    yield watch
    assert watch.problems() == []


@pytest.fixture
def context(chromium: Browser, watch: Watch) -> Iterator[BrowserContext]:
    """A fresh profile that is watched."""
    with watched_context(chromium, watch) as context:
        yield context


@contextmanager
def watched_context(
    chromium: Browser, watch: Watch, *, has_touch: bool = False
) -> Iterator[BrowserContext]:
    """A fresh profile in which every error and every request to elsewhere is a failure."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, has_touch=has_touch)
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    context.on("request", lambda request: _is_local(request.url) or watch.note(request.url))
    context.on("weberror", lambda error: watch.note(str(error.error)))
    context.on("console", lambda one: watch.note(one.text) if one.type == "error" else None)
    with context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """An empty page of the watched profile."""
    return context.new_page()


def open_desk(page: Page, app: App) -> None:
    """Goes to the Review tab and waits for its first view."""
    page.goto(app.address)
    page.get_by_role("tab", name="Review").click()
    expect(page.locator(".desk:not([data-view=loading])")).to_be_visible()


def call_oneself(page: Page, name: str) -> None:
    """Goes on as the reviewer of this name."""
    page.get_by_role("button", name="Reviewer:").click()
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Go on as this reviewer").click()
    expect(page.get_by_role("button", name=f"Reviewer: {name}")).to_be_visible()
    expect(page.locator(".desk:not([data-view=loading])")).to_be_visible()


def press(page: Page, key: str) -> None:
    """Presses a key once the picture that it is about can be seen."""
    expect(page.locator(".desk-stage")).to_have_attribute("data-picture", "there")
    page.keyboard.press(key)


def stored_keys(page: Page, prefix: str) -> list[str]:
    """The keys in the page's localStorage that start with `prefix`."""
    keys: list[str] = page.evaluate("() => Object.keys(localStorage)")
    return [key for key in keys if key.startswith(prefix)]


def wait_until_saved(page: Page) -> None:
    """Waits until the server has confirmed every decision."""
    expect(page.locator(".desk-saved")).to_have_attribute("data-state", "saved")


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))

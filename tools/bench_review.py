"""Prints, in a real browser, how long a reviewer waits from a key press to the next painted image,
and for a page of 24, while every decision is stored with fsync.

python -m tools.bench_review [--samples 1000 100000] [--decisions 100] [--pages 20]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from deft_core import selection
from deft_core.ingest import SAMPLE_SCHEMA
from deft_core.store import Store
from deft_core.workspace import Workspace
from tests.browser.conftest import CHROMIUM_FLAGS, App
from tools.bench_core import N_CLASSES, NOW

N_PICTURES = 1000
PICTURE_SIZE = (500, 375)
PATIENCE_MS = 30_000
LOOK_MS = 1000

# Resolves when the picture that follows has been decoded and a frame with it has been painted.
WAIT_FOR_PAINT = """
    const painted = (isThere) => new Promise((resolve) => {
        const look = () => isThere()
            ? requestAnimationFrame(() => setTimeout(() => resolve(performance.now())))
            : requestAnimationFrame(look);
        look();
    });
    const press = (key) => document.querySelector(".desk")
        .dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
"""
NEXT_CARD = f"""async () => {{
    {WAIT_FOR_PAINT}
    const stage = document.querySelector(".desk-stage");
    const before = stage.querySelector("img");
    const start = performance.now();
    press("k");
    const end = await painted(() => {{
        const now = stage.querySelector("img");
        return now && now !== before && now.complete && now.naturalWidth > 0;
    }});
    return end - start;
}}"""
NEXT_PAGE = f"""async () => {{
    {WAIT_FOR_PAINT}
    const tiles = () => [...document.querySelectorAll(".desk-tile")];
    const before = tiles()[0].id;
    const start = performance.now();
    press("Enter");
    const end = await painted(() => {{
        const now = tiles();
        return now.length === 24 && now[0].id !== before
            && now.every((tile) => tile.querySelector("img")?.naturalWidth > 0);
    }});
    return end - start;
}}"""
CAN_CONFIRM = """() => {
    const tiles = [...document.querySelectorAll(".desk-tile")];
    return tiles.length === 24 && tiles.every((tile) => tile.dataset.picture === "there")
        && document.querySelector(".desk-confirm").textContent.startsWith("Keep all ");
}"""


def main() -> None:
    arguments = parser().parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for n_samples in arguments.samples:
        with tempfile.TemporaryDirectory() as scratch:
            workspace = filled_workspace(Path(scratch), n_samples=n_samples)
            bench(workspace, n_samples, n_decisions=arguments.decisions, n_pages=arguments.pages)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--samples", type=int, nargs="+", default=[1_000, 100_000])
    result.add_argument("--decisions", type=int, default=100)
    result.add_argument("--pages", type=int, default=20)
    return result


def bench(workspace: Path, n_samples: int, *, n_decisions: int, n_pages: int) -> None:
    """Decides cards, then pages, and checks that all of it is in the store."""
    app = App(workspace)
    try:
        with sync_playwright() as playwright:
            path = shutil.which("chromium") or playwright.chromium.executable_path
            browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(PATIENCE_MS)
            page.goto(app.address)
            page.get_by_role("tab", name="Review").click()
            page.wait_for_selector('.desk-stage[data-picture="there"]')
            cards = [decide_card(page) for _ in range(n_decisions)]
            report(f"{n_samples:,} samples, key to next image", cards)
            page.keyboard.press("g")
            pages = [decide_page(page) for _ in range(n_pages)]
            report(f"{n_samples:,} samples, key to next page of 24", pages)
            wait_until_saved(page)
            browser.close()
    finally:
        app.stop()
    with Workspace.open(workspace) as opened:
        n_stored = sum(opened.review.progress().by_verdict.values())
    print(f"{n_stored:,} decisions stored")


def decide_card(page: Page) -> float:
    """Milliseconds from the key to the next painted image, at a reviewer's pace."""
    milliseconds: float = page.evaluate(NEXT_CARD)
    wait_until_saved(page)
    return milliseconds


def decide_page(page: Page) -> float:
    """Milliseconds from the key to the next page with all of its thumbnails, for a reviewer who
    looks at a page for a second."""
    page.wait_for_function(CAN_CONFIRM)
    wait_until_saved(page)
    page.wait_for_timeout(LOOK_MS)
    milliseconds: float = page.evaluate(NEXT_PAGE)
    return milliseconds


def wait_until_saved(page: Page) -> None:
    page.wait_for_selector('.desk-saved[data-state="saved"]')


def report(name: str, milliseconds: Sequence[float]) -> None:
    median = statistics.median(milliseconds)
    p95 = sorted(milliseconds)[int(0.95 * len(milliseconds))]
    print(f"{name:44s}{median:7.1f} ms   p95 {p95:7.1f} ms   n {len(milliseconds)}", flush=True)


def filled_workspace(folder: Path, *, n_samples: int) -> Path:
    """A workspace with real JPEG files, all of them flagged; beyond some thousand the files are
    links to the first ones, in an order in which no picture comes twice within a run."""
    root = folder / "data"
    digests = write_pictures(root, n_files=n_samples)
    rng = np.random.default_rng(0)
    ids = np.arange(n_samples, dtype=np.int32)
    given = rng.integers(0, N_CLASSES, n_samples, dtype=np.int32)
    top = np.argsort(rng.random((n_samples, 8)), axis=1)[:, :5].astype(np.int32)
    sims = rng.random((n_samples, 5), dtype=np.float32)
    p_clean = (ids / np.float32(2 * n_samples)).astype(np.float32)
    suggested = selection.suggested_labels(top[:, 0], labels=given)
    samples = {
        "sample_id": ids,
        "file_name": [f"{i:07}.jpg" for i in ids],
        "sha256": [digests[i % len(digests)] for i in ids],
        "split": ["train"] * n_samples,
        "given_label": given,
        "width": np.full(n_samples, PICTURE_SIZE[0]),
        "height": np.full(n_samples, PICTURE_SIZE[1]),
    }
    scores = {
        "sample_id": ids,
        "p_clean": p_clean,
        "pos_sim": sims[:, 0],
        "neg_sim": sims[:, 1],
        "margin": sims[:, 1],
        "mean_gap": sims[:, 1],
        "mean_margin": sims[:, 1],
        "is_clean": p_clean > 0.5,
        "scored_label": given,
        "predicted_label": top[:, 0],
        "predicted_pos_sim": sims[:, 0],
        "predicted_neg_sim": sims[:, 1],
        "suggested_label": pa.array(suggested, pa.int32(), mask=suggested < 0),
        "top_labels": list(top),
        "top_pos_sims": list(sims),
        "top_neg_sims": list(sims),
        "position": ids,
    }
    path = folder / "workspace"
    path.mkdir()
    store = Store(path / "store.duckdb")
    store.add_dataset(
        root,
        class_names=[f"class {label}" for label in range(N_CLASSES)],
        samples=pa.table(samples).cast(SAMPLE_SCHEMA),
        report={"unreadable": [], "conflicts": [], "same_prompt": []},
        ingested_at=NOW,
    )
    store.add_run(
        "phase1-001",
        kind="phase1",
        round=1,
        imported_at=NOW,
        settings={},
        report={},
        scores=pa.table(scores),
    )
    store.close()
    return path


def write_pictures(root: Path, *, n_files: int) -> list[str]:
    """Smooth random JPEG pictures and their digests; further files are links to them."""
    root.mkdir()
    rng = np.random.default_rng(0)
    digests = []
    for i in range(min(n_files, N_PICTURES)):
        path = root / f"{i:07}.jpg"
        coarse = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(PICTURE_SIZE).save(path, quality=90)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    for i in range(N_PICTURES, n_files):
        os.link(root / f"{i % N_PICTURES:07}.jpg", root / f"{i:07}.jpg")
    return digests


if __name__ == "__main__":
    main()

"""The Export tab writes models: what it shows on the way, and that the files are whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect

from deft_core import clip, model_files, onnx_file
from deft_core.workspace import Workspace
from tests.browser.conftest import N_SAMPLES, App, StartApp
from tests.small_world import add_predictions, add_scores
from tests.trained_runs import RAN, shaken_detector, shaken_run, write_world

WITH_ONNX = "The same classifier, and as ONNX for onnxruntime"
DETECTOR = "The newest phase 1's detector, for open_clip, with a model card"


@pytest.fixture
def trained(tmp_path: Path, scored: Path) -> Path:
    """The workspace `scored`, with a detector in phase1-002 and a classifier in phase2-003."""
    world = write_world(tmp_path / "world")
    with Workspace.open(scored) as workspace:
        add_scores(workspace.store, [0.9] * N_SAMPLES, run_id="phase1-002")
        add_predictions(workspace.store, [0], [0.9], run_id="phase2-003")
    shaken_detector(scored / "runs" / "phase1-002", world, image_side="lora")
    untested = {"trained_on": "curated", "n_train": 7, "n_epochs": 1, "test": None}
    report = {"evaluation": [untested], **RAN}
    shaken_run(scored / "runs" / "phase2-003", world).write_json("report.json", report)
    return scored


def export(page: Page, app: App, form: str) -> None:
    """Asks for an export and sees that it has begun."""
    page.goto(app.address)
    page.get_by_role("tab", name="Export").click()
    page.get_by_label(form, exact=True).check()
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.get_by_role("button", name="Exporting ...")).to_be_disabled()


def test_models_are_exported_from_the_page(trained: Path, start_app: StartApp, page: Page) -> None:
    app = start_app(trained)
    done = page.locator(".block.notice-good:visible")

    export(page, app, WITH_ONNX)
    expect(page.get_by_role("progressbar", name="Progress of the export")).to_be_visible()
    page.reload()
    page.get_by_role("tab", name="Export").click()
    expect(page.get_by_role("button", name="Exporting ...")).to_be_disabled()
    expect(done).to_contain_text("the classifier of phase2-003")
    expect(page.get_by_role("button", name="Export", exact=True)).to_be_enabled()
    (model,) = (trained / "exports").iterdir()
    expect(done).to_contain_text(str(model))
    export(page, app, DETECTOR)
    expect(done).to_contain_text("the detector of phase1-002")

    pixels = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    of_run = model_files.load(trained / "runs" / "phase2-003").classifier
    expected = of_run(pixels.permute(0, 3, 1, 2)).detach()
    written = model_files.load(model).classifier(pixels.permute(0, 3, 1, 2)).detach()
    torch.testing.assert_close(written, expected, rtol=0, atol=1e-4)
    by_onnx = onnx_file.run_onnx(model / "model.onnx", pixels)
    torch.testing.assert_close(by_onnx, expected, rtol=0, atol=1e-4)
    (detector,) = (trained / "exports").glob("detector-*")
    assert (detector / "adapter" / "adapter_model.safetensors").is_file()
    assert clip.load(f"local-dir:{detector}").image_size == 16

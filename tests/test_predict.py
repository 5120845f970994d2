"""What `predict` says of a folder: every image once, the unreadable ones named, nothing written."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deft_core.classifier import Classifier
from deft_core.clip import Normalise
from deft_core.errors import ConfigError, DataError
from deft_core.model_files import Loaded
from deft_core.predict import Prediction, predict, write_csv
from tests.small_world import fingerprint, write_image

CLASS_NAMES = ("dark", "middling, grey", "bright")


class Brightness(nn.Module):
    """Three logits that grow, stay and fall with the mean of normalised pixels."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([-9 * mean, 0 * mean, 9 * mean], dim=1)


@pytest.fixture
def loaded() -> Loaded:
    classifier = Classifier(
        Brightness(),
        nn.Identity(),
        image_size=8,
        normalise=Normalise([0.5] * 3, [0.5] * 3),
        added=nn.Module(),
    )
    return Loaded(classifier=classifier.eval(), class_names=CLASS_NAMES)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A black and a white image at different depths, a torn one, a hidden one and a text."""
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    Image.new("RGB", (12, 9), "white").save(folder / "deep" / "er" / "white, large.png")
    Image.new("RGB", (9, 12), "black").save(folder / "black.JPG")
    (folder / "torn.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    write_image(folder / ".cache" / "hidden.png", seed=0)
    return folder


def test_every_image_gets_its_likeliest_labels_in_order(photos: Path, loaded: Loaded) -> None:
    before = fingerprint(photos)

    found = predict(photos, loaded, top=2, batch_size=2, device="cpu")

    names = [one.file_name for one in found]
    assert names == ["black.JPG", "deep/er/white, large.png", "torn.png"]
    black, white, torn = found
    assert [label for label, _ in black.top] == ["dark", "middling, grey"]
    assert [label for label, _ in white.top] == ["bright", "middling, grey"]
    assert black.top[0][1] == pytest.approx(1 / (1 + 2.718281828**-9 + 2.718281828**-18), abs=1e-6)
    assert torn == Prediction(file_name="torn.png", problem="not an image")
    assert fingerprint(photos) == before


def test_more_labels_than_classes_are_all_of_them(photos: Path, loaded: Loaded) -> None:
    found = predict(photos, loaded, top=50, device="cpu")

    assert len(found[0].top) == 3
    assert sum(chance for _, chance in found[0].top) == pytest.approx(1)


def test_progress_counts_every_image(photos: Path, loaded: Loaded) -> None:
    reports = []

    predict(photos, loaded, batch_size=1, device="cpu", on_progress=reports.append)

    assert reports[0].stage == "predicting"
    assert (reports[0].done, reports[0].total) == (1, 3)
    assert reports[0].seconds_left is not None


def test_the_table_has_a_row_for_each_image(photos: Path, loaded: Loaded) -> None:
    with (photos.parent / "table.csv").open("w", encoding="utf-8", newline="") as file:
        write_csv(predict(photos, loaded, top=2, device="cpu"), file)

    with (photos.parent / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("file_name", "predicted_label", "probability", "label_2", "probability_2", "problem")
    ]
    assert [row["predicted_label"] for row in rows] == ["dark", "bright", ""]
    assert rows[1]["label_2"] == "middling, grey"
    assert float(rows[0]["probability"]) > 0.99
    assert [row["problem"] for row in rows] == ["", "", "not an image"]


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_folder_without_images_is_an_error(tmp_path: Path, loaded: Loaded, place: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError, match=place):
        predict(tmp_path / place, loaded, device="cpu")


def test_a_device_that_nobody_knows_is_named(photos: Path, loaded: Loaded) -> None:
    with pytest.raises(ConfigError, match='"gpu" is not available'):
        predict(photos, loaded, device="gpu")


def test_a_folder_in_which_nothing_can_be_read_has_a_row_for_each_file(
    photos: Path, loaded: Loaded, tmp_path: Path
) -> None:
    for name in ("black.JPG", "deep/er/white, large.png"):
        (photos / name).unlink()
    (photos / "empty.jpg").touch()
    Image.new("1", (8000, 6500)).save(photos / "huge.png")

    found = predict(photos, loaded, device="cpu")
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        write_csv(found, file)

    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "file_name,predicted_label,probability,problem",
        "empty.jpg,,,the file is empty",
        'huge.png,,,"too large: 52 megapixels, at most 50"',
        "torn.png,,,not an image",
    ]

"""The words for each class: changed, checked, read from a file, and tried on images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from deft_core import clip, zero_shot
from deft_core.errors import DataError
from deft_core.prompts import changed_prompts, read_prompts, same_prompts
from tests.tiny_clip import write_tiny_clip

NAMES = ("AnnualCrop", "Forest", "SeaLake")


def test_changes_go_to_the_named_classes_alone() -> None:
    changed = changed_prompts(NAMES, NAMES, changes={"AnnualCrop": "annual  crop land"})

    assert changed == ("annual crop land", "Forest", "SeaLake")


def test_prompts_that_differ_in_case_and_spaces_only_are_the_same() -> None:
    assert same_prompts(("a", "b", "c"), ("Fire Truck", "fire_truck ", "ship")) == (("a", "b"),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Forrest": "wood"}, 'There is no class "Forrest".\nHint: Did you mean "Forest"'),
        ({"Forest": " "}, 'The prompt " " of class "Forest" cannot be used'),
        ({"Forest": "a\x00b"}, "cannot be used"),
        ({"Forest": "x" * 201}, "cannot be used"),
        ({"Forest": "sealake"}, "The classes Forest, SeaLake would have the same prompt"),
    ],
)
def test_a_change_that_cannot_be_used_says_why(changes: dict[str, str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        changed_prompts(NAMES, NAMES, changes=changes)

    assert message in str(caught.value)


def test_a_clash_that_was_there_before_does_not_stop_another_change() -> None:
    changed = changed_prompts(("a", "A", "b"), ("a", "A", "b"), changes={"b": "bee"})

    assert changed == ("a", "A", "bee")


def test_prompts_are_read_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text('class,prompt\nForest,"dense, dark forest"\n')
    (tmp_path / "bad.csv").write_text("class\nForest\n")

    assert read_prompts(tmp_path / "prompts.csv") == {"Forest": "dense, dark forest"}
    with pytest.raises(DataError, match=r"bad\.csv row 2 lacks a class or a prompt"):
        read_prompts(tmp_path / "bad.csv")
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        read_prompts(tmp_path / "none.csv")


def test_a_preview_agrees_with_the_model_and_encodes_the_images_once(tmp_path: Path) -> None:
    model = f"local-dir:{write_tiny_clip(tmp_path / 'model')}"
    names = [f"{i}.png" for i in range(5)]
    random = np.random.default_rng(0)
    for name in names:
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / name)

    def look(
        *prompts: str, given: list[int], digests: str = "abcde", model: str = model
    ) -> zero_shot.ZeroShot:
        samples = {"file_name": names, "sha256": list(digests), "given_label": given}
        return zero_shot.preview(
            tmp_path,
            pa.table(samples),
            prompts=prompts,
            model=model,
            pretrained="",
            cache=tmp_path / "cache",
        )

    encoder = clip.load(model)
    pixels = np.stack([np.asarray(Image.open(tmp_path / name)) for name in names])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    text = encoder.encode_text(["a photo of a cat.", "a photo of a dog."])
    nearest = (encoder.encode_image(images) @ text.T).argmax(dim=1).tolist()

    found = look("cat", "dog", given=nearest)
    for name in names:
        (tmp_path / name).unlink()
    swapped = look("dog", "cat", given=nearest)

    assert (found.n, found.accuracy) == (5, 1.0)
    assert swapped.accuracy == 0.0
    assert set(swapped.by_class) == set(nearest)
    other = f"local-dir:{write_tiny_clip(tmp_path / 'other', seed=1)}"
    for changed in ({"digests": "abcdf"}, {"model": other}):
        with pytest.raises(DataError, match="None of the images"):
            look("cat", "dog", given=nearest, **changed)

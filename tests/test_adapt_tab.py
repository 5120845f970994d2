"""What the Adapt tab asks for before phase 2 can say something, and says of a damaged run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deft_core.config import Phase2Config
from deft_core.decisions import Decision
from deft_core.run_folder import RunFolder
from deft_core.selection import undecided
from deft_core.store import Store
from deft_core.workspace import Workspace
from review_ui.adapt_tab import AdaptTab
from tests.small_world import NOW, add_scores, make_store

SPLITS = ["train", "train", "test", "test"]


@pytest.fixture
def store() -> Iterator[Store]:
    with make_store([0, 1, 0, 1], n_classes=2, splits=SPLITS) as opened:
        yield opened


def advice(tmp_path: Path, store: Store) -> str:
    return AdaptTab(Workspace(tmp_path, store=store)).advice()


def decide(store: Store, tmp_path: Path, *sample_ids: int) -> None:
    Workspace(tmp_path, store=store).review.decide(
        [Decision(uid=f"{i}", group=f"{i}", sample_id=i, verdict="keep") for i in sample_ids]
    )


def test_phase_1_comes_first(tmp_path: Path, store: Store) -> None:
    assert "Phase 2 needs the scores of phase 1" in advice(tmp_path, store)


def test_flagged_test_labels_are_warned_of_until_each_is_decided(
    tmp_path: Path, store: Store
) -> None:
    add_scores(store, [0.1, 0.9, 0.2, 0.3])

    told = advice(tmp_path, store)

    assert told.startswith("1 suspect still undecided; phase 2 leaves them out. 2 suspects among")
    assert "among the test images are undecided: review them first" in told
    decide(store, tmp_path, 2)
    assert "1 suspect among the test images is undecided" in advice(tmp_path, store)
    decide(store, tmp_path, 3)
    assert advice(tmp_path, store) == "1 suspect still undecided; phase 2 leaves them out."
    decide(store, tmp_path, 0)
    assert advice(tmp_path, store) == ""


def test_test_images_without_scores_are_told(tmp_path: Path, store: Store) -> None:
    add_scores(store, [0.9, 0.9])

    assert advice(tmp_path, store).startswith("The test images have no scores yet")


def test_a_data_set_without_test_images_is_told(tmp_path: Path) -> None:
    with make_store([0, 1]) as store:
        add_scores(store, [0.9, 0.9])

        assert advice(tmp_path, store).startswith("This data set has no test split")


@pytest.mark.parametrize("content", [b"PAR1", None])
def test_a_result_that_is_damaged_or_gone_is_told(
    tmp_path: Path, store: Store, content: bytes | None
) -> None:
    add_scores(store, [0.9, 0.9, 0.9, 0.9])
    folder = RunFolder.create(
        tmp_path / "runs" / "phase2-002",
        config={
            "kind": "phase2",
            "round": 1,
            "created_at": NOW.isoformat(),
            "root": "/data",
            "cache": str(tmp_path),
            "class_names": ["class 0", "class 1"],
            "prompts": ["class 0", "class 1"],
            "settings": Phase2Config().to_json(),
        },
        samples=undecided(
            store.samples().select(["sample_id", "file_name", "sha256", "split", "given_label"])
        ),
    )
    folder.write_json(
        "report.json",
        {
            "evaluation": [{"trained_on": "curated", "n_train": 2, "test": None}],
            "unreadable": [],
            "device": "cpu",
            "seconds": 1.0,
        },
    )
    folder.set_status("done")
    Workspace(tmp_path, store=store).runs.import_finished()
    (folder.path / "samples.parquet").unlink()
    if content:
        (folder.path / "samples.parquet").write_bytes(content)

    told = advice(tmp_path, store)

    assert "samples" in told
    assert "phase2" in told

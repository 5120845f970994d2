"""Both phases in a real run folder, with a tiny CLIP and pictures that can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from deft_core import clip, phase1, phase2
from deft_core.config import Phase1Config, Phase2Config
from deft_core.demo import write_demo
from deft_core.errors import RunError
from deft_core.ingest import read_source
from deft_core.run_folder import RunFolder
from tests.tiny_clip import write_tiny_clip

CLASS_NAMES = ["red", "green", "blue"]
N_TRAIN, N_TEST = 24, 9


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy patches of one colour a class, and a tiny CLIP beside them."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for i in range(N_TRAIN + N_TEST):
        pixels = random.integers(0, 90, (20, 20, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 150
        Image.fromarray(pixels).save(root / f"{i:02d}.png")
    write_tiny_clip(root / "model")
    return root


@pytest.fixture
def make_run(data: Path, tmp_path: Path) -> Callable[..., RunFolder]:
    def make(kind: str, settings: dict[str, Any], **columns: list[int | None]) -> RunFolder:
        n = N_TRAIN + N_TEST
        true = [i % 3 for i in range(n)]
        samples = pa.table(
            {
                "sample_id": pa.array(range(100, 100 + n), pa.int32()),
                "file_name": [f"{i:02d}.png" for i in range(n)],
                "sha256": [f"{i:064x}" for i in range(n)],
                "split": ["train"] * N_TRAIN + ["test"] * N_TEST,
                "given_label": pa.array(columns.get("given", true), pa.int32()),
                "curated_label": pa.array(columns.get("curated", true), pa.int32()),
            }
        )
        config = {
            "kind": kind,
            "round": 1,
            "created_at": "2026-01-02T03:04:05+00:00",
            "root": str(data),
            "cache": str(tmp_path / "cache"),
            "class_names": CLASS_NAMES,
            "settings": settings,
        }
        n_runs = len(list(tmp_path.glob("run-*")))
        return RunFolder.create(tmp_path / f"run-{n_runs}", config=config, samples=samples)

    return make


def phase1_settings(data: Path, **changes: int | float) -> dict[str, Any]:
    base = {"model": f"local-dir:{data / 'model'}", "pretrained": "", "n_context": 4}
    small = {"vpt_tokens": 2, "epochs": 2, "batch_size": 8, "device": "cpu"}
    return Phase1Config(**{**base, **small, **changes}).to_json()


def test_phase_1_scores_every_training_sample_and_no_other(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    folder = make_run("phase1", phase1_settings(data))

    reports = list(phase1.run(folder))

    scores = folder.read_table("scores.parquet")
    assert scores["sample_id"].to_pylist() == list(range(100, 100 + N_TRAIN))
    p_clean, pos, neg = (scores[name].to_numpy() for name in ("p_clean", "pos_sim", "neg_sim"))
    scale = float(clip.load(phase1_settings(data)["model"]).logit_scale)
    np.testing.assert_allclose(p_clean, 1 / (1 + np.exp(-scale * (pos - neg))), rtol=1e-4)
    tops = scores["top_labels"].to_pylist()
    assert [top[0] for top in tops] == scores["predicted_label"].to_pylist()
    assert all(sorted(top) == [0, 1, 2] for top in tops)
    assert all(sims == sorted(sims, reverse=True) for sims in scores["top_pos_sims"].to_pylist())
    report = folder.read_json("report.json")
    assert report["n_scored"] == N_TRAIN
    assert report["n_flagged"] == int(pc.sum(pc.less_equal(scores["p_clean"], 0.5)).as_py() or 0)
    assert np.load(folder.path / "features.npy").shape == (N_TRAIN, 16)
    assert {"loading the model", "warm-up"} <= {one.stage for one in reports}


def test_the_same_seed_gives_the_same_scores(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    tables = []
    for seed in (0, 0, 1):
        folder = make_run("phase1", phase1_settings(data, seed=seed))
        list(phase1.run(folder))
        tables.append(folder.read_table("scores.parquet"))

    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_phase_1_finds_the_wrong_labels_of_a_small_demo_set(
    make_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    demo = tmp_path / "demo"
    # A fifth of the demo in batches of a fifth: as many steps as its preset is made for.
    write_demo(demo, seed=3, n_train=320, n_test=16)
    data = read_source(demo)
    true = dict(row.split(",") for row in (demo / "truth.csv").read_text().splitlines()[1:])
    config = {
        "kind": "phase1",
        "round": 1,
        "created_at": "2026-01-02T03:04:05+00:00",
        "root": str(demo),
        "cache": str(tmp_path / "cache"),
        "class_names": list(data.class_names),
        "settings": Phase1Config.from_preset("demo", batch_size=13, device="cpu").to_json(),
    }
    folder = RunFolder.create(tmp_path / "demo-run", config=config, samples=data.samples)

    list(phase1.run(folder))

    samples = data.samples.filter(pc.equal(data.samples["split"], "train"))
    given = [data.class_names[label] for label in samples["given_label"].to_pylist()]
    is_wrong = np.array(
        [
            true[name] != label
            for name, label in zip(samples["file_name"].to_pylist(), given, strict=True)
        ]
    )
    is_flagged = folder.read_table("scores.parquet")["p_clean"].to_numpy() <= 0.5
    assert is_wrong.sum() == 64
    assert is_flagged[is_wrong].mean() > 0.8
    assert is_flagged[~is_wrong].mean() < 0.2


def test_phase_2_tests_the_curated_set_beside_the_given_labels(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    true = [i % 3 for i in range(N_TRAIN + N_TEST)]
    given = [(label + 1) % 3 if i < N_TRAIN else label for i, label in enumerate(true)]
    curated = [None if i in (4, 5) else label for i, label in enumerate(true)]
    settings = Phase2Config(
        model=f"local-dir:{data / 'model'}",
        pretrained="",
        epochs=30,
        batch_size=8,
        learning_rate=0.05,
        device="cpu",
    )
    folder = make_run("phase2", settings.to_json(), given=given, curated=curated)

    list(phase2.run(folder))

    report = folder.read_json("report.json")
    assert (report["n_train"], report["n_given"]) == (N_TRAIN - 2, N_TRAIN)
    assert report["test"]["n"] == report["baseline"]["n"] == N_TEST
    assert report["test"]["accuracy"] > 0.8
    assert report["baseline"]["accuracy"] < 0.2
    predictions = folder.read_table("predictions.parquet")
    assert predictions["sample_id"].to_pylist() == list(range(100, 100 + N_TRAIN))


def test_phase_2_trains_the_whole_tower_and_leaves_out_the_prompts(data: Path) -> None:
    model = clip.load(f"local-dir:{data / 'model'}")
    before = model.encode_image(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert before.shape == (1, 16)

    classifier = phase2.Classifier(model, n_classes=3)

    assert all(one.requires_grad for one in classifier.parameters())
    assert not any("token_embedding" in name for name, _ in classifier.named_parameters())
    assert classifier(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 3)


def test_an_empty_curated_set_is_refused_before_any_work(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    folder = make_run("phase2", Phase2Config().to_json(), curated=[None] * (N_TRAIN + N_TEST))

    with pytest.raises(RunError, match="curated set is empty"):
        list(phase2.run(folder))


def test_images_that_went_missing_are_counted_out_and_named(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    settings = Phase2Config(
        model=f"local-dir:{data / 'model'}", pretrained="", epochs=1, device="cpu"
    )
    folder = make_run("phase2", settings.to_json())
    task = folder.config()
    moved = folder.path / "data"
    moved.mkdir()
    for i in range(1, N_TRAIN):
        (moved / f"{i:02d}.png").symlink_to(data / f"{i:02d}.png")
    folder.write_json("config.json", {**task, "root": str(moved)})

    list(phase2.run(folder))

    report = folder.read_json("report.json")
    assert (report["n_train"], report["n_given"]) == (N_TRAIN - 1, N_TRAIN - 1)
    assert report["test"] is None
    assert [one["file_name"] for one in report["unreadable"]] == ["00.png"] + [
        f"{i:02d}.png" for i in range(N_TRAIN, N_TRAIN + N_TEST)
    ]


def test_macro_f1_by_hand() -> None:
    predicted, true = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])

    # Class 0: 2/3, class 1: 2*1/(1+3) = 1/2, class 2: 0.
    assert phase2.macro_f1(predicted, true) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)

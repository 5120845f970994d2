"""Phase 2 in real run folders: pictures that can be told apart, a tiny CLIP and timm's models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from deft_core import checkpoint, phase2, training
from deft_core.classifier import Classifier
from deft_core.config import Phase2Config
from deft_core.errors import ConfigError, RunError
from deft_core.run_folder import Progress, RunFolder
from deft_core.run_process import execute
from deft_core.training_sets import Plan, TrainingSet
from tests.killed_run import kill_in_epoch
from tests.tiny_clip import write_tiny_clip

CLASS_NAMES = ["red", "green", "blue"]
N_TRAIN, N_VALIDATION, N_TEST = 24, 6, 9
N = N_TRAIN + N_VALIDATION + N_TEST
TRUE = [i % 3 for i in range(N)]
"""Their colours. The samples stand in the order train, validation, test."""
SHIFTED = [(label + 1) % 3 if i < N_TRAIN else label for i, label in enumerate(TRUE)]
"""With a wrong label for every training sample."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy patches of one colour a class, and a tiny CLIP beside them."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for i in range(N):
        pixels = random.integers(0, 90, (20, 20, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 150
        Image.fromarray(pixels).save(root / f"{i:02d}.png")
    write_tiny_clip(root / "model")
    return root


def samples(**columns: Any) -> pa.Table:
    """The samples as a run is told of them; all labels are right and undecided unless said."""
    given = columns.get("given", TRUE)
    final = columns.get("final", given)
    in_train = [i < N_TRAIN for i in range(N)]
    splits = ["train"] * N_TRAIN + ["validation"] * N_VALIDATION + ["test"] * N_TEST
    curated = [label if there else None for label, there in zip(final, in_train, strict=True)]
    return pa.table(
        {
            "sample_id": pa.array(range(100, 100 + N), pa.int32()),
            "file_name": [f"{i:02d}.png" for i in range(N)],
            "sha256": [f"{i:064x}" for i in range(N)],
            "split": columns.get("splits", splits),
            "given_label": pa.array(given, pa.int32()),
            "final_label": pa.array(final, pa.int32()),
            "is_reviewed": pa.array([i in columns.get("reviewed", ()) for i in range(N)]),
            "is_selected": pa.array(columns.get("is_selected", in_train)),
            "curated_label": pa.array(columns.get("curated", curated), pa.int32()),
        }
    )


MakeRun = Callable[..., RunFolder]


@pytest.fixture
def make_run(data: Path, tmp_path: Path) -> MakeRun:
    def make(table: pa.Table | None = None, **changes: Any) -> RunFolder:
        small = {"model": f"local-dir:{data / 'model'}", "pretrained": "", "device": "cpu"}
        base = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05}
        config = {
            "kind": "phase2",
            "round": 1,
            "created_at": "2026-01-02T03:04:05+00:00",
            "root": str(data),
            "cache": str(tmp_path / "cache"),
            "class_names": CLASS_NAMES,
            "prompts": CLASS_NAMES,
            "settings": Phase2Config(**{**small, **base, **changes}).to_json(),
        }
        n_runs = len(list(tmp_path.glob("run-*")))
        path = tmp_path / f"run-{n_runs}"
        return RunFolder.create(path, config=config, samples=samples() if table is None else table)

    return make


def evaluation_of(folder: RunFolder) -> dict[str, dict[str, Any]]:
    entries = folder.report()["evaluation"]
    return {one["trained_on"]: one for one in entries}


# --- what is trained, and how it is told


def test_the_curated_set_is_tested_beside_what_it_is_compared_with(make_run: MakeRun) -> None:
    final = [None if i in (4, 5) else label for i, label in enumerate(TRUE)]
    # Phase 1 found the first half clean, though all of its labels are wrong.
    is_selected = [i < N_TRAIN // 2 for i in range(N)]
    table = samples(given=SHIFTED, final=final, is_selected=is_selected)
    folder = make_run(table, epochs=30, compares_with="both")

    list(phase2.run(folder))

    found = evaluation_of(folder)
    assert list(found) == ["given", "selected", "curated"]
    assert [one["n_train"] for one in found.values()] == [N_TRAIN, N_TRAIN // 2, N_TRAIN - 2]
    assert {one["n_epochs"] for one in found.values()} == {30}
    assert {one["test"]["n"] for one in found.values()} == {N_TEST}
    assert found["curated"]["test"]["accuracy"] > 0.8
    assert found["given"]["test"]["accuracy"] < 0.2
    assert found["selected"]["test"]["accuracy"] < 0.4


def test_every_sample_of_every_split_is_predicted(make_run: MakeRun) -> None:
    final = [None if i in (0, N - 1) else label for i, label in enumerate(TRUE)]
    folder = make_run(samples(given=SHIFTED, final=final), epochs=30, compares_with="none")

    list(phase2.run(folder))

    table = pq.read_table(folder.path / "predictions.parquet")
    assert table.schema == pa.schema(
        [
            ("sample_id", pa.int32()),
            ("predicted_label", pa.int32()),
            ("p_predicted", pa.float32()),
            ("p_given", pa.float32()),
            ("margin", pa.float32()),
        ]
    )
    assert table["sample_id"].to_pylist() == list(range(100, 100 + N))
    predicted, p_predicted, p_given, margin = (column.to_numpy() for column in table.columns[1:])
    assert (predicted == TRUE).mean() > 0.8
    # The first sample was decided and has no label: it stands with its given one, which is wrong.
    standing = np.array([SHIFTED[0], *TRUE[1:]])
    is_predicted = predicted == standing
    assert not is_predicted[0]
    assert is_predicted[-1]
    np.testing.assert_allclose(p_given[is_predicted], p_predicted[is_predicted])
    assert (p_given[~is_predicted] < p_predicted[~is_predicted]).all()
    assert ((margin > 0) == is_predicted).all()
    np.testing.assert_allclose(
        margin[~is_predicted], (p_given - p_predicted)[~is_predicted], rtol=1e-5
    )


def test_sets_that_are_the_same_are_trained_on_once(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    is_selected = [i < N_TRAIN - 3 for i in range(N)]
    undecided = [label if one else None for label, one in zip(TRUE, is_selected, strict=True)]
    folder = make_run(samples(is_selected=is_selected, curated=undecided), compares_with="both")

    reports = list(phase2.run(folder))

    found = evaluation_of(folder)
    assert found["selected"] == {**found["curated"], "trained_on": "selected"}
    assert found["given"]["n_train"] == N_TRAIN
    trained = {one.stage for one in reports if one.stage.startswith("training")}
    assert trained == {"training on the given labels", "training on the curated set"}
    assert reports[-1].fraction == 1


def test_the_test_uses_final_labels_and_says_which_were_reviewed(make_run: MakeRun) -> None:
    first = N - N_TEST
    given = [(label + 1) % 3 if i == first else label for i, label in enumerate(TRUE)]
    final = [None if i == first + 1 else label for i, label in enumerate(TRUE)]
    table = samples(given=given, final=final, reviewed=(first, first + 1))
    folder = make_run(table, epochs=30, compares_with="none")

    list(phase2.run(folder))

    test = evaluation_of(folder)["curated"]["test"]
    assert (test["n"], test["n_reviewed"]) == (N_TEST - 1, 1)
    assert test["on_reviewed"] == 1.0
    assert [one["n"] for one in test["per_class"]] == [3, 2, 3]
    assert sum(n for _, _, n in test["confusion"]) == N_TEST - 1


def test_an_empty_curated_set_is_refused_before_any_work(make_run: MakeRun) -> None:
    folder = make_run(samples(curated=[None] * N))

    with pytest.raises(RunError, match="curated set is empty"):
        next(phase2.run(folder))


def test_images_that_went_missing_are_counted_out_and_named(data: Path, make_run: MakeRun) -> None:
    folder = make_run(epochs=1, compares_with="none")
    moved = folder.path / "data"
    moved.mkdir()
    for i in range(1, N - N_TEST):
        (moved / f"{i:02d}.png").symlink_to(data / f"{i:02d}.png")
    folder.write_json("config.json", {**folder.config(), "root": str(moved)})

    list(phase2.run(folder))

    entry = evaluation_of(folder)["curated"]
    assert (entry["n_train"], entry["test"]) == (N_TRAIN - 1, None)
    unreadable = [one["file_name"] for one in folder.report()["unreadable"]]
    assert sorted(unreadable) == ["00.png"] + [f"{i:02d}.png" for i in range(N - N_TEST, N)]
    assert len(folder.read_table("predictions.parquet")) == N - N_TEST - 1


def test_a_linear_probe_on_a_folder_that_was_moved_says_so(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run(image_side="none")
    folder.write_json("config.json", {**folder.config(), "root": str(tmp_path / "moved")})

    with pytest.raises(RunError, match="None of the training images can be read"):
        list(phase2.run(folder))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_timm_models_with_random_weights_learn_the_colours(make_run: MakeRun, name: str) -> None:
    folder = make_run(
        model=f"timm:{name}",
        image_size=32,
        epochs=8,
        optimiser="adamw",
        learning_rate=1e-3,
        compares_with="none",
    )

    list(phase2.run(folder))

    assert evaluation_of(folder)["curated"]["test"]["accuracy"] > 0.8


def test_a_linear_probe_learns_on_features_and_leaves_the_tower_alone(make_run: MakeRun) -> None:
    settings = {"image_side": "none", "learning_rate": 0.5}
    folder = make_run(epochs=40, compares_with="none", **settings)
    other = make_run(samples(given=SHIFTED), epochs=2, compares_with="none", **settings)

    reports = list(phase2.run(folder))
    list(phase2.run(other))

    assert reports[1].stage == "encoding"
    assert evaluation_of(folder)["curated"]["test"]["accuracy"] > 0.8
    mine, theirs = (load_file(run.path / "model.safetensors") for run in (folder, other))
    assert not torch.equal(mine["head.weight"], theirs["head.weight"])
    assert all(torch.equal(mine[name], theirs[name]) for name in mine if "tower" in name)


# --- classes of unequal size

LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
UNEQUAL = TrainingSet(
    name="curated",
    rows=np.array([0, 1, 2, 3, 4, 5, 6, 7]),
    validation_rows=np.array([8, 9]),
    labels=LABELS,
)


def test_class_weights_are_1_in_the_mean_and_equal_the_classes_out() -> None:
    weights = UNEQUAL.class_weights(4, Phase2Config(balancing="weights"))

    # Eight images of two classes: 8 / (2 * 6), 8 / (2 * 2), and two classes without images.
    np.testing.assert_allclose(weights[:2], [2 / 3, 2.0])
    assert weights[LABELS[UNEQUAL.rows]].mean() == pytest.approx(1)
    assert (UNEQUAL.class_weights(4, Phase2Config()) == 1).all()


def test_sampling_shows_every_class_as_often_in_each_epoch() -> None:
    settings = Phase2Config(balancing="sampling", seed=3)

    epochs = [UNEQUAL.drawn(epoch, settings) for epoch in range(1, 201)]

    assert {len(one) for one in epochs} == {8}
    drawn = np.concatenate(epochs)
    assert set(drawn) == set(UNEQUAL.rows)
    assert (LABELS[drawn] == 1).mean() == pytest.approx(0.5, abs=0.05)
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(epochs[0], UNEQUAL.drawn(1, settings))
    assert np.array_equal(UNEQUAL.drawn(1, Phase2Config()), UNEQUAL.rows)


@pytest.mark.parametrize("balancing", ["weights", "sampling"])
def test_balancing_changes_what_is_learned(make_run: MakeRun, balancing: str) -> None:
    curated = [
        label if i < N_TRAIN and (label < 2 or i < 5) else None for i, label in enumerate(TRUE)
    ]
    plain, balanced = (
        make_run(samples(curated=curated), compares_with="none", balancing=how)
        for how in ("none", balancing)
    )

    list(phase2.run(plain))
    list(phase2.run(balanced))

    means = [
        run.read_table("predictions.parquet")["p_given"].to_numpy()[2::3].mean()
        for run in (plain, balanced)
    ]
    assert means[1] > means[0]


# --- early stopping


def test_a_validation_split_decides_and_is_not_trained_on() -> None:
    plan = Plan.of(samples(), Phase2Config(patience=2, compares_with="both"))

    for one in plan.sets:
        assert one.rows.tolist() == list(range(N_TRAIN))
        assert one.validation_rows.tolist() == list(range(N_TRAIN, N_TRAIN + N_VALIDATION))


def test_without_a_validation_split_the_seed_draws_a_share_for_all_sets() -> None:
    splits = ["train"] * N_TRAIN + ["test"] * (N - N_TRAIN)
    table = samples(splits=splits, is_selected=[i % 2 == 0 for i in range(N)])
    settings = {"patience": 2, "validation_share": 0.25, "compares_with": "both"}

    first, again, other = (
        Plan.of(table, Phase2Config(seed=seed, **settings)) for seed in (0, 0, 1)
    )

    given, selected, _ = first.sets
    assert len(given.validation_rows) == 6
    assert sorted([*given.rows, *given.validation_rows]) == list(range(N_TRAIN))
    assert set(selected.validation_rows) == {row for row in given.validation_rows if row % 2 == 0}
    assert not set(selected.rows) & set(given.validation_rows)
    assert np.array_equal(again.sets[0].validation_rows, given.validation_rows)
    assert not np.array_equal(other.sets[0].validation_rows, given.validation_rows)


def test_sets_that_are_validated_by_other_images_are_not_the_same() -> None:
    settings = Phase2Config(patience=2, validation_share=0.25)
    splits = ["train"] * N_TRAIN + ["test"] * (N - N_TRAIN)
    (_, curated) = Plan.of(samples(splits=splits), settings).sets
    without_one = [
        None if i == curated.validation_rows[0] or i >= N_TRAIN else label
        for i, label in enumerate(TRUE)
    ]

    plan = Plan.of(samples(splits=splits, curated=without_one), settings)

    given, curated = plan.sets
    assert np.array_equal(given.rows, curated.rows)
    assert plan.trained == [given, curated]


def test_patience_without_validation_images_is_refused() -> None:
    table = samples(splits=["train"] * N_TRAIN + ["test"] * (N - N_TRAIN))

    with pytest.raises(ConfigError, match="leaves none"):
        Plan.of(table, Phase2Config(patience=1, validation_share=0.01))


def test_training_stops_when_nothing_gets_better(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    folder = make_run(learning_rate=0.0, epochs=9, patience=2, compares_with="none")

    reports = list(phase2.run(folder))

    assert max(one.epoch for one in reports) == 3
    assert reports[-1].fraction == 1
    assert evaluation_of(folder)["curated"]["n_epochs"] == 1


@pytest.mark.parametrize("model", ["clip", "timm:test_resnet"])
def test_the_weights_of_the_best_epoch_are_kept(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    # Where the validation labels are wrong, learning the right ones makes it worse.
    final = [(label + 1) % 3 if i >= N_TRAIN else label for i, label in enumerate(TRUE)]
    settings: dict[str, Any] = {"epochs": 6, "patience": 6, "compares_with": "none"}
    if model != "clip":
        settings |= {"model": model, "image_size": 32}
    whole, cut = (
        make_run(samples(final=final), **settings),
        make_run(samples(final=final), **settings),
    )
    list(phase2.run(whole))
    best = evaluation_of(whole)["curated"]["n_epochs"]
    assert best < 6

    assert any(report.epoch == best + 1 for report in phase2.run(cut))

    saved = checkpoint.load(cut, device=torch.device("cpu"))
    kept = load_file(whole.path / "model.safetensors").values()
    assert saved["epoch"] == best
    for weight in saved["training"]["weights"]:
        assert any(weight.shape == one.shape and torch.equal(weight, one) for one in kept) or (
            weight.shape == (2, 3, 1, 1)
        )


# --- runs that are cut off, memory, several processes


def stop_at(folder: RunFolder, *, stage: str, epoch: int) -> None:
    """Work through a run up to its first report of that epoch."""
    reports = phase2.run(folder)
    assert any((one.stage, one.epoch) == (stage, epoch) for one in reports)
    reports.close()
    assert not (folder.path / "report.json").exists()


def assert_same_results(mine: RunFolder, other: RunFolder) -> None:
    name = "predictions.parquet"
    assert mine.read_table(name).equals(other.read_table(name))
    assert evaluation_of(mine) == evaluation_of(other)
    learned = [load_file(folder.path / "model.safetensors") for folder in (mine, other)]
    assert learned[0].keys() == learned[1].keys()
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])
    assert not (mine.path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": "adamw", "learning_rate": 1e-3},
        {"image_side": "none", "balancing": "sampling"},
        {"image_side": "vpt-deep", "head": "text", "vpt_tokens": 2},
        {"model": "timm:test_resnet", "image_size": 32, "patience": 2},
        {"model": "timm:test_vit", "image_size": 32, "image_side": "lora"},
    ],
    ids=["full", "probe", "prompts", "batch norm", "lora"],
)
def test_a_run_that_was_cut_off_goes_on_to_the_same_results(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    whole, cut = (make_run(samples(final=TRUE, given=SHIFTED), **settings) for _ in range(2))
    list(phase2.run(whole))

    stop_at(cut, stage="training on the given labels", epoch=2)
    stop_at(cut, stage="training on the curated set", epoch=3)
    cut.add_progress(Progress(stage="training", seconds=3600.0))
    reports = list(phase2.run(cut))

    assert_same_results(cut, whole)
    trained = {(one.stage, one.epoch) for one in reports if one.epoch}
    assert trained == {("training on the curated set", 3)}
    assert cut.report()["seconds"] > 3600
    assert reports[-1].fraction == 1


def test_images_that_went_missing_are_counted_out_after_a_cut_before_the_test(
    data: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    folder = make_run(samples(final=TRUE, given=SHIFTED), epochs=1)
    moved = folder.path / "data"
    moved.mkdir()
    for i in range(1, N):
        (moved / f"{i:02d}.png").symlink_to(data / f"{i:02d}.png")
    folder.write_json("config.json", {**folder.config(), "root": str(moved)})

    reports = phase2.run(folder)
    assert any(report.stage == "testing" for report in reports)
    reports.close()
    list(phase2.run(folder))

    assert [one["n_train"] for one in evaluation_of(folder).values()] == [N_TRAIN - 1] * 2


def test_the_same_seed_gives_the_same_results(make_run: MakeRun) -> None:
    runs = [make_run(seed=seed, compares_with="none") for seed in (0, 0, 1)]
    for folder in runs:
        list(phase2.run(folder))

    tables = [folder.read_table("predictions.parquet") for folder in runs]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_a_run_that_was_killed_goes_on_to_the_same_results(make_run: MakeRun) -> None:
    whole, cut = make_run(), make_run()
    list(phase2.run(whole))
    kill_in_epoch(2, cut)
    assert checkpoint.load(cut, device=torch.device("cpu"))["epoch"] == 1
    assert not (cut.path / "report.json").exists()

    execute(cut, phase2.run)

    assert_same_results(cut, whole)


@pytest.fixture
def small_memory() -> Iterator[None]:
    """As on a machine whose memory holds three images when they are predicted."""

    def refuse(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, Classifier) and not module.training and len(inputs[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(refuse)
    yield
    hook.remove()


def test_when_the_memory_runs_out_in_predicting_smaller_parts_do(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    roomy, tight = (make_run(compares_with="none") for _ in range(2))
    list(phase2.run(roomy))
    request.getfixturevalue("small_memory")

    reports = list(phase2.run(tight))

    assert "parts of 2" in reports[-1].note
    expected, found = (
        run.read_table("predictions.parquet")["p_given"].to_numpy() for run in (roomy, tight)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)

"""Both phases in a real run folder, with a tiny CLIP and pictures that can be told apart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import cohen_kappa_score

from deft_core import checkpoint, clip, phase1, training
from deft_core.config import IMAGE_SIDES, Phase1Config
from deft_core.demo import write_demo
from deft_core.engine import Engine
from deft_core.errors import RunError
from deft_core.ingest import read_source
from deft_core.run_folder import Progress, RunFolder
from deft_core.run_process import execute
from deft_core.run_results import queue_scores
from deft_core.selection import undecided
from tests.killed_run import kill_in_epoch
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
        given, reviewed = columns.get("given", true), columns.get("reviewed", [])
        samples = pa.table(
            {
                "sample_id": pa.array(range(100, 100 + n), pa.int32()),
                "file_name": [f"{i:02d}.png" for i in range(n)],
                "sha256": [f"{i:064x}" for i in range(n)],
                "split": ["train"] * N_TRAIN + ["test"] * N_TEST,
                "given_label": pa.array(given, pa.int32()),
                "final_label": pa.array(columns.get("final", given), pa.int32()),
                "is_reviewed": pa.array([i in reviewed for i in range(n)]),
                "is_selected": [True] * N_TRAIN + [False] * N_TEST,
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
            "prompts": CLASS_NAMES,
            "settings": settings,
        }
        n_runs = len(list(tmp_path.glob("run-*")))
        return RunFolder.create(tmp_path / f"run-{n_runs}", config=config, samples=samples)

    return make


def phase1_settings(data: Path, **changes: Any) -> dict[str, Any]:
    base = {"model": f"local-dir:{data / 'model'}", "pretrained": "", "n_context": 4}
    small = {"vpt_tokens": 2, "epochs": 2, "batch_size": 8, "device": "cpu"}
    return Phase1Config(**{**base, **small, **changes}).to_json()


def test_phase_1_scores_every_sample(data: Path, make_run: Callable[..., RunFolder]) -> None:
    folder = make_run("phase1", phase1_settings(data))

    reports = list(phase1.run(folder))

    scores = folder.read_table("scores.parquet")
    assert scores["sample_id"].to_pylist() == list(range(100, 100 + N_TRAIN + N_TEST))
    p_clean, pos, neg = (scores[name].to_numpy() for name in ("p_clean", "pos_sim", "neg_sim"))
    scale = float(clip.load(phase1_settings(data)["model"]).logit_scale)
    np.testing.assert_allclose(p_clean, 1 / (1 + np.exp(-scale * (pos - neg))), rtol=1e-4)
    tops = scores["top_labels"].to_pylist()
    assert [top[0] for top in tops] == scores["predicted_label"].to_pylist()
    assert all(sorted(top) == [0, 1, 2] for top in tops)
    assert all(sims == sorted(sims, reverse=True) for sims in scores["top_pos_sims"].to_pylist())
    report = folder.report()
    assert report["n_scored"] == N_TRAIN
    assert report["n_flagged"] == (p_clean[:N_TRAIN] <= 0.5).sum()
    given, predicted = (
        table[name].to_numpy()[:N_TRAIN]
        for table, name in ((folder.samples(), "given_label"), (scores, "predicted_label"))
    )
    assert report["kappa"] == pytest.approx(cohen_kappa_score(given, predicted))
    assert np.load(folder.path / "features.npy").shape == (N_TRAIN + N_TEST, 16)
    assert {"loading the model", "warm-up"} <= {one.stage for one in reports}


@pytest.mark.parametrize("image_side", ["vpt-deep", "none"])
def test_phase_1_never_trains_on_another_split(
    data: Path, make_run: Callable[..., RunFolder], image_side: str
) -> None:
    settings = phase1_settings(data, image_side=image_side)
    true = [i % 3 for i in range(N_TRAIN + N_TEST)]
    other = [label if i < N_TRAIN else 2 - label for i, label in enumerate(true)]
    folders = [make_run("phase1", settings, given=given) for given in (true, other)]

    for folder in folders:
        list(phase1.run(folder))

    learned = [load_file(folder.path / "detector.safetensors") for folder in folders]
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])
    scores = [folder.read_table("scores.parquet") for folder in folders]
    assert scores[0][:N_TRAIN].equals(scores[1][:N_TRAIN])
    assert scores[0]["p_clean"][N_TRAIN:] != scores[1]["p_clean"][N_TRAIN:]
    assert scores[0]["mean_gap"].is_null().to_pylist() == [False] * N_TRAIN + [True] * N_TEST
    trusted = pc.list_flatten(folders[0].read_table("neighbours.parquet")["nearest"])
    assert pc.max(trusted).as_py() < 100 + N_TRAIN


def test_phase_1_trains_on_and_scores_the_label_that_a_reviewer_gave(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    # In the warm-up every label is believed, so that it makes no difference who gave it.
    settings = phase1_settings(data, warmup_epochs=2)
    true = [i % 3 for i in range(N_TRAIN + N_TEST)]
    given = [(label + 1) % 3 for label in true]
    reviewed = make_run("phase1", settings, given=given, final=true, reviewed=list(range(33)))
    plain = make_run("phase1", settings)

    list(phase1.run(reviewed))
    list(phase1.run(plain))

    assert reviewed.read_table("scores.parquet").equals(plain.read_table("scores.parquet"))


def test_a_sample_without_a_label_after_review_is_scored_and_not_trained_on(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    final = [None if i in (2, 7) else i % 3 for i in range(N_TRAIN + N_TEST)]
    folder = make_run("phase1", phase1_settings(data), final=final, reviewed=[2, 7])

    list(phase1.run(folder))

    assert len(folder.read_table("scores.parquet")) == N_TRAIN + N_TEST
    trained = folder.read_table("traces.parquet")["sample_id"].to_pylist()
    assert trained == [100 + i for i in range(N_TRAIN) if i not in (2, 7)]


def test_a_training_split_without_any_label_is_refused() -> None:
    samples = pa.table(
        {
            "split": ["train", "train", "test"],
            "given_label": pa.array([0, 1, 0], pa.int32()),
            "final_label": pa.array([None, None, 0], pa.int32()),
            "is_reviewed": [True, True, False],
        }
    )

    with pytest.raises(RunError, match="No training image has a label"):
        phase1.Standing.of(samples, device=torch.device("cpu"))


def test_in_the_second_round_the_report_counts_what_the_queue_flags(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    given = [(i + (i % 4 == 0)) % 3 for i in range(N_TRAIN + N_TEST)]
    folder = make_run("phase1", phase1_settings(data), given=given)
    folder.write_json("config.json", {**folder.config(), "round": 2})

    list(phase1.run(folder))

    queue = queue_scores(folder).to_pylist()
    is_flagged = [not row["is_clean"] for row in queue if row["sample_id"] < 100 + N_TRAIN]
    assert folder.report()["n_flagged"] == sum(is_flagged)
    assert sum(is_flagged) > sum(row["p_clean"] <= 0.5 for row in queue)


def test_a_reviewed_label_is_always_selected(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    def learned(*, warmup_epochs: int, reviewed: list[int]) -> torch.Tensor:
        one_step = {"epochs": 1, "batch_size": N_TRAIN, "warmup_epochs": warmup_epochs}
        folder = make_run("phase1", phase1_settings(data, **one_step), reviewed=reviewed)
        list(phase1.run(folder))
        return load_file(folder.path / "detector.safetensors")["prompts.positive"]

    # A step of the warm-up learns from every label.
    from_all = learned(warmup_epochs=1, reviewed=[])
    from_reviewed = learned(warmup_epochs=0, reviewed=list(range(N_TRAIN)))
    from_selected = learned(warmup_epochs=0, reviewed=[])

    torch.testing.assert_close(from_reviewed, from_all)
    assert not torch.allclose(from_selected, from_all)


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
    # A tenth of the demo in batches of a tenth: as many steps as its preset is made for.
    write_demo(demo, seed=3, n_train=160, n_test=16)
    data = read_source(demo)
    true = dict(row.split(",") for row in (demo / "truth.csv").read_text().splitlines()[1:])
    config = {
        "kind": "phase1",
        "round": 1,
        "created_at": "2026-01-02T03:04:05+00:00",
        "root": str(demo),
        "cache": str(tmp_path / "cache"),
        "class_names": list(data.class_names),
        "prompts": list(data.class_names),
        "settings": Phase1Config.from_preset("demo", batch_size=6, device="cpu").to_json(),
    }
    folder = RunFolder.create(tmp_path / "demo-run", config=config, samples=undecided(data.samples))

    list(phase1.run(folder))

    samples = data.samples.filter(pc.equal(data.samples["split"], "train"))
    given = [data.class_names[label] for label in samples["given_label"].to_pylist()]
    is_wrong = np.array(
        [
            true[name] != label
            for name, label in zip(samples["file_name"].to_pylist(), given, strict=True)
        ]
    )
    scores = folder.read_table("scores.parquet")
    is_train = pc.is_in(scores["sample_id"], samples["sample_id"])
    is_flagged = scores.filter(is_train)["p_clean"].to_numpy() <= 0.5
    assert is_wrong.sum() == 32
    assert is_flagged[is_wrong].mean() > 0.8
    assert is_flagged[~is_wrong].mean() < 0.2


# --- what phase 1 keeps


def test_the_traces_hold_each_epoch_and_their_means_are_scores(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    folder = make_run("phase1", phase1_settings(data, epochs=3))

    list(phase1.run(folder))

    traces, scores = folder.read_table("traces.parquet"), folder.read_table("scores.parquet")
    assert traces["sample_id"].to_pylist() == scores["sample_id"].to_pylist()[:N_TRAIN]
    for name in ("gap", "margin"):
        values = np.array(traces[name].to_pylist())
        assert values.shape == (N_TRAIN, 3)
        assert (values != 0).all()
        np.testing.assert_allclose(
            scores[f"mean_{name}"].to_numpy()[:N_TRAIN], values.mean(axis=1), rtol=1e-4, atol=1e-5
        )


def test_an_image_that_went_missing_has_no_score(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    folder = make_run("phase1", phase1_settings(data))
    moved = folder.path / "data"
    moved.mkdir()
    for i in set(range(N_TRAIN + N_TEST)) - {3, 23}:
        (moved / f"{i:02d}.png").symlink_to(data / f"{i:02d}.png")
    folder.write_json("config.json", {**folder.config(), "root": str(moved)})

    list(phase1.run(folder))

    scored = folder.read_table("scores.parquet")["sample_id"].to_pylist()
    assert scored == [100 + i for i in range(N_TRAIN + N_TEST) if i not in (3, 23)]
    report = folder.report()
    assert report["n_scored"] == N_TRAIN - 2
    assert [one["file_name"] for one in report["unreadable"]] == ["03.png", "23.png"]
    features = np.load(folder.path / "features.npy")
    assert np.flatnonzero(np.isnan(features).any(axis=1)).tolist() == [3, 23]


def scores_of(folder: RunFolder) -> dict[str, np.ndarray]:
    """The columns of numbers of a run's scores of training samples."""
    table = folder.read_table("scores.parquet")[:N_TRAIN]
    return {
        name: table[name].to_numpy()
        for name in ("p_clean", "pos_sim", "neg_sim", "margin", "mean_gap", "mean_margin")
    }


def assert_close_scores(mine: RunFolder, other: RunFolder, *, within: float) -> None:
    for name, values in scores_of(mine).items():
        np.testing.assert_allclose(values, scores_of(other)[name], rtol=within, atol=within)


@pytest.mark.parametrize("keeps_squares", [True, False])
def test_part_size_and_squares_change_no_score(
    data: Path, make_run: Callable[..., RunFolder], keeps_squares: bool
) -> None:
    plain = make_run("phase1", phase1_settings(data))
    list(phase1.run(plain))
    other = make_run("phase1", phase1_settings(data, part_size=3, keeps_squares=keeps_squares))
    list(phase1.run(other))

    assert_close_scores(other, plain, within=1e-4)


@pytest.mark.parametrize("image_side", IMAGE_SIDES)
@pytest.mark.parametrize("recipe", ["synthetic", "real-noise"])
def test_every_image_side_trains_and_scores(
    data: Path, make_run: Callable[..., RunFolder], image_side: str, recipe: str
) -> None:
    settings = phase1_settings(
        data, image_side=image_side, recipe=recipe, rank=2, learning_rate=0.001
    )
    folder = make_run("phase1", settings)

    reports = list(phase1.run(folder))

    assert all(np.isfinite(values).all() for values in scores_of(folder).values())
    learned = load_file(folder.path / "detector.safetensors")
    assert {"prompts.positive", "prompts.negative"} <= set(learned)
    assert (len(learned) == 2) == (image_side == "none")
    assert ("encoding" in {one.stage for one in reports}) == (image_side == "none")


def test_fast_mode_trains_the_prompts_on_features_as_pretrained(
    data: Path, make_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    settings = phase1_settings(data, image_side="none", epochs=20, warmup_epochs=20)
    folder = make_run("phase1", settings)

    losses = {one.epoch: one.loss for one in phase1.run(folder) if one.loss is not None}

    squares = [np.asarray(Image.open(data / f"{i:02d}.png").resize((16, 16), 3)) for i in range(3)]
    images = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    expected = clip.load(settings["model"]).encode_image(images).numpy()
    np.testing.assert_allclose(np.load(folder.path / "features.npy")[:3], expected, atol=0.01)
    assert losses[20] < 0.9 * losses[1]


def test_bf16_agrees_roughly_with_fp32(data: Path, make_run: Callable[..., RunFolder]) -> None:
    folders = [
        make_run("phase1", phase1_settings(data, precision=precision, warmup_epochs=2))
        for precision in ("bf16", "fp32")
    ]
    # The precision of a process is set once.
    command = [sys.executable, "-m", "deft_core", "phase1", "--run", str(folders[0].path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    list(phase1.run(folders[1]))

    assert folders[0].report()["precision"] == "bf16"
    for name in ("pos_sim", "neg_sim"):
        half, single = (scores_of(folder)[name] for folder in folders)
        assert not np.array_equal(half, single)
        np.testing.assert_allclose(half, single, atol=0.02)


def test_a_class_with_one_image_and_batches_of_one_class_give_numbers(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    given = [0] * (N_TRAIN + N_TEST)
    given[5] = 1
    folder = make_run("phase1", phase1_settings(data, epochs=3, batch_size=4), given=given)

    list(phase1.run(folder))

    assert all(np.isfinite(values).all() for values in scores_of(folder).values())


def test_without_any_warmup_an_empty_selection_gives_numbers(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    # Both prompts start from the same words: no image is nearer to the positive one.
    settings = phase1_settings(data, warmup_epochs=0, context_start="a photo of a")
    folder = make_run("phase1", settings)

    list(phase1.run(folder))

    assert all(np.isfinite(values).all() for values in scores_of(folder).values())


class SmallMemory:
    """A forward pre-hook: as on a machine whose memory holds only so many images."""

    def __init__(self, n_held: int) -> None:
        self.n_held = n_held

    def __call__(self, _module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > self.n_held:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def detect(folder: RunFolder, *, n_held: int) -> tuple[np.ndarray, list[str]]:
    """The features of every sample after phase 1 with that memory, and the notes on the way."""
    settings = Phase1Config.from_json(folder.config()["settings"])
    engine, samples = Engine(settings), folder.samples().slice(0, N_TRAIN)
    torch.manual_seed(settings.seed)
    detector = phase1.build_detector(settings, CLASS_NAMES)
    detector.clip.visual.register_forward_pre_hook(SmallMemory(n_held))
    images = training.open_images(folder, samples, image_size=16, engine=engine, settings=settings)
    standing = phase1.Standing.of(samples, device=engine.device)
    detection = phase1.Detection(detector, standing, engine=engine, settings=settings)
    notes = [report.note for report in detection.run(images, folder)]
    return np.load(folder.path / "features.npy").astype(np.float32), notes


@pytest.mark.parametrize("image_side", ["vpt-deep", "none"])
def test_when_the_memory_runs_out_in_encoding_and_scoring_smaller_parts_do(
    data: Path,
    make_run: Callable[..., RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    image_side: str,
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    settings = phase1_settings(data, image_side=image_side, epochs=1)
    expected, no_notes = detect(make_run("phase1", settings), n_held=8)

    found, notes = detect(make_run("phase1", settings), n_held=3)

    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert set(no_notes) == {""}
    assert "batches are worked through in parts of 2" in notes[-1]


@pytest.mark.parametrize(("image_side", "use"), [("vpt-deep", "training"), ("none", "encoding")])
def test_memory_that_holds_no_single_image_ends_the_run(
    data: Path, make_run: Callable[..., RunFolder], image_side: str, use: str
) -> None:
    folder = make_run("phase1", phase1_settings(data, image_side=image_side))

    with pytest.raises(RunError, match=f"does not hold 1 image in {use}"):
        detect(folder, n_held=0)


@pytest.fixture
def traced() -> Iterator[None]:
    """torch.compile traces both passes and runs them with torch's own kernels: no C++ compiler."""
    before = torch.compiler.get_default_backend()
    torch.compiler.set_default_backend("aot_eager")
    yield
    torch.compiler.set_default_backend(before)
    torch.compiler.reset()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("image_side", ["vpt-deep", "all"])
def test_a_traced_image_tower_has_the_same_logits_and_gradients(
    data: Path, image_side: str
) -> None:
    images = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
    found = []
    for is_compiled in (False, True):
        settings = phase1_settings(data, is_compiled=is_compiled, image_side=image_side)
        torch.manual_seed(0)
        detector = phase1.build_detector(Phase1Config(**settings), CLASS_NAMES)
        logits = detector(images)
        (logits.pos.square().sum() + logits.neg.square().sum()).backward()
        found.append((logits, dict(detector.named_parameters())))

    (plain, parameters), (compiled, compiled_parameters) = found
    torch.testing.assert_close(compiled.pos, plain.pos, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(compiled.neg, plain.neg, rtol=1e-4, atol=1e-4)
    learnt = [name for name, one in parameters.items() if one.requires_grad]
    assert any("visual" in name or "added" in name for name in learnt)
    for name in learnt:
        torch.testing.assert_close(
            compiled_parameters[name].grad, parameters[name].grad, rtol=1e-3, atol=1e-3
        )


# --- runs that are cut off, and runs of several processes


@pytest.mark.parametrize("image_side", ["vpt-deep", "lora", "none"])
def test_a_run_that_stopped_in_its_third_epoch_goes_on_to_the_same_scores(
    data: Path,
    make_run: Callable[..., RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    image_side: str,
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY_SECONDS", 0.0)
    settings = phase1_settings(data, epochs=4, image_side=image_side, context_start="a photo")
    whole, cut = make_run("phase1", settings), make_run("phase1", settings)
    list(phase1.run(whole))
    stopped = phase1.run(cut)
    assert any(report.epoch == 3 for report in stopped)
    stopped.close()
    assert n_epochs_done(cut) == 2
    assert not (cut.path / "scores.parquet").exists()
    cut.add_progress(Progress(stage="training", seconds=3600.0))

    reports = list(phase1.run(cut))

    assert_same_results(cut, whole)
    assert cut.report()["seconds"] > 3600
    assert {one.epoch for one in reports} == {0, 3, 4}
    assert reports[-1].fraction == 1
    assert not (cut.path / "checkpoint.pt").exists()


def test_a_run_that_was_killed_goes_on_to_the_same_scores(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    settings = phase1_settings(data, epochs=3)
    whole, cut = make_run("phase1", settings), make_run("phase1", settings)
    list(phase1.run(whole))
    kill_in_epoch(3, cut)
    assert n_epochs_done(cut) == 2
    assert cut.status().state == "running"

    execute(cut, phase1.run)

    assert cut.status().state == "done"
    assert_same_results(cut, whole)


def n_epochs_done(folder: RunFolder) -> int:
    """How many epochs the checkpoint of a run holds."""
    saved = checkpoint.load(folder, device=torch.device("cpu"))
    return len(saved["traces"]) if saved else 0


def assert_same_results(mine: RunFolder, other: RunFolder) -> None:
    for name in ("scores.parquet", "traces.parquet"):
        assert mine.read_table(name).equals(other.read_table(name))
    features = [np.load(folder.path / "features.npy") for folder in (mine, other)]
    np.testing.assert_array_equal(*features)
    learned = [load_file(folder.path / "detector.safetensors") for folder in (mine, other)]
    assert learned[0].keys() == learned[1].keys()
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])


def test_the_recipe_for_real_noise_selects_the_likeliest_label_only(
    data: Path, make_run: Callable[..., RunFolder]
) -> None:
    folder = make_run("phase1", phase1_settings(data, recipe="real-noise"))

    list(phase1.run(folder))

    scores = folder.read_table("scores.parquet").to_pylist()
    for row in scores:
        gaps = np.array(row["top_pos_sims"]) - np.array(row["top_neg_sims"])
        likeliest = row["top_labels"][int(gaps.argmax())]
        is_likeliest = likeliest == [0, 1, 2][(row["sample_id"] - 100) % 3]
        assert row["is_clean"] == (row["p_clean"] > 0.5 and is_likeliest)
    report = folder.report()
    assert report["n_flagged"] == sum(not row["is_clean"] for row in scores[:N_TRAIN])

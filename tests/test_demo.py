"""The demo data set: layout, determinism, exact noise, refusals; real pictures, few of them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_core.demo import CLASS_NAMES, write_demo
from deft_core.demo.figures import draw_figure
from deft_core.errors import DeftError

Rows = list[dict[str, str]]


def read_rows(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo") / "set"
    calls: list[tuple[int, int]] = []
    report = write_demo(
        directory,
        seed=3,
        n_train=64,
        n_test=32,
        on_progress=lambda done, total: calls.append((done, total)),
    )
    return directory, report, calls


def test_layout_tables_and_pictures_agree(demo):
    directory, report, calls = demo
    labels, truth = read_rows(directory / "labels.csv"), read_rows(directory / "truth.csv")
    files = {name for name in contents(directory) if name.endswith(".jpg")}
    assert {row["file_name"] for row in labels} == files
    assert [row["file_name"] for row in truth] == [row["file_name"] for row in labels]
    for row in labels:
        split, label, name = row["file_name"].split("/")
        assert (split, label) == (row["split"], row["label"])
        assert name.removesuffix(".jpg").isdigit()
    assert sum(row["split"] == "train" for row in labels) == report.n_train == 64
    assert sum(row["split"] == "test" for row in labels) == report.n_test == 32
    assert report.class_names == CLASS_NAMES == tuple(sorted(CLASS_NAMES))
    assert calls == [(i + 1, 96) for i in range(96)]
    with Image.open(directory / labels[0]["file_name"]) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (192, 192), "RGB")


def test_the_noise_is_exact_in_train_and_absent_in_test(demo):
    directory, report, _ = demo
    truth = {row["file_name"]: row["true_label"] for row in read_rows(directory / "truth.csv")}
    wrong = [
        row["split"]
        for row in read_rows(directory / "labels.csv")
        if row["label"] != truth[row["file_name"]]
    ]
    assert wrong.count("train") == report.n_noisy == round(0.2 * 64)
    assert wrong.count("test") == 0


def test_the_true_classes_are_balanced(demo):
    directory, _, _ = demo
    truth = read_rows(directory / "truth.csv")
    for split, each in (("train", 4), ("test", 2)):
        names = [row["true_label"] for row in truth if row["file_name"].startswith(split)]
        assert all(names.count(name) == each for name in CLASS_NAMES)


def test_file_numbers_are_one_shuffled_count_over_both_splits(demo):
    directory, _, _ = demo
    truth = read_rows(directory / "truth.csv")
    numbers = [int(Path(row["file_name"]).stem) for row in truth]
    assert numbers == list(range(96))
    classes = np.array([CLASS_NAMES.index(row["true_label"]) for row in truth])
    is_train = np.array([row["file_name"].startswith("train") for row in truth], dtype=float)
    assert abs(np.corrcoef(numbers, classes)[0, 1]) < 0.3
    assert abs(np.corrcoef(numbers, is_train)[0, 1]) < 0.3
    assert abs(np.corrcoef(classes[1:], classes[:-1])[0, 1]) < 0.3


def test_one_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_demo(tmp_path / name, seed=seed, n_train=10, n_test=4, noise_mode="idn")
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert not set(first.values()) & {v for k, v in other.items() if k.endswith(".jpg")}


def test_the_pictures_do_not_depend_on_the_noise(tmp_path):
    write_demo(tmp_path / "a", n_train=8, n_test=0, noise_mode="pair", noise_ratio=0.5)
    write_demo(tmp_path / "b", n_train=8, n_test=0, noise_ratio=0.0)
    pictures = [
        {Path(name).stem: data for name, data in contents(tmp_path / at).items() if "/" in name}
        for at in "ab"
    ]
    assert pictures[0] == pictures[1]


def test_pair_noise_gives_the_next_class(tmp_path):
    write_demo(tmp_path / "set", n_train=16, n_test=0, noise_mode="pair", noise_ratio=0.25)
    labels = read_rows(tmp_path / "set" / "labels.csv")
    truth = read_rows(tmp_path / "set" / "truth.csv")
    steps = [
        (CLASS_NAMES.index(row["label"]) - CLASS_NAMES.index(true["true_label"])) % 16
        for row, true in zip(labels, truth, strict=True)
    ]
    assert sorted(steps) == [0] * 12 + [1] * 4


def test_an_empty_directory_is_filled_and_a_full_one_refused(tmp_path):
    target = tmp_path / "set"
    target.mkdir()
    write_demo(target, n_train=2, n_test=1)
    before = contents(target)
    with pytest.raises(DeftError, match="not an empty directory") as refusal:
        write_demo(target, n_train=2, n_test=1)
    assert refusal.value.hint
    assert contents(target) == before


def test_the_current_folder_is_filled_and_stays_current(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_demo(Path(), n_train=2, n_test=1)
    assert {path.name for path in Path().iterdir()} == {"train", "test", "labels.csv", "truth.csv"}


@pytest.mark.parametrize("parent", ["below a file", "where nothing can be made"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, parent):
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" if parent == "below a file" else Path("/proc")
    with pytest.raises(DeftError, match="cannot be written") as refusal:
        write_demo(place / "set", n_train=2, n_test=0)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_mode": "asym"}, "asym"),
        ({"noise_ratio": 1.0}, "ratio"),
        ({"noise_ratio": -0.1}, "ratio"),
        ({"n_train": 0}, "0 train"),
        ({"n_test": -1}, "-1 test"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(DeftError, match=message):
        write_demo(tmp_path / "set", **settings)
    assert not list(tmp_path.iterdir())


def test_a_stopped_run_leaves_nothing_behind(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "set", n_train=8, n_test=0, on_progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_figures_fill_the_unit_square_and_vary(name):
    figures = [draw_figure(name, np.random.default_rng(seed)) for seed in range(20)]
    for figure in figures:
        points = np.concatenate([part.points for part in figure])
        assert np.isfinite(points).all()
        assert np.abs(points).max() <= 1 + 1e-9
        assert "body" in {part.role for part in figure}
    drawn = {tuple((part.points.tobytes(), part.width) for part in figure) for figure in figures}
    assert len(drawn) == len(figures)

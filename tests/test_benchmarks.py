"""The benchmarks on tiny data sets: what they refuse, and what they make of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deft_core.config import Phase1Config
from deft_core.errors import ConfigError, DataError
from deft_core.ingest import read_source
from tests.small_world import write_class_folders
from tools import bench_detect
from tools.bench_runs import parse_noise


def write_truth(root: Path, text: str) -> Path:
    (root / "truth.csv").write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("text", ["sym", "sym:", "sym:1", "sym:-0.1", "sym:nan", "asym:0.2", ""])
def test_what_is_no_noise_with_a_ratio_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a kind of noise with a ratio") as caught:
        parse_noise(text)

    assert "sym:0.2" in caught.value.hint


def test_the_truth_is_read_by_file_name(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path, names=("cat", "dog"), n=1)
    write_truth(root, "file_name,true_label\ndog/0.png,cat\ncat/0.png,cat\n")

    assert bench_detect.read_truth(read_source(root)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no truth.csv"),
        ("file_name,label\ncat/0.png,cat\n", "has no column 'true_label'"),
        ("file_name,true_label\ncat/0.png,cat\n", "names no class of dog/0.png that exists"),
        ("file_name,true_label\ncat/0.png,cow\ndog/0.png,dog\n", "names no class of cat/0.png"),
        ("file_name,true_label\ncat/0.png,cat\ndog/0.png,dog\n", "No label of .* is wrong"),
    ],
)
def test_a_data_set_whose_wrong_labels_are_not_known_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    root = write_class_folders(tmp_path / "set", names=("cat", "dog"), n=1)
    if text is not None:
        write_truth(root, text)

    with pytest.raises(DataError, match=message) as caught:
        bench_detect.read_benchmark(root, seed=0, scratch=tmp_path)

    assert caught.value.hint


def test_an_image_that_cannot_be_read_ends_a_benchmark(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "set", names=("cat", "dog"))
    names = ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    write_truth(root, "file_name,true_label\n" + "".join(f"{name},cat\n" for name in names))
    benchmark = bench_detect.read_benchmark(root, seed=0, scratch=tmp_path)
    (root / "dog" / "1.png").unlink()
    settings = Phase1Config.from_preset("demo-fast", epochs=1, device="cpu")

    with pytest.raises(DataError, match=r"dog/1\.png cannot be read"):
        bench_detect.work(benchmark, settings, tmp_path)


def test_errors_end_a_benchmark_as_they_end_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_detect", "--noise", "sym:2"])

    with pytest.raises(SystemExit) as caught:
        bench_detect.main()

    assert caught.value.code == 2
    assert 'Error: "sym:2" is not a kind of noise' in capsys.readouterr().err

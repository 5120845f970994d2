"""The paper's data sets in miniature, each written as it is published, and one through the loop."""

from __future__ import annotations

import csv
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from deft_core.config import Phase1Config
from deft_core.errors import ConfigError, DataError
from deft_core.ingest import read_source
from deft_core.runs import Runs
from tests.small_world import fingerprint, make_store, write_image
from tests.tiny_clip import write_tiny_clip
from tools import paper
from tools.paper_data import PaperData, Picture

N_TRAIN, N_TEST = 12, 6


def write_text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_cifar_100(root: Path) -> Path:
    random = np.random.default_rng(0)
    root.mkdir()
    contents = {"meta": {"fine_label_names": ["apple", "aquarium_fish", "baby"]}}
    for name, n in (("train", N_TRAIN), ("test", N_TEST)):
        labels = [i % 3 for i in range(n)]
        pixels = random.integers(0, 90, (n, 3, 32, 32), dtype=np.uint8)
        pixels[range(n), labels] += 150
        contents[name] = {"data": pixels.reshape(n, -1), "fine_labels": labels}
    for name, content in contents.items():
        # Protocol 2 is the one of the published files.
        (root / name).write_bytes(pickle.dumps(content, protocol=2))
    return root


def write_cifar_100n(root: Path) -> Path:
    write_cifar_100(root)
    clean = np.array([i % 3 for i in range(N_TRAIN)])
    human = {"clean_label": clean, "noisy_label": np.where(clean == 0, 1, clean)}
    torch.save(human, root / "CIFAR-100_human.pt")
    return root


def write_tiny_imagenet(root: Path) -> Path:
    for label, wnid in enumerate(("n02124075", "n04067472", "n01443537")):
        for i in range(2):
            write_image(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", seed=10 * label + i)
        write_text(root / "train" / wnid / f"{wnid}_boxes.txt", f"{wnid}_0.JPEG\t0\t0\t9\t9")
    for i in range(2):
        write_image(root / "val" / "images" / f"val_{i}.JPEG", seed=90 + i)
    write_text(
        root / "val" / "val_annotations.txt",
        "val_0.JPEG\tn04067472\t0\t32\t44\t62",
        "val_1.JPEG\tn01443537\t52\t55\t57\t59",
    )
    write_text(
        root / "words.txt",
        "n00001740\tentity",
        "n01443537\tgoldfish, Carassius auratus",
        "n02124075\tEgyptian cat",
        "n04067472\treel",
    )
    return root


def write_cars(root: Path) -> Path:
    names = np.array(["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"], dtype=object)
    for split in ("train", "test"):
        for i in range(2):
            write_image(root / f"cars_{split}" / f"{i:05d}.jpg", seed=i)
    (root / "devkit").mkdir()
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})
    for file, classes in (
        ("devkit/cars_train_annos.mat", (2, 1)),
        ("cars_test_annos_withlabels.mat", (1, 2)),
    ):
        rows = [(f"{i:05d}.jpg", one) for i, one in enumerate(classes)]
        annotations = np.array(rows, dtype=[("fname", object), ("class", object)])
        savemat(root / file, {"annotations": annotations})
    return root


def write_cars_in_one_folder(root: Path) -> Path:
    names = np.array(["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"], dtype=object)
    rows = [(f"car_ims/{i:06d}.jpg", one, i % 2) for i, one in enumerate((2, 1, 1, 2))]
    for name, _, _ in rows:
        write_image(root / name, seed=len(name))
    columns = [("relative_im_path", object), ("class", object), ("test", object)]
    annotations = {"annotations": np.array(rows, dtype=columns), "class_names": names}
    savemat(root / "cars_annos.mat", annotations)
    return root


def write_cub(root: Path) -> Path:
    files = [
        "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
        "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg",
        "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
        "002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg",
    ]
    for i, name in enumerate(files):
        write_image(root / "images" / name, seed=i)
    write_text(root / "images.txt", *(f"{i} {name}" for i, name in enumerate(files, start=1)))
    write_text(root / "image_class_labels.txt", "1 1", "2 1", "3 2", "4 2")
    write_text(root / "train_test_split.txt", "1 0", "2 1", "3 1", "4 0")
    write_text(root / "classes.txt", "1 001.Black_footed_Albatross", "2 002.Laysan_Albatross")
    return root


def write_clothing1m(root: Path) -> Path:
    keys = [f"images/{i}/{i}1/{i}.jpg" for i in range(4)]
    for i, key in enumerate(keys):
        write_image(root / key, seed=i)
    write_text(root / "noisy_train_key_list.txt", *keys[:3])
    write_text(root / "clean_test_key_list.txt", keys[3])
    write_text(root / "noisy_label_kv.txt", *(f"{key} {i % 2}" for i, key in enumerate(keys)))
    write_text(root / "clean_label_kv.txt", f"{keys[0]} 1", f"{keys[3]} 0")
    write_text(root / "category_names_eng.txt", "T-Shirt", "Shirt")
    return root


def write_webvision(root: Path) -> Path:
    for name in ("google/q0001/a.jpg", "google/q0051/b.jpg", "val_images_256/val000001.jpg"):
        write_image(root / name, seed=len(name))
    write_text(
        root / "info" / "train_filelist_google.txt", "google/q0001/a.jpg 1", "google/q0051/b.jpg 50"
    )
    write_text(root / "info" / "val_filelist.txt", "val000001.jpg 0", "val000002.jpg 77")
    synsets = ["n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus"]
    synsets += [f"n{i:08d} crane, bird {i}" for i in range(2, 60)]
    write_text(root / "info" / "synsets.txt", *synsets)
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    "cifar-100": write_cifar_100,
    "cifar-100n": write_cifar_100n,
    "tiny-imagenet": write_tiny_imagenet,
    "stanford-cars": write_cars,
    "cub-200-2011": write_cub,
    "clothing1m": write_clothing1m,
    "webvision": write_webvision,
}


def load(name: str, root: Path) -> PaperData:
    return paper.TABLES[name].load(root, root.parent / "pictures")


def labels(data: PaperData, split: str) -> list[tuple[str, int, int | None]]:
    return [(one.file_name, one.given, one.true) for one in data.pictures if one.split == split]


def test_cifar_100_becomes_pictures_with_its_labels(tmp_path: Path) -> None:
    data = load("cifar-100", write_cifar_100(tmp_path / "cifar"))

    assert data.class_names == ("apple", "aquarium fish", "baby")
    assert labels(data, "train")[:2] == [("train/00000.png", 0, 0), ("train/00001.png", 1, 1)]
    assert (len(labels(data, "train")), len(labels(data, "test"))) == (N_TRAIN, N_TEST)
    brightest = [
        paper.small_pixels(data.root, [one], side=32).reshape(-1, 3).mean(axis=0).argmax()
        for one in data.pictures
    ]
    assert brightest == [one.given for one in data.pictures]


def test_cifar_100_writes_its_pictures_once(tmp_path: Path) -> None:
    root = write_cifar_100(tmp_path / "cifar")
    load("cifar-100", root)
    before = fingerprint(tmp_path)

    load("cifar-100", root)

    assert fingerprint(tmp_path) == before


def test_cifar_100n_has_human_labels_beside_the_true_ones(tmp_path: Path) -> None:
    data = load("cifar-100n", write_cifar_100n(tmp_path / "cifar"))

    assert [(given, true) for _, given, true in labels(data, "train")[:3]] == [
        (1, 0),
        (1, 1),
        (2, 2),
    ]
    assert [(given, true) for _, given, true in labels(data, "test")[:2]] == [(0, 0), (1, 1)]


def test_human_labels_of_other_pictures_are_refused(tmp_path: Path) -> None:
    root = write_cifar_100n(tmp_path / "cifar")
    ones = np.ones(N_TRAIN, dtype=np.int64)
    torch.save({"clean_label": ones, "noisy_label": ones}, root / "CIFAR-100_human.pt")

    with pytest.raises(DataError, match="belongs to other training pictures"):
        load("cifar-100n", root)


@pytest.mark.parametrize("name", ["train", "meta"])
def test_a_pickle_that_would_run_a_program_is_refused(tmp_path: Path, name: str) -> None:
    root = write_cifar_100(tmp_path / "cifar")
    (root / name).write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "ran") + b"'\ntR.")

    with pytest.raises(DataError, match=r"cannot be read: it asks for os\.system"):
        load("cifar-100", root)

    assert not (tmp_path / "ran").exists()


def test_tiny_imagenet_goes_by_its_folders_and_its_annotations(tmp_path: Path) -> None:
    data = load("tiny-imagenet", write_tiny_imagenet(tmp_path / "tiny-imagenet-200"))

    assert data.class_names == ("goldfish", "Egyptian cat", "reel")
    assert labels(data, "train")[2:4] == [
        ("train/n02124075/images/n02124075_0.JPEG", 1, 1),
        ("train/n02124075/images/n02124075_1.JPEG", 1, 1),
    ]
    assert labels(data, "test") == [
        ("val/images/val_0.JPEG", 2, 2),
        ("val/images/val_1.JPEG", 0, 0),
    ]


def test_stanford_cars_with_its_development_kit(tmp_path: Path) -> None:
    data = load("stanford-cars", write_cars(tmp_path / "cars"))

    assert data.class_names == ("AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012")
    assert labels(data, "train") == [("cars_train/00000.jpg", 1, 1), ("cars_train/00001.jpg", 0, 0)]
    assert labels(data, "test") == [("cars_test/00000.jpg", 0, 0), ("cars_test/00001.jpg", 1, 1)]


def test_stanford_cars_in_one_folder(tmp_path: Path) -> None:
    data = load("stanford-cars", write_cars_in_one_folder(tmp_path / "cars"))

    assert labels(data, "train") == [("car_ims/000000.jpg", 1, 1), ("car_ims/000002.jpg", 0, 0)]
    assert labels(data, "test") == [("car_ims/000001.jpg", 0, 0), ("car_ims/000003.jpg", 1, 1)]


def test_cub_goes_by_the_numbers_of_its_tables(tmp_path: Path) -> None:
    data = load("cub-200-2011", write_cub(tmp_path / "CUB_200_2011"))

    assert data.class_names == ("Black footed Albatross", "Laysan Albatross")
    assert [(file.split("_")[-1], given) for file, given, _ in labels(data, "train")] == [
        ("34.jpg", 0),
        ("1027.jpg", 1),
    ]
    assert [given for _, given, _ in labels(data, "test")] == [0, 1]


def test_clothing1m_knows_the_truth_of_some_training_images(tmp_path: Path) -> None:
    data = load("clothing1m", write_clothing1m(tmp_path / "clothing"))

    assert data.class_names == ("T-Shirt", "Shirt")
    assert [(given, true) for _, given, true in labels(data, "train")] == [
        (0, 1),
        (1, None),
        (0, None),
    ]
    assert labels(data, "test") == [("images/3/31/3.jpg", 0, 0)]


def test_webvision_has_fifty_classes_and_no_truth(tmp_path: Path) -> None:
    data = load("webvision", write_webvision(tmp_path / "webvision"))

    assert (len(data.class_names), data.class_names[:2]) == (50, ("tench", "goldfish"))
    assert data.class_names[2] == "crane, bird 2"
    assert labels(data, "train") == [("google/q0001/a.jpg", 1, None)]
    assert labels(data, "test") == [("val_images_256/val000001.jpg", 0, 0)]


@pytest.mark.parametrize("name", paper.TABLES)
def test_another_folder_is_told_what_it_must_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{tmp_path} is not .* as it was published") as caught:
        load(name, tmp_path)

    assert "Expected in the folder: " in caught.value.hint


def test_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    root = write_clothing1m(tmp_path / "clothing")
    write_text(root / "category_names_eng.txt", "T-Shirt")

    with pytest.raises(DataError, match=r"1\.jpg has class 1 of 1"):
        load("clothing1m", root)


@pytest.mark.parametrize("name", WRITERS)
def test_the_tables_lead_to_the_originals(tmp_path: Path, name: str) -> None:
    root = WRITERS[name](tmp_path / "data")
    before = fingerprint(root)
    data = load(name, root)
    (tmp_path / "labels").mkdir()

    paper.write_tables(tmp_path / "labels", data)
    ingested = read_source(tmp_path / "labels" / "labels.csv", root=data.root)

    assert ingested.class_names == data.class_names
    assert ingested.report.unreadable == ()
    assert ingested.samples["split"].to_pylist().count("train") == len(labels(data, "train"))
    assert fingerprint(root) == before


def test_noise_strikes_training_labels_alone_and_leaves_the_truth(tmp_path: Path) -> None:
    data = load("cifar-100", write_cifar_100(tmp_path / "cifar"))

    noisy = paper.with_noise(data, "pair:0.5", side=8, seed=0)
    by_look = paper.with_noise(data, "idn-raw:0.5", side=8, seed=0)

    for changed in (noisy, by_look):
        assert [one.true for one in changed.pictures] == [one.true for one in data.pictures]
        assert labels(changed, "test") == labels(data, "test")
    assert sum(given != true for _, given, true in labels(noisy, "train")) == N_TRAIN // 2
    assert any(given != true for _, given, true in labels(by_look, "train"))
    assert paper.with_noise(data, "given", side=8, seed=0) == data


def test_a_part_of_the_training_images_is_balanced() -> None:
    classes = [0] * 6 + [1] * 6 + [2]
    pictures = [Picture(f"{i}.jpg", "train", label, None) for i, label in enumerate(classes)]
    data = PaperData(Path(), ("a", "b", "c"), (*pictures, Picture("t.jpg", "test", 0, 0)))

    part = paper.balanced_part(data, most_train=7, seed=0)

    given = [given for _, given, _ in labels(part, "train")]
    assert [given.count(label) for label in range(3)] == [3, 3, 1]
    assert len(labels(part, "test")) == 1
    assert paper.balanced_part(data, most_train=13, seed=0) == data


def test_figures_by_hand(tmp_path: Path) -> None:
    write_text(
        tmp_path / "labels.csv", "file_name,split,label", "a,train,x", "b,train,x", "c,train,y"
    )
    write_text(tmp_path / "truth.csv", "file_name,true_label", "a,x", "b,y", "d,x")

    found = paper.measure({"a": True, "b": True, "c": False}, tmp_path)

    assert found == pytest.approx({"precision": 50, "recall": 100, "F1": 200 / 3})
    assert paper.measure({"c": True}, tmp_path) == {}


def test_one_command_makes_a_row_and_makes_it_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [f"model=local-dir:{write_tiny_clip(tmp_path / 'model')}", "pretrained=", "device=cpu"]
    small = [*model, "epochs=1", "batch_size=8"]
    root = write_cifar_100n(tmp_path / "cifar")
    command = ["paper", "cifar-100n", "--data", str(root), "--to", str(tmp_path / "out")]
    command += ["--phase1", *small, "n_context=4", "vpt_tokens=2", "--phase2", *small]
    monkeypatch.setattr(sys, "argv", command)

    paper.main()
    first = capsys.readouterr().out
    before = sorted((tmp_path / "out").rglob("phase?-*"))
    paper.main()

    header, row = first.splitlines()
    assert header.split() == ["noise", "seed", "precision", "recall", "F1", "accuracy", "paper"]
    kind, seed, *figures = row.split()[:6]
    assert (kind, seed) == ("given", "0")
    assert all(0 <= float(one) <= 100 for one in figures)
    assert float(figures[-1]) * N_TEST / 100 == pytest.approx(
        round(float(figures[-1]) * N_TEST / 100), abs=0.01
    )
    assert "precision 88.43, accuracy 79.04" in row
    assert capsys.readouterr().out == first
    assert sorted((tmp_path / "out").rglob("phase?-*")) == before
    with (tmp_path / "out" / "cifar-100n-given-0" / "labels" / "truth.csv").open() as file:
        assert len(list(csv.DictReader(file))) == N_TRAIN + N_TEST


def test_a_run_that_is_still_at_work_is_waited_for(tmp_path: Path) -> None:
    program = (sys.executable, str(Path(__file__).with_name("stage_script.py")))
    settings = Phase1Config(model="good", device="cpu")
    with make_store([0, 1, 0, 1], n_classes=2) as store:
        runs = Runs(tmp_path, store=store, cache=tmp_path / "cache", program=program)
        run_id = runs.start("phase1", settings)

        view = paper.finish(runs, "phase1", settings)

        assert (view.run_id, view.state) == (run_id, "done")
        with pytest.raises(ConfigError, match=f"{run_id} was made with other settings"):
            paper.finish(runs, "phase1", replace(settings, epochs=3))


def test_a_wrong_folder_ends_the_command_with_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["paper", "webvision", "--data", str(tmp_path), "--to", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)

    with pytest.raises(SystemExit) as caught:
        paper.main()

    assert caught.value.code == 2
    assert "Expected in the folder: info/train_filelist_google.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

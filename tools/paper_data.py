"""The paper's seven data sets, read from folders as they were published.

Each loader takes the folder of a data set and gives every picture with its label. Nothing is
written, except the pictures of CIFAR-100, whose files hold bare pixels.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.io import loadmat

from deft_core.errors import DataError
from deft_core.whole_files import writing_whole_folder

N_WEBVISION = 50
"""The paper uses the first classes of WebVision alone, as others do."""

PICKLED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""All that the files of CIFAR-100 need; anything else in a pickle could run a program."""


@dataclass(frozen=True)
class Picture:
    """A picture, by its path from the root, with its labels as places in the class names; nobody
    knows the true one of a picture whose `true` is None."""

    file_name: str
    split: str
    given: int
    true: int | None


@dataclass(frozen=True)
class PaperData:
    """A data set; its class names are words that fit a prompt."""

    root: Path
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]

    def __post_init__(self) -> None:
        n = len(self.class_names)
        for one in self.pictures:
            if not 0 <= one.given < n:
                raise DataError(f"{one.file_name} has class {one.given} of {n}, counted from 0.")


Loader = Callable[[Path, Path], PaperData]


def load_cifar_100(folder: Path, pictures: Path) -> PaperData:
    """CIFAR-100 for Python: the pickles `train`, `test` and `meta`; their pixels are written as
    PNG files to the new folder `pictures`, unless that was done before."""
    return _cifar_100(folder, pictures, human=None)


def load_cifar_100n(folder: Path, pictures: Path) -> PaperData:
    """CIFAR-100 with the human labels of CIFAR-100_human.pt, which lies beside the pickles."""
    _expect(folder, "CIFAR-100N", "CIFAR-100_human.pt")
    return _cifar_100(folder, pictures, human=_read_tensors(folder / "CIFAR-100_human.pt"))


def _cifar_100(folder: Path, pictures: Path, *, human: Mapping[str, Any] | None) -> PaperData:
    _expect(folder, "CIFAR-100", "train", "test", "meta")
    train, test, meta = (_unpickle(folder / name) for name in ("train", "test", "meta"))
    true = list(train["fine_labels"])
    given = true
    if human is not None:
        if list(map(int, human["clean_label"])) != true:
            raise DataError(
                f"CIFAR-100_human.pt in {folder} belongs to other training pictures.",
                "Expected the file of CIFAR-100N, whose clean_label are the labels in train.",
            )
        given = list(map(int, human["noisy_label"]))
    if not pictures.exists():
        with writing_whole_folder(pictures) as written:
            _write_pictures(train["data"], written / "train")
            _write_pictures(test["data"], written / "test")
    found = [
        Picture(f"train/{i:05d}.png", "train", *labels)
        for i, labels in enumerate(zip(given, true, strict=True))
    ]
    found += [
        Picture(f"test/{i:05d}.png", "test", label, label)
        for i, label in enumerate(test["fine_labels"])
    ]
    return PaperData(pictures, _spaced(meta["fine_label_names"]), tuple(found))


def _write_pictures(pixels: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for i, row in enumerate(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)):
        Image.fromarray(row).save(folder / f"{i:05d}.png")


def load_tiny_imagenet(folder: Path, _pictures: Path) -> PaperData:
    """Tiny-ImageNet: a folder of images for each class, tested on the labelled part `val`."""
    _expect(folder, "Tiny-ImageNet", "train", "val/val_annotations.txt", "val/images", "words.txt")
    wnids = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    words = dict(
        line.split("\t", 1) for line in _lines(folder / "words.txt") if line.count("\t") == 1
    )
    found = [
        _certain(path.relative_to(folder).as_posix(), "train", label)
        for wnid, label in label_of.items()
        for path in sorted((folder / "train" / wnid / "images").iterdir())
    ]
    for number, (name, wnid) in _rows(folder / "val" / "val_annotations.txt", n=2):
        label = _known(label_of, wnid, where=f"val_annotations.txt line {number}")
        found.append(_certain(f"val/images/{name}", "test", label))
    return PaperData(folder, _short_names([words.get(one, one) for one in wnids]), tuple(found))


def load_stanford_cars(folder: Path, _pictures: Path) -> PaperData:
    """Stanford Cars: all images in `car_ims` with cars_annos.mat, or in `cars_train` and
    `cars_test` with the development kit and the labels of the test images."""
    if (folder / "cars_annos.mat").is_file():
        _expect(folder, "Stanford Cars", "car_ims")
        annotations = loadmat(folder / "cars_annos.mat", simplify_cells=True)
        found = [
            _certain(one["relative_im_path"], "test" if one["test"] else "train", one["class"] - 1)
            for one in annotations["annotations"]
        ]
        return PaperData(folder, tuple(annotations["class_names"]), tuple(found))
    kit = ("devkit/cars_meta.mat", "devkit/cars_train_annos.mat")
    labelled = "cars_test_annos_withlabels.mat"
    _expect(folder, "Stanford Cars", *kit, labelled, "cars_train", "cars_test")
    names = loadmat(folder / kit[0], simplify_cells=True)["class_names"]
    found = [
        _certain(f"cars_{split}/{one['fname']}", split, one["class"] - 1)
        for split, file in (("train", kit[1]), ("test", labelled))
        for one in loadmat(folder / file, simplify_cells=True)["annotations"]
    ]
    return PaperData(folder, tuple(names), tuple(found))


def load_cub_200(folder: Path, _pictures: Path) -> PaperData:
    """CUB-200-2011: `images` and four tables that go by the number of an image or class."""
    tables = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    _expect(folder, "CUB-200-2011", "images", *tables)
    files, labels, is_train, names = (_table(folder / name) for name in tables)
    found = [
        _certain(
            f"images/{file}",
            "train" if _known(is_train, image, where=tables[2]) == "1" else "test",
            _number(_known(labels, image, where=tables[1]), where=tables[1]) - 1,
        )
        for image, file in files.items()
    ]
    birds = [
        name.split(".", 1)[-1] for _, name in sorted(names.items(), key=lambda one: int(one[0]))
    ]
    return PaperData(folder, _spaced(birds), tuple(found))


def load_clothing1m(folder: Path, _pictures: Path) -> PaperData:
    """Clothing1M: training images with noisy labels, test images with clean ones. Where a training
    image has a clean label too, that is its true one."""
    lists = ("noisy_train_key_list.txt", "clean_test_key_list.txt")
    tables = ("noisy_label_kv.txt", "clean_label_kv.txt")
    _expect(folder, "Clothing1M", "images", *lists, *tables, "category_names_eng.txt")
    noisy, clean = (
        {name: _number(label, where=table) for name, label in _table(folder / table).items()}
        for table in tables
    )
    found = [
        Picture(name, "train", _known(noisy, name, where=tables[0]), clean.get(name))
        for name in filter(None, _lines(folder / lists[0]))
    ]
    found += [
        _certain(name, "test", _known(clean, name, where=tables[1]))
        for name in filter(None, _lines(folder / lists[1]))
    ]
    names = _spaced(filter(None, _lines(folder / "category_names_eng.txt")))
    return PaperData(folder, names, tuple(found))


def load_webvision(folder: Path, _pictures: Path) -> PaperData:
    """The first 50 classes of WebVision 1.0: images found by Google, nobody knows which of them
    are right, and the validation images."""
    lists = ("info/train_filelist_google.txt", "info/val_filelist.txt")
    _expect(folder, "WebVision", *lists, "info/synsets.txt", "google", "val_images_256")
    synsets = [line.partition(" ")[2] for line in _lines(folder / "info" / "synsets.txt")]
    train, test = (
        [
            (name, label)
            for number, (name, text) in _rows(folder / part, n=2)
            if (label := _number(text, where=f"{part} line {number}")) < N_WEBVISION
        ]
        for part in lists
    )
    found = [Picture(name, "train", label, None) for name, label in train]
    found += [_certain(f"val_images_256/{name}", "test", label) for name, label in test]
    return PaperData(folder, _short_names(synsets[:N_WEBVISION]), tuple(found))


# --- what the folders hold


def _expect(folder: Path, name: str, *parts: str) -> None:
    """DataError when the folder lacks a part of the data set of this name."""
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise DataError(
            f"{folder} is not {name} as it was published: it has no {', '.join(missing)}.",
            f"Expected in the folder: {', '.join(parts)}.",
        )


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dictionaries and arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PICKLED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _unpickle(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return _read_file(path, lambda: _PlainUnpickler(file, encoding="latin1").load())


def _read_tensors(path: Path) -> dict[str, Any]:
    reconstruct = np._core.multiarray._reconstruct
    known = [
        np.ndarray,
        np.dtype,
        np.dtypes.Int32DType,
        np.dtypes.Int64DType,
        reconstruct,
        (reconstruct, "numpy.core.multiarray._reconstruct"),
    ]
    with path.open("rb") as file, torch.serialization.safe_globals(known):
        return _read_file(path, lambda: torch.load(file, weights_only=True))


def _read_file(path: Path, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0]}.",
            "Expected the file as it was published.",
        ) from error


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]


def _rows(path: Path, *, n: int) -> Iterable[tuple[int, list[str]]]:
    """Line number and first `n` words of each line that is not empty."""
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if words and len(words) < n:
            raise DataError(f'{path} line {number}: expected {n} words, found "{line}".')
        if words:
            yield number, words[:n]


def _table(path: Path) -> dict[str, str]:
    return {key: value for _, (key, value) in _rows(path, n=2)}


def _known(table: Mapping[str, Any], key: str, *, where: str) -> Any:
    try:
        return table[key]
    except KeyError as error:
        raise DataError(f'{where} does not know "{key}".') from error


def _number(text: str, *, where: str) -> int:
    if not text.isdecimal():
        raise DataError(f'{where}: expected a number, found "{text}".')
    return int(text)


def _certain(file_name: str, split: str, label: int) -> Picture:
    return Picture(file_name, split, int(label), int(label))


# --- the names of classes


def _spaced(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.replace("_", " ") for name in names)


def _short_names(synonyms: Sequence[str]) -> tuple[str, ...]:
    """The first of each class's synonyms, "tench" of "tench, Tinca tinca"; all of them where
    another class begins with the same."""
    firsts = [one.split(",")[0].strip() for one in synonyms]
    n_by_first = Counter(firsts)
    return tuple(
        first if n_by_first[first] == 1 else whole
        for first, whole in zip(firsts, synonyms, strict=True)
    )

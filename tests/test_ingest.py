"""Every layout that is read, and every bad input: reported or refused, and nothing ever written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from deft_core.errors import DataError
from deft_core.ingest import Ingested, read_source
from deft_core.pictures import MOST_PIXELS
from tests.small_world import fingerprint, write_class_folders, write_image


def read_unchanged(source: Path) -> Ingested:
    """What is read; the folder around the source is the same afterwards."""
    before = fingerprint(source.parent)
    ingested = read_source(source)
    assert fingerprint(source.parent) == before
    return ingested


def refused(source: Path) -> DataError:
    """The error that stops the ingest; the folder around the source is the same afterwards."""
    before = fingerprint(source.parent)
    with pytest.raises(DataError) as caught:
        read_source(source)
    assert fingerprint(source.parent) == before
    return caught.value


def labels_csv(root: Path, *rows: str, header: str = "file_name,split,label") -> Path:
    """A data set of four images of two classes, with a labels.csv of these rows."""
    write_class_folders(root)
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root


GOOD_ROWS = ("cat/0.png,train,cat", "cat/1.png,test,cat", "dog/0.png,val,dog", "dog/1.png,,dog")


# --- layouts


def test_class_folders(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "pets", names=("class 10", "class 2"))
    write_image(root / "class 2" / "deeper" / "x.JPG", seed=7, size=(40, 30))

    ingested = read_unchanged(root)

    assert ingested.root == root.resolve()
    assert ingested.class_names == ("class 2", "class 10")
    rows = ingested.samples.to_pylist()
    assert [row["sample_id"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["file_name"] for row in rows] == sorted(row["file_name"] for row in rows)
    assert {row["split"] for row in rows} == {"train"}
    deeper = next(row for row in rows if row["file_name"] == "class 2/deeper/x.JPG")
    digest = hashlib.sha256((root / deeper["file_name"]).read_bytes()).hexdigest()
    assert deeper["sha256"] == digest
    assert (deeper["given_label"], deeper["width"], deeper["height"]) == (0, 40, 30)
    assert ingested.report.layout == "class folders"
    assert ingested.report.n_by_class == {"class 2": 3, "class 10": 2}


def test_split_folders(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for number, split in enumerate(("train", "val", "test")):
        for name in ("cat", "dog"):
            write_image(root / split / name / "0.png", seed=number)

    ingested = read_unchanged(root)

    assert ingested.report.layout == "split folders"
    assert ingested.class_names == ("cat", "dog")
    splits = dict(
        zip(
            ingested.samples["file_name"].to_pylist(),
            ingested.samples["split"].to_pylist(),
            strict=True,
        )
    )
    assert splits["val/cat/0.png"] == "validation"
    assert splits["test/dog/0.png"] == "test"


def test_labels_csv__and_truth_is_never_read(tmp_path: Path) -> None:
    root = labels_csv(tmp_path / "pets", *GOOD_ROWS)
    (root / "truth.csv").mkdir()

    ingested = read_unchanged(root)

    assert ingested.report.layout == "csv"
    assert ingested.samples["split"].to_pylist() == ["train", "test", "validation", "train"]
    assert ingested.samples["given_label"].to_pylist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "header", ["filepath,category", "image, class", "path,given_label", " File_Name ,LABEL"]
)
def test_csv_file__known_column_names(tmp_path: Path, header: str) -> None:
    write_class_folders(tmp_path / "pets")
    manifest = tmp_path / "pets" / "any name.CSV"
    manifest.write_bytes(f"\ufeff{header}\r\ncat/0.png,cat\r\n./dog/0.png,dog\r\n\r\n".encode())

    ingested = read_unchanged(manifest)

    assert ingested.samples["file_name"].to_pylist() == ["cat/0.png", "dog/0.png"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv__separators_empty_rows_and_backslashes(tmp_path: Path, separator: str) -> None:
    root = write_class_folders(tmp_path / "pets")
    (root / "cat" / "a\\b.png").write_bytes((root / "cat" / "0.png").read_bytes())
    rows = [
        ("path", "label", "note"),
        ("cat\\0.png", "cat", "Windows"),
        ("", " ", ""),
        ("cat/a\\b.png", "cat", ""),
        ("dog/0.png", "dog", ""),
    ]
    (root / "labels.csv").write_text("\n".join(map(separator.join, rows)))

    ingested = read_unchanged(root)

    assert ingested.samples["file_name"].to_pylist() == ["cat/0.png", "cat/a\\b.png", "dog/0.png"]
    assert ingested.report.unreadable == ()


def test_classes_txt__declares_the_order_and_the_empty_classes(tmp_path: Path) -> None:
    root = labels_csv(tmp_path / "pets", *GOOD_ROWS)
    (root / "classes.txt").write_text("zebra\ndog\ncat\n")

    ingested = read_unchanged(root)

    assert ingested.class_names == ("zebra", "dog", "cat")
    assert ingested.samples["given_label"].to_pylist() == [2, 2, 1, 1]
    assert ingested.report.n_by_class == {"zebra": 0, "dog": 2, "cat": 2}


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "pets")
    write_image(root / ".thumbnails" / "a.png", seed=1)
    write_image(root / "cat" / ".cache" / "a.png", seed=1)
    (root / "cat" / "._0.png").write_bytes(b"junk")
    (root / "cat" / "notes.txt").write_text("a cat")
    (root / "README.md").write_text("pets")
    write_image(root / "loose.png", seed=1)

    report = read_unchanged(root).report

    assert (report.n_samples, report.n_other_files, report.n_without_class) == (4, 2, 1)
    assert report.unreadable == ()


@pytest.mark.parametrize("other", ["annotations", "cat", ".cache"])
def test_split_folders_beside_a_folder_without_images(tmp_path: Path, other: str) -> None:
    root = tmp_path / "pets"
    for split in ("train", "test"):
        write_class_folders(root / split)
    (root / other).mkdir()
    (root / other / "a.json").write_text("{}")

    report = read_unchanged(root).report

    assert report.layout == "split folders"
    assert report.n_by_class == {"cat": 4, "dog": 4}


def test_a_class_may_be_named_like_a_split(tmp_path: Path) -> None:
    ingested = read_unchanged(write_class_folders(tmp_path / "vehicles", names=("bus", "train")))

    assert ingested.class_names == ("bus", "train")


@pytest.mark.parametrize("layout", ["class folders", "csv"])
def test_links_are_followed_inside_the_data_set_only(tmp_path: Path, layout: str) -> None:
    root = write_class_folders(tmp_path / "pets")
    outside = write_image(tmp_path / "outside" / "x.png", seed=5)
    (root / "cat" / "inside.png").symlink_to(root / "dog" / "0.png")
    (root / "cat" / "outside.png").symlink_to(outside)
    (root / "cat" / "linked").symlink_to(outside.parent)
    (root / "bird").symlink_to(outside.parent)
    if layout == "csv":
        names = ("cat/0.png", "cat/inside.png", "cat/outside.png", "cat/linked/x.png")
        rows = [f"{name},cat" for name in names] + ["dog/0.png,dog"]
        (root / "labels.csv").write_text("\n".join(["path,label", *rows]))

    report = read_unchanged(root).report

    problems = {one.file_name: one.problem for one in report.unreadable}
    assert problems.pop("cat/outside.png") == "a link that leaves the data set's folder"
    if layout == "csv":
        assert problems == {"cat/linked/x.png": "a link that leaves the data set's folder"}
    else:
        linked = "a linked folder; its files are not taken in"
        assert problems == {"bird": linked, "cat/linked": linked}
    assert report.n_symlinks == 1


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    read_source(
        write_class_folders(tmp_path / "pets"),
        on_progress=lambda done, total: seen.append((done, total)),
    )

    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- what is reported


def test_unreadable_files_are_left_out_by_name(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "pets")
    cat = root / "cat"
    (cat / "empty.jpg").touch()
    (cat / "text.jpg").write_text("not an image at all")
    for suffix in ("jpg", "png", "gif", "bmp", "webp", "tiff"):
        whole = write_image(tmp_path / f"whole.{suffix}", seed=3, size=(64, 64)).read_bytes()
        (cat / f"truncated.{suffix}").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (MOST_PIXELS // 1000 + 1, 1000)).save(cat / "bomb.png")
    Image.new("1", (40_000, 10_000)).save(cat / "big bomb.png")
    (cat / "page.ps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (cat / "page.ps").rename(cat / "postscript.png")
    (cat / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(cat / "pipe.png")
    (cat / "locked.png").mkdir()

    report = read_unchanged(root).report

    problems = {one.file_name.removeprefix("cat/"): one.problem for one in report.unreadable}
    assert report.n_samples == 4
    assert problems.keys() == {
        "empty.jpg",
        "text.jpg",
        *(f"truncated.{suffix}" for suffix in ("jpg", "png", "gif", "bmp", "webp", "tiff")),
        "bomb.png",
        "big bomb.png",
        "postscript.png",
        "gone.png",
        "pipe.png",
    }
    assert problems["empty.jpg"] == "the file is empty"
    assert problems["text.jpg"].startswith("not an image")
    assert "pixels" in problems["bomb.png"]
    assert "pixels" in problems["big bomb.png"]
    assert problems["gone.png"] == "a link that leaves the data set's folder"
    assert problems["pipe.png"] == "not a regular file"


@pytest.mark.parametrize("size", [(5, 20), (20, 7), (1, 1)])
def test_a_jpeg_of_a_few_pixels_is_an_image(tmp_path: Path, size: tuple[int, int]) -> None:
    root = write_class_folders(tmp_path / "data")
    Image.new("RGB", size).save(root / "cat" / "small.jpg")

    ingested = read_unchanged(root)

    assert ingested.report.unreadable == ()
    sizes = [ingested.samples[name].to_pylist() for name in ("width", "height")]
    assert size in zip(*sizes, strict=True)


def test_file_names_that_are_no_text_are_reported(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "pets")
    image = (root / "cat" / "0.png").read_bytes()
    Path(os.fsdecode(os.fsencode(root / "cat") + b"/caf\xe9.png")).write_bytes(image)

    report = read_unchanged(root).report

    assert report.n_samples == 4
    (one,) = report.unreadable
    assert one.file_name == "cat/caf?.png"
    assert one.problem == "the file name is not valid Unicode"


def test_csv__a_missing_file_is_reported(tmp_path: Path) -> None:
    root = labels_csv(tmp_path / "pets", *GOOD_ROWS, "cat/gone.png,train,cat")

    report = read_unchanged(root).report

    assert report.n_samples == 4
    (one,) = report.unreadable
    assert (one.file_name, one.problem) == ("cat/gone.png", "the file does not exist")


def test_duplicates_are_counted_and_conflicts_named(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "pets")
    image = (root / "cat" / "0.png").read_bytes()
    (root / "cat" / "copy.png").write_bytes(image)
    (root / "dog" / "copy.png").write_bytes(image)
    (root / "dog" / "twin.png").write_bytes((root / "dog" / "1.png").read_bytes())

    report = read_unchanged(root).report

    assert (report.n_samples, report.n_duplicates) == (7, 3)
    (conflict,) = report.conflicts
    assert conflict.file_names == ("cat/0.png", "cat/copy.png", "dog/copy.png")
    assert conflict.labels == ("cat", "cat", "dog")


def test_classes_with_the_same_prompt_are_named(tmp_path: Path) -> None:
    names = ("Cat", "cat", "guinea pig", "guinea_pig", "dog")

    report = read_unchanged(write_class_folders(tmp_path / "pets", names=names)).report

    assert report.same_prompt == (("Cat", "cat"), ("guinea pig", "guinea_pig"))


@settings(max_examples=60)
@cases(st.data())
def test_broken_bytes_never_raise(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = write_class_folders(tmp_path_factory.mktemp("fuzz") / "pets", n=1)
    suffix = data.draw(st.sampled_from(["jpg", "png", "gif", "bmp", "webp", "tiff"]))
    path = write_image(root / "cat" / f"fuzzed.{suffix}", seed=1)
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    report = read_source(root).report

    assert report.n_samples + len(report.unreadable) == 3


# --- what is refused


def test_refuses_a_missing_folder(tmp_path: Path) -> None:
    error = refused(tmp_path / "nothing")

    assert error.message == f"{tmp_path / 'nothing'} does not exist."
    assert error.hint


def test_refuses_a_file_that_is_no_csv(tmp_path: Path) -> None:
    assert "not a CSV file" in refused(write_image(tmp_path / "a.png", seed=1)).message


def test_refuses_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "pets" / "cat").mkdir(parents=True)

    error = refused(tmp_path / "pets")

    assert error.message.endswith("holds no images.")
    assert "labels.csv" in error.hint


def test_refuses_images_without_class_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "pets" / "a.png", seed=1)

    assert refused(tmp_path / "pets").message.endswith("holds 1 images but no class folders.")


def test_refuses_split_folders_beside_class_folders(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "pets" / "train")
    write_class_folders(tmp_path / "pets", names=("bird",))

    error = refused(tmp_path / "pets")

    assert 'the split folder "train" beside the folder "bird"' in error.message
    assert error.hint


def test_refuses_a_single_class(tmp_path: Path) -> None:
    error = refused(write_class_folders(tmp_path / "pets", names=["cat"]))

    assert error.message.endswith('has one class only: "cat".')


def test_refuses_when_nothing_can_be_read(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.jpg").touch()

    error = refused(tmp_path / "pets")

    assert error.message.startswith("None of the 2 images")
    assert error.hint == "The first is cat/a.jpg: the file is empty."


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "has no rows."),
        (("cat/0.png,train,",), "labels.csv row 2: cat/0.png has an empty label."),
        ((",train,cat",), "labels.csv row 2: the path is empty."),
        (("../x.png,train,cat",), "labels.csv row 2: ../x.png leads out of"),
        (("cat/../../x.png,train,cat",), "labels.csv row 2: cat/../../x.png leads out of"),
        (("/etc/passwd,train,cat",), "labels.csv row 2: /etc/passwd leads out of"),
        (("..\\x.png,train,cat",), "labels.csv row 2: ../x.png leads out of"),
        (("cat/0.png,train",), "labels.csv row 2: 2 values, expected 3."),
        (("cat/0.png,extra,cat",), 'labels.csv row 2: split "extra" is not one of'),
        (
            (GOOD_ROWS[0], "cat/./0.png,train,dog"),
            "labels.csv row 3: cat/./0.png is named in row 2 already.",
        ),
        (('"cat/0.png,train,cat',), "is not a CSV file in UTF-8"),
        (("cat/\0.png,train,cat",), ""),
    ],
)
def test_refuses_rows_that_cannot_be_meant(
    tmp_path: Path, rows: tuple[str, ...], message: str
) -> None:
    root = labels_csv(tmp_path / "pets", *rows)

    assert message in refused(root).message


def test_refuses_a_csv_without_known_columns(tmp_path: Path) -> None:
    root = labels_csv(tmp_path / "pets", "cat/0.png,cat", header="photo,kind")

    error = refused(root)

    assert error.message.endswith("labels.csv has no path column; found: photo, kind.")
    assert error.hint == "Name it one of: file_name, path, filepath, image, filename."


def test_refuses_columns_that_are_named_twice(tmp_path: Path) -> None:
    root = labels_csv(tmp_path / "pets", "cat/0.png,cat,dog", header="path,label,Label")

    assert refused(root).message.endswith('labels.csv names the column "label" 2 times.')


def test_refuses_classes_that_are_not_utf8(tmp_path: Path) -> None:
    root = labels_csv(tmp_path / "pets", *GOOD_ROWS)
    (root / "classes.txt").write_bytes("Käfer\nKuh\n".encode("latin-1"))

    assert "classes.txt is not a text in UTF-8" in refused(root).message


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00c\x00a"])
def test_refuses_a_csv_that_is_empty_or_not_utf8(tmp_path: Path, content: bytes) -> None:
    root = labels_csv(tmp_path / "pets")
    (root / "labels.csv").write_bytes(content)

    assert "labels.csv" in refused(root).message


def test_refuses_a_class_that_is_not_declared(tmp_path: Path) -> None:
    root = labels_csv(tmp_path / "pets", *GOOD_ROWS, "cat/2.png,train,catt")
    (root / "classes.txt").write_text("cat\ndog\n")

    error = refused(root)

    assert error.message == 'labels.csv row 6: class "catt" is not one of 2 classes.'
    assert error.hint == 'Did you mean "cat"?'


def test_refuses_classes_that_are_declared_twice(tmp_path: Path) -> None:
    root = labels_csv(tmp_path / "pets", *GOOD_ROWS)
    (root / "classes.txt").write_text("cat\ndog\ncat\n")

    assert refused(root).message.endswith('names the class "cat" 2 times.')


def test_a_table_may_lie_apart_from_its_images(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "data", names=("cat", "dog"), n=1)
    table = tmp_path / "tables" / "mine.csv"
    table.parent.mkdir()
    table.write_text("file_name,label\ncat/0.png,dog\ndog/0.png,cat\n", encoding="utf-8")
    (table.parent / "classes.txt").write_text("dog\ncat\n", encoding="utf-8")

    ingested = read_source(table, root=root)

    assert ingested.root == root.resolve()
    assert ingested.class_names == ("dog", "cat")
    assert ingested.samples["file_name"].to_pylist() == ["cat/0.png", "dog/0.png"]
    assert ingested.samples["given_label"].to_pylist() == [0, 1]


@pytest.mark.parametrize("source", ["data", "data/labels.csv"])
def test_a_root_goes_with_a_table_and_must_be_there(tmp_path: Path, source: str) -> None:
    root = write_class_folders(tmp_path / "data", names=("cat", "dog"), n=1)
    (root / "labels.csv").write_text("file_name,label\ncat/0.png,dog\n", encoding="utf-8")
    wrong = root if source == "data" else tmp_path / "nowhere"

    with pytest.raises(DataError, match="cannot start from") as caught:
        read_source(tmp_path / source, root=wrong)

    assert "goes with a CSV file" in caught.value.hint

"""Exports: what is in them, byte for byte, and what is refused without a trace."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given as cases
from hypothesis import strategies as st

from deft_core.decisions import Decision, Note
from deft_core.errors import ExportError
from deft_core.export import COLUMNS, FORMATS, export, folder_name
from deft_core.ingest import read_source
from deft_core.review import Review
from deft_core.store import Store, utc_now
from tests.small_world import Clock, add_scores, fingerprint, write_class_folders, write_image

NAMES = ("=cmd|' C calc'!A1", 'he said "cat", twice')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four training images of two awkward classes, each folder with 0.png and 1.png."""
    return write_class_folders(tmp_path / "data", names=NAMES)


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    """Sample 0 relabelled to class 1 and noted, 1 undecided and flagged, 2 undecided, 3 both."""
    with ingested(root) as opened:
        add_scores(opened, [0.25, 0.125, 0.875, 0.5], predicted=[1, 1, 1, 0])
        review = Review(opened, clock=Clock())
        review.decide(
            [
                Decision(uid="a", group="a", sample_id=0, verdict="relabel", label=1),
                Decision(uid="b", group="b", sample_id=3, verdict="both"),
                Note(uid="n", group="n", sample_id=0, note="red, not blue"),
            ],
            reviewer="ann",
        )
        yield opened


def ingested(root: Path) -> Store:
    """A store with the data set at `root`."""
    source = read_source(root)
    store = Store(":memory:")
    store.add_dataset(
        root,
        class_names=source.class_names,
        samples=source.samples,
        report={},
        ingested_at=utc_now(),
    )
    return store


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- csv


def test_csv__every_sample_with_its_provenance(store: Store, root: Path, tmp_path: Path) -> None:
    before = fingerprint(root)

    exported = export(store, format="csv", to=tmp_path / "out" / "labels.csv")

    rows = rows_of(exported.path)
    assert tuple(rows[0]) == COLUMNS
    assert rows[0] == {
        "file_name": f"{NAMES[0]}/0.png",
        "split": "train",
        "given_label": NAMES[0],
        "reviewed_label": NAMES[1],
        "verdict": "relabel",
        "is_disputed": "false",
        "other_label": "",
        "p_clean": "0.25",
        "scored_label": NAMES[0],
        "suggested_label": NAMES[1],
        "is_clean": "false",
        "final_label": NAMES[1],
        "in_curated_set": "true",
        "reviewer": "ann",
        "decided_at": "2026-01-02T03:04:06+00:00",
        "round": "1",
        "note": "red, not blue",
        "sha256": store.sample(0).sha256,
    }
    chosen = [(row["final_label"], row["in_curated_set"], row["verdict"]) for row in rows[1:]]
    assert chosen == [(NAMES[0], "false", ""), (NAMES[1], "true", ""), ("", "false", "both")]
    assert [row["other_label"] for row in rows] == ["", "", "", NAMES[0]]
    assert (exported.n_samples, exported.n_curated, exported.n_relabelled) == (4, 2, 1)
    assert fingerprint(root) == before


def test_csv__both_names_the_label_that_was_suggested_then(store: Store, tmp_path: Path) -> None:
    add_scores(store, [0.25, 0.125, 0.875, 0.5], run_id="phase1-002", round=2)

    rows = rows_of(export(store, format="csv", to=tmp_path / "labels.csv").path)

    assert (rows[3]["verdict"], rows[3]["given_label"]) == ("both", NAMES[1])
    assert (rows[3]["suggested_label"], rows[3]["other_label"]) == ("", NAMES[0])


def test_csv__scores_say_which_label_they_are_about(store: Store, tmp_path: Path) -> None:
    add_scores(store, [0.75, 0.125, 0.875, 0.5], run_id="phase1-002", round=2)

    rows = rows_of(export(store, format="csv", to=tmp_path / "labels.csv").path)

    assert (rows[0]["given_label"], rows[0]["scored_label"]) == NAMES
    assert (rows[0]["p_clean"], rows[0]["is_clean"]) == ("0.75", "true")


def test_csv__a_dispute_is_nobodys_verdict_and_every_note_is_there(
    store: Store, tmp_path: Path
) -> None:
    review = Review(store, clock=Clock())
    review.set_double_share(1)
    review.decide(
        [
            Decision(uid="c", group="c", sample_id=0, verdict="keep"),
            Note(uid="m", group="m", sample_id=0, note="blue"),
        ],
        reviewer="bea",
    )

    row = rows_of(export(store, format="csv", to=tmp_path / "labels.csv").path)[0]

    assert (row["verdict"], row["is_disputed"], row["reviewer"]) == ("unsure", "true", "")
    assert row["final_label"] == row["reviewed_label"] == ""
    assert row["note"] == "ann: red, not blue\nbea: blue"


def test_csv__can_be_ingested_again(store: Store, root: Path, tmp_path: Path) -> None:
    table = export(store, format="csv", to=tmp_path / "labels.csv").path
    (root / "labels.csv").write_bytes(table.read_bytes())

    again = read_source(root)

    assert again.samples["given_label"].to_pylist() == [0, 0, 1, 1]


@pytest.mark.parametrize("letter", ["\r", "\n", "\r\n"])
def test_csv__holds_line_ends_in_names_and_notes(tmp_path: Path, letter: str) -> None:
    names = (f"a{letter}cat", "dog")
    root = write_class_folders(tmp_path / "data", names=names)
    (root / names[0] / "0.png").rename(root / names[0] / f"b{letter}d.png")
    with ingested(root) as store:
        note = Note(uid="n", group="n", sample_id=1, note=f"one{letter}two")
        Review(store, clock=Clock()).decide([note], reviewer="ann")
        table = export(store, format="csv", to=tmp_path / "labels.csv").path
        file_names = store.samples()["file_name"].to_pylist()

    rows = rows_of(table)
    assert [row["file_name"] for row in rows] == file_names
    assert file_names[1] == f"{names[0]}/b{letter}d.png"
    assert rows[1]["note"] == f"one{letter}two"
    (root / "labels.csv").write_bytes(table.read_bytes())
    again = read_source(root)
    assert again.class_names == names
    assert again.samples["file_name"].to_pylist() == file_names


def test_csv__refuses_to_overwrite_unless_forced(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("mine")

    with pytest.raises(ExportError, match=r"labels\.csv exists"):
        export(store, format="csv", to=path)

    assert path.read_text() == "mine"
    export(store, format="csv", to=path, is_forced=True)
    assert len(rows_of(path)) == 4


def test_csv__of_a_workspace_without_scores(root: Path, tmp_path: Path) -> None:
    with ingested(root) as store:
        export(store, format="csv", to=tmp_path / "labels.csv")

        with pytest.raises(ExportError, match="no curated set before phase 1"):
            export(store, format="folders", to=tmp_path / "out")

    row = rows_of(tmp_path / "labels.csv")[0]
    assert (row["p_clean"], row["is_clean"], row["in_curated_set"]) == ("", "", "false")
    assert not (tmp_path / "out").exists()


def test_csv__only_training_samples_are_in_the_curated_set(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number, split in enumerate(("train", "validation", "test")):
        write_class_folders(root / split, names=("cat", f"dog {number}"), n=1)
    with ingested(root) as store:
        add_scores(store, [0.875] * 6)
        Review(store).decide([Decision(uid="a", group="a", sample_id=0, verdict="exclude")])

        exported = export(store, format="csv", to=tmp_path / "labels.csv")
        folders = export(store, format="folders", to=tmp_path / "out")

    rows = rows_of(exported.path)
    assert {row["split"] for row in rows if row["in_curated_set"] == "true"} == {"train"}
    assert exported.n_curated == 2
    assert (folders.n_samples, folders.n_curated) == (5, 2)
    assert len(files_in(tmp_path / "out")) == 5


# --- jsonl


def test_jsonl__the_rows_of_the_csv_with_their_types(store: Store, tmp_path: Path) -> None:
    table = export(store, format="csv", to=tmp_path / "labels.csv").path

    lines = export(store, format="jsonl", to=tmp_path / "labels.jsonl").path

    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [tuple(row) for row in rows] == [COLUMNS] * 4
    first, second = rows[0], rows[1]
    assert (first["p_clean"], first["is_clean"], first["round"]) == (0.25, False, 1)
    assert (first["final_label"], first["decided_at"]) == (NAMES[1], "2026-01-02T03:04:06+00:00")
    assert (second["verdict"], second["reviewed_label"]) == (None, None)
    words = {None: "", True: "true", False: "false"}
    as_text = [
        {
            name: words[value] if value is None or isinstance(value, bool) else str(value)
            for name, value in row.items()
        }
        for row in rows
    ]
    assert as_text == rows_of(table)


# --- folders


def test_folders__copies_of_the_curated_set(store: Store, root: Path, tmp_path: Path) -> None:
    before = fingerprint(root)
    seen: list[tuple[int, int]] = []

    exported = export(
        store,
        format="folders",
        to=tmp_path / "out",
        on_progress=lambda done, total: seen.append((done, total)),
    )

    folder = "he said %22cat%22, twice"
    second = f"train/{folder}/0-{store.sample(2).sha256[:12]}.png"
    assert files_in(tmp_path / "out") == {
        f"train/{folder}/0.png": (root / NAMES[0] / "0.png").read_bytes(),
        second: (root / NAMES[1] / "0.png").read_bytes(),
    }
    assert (exported.n_samples, exported.n_relabelled) == (2, 1)
    assert seen == [(1, 2), (2, 2)]
    assert fingerprint(root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_folders__an_empty_folder_is_taken(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    assert export(store, format="folders", to=tmp_path / "out").n_samples == 2


def test_folders__the_current_folder_is_filled_and_stays_current(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")

    export(store, format="folders", to=Path())

    assert [path.name for path in Path().iterdir()] == ["train"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_folders__three_files_of_one_name_and_content(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "data")
    image = (root / "cat" / "0.png").read_bytes()
    for place in ("cat/a", "cat/b"):
        (root / place).mkdir()
        (root / place / "0.PNG").write_bytes(image)
    with ingested(root) as store:
        add_scores(store, [0.875] * 6)

        assert export(store, format="folders", to=tmp_path / "out").n_samples == 6

    assert len(list((tmp_path / "out" / "train" / "cat").iterdir())) == 4


def test_folders__refuses_a_folder_that_holds_something(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")

    with pytest.raises(ExportError, match="not an empty folder"):
        export(store, format="folders", to=tmp_path / "out", is_forced=True)

    assert files_in(tmp_path / "out") == {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("other bytes", r"0\.png is not the image that was ingested"),
        ("gone", r"0\.png cannot be read: No such file"),
    ],
)
def test_folders__refuses_images_that_have_changed(
    store: Store, root: Path, tmp_path: Path, change: str, problem: str
) -> None:
    if change == "gone":
        (root / NAMES[1] / "0.png").unlink()
    else:
        write_image(root / NAMES[1] / "0.png", seed=77)

    with pytest.raises(ExportError, match=problem):
        export(store, format="folders", to=tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# --- both


@pytest.mark.parametrize("name", FORMATS)
def test_export__never_into_the_data_set(store: Store, root: Path, name: str) -> None:
    before = fingerprint(root)

    for place in (root, root / "new", root / ".." / "data" / "x.csv"):
        with pytest.raises(ExportError, match="never written to"):
            export(store, format=name, to=place, is_forced=True)

    assert fingerprint(root) == before


@pytest.mark.parametrize("name", FORMATS)
def test_export__says_where_it_cannot_write(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ExportError, match="cannot be written"):
        export(store, format=name, to=tmp_path / "file" / "out")

    assert (tmp_path / "file").read_text() == "in the way"


def test_export__unknown_format(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='no export format "coco"') as caught:
        export(store, format="coco", to=tmp_path / "out")

    assert caught.value.hint == "Formats: csv, jsonl, folders."


def test_export__nothing_ingested(tmp_path: Path) -> None:
    with Store(":memory:") as empty, pytest.raises(ExportError, match="holds no data set"):
        export(empty, format="csv", to=tmp_path / "labels.csv")

    assert not list(tmp_path.iterdir())


@cases(st.text(min_size=1, max_size=40))
def test_folder_name__is_safe_and_can_be_undone(name: str) -> None:
    folder = folder_name(name)

    assert unquote(folder) == name
    assert folder not in (".", "..")
    assert not set(folder) & set('/\\:*?"<>|\0\n')
    assert Path(folder).name == folder


def test_folder_name__refuses_what_no_file_system_takes() -> None:
    with pytest.raises(ExportError, match="too long for a folder"):
        folder_name("é" * 200)

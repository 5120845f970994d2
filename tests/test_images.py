"""Pictures are drawn anew, upright, without metadata, once, and only from inside the data set."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from deft_core.errors import DataError, StoreError
from review_ui.images import Images, SourceFile
from tests.small_world import fingerprint, write_image

ORIENTATION = 0x0112
ARTIST = 0x013B


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def draw(root: Path, name: str, *, px: int = 256, sha256: str = "") -> bytes:
    """The picture of the only sample there is, as `Images` draws it."""
    source = SourceFile(root=root, file_name=name, sha256=sha256 or digest(root / name))
    return Images(root.parent / "cache", find=lambda _: source).picture(0, px=px)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def opened(picture: bytes) -> Image.Image:
    return Image.open(BytesIO(picture))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.bmp", "a.tif"])
def test_every_format_becomes_a_jpeg_that_fits(root: Path, name: str) -> None:
    write_image(root / name, seed=1, size=(600, 300))
    image = opened(draw(root, name))
    assert (image.format, image.size) == ("JPEG", (256, 128))


def test_a_small_picture_is_not_enlarged(root: Path) -> None:
    write_image(root / "a.png", seed=1, size=(32, 20))
    assert opened(draw(root, "a.png")).size == (32, 20)


def test_orientation_is_applied_and_metadata_is_gone(root: Path) -> None:
    root.mkdir()
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # The camera lay on its side.
    exif[ARTIST] = "somebody"
    Image.new("RGB", (60, 40), "red").save(root / "a.jpg", exif=exif)
    image = opened(draw(root, "a.jpg"))
    assert image.size == (40, 60)
    assert len(image.getexif()) == 0


def test_a_picture_is_drawn_once_and_the_data_set_stays_as_it_is(root: Path) -> None:
    source = write_image(root / "a.png", seed=1)
    before = fingerprint(root)
    first = draw(root, "a.png")
    assert fingerprint(root) == before
    sha256 = digest(source)
    source.unlink()
    assert draw(root, "a.png", sha256=sha256) == first
    with pytest.raises(DataError, match="the file does not exist"):
        draw(root, "a.png", sha256=sha256, px=1024)


def test_a_file_that_changed_since_ingest_is_not_shown_as_the_sample(root: Path) -> None:
    source = write_image(root / "a.png", seed=1)
    sha256 = digest(source)
    write_image(source, seed=2)
    with pytest.raises(DataError, match="the file has changed since ingest"):
        draw(root, "a.png", sha256=sha256)
    assert not (root.parent / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", b"\xff\xd8\xff\xe0 cut"])
def test_what_is_not_a_picture_is_refused_with_the_reason(root: Path, content: bytes) -> None:
    root.mkdir()
    (root / "a.jpg").write_bytes(content)
    with pytest.raises(DataError) as caught:
        draw(root, "a.jpg")
    assert caught.value.message
    assert not (root.parent / "cache").exists()


def test_a_link_that_leads_out_of_the_data_set_is_not_followed(root: Path) -> None:
    outside = write_image(root.parent / "private.png", seed=1)
    root.mkdir()
    (root / "a.png").symlink_to(outside)
    with pytest.raises(DataError, match="the file lies outside the data set's folder"):
        draw(root, "a.png")


def test_an_unknown_sample_is_said_by_whoever_knows_samples(tmp_path: Path) -> None:
    def find(sample_id: int) -> SourceFile:
        raise StoreError(f"No sample with id {sample_id}.")

    with pytest.raises(StoreError, match="No sample with id 7"):
        Images(tmp_path, find=find).picture(7, px=256)

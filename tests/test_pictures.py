"""What unchecked image files look like once they are open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_core.errors import DataError
from deft_core.pictures import open_picture


def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path) -> None:
    levels = np.linspace(1000, 60000, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "deep.png")

    pixels = np.asarray(open_picture(tmp_path / "deep.png"))

    assert pixels.shape == (8, 8, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert len(np.unique(pixels)) == 64


def test_transparency_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (10, 20, 30, 255))
    image.save(tmp_path / "clear.png")

    picture = open_picture(tmp_path / "clear.png")

    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((1, 1)) == (10, 20, 30)


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 3))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)

    assert open_picture(tmp_path / "turned.jpg").size == (3, 6)


def test_a_large_jpeg_is_decoded_no_smaller_than_asked(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200)).save(tmp_path / "large.jpg")

    width, height = open_picture(tmp_path / "large.jpg", at_least=200).size

    assert 200 <= height < 1200
    assert width / height == pytest.approx(4 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"just text", "not an image"), (None, "does not exist")],
)
def test_what_is_no_image_says_why(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "file.jpg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=reason):
        open_picture(path)


def test_a_truncated_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:900])

    with pytest.raises(DataError, match="damaged"):
        open_picture(path)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")

    with pytest.raises(DataError, match="81 megapixels, at most 50"):
        open_picture(tmp_path / "bomb.png")

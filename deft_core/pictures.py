"""Opens image files that nobody has checked: known formats only, never larger than memory allows.

The user's files are read, never written. No torch here: ingest, previews and training all open
images through this one door.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deft_core.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MOST_PIXELS = 50_000_000

# Our own limit is checked before any pixel is decoded; Pillow's would warn, from any thread.
Image.MAX_IMAGE_PIXELS = None


def open_picture(path: Path, *, at_least: int | None = None) -> Image.Image:
    """The decoded RGB picture, turned as its EXIF orientation says.

    With `at_least`, a JPEG may be decoded at a fraction of its size, with the shorter side no
    less than `at_least` pixels. Raises DataError with a short reason if the file is not a readable
    image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _refuse_bomb(image)
            if at_least is not None:
                image.draft("RGB", _draft_size(image.size, at_least))
            return as_rgb(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError("the file does not exist") from error
    except UnidentifiedImageError as error:
        is_empty = path.stat().st_size == 0
        raise DataError("the file is empty" if is_empty else "not an image") from error
    except Exception as error:  # Pillow's decoders raise anything from OSError to struct.error.
        raise DataError(f"damaged: {error}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Eight bits a channel: deep greys are stretched to their range, transparency becomes white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        levels = np.asarray(image, dtype=np.float32)
        low, high = float(levels.min()), float(levels.max())
        stretched = (levels - low) * (255 / max(high - low, 1e-9))
        return Image.fromarray(stretched.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layered).convert("RGB")
    return image.convert("RGB")


def _refuse_bomb(image: Image.Image) -> None:
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise DataError(
            f"too large: {pixels / 1e6:.0f} megapixels, at most {MOST_PIXELS / 1e6:.0f}"
        )


def _draft_size(size: tuple[int, int], at_least: int) -> tuple[int, int]:
    scale = at_least / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
